"""Products split along their inner axis, where a layer has too few positions and channels to keep a GPU busy.

Each of several programs adds a share of the inner axis, and stores it in float32. A second kernel adds these partial sums in
order, so that two runs give the same bits, and does all that follows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache

import torch
import triton
import triton.language as tl
from torch import Tensor

from .epilogue import finish_features, finish_mask, map_of
from .shipped import DTYPES, Shipped

MULTIPROCESSORS = 132
"""Of a GPU that is not there: those of an H100."""

ENOUGH_PROGRAMS = 128
"""With fewer, multiprocessors of a large GPU stay idle: smaller blocks are worth their extra loads."""

LEAST_SHARE = 512
"""The shortest share of the inner axis that is worth a program."""
LEAST_SAVED = 1536
"""What a second kernel costs, as a length of the inner axis."""

ROWS, COLUMNS, WARPS = 4, 64, 2
"""The block of positions and channels in which partial sums are added."""


def splits_for(programs: int, inner: int, multiprocessors: int) -> int:
    """Into how many shares, a power of 2, to split an inner axis of that length; 1 leaves it whole."""
    most = min(multiprocessors // programs, inner // LEAST_SHARE)
    splits = 1 << max(0, most.bit_length() - 1)
    return splits if inner - inner // splits >= LEAST_SAVED else 1


def multiprocessors_of(device: torch.device) -> int:
    """Of that GPU, or MULTIPROCESSORS."""
    return _multiprocessors(device.index) if device.type == "cuda" else MULTIPROCESSORS


@cache
def _multiprocessors(index: int | None) -> int:
    return int(torch.cuda.get_device_properties(index).multi_processor_count)


def workspace(size: int, splits: int, halves: int, device: torch.device) -> Tensor:
    """For the partial sums of that many products of that size."""
    return torch.empty((splits, halves, size), dtype=torch.float32, device=device)


@triton.jit
def share_of(steps):
    """The steps [first, last) of this program: those of its number along the second axis of the grid."""
    each = tl.cdiv(steps, tl.num_programs(1))
    first = tl.program_id(1) * each
    return first, tl.minimum(first + each, steps)


@triton.jit
def store_partial_sum(partial, product, half, HALVES: tl.constexpr, at, inside, size):
    """Into ``partial`` [splits, HALVES, size], at this program's split."""
    tl.store(partial + (tl.program_id(1).to(tl.int64) * HALVES + half) * size + at, product, mask=inside)


@triton.jit
def sum_of(partial, half, HALVES: tl.constexpr, at, inside, size, SPLITS: tl.constexpr):
    """One product, of its partial sums in order."""
    total = tl.load(partial + half * size + at, mask=inside, other=0.0)
    for split in tl.static_range(1, SPLITS):
        total += tl.load(partial + (split * HALVES + half) * size + at, mask=inside, other=0.0)
    return total


@triton.jit(do_not_specialize=["positions", "given_positions"])
def _add_partial_sums(
    partial,
    scalars,
    alpha,
    level,
    given,
    scale,
    shift,
    y,
    features,
    m,
    attention,
    updated,
    sums,
    positions,
    given_positions,
    channels,
    slope,
    PRODUCT: tl.constexpr,
    MASKED: tl.constexpr,
    SPLITS: tl.constexpr,
    BLOCK_POSITIONS: tl.constexpr,
    BLOCK_OUT: tl.constexpr,
):
    """What follows, on a block of the results' positions and channels. PRODUCT and MASKED: of which products there are sums."""
    tiles = tl.cdiv(channels, BLOCK_OUT)
    block = tl.program_id(0) // tiles
    channel = tl.program_id(0) % tiles * BLOCK_OUT + tl.arange(0, BLOCK_OUT)
    position = block * BLOCK_POSITIONS + tl.arange(0, BLOCK_POSITIONS)
    inside = (position < positions)[:, None] & (channel < channels)[None, :]
    at = position.to(tl.int64)[:, None] * channels + channel[None, :]
    size = positions.to(tl.int64) * channels
    known = None
    if MASKED:
        masked = sum_of(partial, PRODUCT, PRODUCT + MASKED, at, inside, size, SPLITS)
        known = finish_mask(masked, at, inside, scalars, alpha, m, attention, updated)
    elif level is not None:
        known = map_of(tl.load(level + at, mask=inside, other=0.0).to(tl.float32), scalars)
    elif given is not None:
        on_map = (position % given_positions).to(tl.int64)[:, None] * channels + channel[None, :]
        known = tl.load(given + on_map, mask=inside, other=0.0).to(tl.float32)
    if PRODUCT:
        product = sum_of(partial, 0, PRODUCT + MASKED, at, inside, size, SPLITS)
        group = (tl.minimum(positions - block * BLOCK_POSITIONS, BLOCK_POSITIONS), block, tl.cdiv(positions, BLOCK_POSITIONS))
        finish_features(product, known, at, inside, channel, channels, group, scale, shift, slope, y, features, sums)


