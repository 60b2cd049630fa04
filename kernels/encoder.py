"""The encoder's convolutions as implicit matrix products with the attention inside: 4x4 (or 3x3 for masks), stride 2, padding 1.

Rows of the product are output positions, its columns output channels, its inner axis the taps (kernel row, kernel column,
channel). Within a kernel row the taps of one position are contiguous in a channels_last picture as in a channels_last filter: a
tap needs no division, only the bounds between which its line lies inside the picture. Tensors are [N, C, H, W], and turned to
channels_last if they are not. Results are channels_last and those of ``ops.backends.eager``, except that attention and update
see the convolution before it is rounded to the type of the result.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from . import split
from .arguments import Affine, Gate, Regions, Wanted
from .epilogue import finish_features, finish_mask
from .shipped import DTYPES, Shipped
from .split import is_last, share_of, store_partial_sum, sum_of
from .sums import blocks_of, mean_and_variance

MOST_THIN = 6
"""Layers of at most this many input channels are thin: they gather their taps across kernel rows."""
KNOWN, MIXED = tl.constexpr(1), tl.constexpr(2)
"""Of the kinds of positions in ``lbam_fast.ops.regions``: those where ``m`` is the constant, and those to be computed."""


@triton.jit
def _pixels_seen(row, column, height, width, KERNEL: tl.constexpr):
    """A bit for each pixel of the window, row by row: whether it lies inside the picture."""
    seen = tl.zeros_like(row)
    for pixel in tl.static_range(KERNEL * KERNEL):
        line, place = 2 * row - 1 + pixel // KERNEL, 2 * column - 1 + pixel % KERNEL
        seen |= tl.where((line >= 0) & (line < height) & (place >= 0) & (place < width), 1 << pixel, 0)
    return seen


@triton.jit
def _add_product(
    total,
    x,
    weight,
    tile,
    first,
    last,
    CHANNELS: tl.constexpr,
    KERNEL: tl.constexpr,
    THIN: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    """``total`` plus the steps [first, last) of the inner axis, of BLOCK_K taps each.

    A step has taps of one pixel if it can, else of one kernel row, or where THIN of any. The loop must not be compiled for 8
    warps: see ``choose_tile``.
    """
    image, row, column, output, height, width, outputs = tile
    length: tl.constexpr = KERNEL * CHANNELS
    rows_at_once: tl.constexpr = KERNEL if THIN else 1
    steps: tl.constexpr = (rows_at_once * length + BLOCK_K - 1) // BLOCK_K
    corner = x + ((image.to(tl.int64) * height + 2 * row - 1) * width + 2 * column - 1) * CHANNELS
    filters = weight + output.to(tl.int64) * (KERNEL * length)
    used = output < outputs
    if CHANNELS % BLOCK_K == 0:
        seen = _pixels_seen(row, column, height, width, KERNEL)
    else:
        low, high = (1 - 2 * column) * CHANNELS, tl.minimum(KERNEL, width + 1 - 2 * column) * CHANNELS
    for step in range(first, last):
        kernel_row = step // steps
        tap = step % steps * BLOCK_K
        across = tap + tl.arange(0, BLOCK_K)[None, :]
        down = tap + tl.arange(0, BLOCK_K)[:, None]
        filters_here = filters + (kernel_row * length + down)
        if CHANNELS % BLOCK_K == 0:
            inside = (seen & (1 << step // (CHANNELS // BLOCK_K))) != 0
            taps = tl.load(filters_here, mask=used, other=0.0)
        else:
            taps = tl.load(filters_here, mask=used & (down < rows_at_once * length), other=0.0)
            if THIN:
                kernel_row = across // length
                across = across % length
            line = 2 * row - 1 + kernel_row
            inside = (line >= 0) & (line < height) & (kernel_row < KERNEL) & (across >= low) & (across < high)
        values = tl.load(corner + (kernel_row * width * CHANNELS + across), mask=inside, other=0.0)
        total = tl.dot(values, taps, total, input_precision=PRECISION)
    return total


@triton.jit
def _steps(CHANNELS: tl.constexpr, KERNEL: tl.constexpr, THIN: tl.constexpr, BLOCK_K: tl.constexpr):
    """How many ``_add_product`` has."""
    rows_at_once: tl.constexpr = KERNEL if THIN else 1
    return KERNEL // rows_at_once * tl.cdiv(rows_at_once * KERNEL * CHANNELS, BLOCK_K)


@triton.jit
def _masked_product(
    u,
    weight,
    kinds,
    constant,
    tile,
    block,
    positions,
    MASK_CHANNELS: tl.constexpr,
    MASK_KERNEL: tl.constexpr,
    THIN: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    """The mask's product; it is known in a block whose positions are all of one kind, 0 or the constant."""
    masked = tl.zeros([BLOCK_M, BLOCK_N], dtype=tl.float32)
    first, last = share_of(_steps(MASK_CHANNELS, MASK_KERNEL, THIN, BLOCK_K))
    if kinds is not None:
        kind = tl.load(kinds + block * BLOCK_M)
        known = (kind == tl.load(kinds + tl.minimum((block + 1) * BLOCK_M, positions) - 1)) & (kind != MIXED)
        last = tl.where(known, first, last)
        _, _, _, output, _, _, outputs = tile
        masked += tl.where(known & (kind == KNOWN), tl.load(constant + output, mask=output < outputs, other=0.0), 0.0)
    return _add_product(masked, u, weight, tile, first, last, MASK_CHANNELS, MASK_KERNEL, THIN, PRECISION, BLOCK_K)


