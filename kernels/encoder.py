"""The encoder's convolutions as implicit matrix products with the attention inside: 4x4 (or 3x3 for masks), stride 2, padding 1.

Rows of the product are output positions, its columns output channels, its inner axis the taps (kernel row, kernel column,
channel). Within a kernel row the taps of one position are contiguous in a channels_last picture as in a channels_last filter: a
tap needs no division, only the bounds between which its line lies inside the picture. Tensors are [N, C, H, W], and turned to
channels_last if they are not. Results are channels_last and those of ``ops.backends.eager``, except that attention and update
see the convolution before it is rounded to the type of the result.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from .arguments import Affine, Gate, Regions, Wanted
from .formulas import activation, attention_map, mask_update
from .shipped import DTYPES, Shipped
from .sums import blocks_of, mean_and_variance, store_block_sums

MOST_THIN = 4
"""Layers of at most this many input channels are thin: they gather their taps across kernel rows."""
KNOWN, MIXED = tl.constexpr(1), tl.constexpr(2)
"""Of the kinds of positions in ``lbam_fast.ops.regions``: those where ``m`` is the constant, and those to be computed."""


@triton.jit
def _multiply(
    total,
    x,
    weight,
    tile,
    first_row,
    first_tap,
    CHANNELS: tl.constexpr,
    KERNEL: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK_K: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """``total`` plus BLOCK_K taps from ``first_tap`` of the ROWS kernel rows that begin at ``first_row``."""
    image, row, column, output, height, width, outputs = tile
    length: tl.constexpr = KERNEL * CHANNELS
    across = first_tap + tl.arange(0, BLOCK_K)[None, :]
    down = first_tap + tl.arange(0, BLOCK_K)[:, None]
    kernel_row = first_row
    if ROWS > 1:
        kernel_row = across // length
        across = across % length
    line = 2 * row - 1 + kernel_row
    start = ((image.to(tl.int64) * height + line) * width + 2 * column - 1) * CHANNELS
    low = (1 - 2 * column) * CHANNELS
    high = tl.minimum(KERNEL, width + 1 - 2 * column) * CHANNELS
    inside = (line >= 0) & (line < height) & (kernel_row < KERNEL) & (across >= low) & (across < high)
    values = tl.load(x + (start + across), mask=inside, other=0.0)
    begin = output.to(tl.int64) * (KERNEL * length) + first_row * length
    filters = tl.load(weight + (begin + down), mask=(output < outputs) & (down < ROWS * length), other=0.0)
    return tl.dot(values, filters, total, input_precision=PRECISION)


@triton.jit
def _both(
    product,
    masked,
    x,
    weight,
    u,
    mask_weight,
    tile,
    CHANNELS: tl.constexpr,
    MASK_CHANNELS: tl.constexpr,
    THIN: tl.constexpr,
    MASK_KERNEL: tl.constexpr,
    BLOCK_K: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Both accumulators plus their products; a half whose tensors are None stays as it is."""
    if THIN:
        if x is not None:
            for tap in range(0, 16 * CHANNELS, BLOCK_K):
                product = _multiply(product, x, weight, tile, 0, tap, CHANNELS, 4, 4, BLOCK_K, PRECISION)
        if u is not None:
            for tap in range(0, MASK_KERNEL * MASK_KERNEL * MASK_CHANNELS, BLOCK_K):
                masked = _multiply(
                    masked, u, mask_weight, tile, 0, tap, MASK_CHANNELS, MASK_KERNEL, MASK_KERNEL, BLOCK_K, PRECISION
                )
    else:
        for kernel_row in tl.static_range(4):
            for tap in range(0, 4 * (CHANNELS or MASK_CHANNELS), BLOCK_K):
                if x is not None:
                    product = _multiply(product, x, weight, tile, kernel_row, tap, CHANNELS, 4, 1, BLOCK_K, PRECISION)
                if u is not None and kernel_row < MASK_KERNEL:
                    masked = _multiply(
                        masked, u, mask_weight, tile, kernel_row, tap, MASK_CHANNELS, MASK_KERNEL, 1, BLOCK_K, PRECISION
                    )
    return product, masked