def add_partial_sums(
    partial: Tensor, halves: tuple[bool, bool], tensors: Mapping[str, Tensor], *, positions: int, channels: int, **numbers: float
) -> None:
    """Run the kernel. ``halves``: whether there are sums of the features' product, and of the mask's; ``tensors`` by name, of
    which those that it does not know are left out; ``numbers`` are the kernel's."""
    _add_partial_sums[(triton.cdiv(positions, ROWS) * triton.cdiv(channels, COLUMNS),)](
        partial,
        **{name: tensors.get(name) for name in _TENSORS},
        positions=positions,
        channels=channels,
        **numbers,
        **_constants(*halves, partial.shape[0]),
        num_warps=WARPS,
    )


def _constants(product: bool, masked: bool, splits: int) -> dict[str, int]:
    return {
        "PRODUCT": int(product),
        "MASKED": int(masked),
        "SPLITS": splits,
        "BLOCK_POSITIONS": ROWS,
        "BLOCK_OUT": COLUMNS,
    }


_TENSORS = (
    *("scalars", "alpha", "level", "given", "scale", "shift"),
    *("y", "features", "m", "attention", "updated", "sums"),
)
_WIDE = ("partial", "scalars", "alpha", "scale", "shift", "sums")
_SIZES = ("positions", "given_positions", "channels")

_FORMS: dict[str, tuple[bool, bool, tuple[str, ...]]] = {
    "attention": (True, True, ("scalars", "alpha", "y", "updated")),
    "attention-affine": (True, True, ("scalars", "alpha", "scale", "shift", "y", "updated")),
    "attention-keep": (True, True, ("scalars", "alpha", "y", "features", "m", "updated")),
    "statistics": (True, True, ("scalars", "features", "m", "sums")),
    "statistics-level": (True, False, ("scalars", "level", "features", "sums")),
    "maps": (False, True, ("scalars", "alpha", "attention", "updated")),
    "maps-keep": (False, True, ("scalars", "alpha", "m", "updated")),
    "bare": (True, False, ("y",)),
    "given": (True, False, ("given", "y")),
    "given-affine": (True, False, ("given", "scale", "shift", "y")),
}
"""What is launched: of which products there are sums, and the tensors that it has."""


def _shipped() -> Iterator[Shipped]:
    for form, (product, masked, tensors) in _FORMS.items():
        for precision in ("fp32", "fp16", "bf16"):
            for splits in (2, 16):
                present = ("partial", *tensors)
                pointers = {name: "*fp32" if name in _WIDE else f"*{DTYPES[precision]}" for name in present}
                yield Shipped(
                    name=f"split-{form}-{precision}-{splits}",
                    kernel=_add_partial_sums,
                    signature={**pointers, **dict.fromkeys(_SIZES, "i32"), "slope": "fp32"},
                    constants={
                        **{name: None for name in _TENSORS if name not in tensors},
                        **_constants(product, masked, splits),
                    },
                    precision=precision,
                    num_warps=WARPS,
                    num_stages=3,
                    multiplies=False,
                    aligned=(*present, "channels"),
                )


SHIPPED: tuple[Shipped, ...] = tuple(_shipped())