@triton.jit(do_not_specialize=["positions", "given_positions", "height", "width"])
def _encode(
    x,
    weight,
    u,
    mask_weight,
    scalars,
    alpha,
    given,
    scale,
    shift,
    y,
    features,
    m,
    attention,
    updated,
    sums,
    order,
    kinds,
    constant,
    partial,
    arrived,
    positions,
    given_positions,
    height,
    width,
    outputs,
    slope,
    CHANNELS: tl.constexpr,
    MASK_CHANNELS: tl.constexpr,
    THIN: tl.constexpr,
    MASK_KERNEL: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    SPLITS: tl.constexpr,
):
    """One tile of one encoder layer. A pointer that is None switches off, when compiled, what it would hold or what it leads to.

    x         the features' half: y and, with ``features``, the bare convolution; its map is the mask's half, ``given`` or none
    u         the mask's half: any of m, attention (g_A(m)) and updated (g_M(m))
    sums      [2, blocks of positions, outputs]: the product of features and map by ``store_block_sums``
    order     with kinds and constant, ``arguments.Regions``
    partial   with ``arrived``, where SPLITS programs share a tile: ``split``
    CHANNELS  of x, and MASK_CHANNELS of u; 0 without it
    """
    tiles = tl.cdiv(outputs, BLOCK_N)
    block = tl.program_id(0) // tiles
    channel = (tl.program_id(0) % tiles) * BLOCK_N + tl.arange(0, BLOCK_N)
    output, position = channel[None, :], block * BLOCK_M + tl.arange(0, BLOCK_M)[:, None]
    if order is not None:
        position = tl.load(order + position, mask=position < positions, other=positions)
    columns, area = width // 2, (height // 2) * (width // 2)
    row = tl.where(position < positions, position % area // columns, -2)
    tile = (position // area, row, position % columns, output, height, width, outputs)
    inside = (position < positions) & (output < outputs)
    at, size = position.to(tl.int64) * outputs + output, positions.to(tl.int64) * outputs
    halves: tl.constexpr = 2 if x is not None and u is not None else 1
    masked, product, early = None, None, None
    if u is not None:
        masked = _masked_product(
            *(u, mask_weight, kinds, constant, tile, block, positions),
            *(MASK_CHANNELS, MASK_KERNEL, THIN, PRECISION, BLOCK_M, BLOCK_N, BLOCK_K),
        )
        if SPLITS == 1:  # before the other product, or registers spill
            early = finish_mask(masked, at, inside, scalars, alpha, m, attention, updated)
    if x is not None:
        first, last = share_of(_steps(CHANNELS, 4, THIN, BLOCK_K))
        product = tl.zeros([BLOCK_M, BLOCK_N], dtype=tl.float32)
        product = _add_product(product, x, weight, tile, first, last, CHANNELS, 4, THIN, PRECISION, BLOCK_K)

    finishes = True
    if SPLITS > 1:
        if masked is not None:
            store_partial_sum(partial, masked, halves - 1, halves, at, inside, size)
        if product is not None:
            store_partial_sum(partial, product, 0, halves, at, inside, size)
        finishes = is_last(arrived)
    if finishes:
        known = early
        if SPLITS > 1 and masked is not None:
            masked = sum_of(partial, halves - 1, halves, at, inside, size, SPLITS)
            known = finish_mask(masked, at, inside, scalars, alpha, m, attention, updated)
        if product is not None:
            if SPLITS > 1:
                product = sum_of(partial, 0, halves, at, inside, size, SPLITS)
            if given is not None:
                on_map = (position % given_positions).to(tl.int64) * outputs + output
                known = tl.load(given + on_map, mask=inside, other=0.0).to(tl.float32)
            group = (tl.minimum(positions - block * BLOCK_M, BLOCK_M), block, tl.cdiv(positions, BLOCK_M))
            finish_features(product, known, at, inside, channel, outputs, group, scale, shift, slope, y, features, sums)


NOTHING_AFTER = Affine()


class Tile(NamedTuple):
    """What one program computes, and how."""

    block_m: int
    block_n: int
    block_k: int
    num_warps: int
    num_stages: int


def choose_tile(precision: str, channels: int, mask_channels: int, positions: int, outputs: int, crowded: bool) -> Tile:
    """The tile for a product of ``positions`` x ``outputs``.

    ``channels`` or ``mask_channels`` is 0 for an absent half; ``crowded``: registers are short, for there are regions, or more
    results than y and the mask. Never of 8 warps: for these, Triton may compile a loop over rows and channels wrongly
    (pytorch/pytorch#173068).
    """
    fits, both = max(16, triton.next_power_of_2(outputs)), channels and mask_channels
    thin = max(channels, mask_channels) <= MOST_THIN
    if precision == "fp32":
        stages = (2 if both else 3) if thin else 4  # others spill registers somewhere
        return Tile(64, min(32 if both else 64, fits), 16, 4, stages)
    many = positions >= 8192 and not crowded
    tf32 = precision == "tf32"  # which takes more registers
    if thin:
        wide = many and channels <= 4 and not tf32  # for 6 channels registers would spill
        return Tile(128 if wide else 64, min(64, fits), 16, 4, 2)
    deep = 32 if tf32 else 64
    if many and not (tf32 and mask_channels):
        return Tile(128, min(64, fits), deep // 2 if both else deep, 4, 4 if both else 3)
    enough = triton.cdiv(positions, 64) * triton.cdiv(outputs, 64) >= split.ENOUGH_PROGRAMS
    return Tile(64, min(64 if enough else 32, fits), deep, 4, 2 if tf32 else 3)


def encode(
    x: Tensor,
    u: Tensor,
    weight: Tensor,
    mask_weight: Tensor,
    gate: Gate,
    affine: Affine,
    wanted: Wanted,
    regions: Regions | None = None,
    *,
    tf32: bool = False,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Both convolutions of an encoder layer in one pass: (y, g_M(m), F, m), those that are ``wanted``; absent ones are empty."""
    x, u, weight, mask_weight = _pair(x, u, weight, mask_weight)
    y, updated, features, m = (_result(x, weight, each) for each in (True, wanted.update, wanted.keep, wanted.keep))
    results = {"y": y, "updated": updated, "features": features, "m": m}
    _launch(x, weight, u, mask_weight, tf32, affine, **gate._asdict(), **results, **_by_name(regions))
    return y, updated, features, m


def encode_with_statistics(
    x: Tensor, u: Tensor, weight: Tensor, mask_weight: Tensor, scalars: Tensor, *, tf32: bool = False
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Both convolutions and, in the same pass, the mean and biased variance [C] of ``F * g_A(m)``: (F, m, mean, variance)."""
    x, u, weight, mask_weight = _pair(x, u, weight, mask_weight)
    features, m = _result(x, weight, True), _result(u, mask_weight, True)
    positions = features.numel() // features.shape[1]
    block = _plan(x, u, weight, tf32, crowded=True).tile.block_m
    sums = scalars.new_empty((2, triton.cdiv(positions, block), features.shape[1]))
    _launch(x, weight, u, mask_weight, tf32, scalars=scalars, features=features, m=m, sums=sums)
    return features, m, *mean_and_variance(sums, blocks_of(positions, block, sums.device))


def _pair(x: Tensor, u: Tensor, weight: Tensor, mask_weight: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The operands of both halves in channels_last, once they are known to fit."""
    if x.shape[0] != u.shape[0] or x.shape[2:] != u.shape[2:]:
        raise ValueError(f"x and u must be alike in batch, height and width, not {tuple(x.shape)} and {tuple(u.shape)}")
    if x.dtype != u.dtype:
        raise ValueError(f"x and u must be of one type, not {x.dtype} and {u.dtype}")
    if weight.shape[0] != mask_weight.shape[0]:
        raise ValueError(f"both filters must have equally many outputs, not {weight.shape[0]} and {mask_weight.shape[0]}")
    x, weight = _operands(x, weight, (4,))
    u, mask_weight = _operands(u, mask_weight, (3, 4))
    return x, u, weight, mask_weight


def mask_step(
    u: Tensor, weight: Tensor, gate: Gate, wanted: Wanted, regions: Regions | None = None, *, tf32: bool = False
) -> tuple[Tensor, Tensor, Tensor]:
    """A mask convolution: (g_A(m), g_M(m), m); if ``wanted.keep``, m in place of the map; absent ones are empty."""
    u, weight = _operands(u, weight, (3, 4))
    attention, updated, m = (_result(u, weight, each) for each in (not wanted.keep, wanted.update, wanted.keep))
    results = {"attention": attention, "updated": updated, "m": m}
    _launch(None, None, u, weight, tf32, **gate._asdict(), **results, **_by_name(regions))
    return attention, updated, m


def convolution(x: Tensor, weight: Tensor, *, tf32: bool = False) -> Tensor:
    """The bare convolution."""
    x, weight = _operands(x, weight, (4,))
    features = _result(x, weight, True)
    _launch(x, weight, None, None, tf32, y=features)
    return features


def encode_with_map(x: Tensor, weight: Tensor, attention: Tensor, affine: Affine, *, tf32: bool = False) -> Tensor:
    """``leaky(scale * convolution * attention + shift)``; a map of batch 1 serves every picture."""
    x, weight = _operands(x, weight, (4,))
    y = _result(x, weight, True)
    if attention.shape[0] not in (1, y.shape[0]) or attention.shape[1:] != y.shape[1:]:
        raise ValueError(f"a map of shape {tuple(attention.shape)} does not fit a result of shape {tuple(y.shape)}")
    given = attention.contiguous(memory_format=torch.channels_last)
    _launch(x, weight, None, None, tf32, affine, given=given, y=y)
    return y


def _operands(x: Tensor, weight: Tensor, kernels: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Both in channels_last, once they are known to fit."""
    if x.dtype not in (torch.float32, *_HALF) or weight.dtype != x.dtype:
        raise ValueError(f"picture and filter must both be float32, float16 or bfloat16, not {x.dtype} and {weight.dtype}")
    if weight.shape[1] != x.shape[1] or weight.shape[2] != weight.shape[3] or weight.shape[2] not in kernels:
        raise ValueError(f"a filter of shape {tuple(weight.shape)} does not fit a picture of shape {tuple(x.shape)}")
    if x.shape[2] % 2 or x.shape[3] % 2:
        raise ValueError(f"height and width must be even, not {x.shape[2]} and {x.shape[3]}")
    return x.contiguous(memory_format=torch.channels_last), weight.contiguous(memory_format=torch.channels_last)


def _result(x: Tensor, weight: Tensor, wanted: bool) -> Tensor:
    if not wanted:
        return x.new_empty(0)
    shape = (x.shape[0], weight.shape[0], x.shape[2] // 2, x.shape[3] // 2)
    return torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=torch.channels_last)


def _launch(
    x: Tensor | None,
    weight: Tensor | None,
    u: Tensor | None,
    mask_weight: Tensor | None,
    tf32: bool,
    affine: Affine = NOTHING_AFTER,
    **others: Tensor | None,
) -> None:
    """Run the kernel; ``others`` are its remaining tensors by name, of which empty ones count as absent."""
    each, filters = (u, mask_weight) if x is None else (x, weight)
    batch, _, height, width = each.shape
    outputs, positions = filters.shape[0], _positions(each)
    if positions == 0:
        return
    tensors = {"scale": affine.scale, "shift": affine.shift, **others}
    present = {name: tensor for name, tensor in tensors.items() if tensor is not None and tensor.numel() > 0}
    plan = _plan(x, u, filters, tf32, _crowded(present))
    sizes = {
        "positions": positions,
        "given_positions": present["given"].shape[0] * (positions // batch) if "given" in present else positions,
        "slope": float(affine.slope),
    }
    halves = (x is not None, u is not None)
    channels, mask_channels = (0 if half is None else half.shape[1] for half in (x, u))
    mask_kernel = 4 if mask_weight is None else mask_weight.shape[2]
    programs = _programs(plan.tile, positions, outputs)
    with torch.cuda.device_of(each):
        if plan.splits > 1:  # a level of so few positions has no known regions
            shared = split.workspace(programs, plan.splits, sum(halves), positions * outputs, each.device)
            present = {name: tensor for name, tensor in present.items() if name not in _REGIONS} | shared
        _encode[(programs, plan.splits)](
            *(x, weight, u, mask_weight),
            **{name: present.get(name) for name in _TENSORS},
            **sizes,
            height=height,
            width=width,
            outputs=outputs,
            **_constants(plan, channels, mask_channels, mask_kernel),
            num_warps=plan.tile.num_warps,
            num_stages=plan.tile.num_stages,
        )


def _by_name(regions: Regions | None) -> dict[str, Tensor]:
    return {} if regions is None else regions._asdict()


def _positions(x: Tensor) -> int:
    return x.shape[0] * (x.shape[2] // 2) * (x.shape[3] // 2)


class _Plan(NamedTuple):
    """How a layer is launched."""

    precision: str
    tile: Tile
    splits: int


def _plan(x: Tensor | None, u: Tensor | None, weight: Tensor, tf32: bool, crowded: bool) -> _Plan:
    """For these halves, of which the filter of one says how many outputs there are."""
    each = u if x is None else x
    precision = _HALF.get(each.dtype, "tf32" if tf32 else "fp32")
    channels, mask_channels = (0 if half is None else half.shape[1] for half in (x, u))
    positions, outputs = _positions(each), weight.shape[0]
    tile = choose_tile(precision, channels, mask_channels, positions, outputs, crowded)
    inner = 16 * (channels + mask_channels)
    multiprocessors = split.multiprocessors_of(each.device)
    return _Plan(precision, tile, split.splits_for(max(1, _programs(tile, positions, outputs)), inner, multiprocessors))


def _crowded(names: Collection[str]) -> bool:
    """Of the tensors of a launch, by name."""
    return "features" in names or "order" in names


def _programs(tile: Tile, positions: int, outputs: int) -> int:
    return triton.cdiv(positions, tile.block_m) * triton.cdiv(outputs, tile.block_n)


def _constants(plan: _Plan, channels: int, mask_channels: int, mask_kernel: int) -> dict[str, int | str]:
    return {
        "CHANNELS": channels,
        "MASK_CHANNELS": mask_channels,
        "THIN": max(channels, mask_channels) <= MOST_THIN,
        "MASK_KERNEL": mask_kernel,
        "PRECISION": "tf32" if plan.precision == "tf32" else "ieee",
        "BLOCK_M": plan.tile.block_m,
        "BLOCK_N": plan.tile.block_n,
        "BLOCK_K": plan.tile.block_k,
        "SPLITS": plan.splits,
    }


_HALF = {torch.float16: "fp16", torch.bfloat16: "bf16"}
_FEATURES = ("x", "weight")
_MASK = ("u", "mask_weight")
_GATE = ("scalars", "alpha")
_NORM = ("scale", "shift")
_REGIONS = ("order", "kinds", "constant")
_SHARED = ("partial", "arrived")
_TENSORS = (*_GATE, *_NORM, *_REGIONS, "given", "y", "features", "m", "attention", "updated", "sums", *_SHARED)
_SIZES = ("positions", "given_positions", "height", "width", "outputs")

_TYPES = {
    **dict.fromkeys((*_GATE, *_NORM, "constant", "sums", "partial"), "*fp32"),
    **dict.fromkeys(("order", "arrived"), "*i32"),
    "kinds": "*u8",
}

_BOTH = (*_FEATURES, *_MASK)
_FORMS: dict[str, tuple[str, ...]] = {
    "attention": (*_BOTH, *_GATE, "y", "updated"),
    "attention-affine": (*_BOTH, *_GATE, *_NORM, "y", "updated"),
    "attention-keep": (*_BOTH, *_GATE, "y", "updated", "features", "m"),
    "attention-skip": (*_BOTH, *_GATE, *_REGIONS, "y", "updated"),
    "statistics": (*_BOTH, "scalars", "features", "m", "sums"),
    "maps": (*_MASK, *_GATE, "updated", "attention"),
    "maps-keep": (*_MASK, *_GATE, "updated", "m"),
    "maps-skip": (*_MASK, *_GATE, *_REGIONS, "updated", "attention"),
    "bare": (*_FEATURES, "y"),
    "given": (*_FEATURES, "given", "y"),
    "given-affine": (*_FEATURES, *_NORM, "given", "y"),
}
"""What is launched, and the tensors that it has."""

_THIN, _HARMONIC = (4, 1, 65536, 64), (6, 1, 65536, 64)
_WIDE, _MIDDLE, _DEEP = (64, 64, 65536, 128), (256, 256, 4096, 512), (512, 512, 64, 512)
"""Channels of x and of u, positions and outputs: of the first layer, which has no BatchNorm, without and with a base, and from a
wide one of many positions to a deep one of few."""

_SIZES_OF_FORM = {
    **dict.fromkeys(_FORMS, (_WIDE, _MIDDLE, _DEEP)),
    **dict.fromkeys(("attention", "given"), (_THIN, _HARMONIC, _WIDE, _MIDDLE, _DEEP)),
    **dict.fromkeys(("maps", "maps-keep"), (_THIN, _WIDE, _MIDDLE, _DEEP)),
    **dict.fromkeys(("attention-skip", "maps-skip", "statistics"), (_WIDE, _DEEP)),
    "attention-keep": (_THIN, _HARMONIC, _WIDE, _DEEP),
}
_SPLIT_FORMS = tuple(form for form in _FORMS if not form.endswith("-skip"))
"""Those that layers of few positions are launched in."""


def _shipped(
    form: str, precision: str, channels: int, mask_channels: int, positions: int, outputs: int, splits: int = 1
) -> Shipped:
    present = _FORMS[form] if splits == 1 else (*_FORMS[form], *_SHARED)
    channels, mask_channels = channels if "x" in present else 0, mask_channels if "u" in present else 0
    tile = choose_tile(precision, channels, mask_channels, positions, outputs, _crowded(present))
    pointers = {name: _TYPES.get(name, f"*{DTYPES[precision]}") for name in present}
    return Shipped(
        name=f"encoder-{form}-{precision}-{channels}-{mask_channels}-{tile.block_m}x{tile.block_n}-{splits}",
        kernel=_encode,
        signature={**pointers, **dict.fromkeys(_SIZES, "i32"), "slope": "fp32"},
        constants={
            **{name: None for name in (*_BOTH, *_TENSORS) if name not in present},
            **_constants(_Plan(precision, tile, splits), channels, mask_channels, 4),
        },
        precision=precision,
        num_warps=tile.num_warps,
        num_stages=tile.num_stages,
        multiplies=precision != "fp32",
        aligned=(*present, "outputs"),
    )


SHIPPED: tuple[Shipped, ...] = (
    *(_shipped(form, precision, *sizes) for form in _FORMS for precision in DTYPES for sizes in _SIZES_OF_FORM[form]),
    *(_shipped(form, precision, *_DEEP, splits=8) for form in _SPLIT_FORMS for precision in DTYPES),
)