@triton.jit
def _finish_mask(masked, scalars, alpha, m, attention, updated, at, inside):
    """Stores what is wanted of the mask's half, and gives its map."""
    known = attention_map(masked, tl.load(scalars), tl.load(scalars + 1), tl.load(scalars + 2), tl.load(scalars + 3))
    if m is not None:
        tl.store(m + at, masked.to(m.dtype.element_ty), mask=inside)
    if attention is not None:
        tl.store(attention + at, known.to(attention.dtype.element_ty), mask=inside)
    if updated is not None:
        tl.store(updated + at, mask_update(masked, tl.load(alpha)).to(updated.dtype.element_ty), mask=inside)
    return known


@triton.jit
def _finish_features(product, scale, shift, slope, y, output, outputs, at, inside):
    """Stores the layer's result."""
    if scale is not None:
        by = tl.load(scale + output, mask=output < outputs, other=0.0).to(tl.float32)
        product = product * by + tl.load(shift + output, mask=output < outputs, other=0.0).to(tl.float32)
    tl.store(y + at, activation(product, slope).to(y.dtype.element_ty), mask=inside)


@triton.jit
def _products(
    x,
    weight,
    u,
    mask_weight,
    kinds,
    constant,
    tile,
    block,
    positions,
    CHANNELS: tl.constexpr,
    MASK_CHANNELS: tl.constexpr,
    THIN: tl.constexpr,
    MASK_KERNEL: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    """Both halves' products; that of the mask is known in a block whose positions are all of one kind, 0 or the constant."""
    product = tl.zeros([BLOCK_M, BLOCK_N], dtype=tl.float32)
    masked = tl.zeros([BLOCK_M, BLOCK_N], dtype=tl.float32)
    if kinds is None:
        product, masked = _both(
            product, masked, x, weight, u, mask_weight, tile, CHANNELS, MASK_CHANNELS, THIN, MASK_KERNEL, BLOCK_K, PRECISION
        )
    else:
        first_kind = tl.load(kinds + block * BLOCK_M)
        last_kind = tl.load(kinds + tl.minimum((block + 1) * BLOCK_M, positions) - 1)
        if (first_kind == last_kind) & (first_kind != MIXED):
            product, masked = _both(
                product, masked, x, weight, None, None, tile, CHANNELS, MASK_CHANNELS, THIN, MASK_KERNEL, BLOCK_K, PRECISION
            )
            _, _, _, output, _, _, outputs = tile
            masked += tl.where(first_kind == KNOWN, tl.load(constant + output, mask=output < outputs, other=0.0), 0.0)
        else:
            product, masked = _both(
                product, masked, x, weight, u, mask_weight, tile, CHANNELS, MASK_CHANNELS, THIN, MASK_KERNEL, BLOCK_K, PRECISION
            )
    return product, masked


@triton.jit
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
):
    """One tile of one encoder layer. A pointer that is None switches off, when compiled, what it would hold or what it leads to.

    x         the features' half: y and, with ``features``, the bare convolution; its map is the mask's half, ``given`` or none
    u         the mask's half: any of m, attention (g_A(m)) and updated (g_M(m))
    sums      [2, blocks of positions, outputs]: the product of features and map by ``store_block_sums``
    order     with kinds and constant, ``arguments.Regions``
    CHANNELS  of x, and MASK_CHANNELS of u; 0 without it. Both are alike unless THIN
    """
    tiles = tl.cdiv(outputs, BLOCK_N)
    block = tl.program_id(0) // tiles
    output = (tl.program_id(0) % tiles) * BLOCK_N + tl.arange(0, BLOCK_N)[None, :]
    position = block * BLOCK_M + tl.arange(0, BLOCK_M)[:, None]
    if order is not None:
        position = tl.load(order + position, mask=position < positions, other=positions)
    columns = width // 2
    area = (height // 2) * columns
    image = position // area
    row = tl.where(position < positions, position % area // columns, -2)
    tile = (image, row, position % columns, output, height, width, outputs)
    product, masked = _products(
        *(x, weight, u, mask_weight, kinds, constant, tile, block, positions),
        *(CHANNELS, MASK_CHANNELS, THIN, MASK_KERNEL, PRECISION, BLOCK_M, BLOCK_N, BLOCK_K),
    )
    inside = (position < positions) & (output < outputs)
    at = position.to(tl.int64) * outputs + output
    if u is not None:
        known = _finish_mask(masked, scalars, alpha, m, attention, updated, at, inside)
    elif given is not None:
        place = (position % given_positions).to(tl.int64) * outputs + output
        known = tl.load(given + place, mask=inside, other=0.0).to(tl.float32)
    if x is not None:
        if features is not None:
            tl.store(features + at, product.to(features.dtype.element_ty), mask=inside)
        if u is not None or given is not None:
            product *= known
        if sums is not None:
            count = tl.minimum(positions - block * BLOCK_M, BLOCK_M)
            channel = tl.program_id(0) % tiles * BLOCK_N + tl.arange(0, BLOCK_N)
            store_block_sums(sums, product, inside, count, block, tl.cdiv(positions, BLOCK_M), channel, outputs)
        if y is not None:
            _finish_features(product, scale, shift, slope, y, output, outputs, at, inside)


NOTHING_AFTER = Affine()


class Tile(NamedTuple):
    """What one program computes, and how."""

    block_m: int
    block_n: int
    block_k: int
    num_warps: int
    num_stages: int


def choose_tile(precision: str, channels: int, mask_channels: int, positions: int, outputs: int) -> Tile:
    """The tile for a product of ``positions`` x ``outputs``; ``channels`` or ``mask_channels`` is 0 for an absent half."""
    fits = max(16, triton.next_power_of_2(outputs))
    if precision == "fp32":
        return Tile(64, min(64, fits), 16, 8, 3 if channels else 2)
    block_m, num_warps = (128, 8) if positions >= 8192 else (64, 4 if channels else 8)  # with 4, masks alone spill at 100
    if max(channels, mask_channels) <= MOST_THIN:
        return Tile(block_m, min(64, fits), 16, num_warps, 2)
    block_n = block_m // 2 if channels and mask_channels else block_m
    return Tile(block_m, min(block_n, fits), 16 if precision == "tf32" else 32, num_warps, 3)


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
    block = _plan(x, u, weight, tf32)[1].block_m
    sums = scalars.new_empty((2, triton.cdiv(positions, block), features.shape[1]))
    _launch(x, weight, u, mask_weight, tf32, scalars=scalars, features=features, m=m, sums=sums)
    return features, m, *mean_and_variance(sums, blocks_of(positions, block, sums.device))


def _pair(x: Tensor, u: Tensor, weight: Tensor, mask_weight: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The operands of both halves in channels_last, once they are known to fit."""
    if x.shape[0] != u.shape[0] or x.shape[2:] != u.shape[2:]:
        raise ValueError(f"x and u must be alike in batch, height and width, not {tuple(x.shape)} and {tuple(u.shape)}")
    if x.shape[1] != u.shape[1] and max(x.shape[1], u.shape[1]) > MOST_THIN:
        raise ValueError(f"above {MOST_THIN} channels x and u must have equally many, not {x.shape[1]} and {u.shape[1]}")
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
    tensors = {
        "x": x,
        "weight": weight,
        "u": u,
        "mask_weight": mask_weight,
        "scale": affine.scale,
        "shift": affine.shift,
        **others,
    }
    present = {name: tensor for name, tensor in tensors.items() if tensor is not None and tensor.numel() > 0}
    precision, tile = _plan(x, u, filters, tf32)
    channels, mask_channels = (0 if half is None else half.shape[1] for half in (x, u))
    mask_kernel = 4 if mask_weight is None else mask_weight.shape[2]
    with torch.cuda.device_of(each):
        _encode[(triton.cdiv(positions, tile.block_m) * triton.cdiv(outputs, tile.block_n),)](
            **{name: present.get(name) for name in _TENSORS},
            positions=positions,
            given_positions=present["given"].shape[0] * (positions // batch) if "given" in present else positions,
            height=height,
            width=width,
            outputs=outputs,
            slope=float(affine.slope),
            **_constants(tile, precision, channels, mask_channels, mask_kernel),
            num_warps=tile.num_warps,
            num_stages=tile.num_stages,
        )


def _by_name(regions: Regions | None) -> dict[str, Tensor]:
    return {} if regions is None else regions._asdict()


def _positions(x: Tensor) -> int:
    return x.shape[0] * (x.shape[2] // 2) * (x.shape[3] // 2)


def _plan(x: Tensor | None, u: Tensor | None, weight: Tensor, tf32: bool) -> tuple[str, Tile]:
    """The precision and the tile of a launch with these halves."""
    each = u if x is None else x
    precision = _HALF.get(each.dtype, "tf32" if tf32 else "fp32")
    channels, mask_channels = (0 if half is None else half.shape[1] for half in (x, u))
    return precision, choose_tile(precision, channels, mask_channels, _positions(each), weight.shape[0])


def _constants(tile: Tile, precision: str, channels: int, mask_channels: int, mask_kernel: int) -> dict[str, int | str]:
    return {
        "CHANNELS": channels,
        "MASK_CHANNELS": mask_channels,
        "THIN": max(channels, mask_channels) <= MOST_THIN,
        "MASK_KERNEL": mask_kernel,
        "PRECISION": "tf32" if precision == "tf32" else "ieee",
        "BLOCK_M": tile.block_m,
        "BLOCK_N": tile.block_n,
        "BLOCK_K": tile.block_k,
    }


_HALF = {torch.float16: "fp16", torch.bfloat16: "bf16"}
_FEATURES = ("x", "weight", "y")
_MASK = ("u", "mask_weight", "scalars", "alpha")
_NORM = ("scale", "shift")
_REGIONS = ("order", "kinds", "constant")
_TENSORS = (*_FEATURES, *_MASK, *_NORM, *_REGIONS, "given", "features", "m", "attention", "updated", "sums")
_SIZES = ("positions", "given_positions", "height", "width", "outputs")

_TYPES = {**dict.fromkeys((*_MASK[2:], *_NORM, "constant", "sums"), "*fp32"), "order": "*i32", "kinds": "*u8"}

_FORMS: dict[str, tuple[str, ...]] = {
    "attention": (*_FEATURES, *_MASK, "updated"),
    "attention-affine": (*_FEATURES, *_MASK, "updated", *_NORM),
    "attention-keep": (*_FEATURES, *_MASK, "updated", "features", "m"),
    "attention-skip": (*_FEATURES, *_MASK, "updated", *_REGIONS),
    "statistics": (*_FEATURES[:2], *_MASK[:3], "features", "m", "sums"),
    "maps": (*_MASK, "updated", "attention"),
    "maps-keep": (*_MASK, "updated", "m"),
    "maps-skip": (*_MASK, "updated", "attention", *_REGIONS),
    "bare": _FEATURES,
    "given": (*_FEATURES, "given"),
    "given-affine": (*_FEATURES, "given", *_NORM),
}
"""What is launched, and the tensors that it has."""

_NOT_FIRST = ("attention-affine", "given-affine", "statistics", "attention-skip", "maps-skip", "bare")


def _shipped(form: str, precision: str, channels: int, mask_channels: int, positions: int, outputs: int) -> Shipped:
    present = _FORMS[form]
    channels, mask_channels = channels if "x" in present else 0, mask_channels if "u" in present else 0
    tile = choose_tile(precision, channels, mask_channels, positions, outputs)
    pointers = {name: _TYPES.get(name, f"*{DTYPES[precision]}") for name in present}
    return Shipped(
        name=f"encoder-{form}-{precision}-{channels}-{mask_channels}-{tile.block_m}",
        kernel=_encode,
        signature={**pointers, **dict.fromkeys(_SIZES, "i32"), "slope": "fp32"},
        constants={
            **{name: None for name in _TENSORS if name not in present},
            **_constants(tile, precision, channels, mask_channels, 4),
        },
        precision=precision,
        num_warps=tile.num_warps,
        num_stages=tile.num_stages,
        multiplies=precision != "fp32",
        aligned=(*present, "outputs"),
    )


SHIPPED: tuple[Shipped, ...] = tuple(
    _shipped(form, precision, *sizes)
    for form in _FORMS
    for precision in DTYPES
    for sizes in ((4, 1, 65536, 64), (64, 64, 65536, 128), (512, 512, 1024, 512))
    if not (sizes[0] == 4 and form in _NOT_FIRST)
)
"""The first layer, which has no BatchNorm, a wide one of many positions and a deep one of few."""
