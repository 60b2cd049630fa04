"""The decoder's layers as implicit matrix products: transposed 4x4 convolutions, stride 2, padding 1, with all that follows.

Output row ``2 q + p`` (phase p = 0 or 1) sees the input rows ``q + d``, d = p - 1 and p, each with kernel row ``1 + p - 2 d``;
columns likewise. So each of the four phases (p of the rows, p of the columns) is a 2x2 convolution of stride 1. Two inputs, each
with its own rows of the filter, add to one accumulator. Tensors are [N, C, H, W], turned to channels_last where they are not;
results are channels_last and those of ``ops.backends.eager``, except that nothing is rounded between convolution and result.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import product
from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from . import split
from .arguments import Affine
from .epilogue import finish_features, map_of
from .shipped import DTYPES, Shipped
from .split import is_last, share_of, store_partial_sum, sum_of
from .sums import blocks_of, mean_and_variance


class Block(NamedTuple):
    """What one program computes, and how: input positions, output channels, input channels at a time."""

    positions: int
    channels_out: int
    channels_in: int
    num_warps: int
    num_stages: int


BLOCKS: dict[str, tuple[Block, ...]] = {
    "fp32": (Block(64, 32, 16, 4, 3),),
    "tf32": (Block(128, 64, 32, 4, 3), Block(64, 64, 32, 4, 4), Block(64, 32, 32, 4, 3)),
    "fp16": (Block(128, 64, 64, 4, 3), Block(64, 64, 64, 4, 5), Block(64, 32, 64, 4, 4)),
}
"""Never of 8 warps: for these, Triton may compile a loop over taps and channels wrongly (pytorch/pytorch#173068)."""
BLOCKS["bf16"] = BLOCKS["fp16"]

THIN_BLOCKS = {"fp32": Block(64, 16, 16, 4, 2), "tf32": Block(64, 16, 32, 4, 2), "fp16": Block(64, 16, 64, 4, 2)}
"""For 3 output channels in 4 phases: 12, padded."""
THIN_BLOCKS["bf16"] = THIN_BLOCKS["fp16"]

BARE, STATISTICS = "bare", "statistics"
"""Forms of a result: as it is; as it is, with its mean and variance."""

NOTHING_AFTER = Affine()


def block_for(precision: str, positions: int, channels_out: int) -> Block:
    """The largest block that the channels fill and that makes enough programs, else the smallest."""
    for block in BLOCKS[precision]:
        if block.channels_out <= channels_out and _programs(block, positions, channels_out) >= split.ENOUGH_PROGRAMS:
            return block
    return BLOCKS[precision][-1]


def decode_with_map(
    skip: Tensor | None,
    own: Tensor,
    skip_weight: Tensor | None,
    own_weight: Tensor,
    attention: Tensor,
    affine: Affine,
    *,
    tf32: bool = False,
) -> Tensor:
    """``leaky(scale * deconvolution * attention + shift)`` of one or two inputs; a map of batch 1 serves every picture."""
    inputs = _inputs(skip, own, skip_weight, own_weight)
    y = _output(inputs.own, inputs.own_weight)
    if attention.shape[0] not in (1, y.shape[0]) or attention.shape[1:] != y.shape[1:]:
        raise ValueError(f"a map of shape {tuple(attention.shape)} does not fit a result of shape {tuple(y.shape)}")
    _launch(inputs, y, tf32, affine, y=y, given=attention)
    return y


def deconvolution(
    skip: Tensor | None, own: Tensor, skip_weight: Tensor | None, own_weight: Tensor, *, tf32: bool = False
) -> Tensor:
    """The bare transposed convolution of one or two inputs."""
    if own_weight.shape[1] == 3:
        return reconstruct(skip, own, skip_weight, own_weight, BARE, tf32=tf32)
    inputs = _inputs(skip, own, skip_weight, own_weight)
    y = _output(inputs.own, inputs.own_weight)
    _launch(inputs, y, tf32, y=y)
    return y


def decode_with_statistics(
    skip: Tensor | None,
    own: Tensor,
    skip_weight: Tensor | None,
    own_weight: Tensor,
    m: Tensor,
    scalars: Tensor,
    *,
    tf32: bool = False,
) -> tuple[Tensor, Tensor, Tensor]:
    """The transposed convolution ``F`` and, in the same pass, the mean and biased variance [C] of ``F * g_A(m)``."""
    inputs = _inputs(skip, own, skip_weight, own_weight)
    y = _output(inputs.own, inputs.own_weight)
    if m.shape != y.shape:
        raise ValueError(f"m of shape {tuple(m.shape)} does not fit a result of shape {tuple(y.shape)}")
    positions, channels_out = _positions(inputs.own), y.shape[1]
    counts = blocks_of(positions, _plan(inputs, channels_out, tf32).block.positions, y.device).repeat(4)
    sums = scalars.new_empty((2, len(counts), channels_out))
    _launch(inputs, y, tf32, features=y, level=m, scalars=scalars, sums=sums)
    return y, *mean_and_variance(sums, counts)


def reconstruct(
    skip: Tensor | None,
    own: Tensor,
    skip_weight: Tensor | None,
    own_weight: Tensor,
    form: str,
    *,
    tf32: bool = False,
) -> Tensor:
    """The last transposed convolution in [0, 1]; in the form BARE as it is."""
    own, own_weight, skip, skip_weight = _inputs(skip, own, skip_weight, own_weight)
    y = _output(own, own_weight)
    batch, channels_own, height, width = own.shape
    if y.shape[1] != 3:
        raise ValueError(f"a picture has 3 channels, not {y.shape[1]}")
    positions = batch * height * width
    precision = _precision(own, tf32)
    block = THIN_BLOCKS[precision]
    with torch.cuda.device_of(own):
        _reconstruct[(triton.cdiv(positions, block.positions),)](
            y,
            own,
            skip,
            own_weight,
            skip_weight,
            0 if skip is None else skip.shape[1],
            channels_own,
            positions,
            height,
            width,
            **_constants(precision, block),
            FORM=form,
            num_warps=block.num_warps,
            num_stages=block.num_stages,
        )
    return y


class _Inputs(NamedTuple):
    """Both inputs and their rows of the filter, in channels_last; ``skip`` may be missing."""

    own: Tensor
    own_weight: Tensor
    skip: Tensor | None
    skip_weight: Tensor | None


def _inputs(skip: Tensor | None, own: Tensor, skip_weight: Tensor | None, own_weight: Tensor) -> _Inputs:
    """Once they are known to fit."""
    own, own_weight = _operands(own, own_weight)
    if skip is None or skip_weight is None:
        return _Inputs(own, own_weight, None, None)
    skip, skip_weight = _operands(skip, skip_weight)
    if skip.dtype != own.dtype or skip.shape[0] != own.shape[0] or skip.shape[2:] != own.shape[2:]:
        raise ValueError(f"inputs of shapes {tuple(skip.shape)} and {tuple(own.shape)}, {skip.dtype} and {own.dtype}, do not fit")
    if skip_weight.shape[1] != own_weight.shape[1]:
        raise ValueError(f"both filters must have equally many outputs, not {skip_weight.shape[1]} and {own_weight.shape[1]}")
    return _Inputs(own, own_weight, skip, skip_weight)


def _operands(x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Both in channels_last, once they are known to fit."""
    if x.dtype not in _PRECISIONS or weight.dtype != x.dtype:
        raise ValueError(f"input and filter must both be float32, float16 or bfloat16, not {x.dtype} and {weight.dtype}")
    if weight.shape[0] != x.shape[1] or weight.shape[2:] != (4, 4):
        raise ValueError(f"a filter of shape {tuple(weight.shape)} does not fit an input of shape {tuple(x.shape)}")
    return x.contiguous(memory_format=torch.channels_last), weight.contiguous(memory_format=torch.channels_last)


def _output(own: Tensor, weight: Tensor) -> Tensor:
    batch, _, height, width = own.shape
    shape = (batch, weight.shape[1], 2 * height, 2 * width)
    return torch.empty(shape, dtype=own.dtype, device=own.device, memory_format=torch.channels_last)


class _Plan(NamedTuple):
    """How a layer is launched."""

    precision: str
    block: Block
    splits: int


def _plan(inputs: _Inputs, channels_out: int, tf32: bool) -> _Plan:
    precision, positions = _precision(inputs.own, tf32), _positions(inputs.own)
    block = block_for(precision, positions, channels_out)
    inner = 4 * (inputs.own.shape[1] + (0 if inputs.skip is None else inputs.skip.shape[1]))
    programs = max(1, _programs(block, positions, channels_out))
    return _Plan(precision, block, split.splits_for(programs, inner, split.multiprocessors_of(inputs.own.device)))


def _launch(inputs: _Inputs, result: Tensor, tf32: bool, affine: Affine = NOTHING_AFTER, **tensors: Tensor) -> None:
    """Run the kernel of all layers but the last; ``tensors`` are the remaining ones by name, the results among them."""
    batch, channels_own, height, width = inputs.own.shape
    positions, channels_out = _positions(inputs.own), result.shape[1]
    if positions == 0:
        return
    present = {
        name: tensor.contiguous(memory_format=torch.channels_last) if name in ("given", "level") else tensor
        for name, tensor in {**tensors, **affine._asdict()}.items()
        if isinstance(tensor, Tensor)
    }
    plan = _plan(inputs, channels_out, tf32)
    maps = len(present["given"]) if "given" in present else batch
    programs = _programs(plan.block, positions, channels_out)
    with torch.cuda.device_of(result):
        if plan.splits > 1:
            present |= split.workspace(programs, plan.splits, 1, result.numel(), result.device)
        _decode_with_map[(programs, plan.splits)](
            **inputs._asdict(),
            **{name: present.get(name) for name in _OPTIONAL},
            slope=float(affine.slope),
            channels_skip=0 if inputs.skip is None else inputs.skip.shape[1],
            channels_own=channels_own,
            channels_out=channels_out,
            positions=positions,
            height=height,
            width=width,
            map_per_image=int(maps == batch),
            **_constants(plan.precision, plan.block),
            BLOCK_OUT=plan.block.channels_out,
            SPLITS=plan.splits,
            num_warps=plan.block.num_warps,
            num_stages=plan.block.num_stages,
        )


def _positions(x: Tensor) -> int:
    return x.shape[0] * x.shape[2] * x.shape[3]


_PRECISIONS = {torch.float32: "fp32", torch.float16: "fp16", torch.bfloat16: "bf16"}


def _precision(own: Tensor, tf32: bool) -> str:
    precision = _PRECISIONS[own.dtype]
    return "tf32" if tf32 and precision == "fp32" else precision


def _programs(block: Block, positions: int, channels_out: int) -> int:
    return 4 * -(-channels_out // block.channels_out) * -(-positions // block.positions)


def _constants(precision: str, block: Block) -> dict[str, str | int]:
    return {
        "PRECISION": "tf32" if precision == "tf32" else "ieee",
        "BLOCK_POSITIONS": block.positions,
        "BLOCK_IN": block.channels_in,
    }


@triton.jit
def _split(position, height, width):
    """Image, row and column of a position."""
    line = position // width
    return line // height, line % height, position % width


@triton.jit
def _place(image, row, column, height, width):
    """The position, in 64 bits, of a pixel of images of this size."""
    return (image.to(tl.int64) * height + row) * width + column


@triton.jit
def _seen(inside, line, place, height, width, ACROSS: tl.constexpr):
    """A bit for each of ACROSS x ACROSS taps: whether its pixel lies inside the picture; that of the first is at ``line`` and
    ``place``, those of the next ones left of it and above."""
    seen = tl.zeros_like(line)
    for tap in tl.static_range(ACROSS * ACROSS):
        up, left = line - tap // ACROSS, place - tap % ACROSS
        seen |= tl.where(inside & (up >= 0) & (up < height) & (left >= 0) & (left < width), 1 << tap, 0)
    return seen


@triton.jit
def _corners(x, weight, position, column, channels, step, BLOCK_IN: tl.constexpr):
    """Pointers to the first BLOCK_IN channels at those positions, and to those of the columns of a filter whose next channel is
    ``step`` away."""
    channel = tl.arange(0, BLOCK_IN)
    rows = x + position.to(tl.int64)[:, None] * channels + channel[None, :]
    return rows, weight + channel[:, None] * step + column[None, :]


@triton.jit
def _add_tap(total, rows, near, columns, used, start, channels, PRECISION: tl.constexpr, BLOCK_IN: tl.constexpr):
    """Adds the product of BLOCK_IN channels from ``start``, of rows that are ``near`` the picture and columns ``used``."""
    inside = start + tl.arange(0, BLOCK_IN) < channels
    values = tl.load(rows, mask=near[:, None] & inside[None, :], other=0.0)
    filters = tl.load(columns, mask=inside[:, None] & used[None, :], other=0.0)
    return tl.dot(values, filters, total, input_precision=PRECISION)


@triton.jit
def _add_phase(
    total,
    x,
    weight,
    tile,
    down,
    right,
    channels,
    channels_out,
    PRECISION: tl.constexpr,
    BLOCK_IN: tl.constexpr,
):
    """Adds this program's share of the 2x2 convolution of one phase (``down``, ``right``) of one input.

    The four taps of a block of channels follow each other. The loop must not be compiled for 8 warps: see ``BLOCKS``.
    """
    position, inside, row, column, height, width, output = tile
    seen = _seen(inside, row + down, column + right, height, width, 2)
    entry = ((1 - down) * 4 + 1 - right) * channels_out
    rows, columns = _corners(x, weight, position, output + entry, channels, 16 * channels_out, BLOCK_IN)
    rows += (down * width + right) * channels
    first, last = share_of(4 * tl.cdiv(channels, BLOCK_IN))
    for step in range(first, last):
        up, left, start = step >> 1 & 1, step & 1, (step >> 2) * BLOCK_IN
        total = _add_tap(
            total,
            rows + (start - (up * width + left) * channels),
            (seen & (1 << (step & 3))) != 0,
            columns + (start * 16 + up * 8 + left * 2) * channels_out,
            output < channels_out,
            start,
            channels,
            PRECISION,
            BLOCK_IN,
        )
    return total


@triton.jit(do_not_specialize=["positions", "height", "width", "map_per_image"])
def _decode_with_map(
    y,
    own,
    skip,
    own_weight,
    skip_weight,
    given,
    level,
    scalars,
    features,
    sums,
    scale,
    shift,
    partial,
    arrived,
    slope,
    channels_skip,
    channels_own,
    channels_out,
    positions,
    height,
    width,
    map_per_image,
    PRECISION: tl.constexpr,
    BLOCK_POSITIONS: tl.constexpr,
    BLOCK_OUT: tl.constexpr,
    BLOCK_IN: tl.constexpr,
    SPLITS: tl.constexpr,
):
    """One phase of a block of positions and of output channels; the phases and channels of the same positions run side by side.

    skip, scale    None switches them off, with skip_weight and shift
    given          the map, or None; map_per_image is 0 where one map serves all images, else 1
    sums           with level (``m``), scalars and features, [2, phases and their blocks of positions, channels_out]: the product
                   of result and map by ``store_block_sums``
    partial        with ``arrived``, where SPLITS programs share this: ``split``
    """
    program, blocks_out = tl.program_id(0), tl.cdiv(channels_out, BLOCK_OUT)
    down, right = program % 4 // 2, program % 2
    output = program // 4 % blocks_out * BLOCK_OUT + tl.arange(0, BLOCK_OUT)
    block = program // 4 // blocks_out
    position = block * BLOCK_POSITIONS + tl.arange(0, BLOCK_POSITIONS)
    image, row, column = _split(position, height, width)
    tile = (position, position < positions, row, column, height, width, output)

    result = tl.zeros((BLOCK_POSITIONS, BLOCK_OUT), tl.float32)
    result = _add_phase(result, own, own_weight, tile, down, right, channels_own, channels_out, PRECISION, BLOCK_IN)
    if skip is not None:
        result = _add_phase(result, skip, skip_weight, tile, down, right, channels_skip, channels_out, PRECISION, BLOCK_IN)

    row, column, height, width = 2 * row + down, 2 * column + right, 2 * height, 2 * width
    inside = (position < positions)[:, None] & (output < channels_out)[None, :]
    at = _place(image, row, column, height, width)[:, None] * channels_out + output[None, :]
    size = positions.to(tl.int64) * 4 * channels_out
    finishes = True
    if SPLITS > 1:
        store_partial_sum(partial, result, 0, 1, at, inside, size)
        finishes = is_last(arrived)
    if finishes:
        if SPLITS > 1:
            result = sum_of(partial, 0, 1, at, inside, size, SPLITS)
        known = None
        if given is not None:
            on_map = _place(image * map_per_image, row, column, height, width)[:, None] * channels_out + output[None, :]
            known = tl.load(given + on_map, mask=inside, other=0.0).to(tl.float32)
        elif level is not None:
            known = map_of(tl.load(level + at, mask=inside, other=0.0).to(tl.float32), scalars)
        blocks = tl.cdiv(positions, BLOCK_POSITIONS)
        group = (
            tl.minimum(positions - block * BLOCK_POSITIONS, BLOCK_POSITIONS),
            program % 4 * blocks + block,
            4 * blocks,
        )
        finish_features(result, known, at, inside, output, channels_out, group, scale, shift, slope, y, features, sums)


@triton.jit
def _add_thin(total, x, weight, tile, lanes, channels, PRECISION: tl.constexpr, BLOCK_IN: tl.constexpr):
    """Adds all four phases of one input: its 3x3 neighbours, each with the kernel's entry for the lane's phase, or 0."""
    position, inside, row, column, height, width = tile
    down, right, colour = lanes
    seen = _seen(inside, row + 1, column + 1, height, width, 3)
    rows, columns = _corners(x, weight, position, ((1 + down) * 4 + 1 + right) * 3 + colour, channels, 48, BLOCK_IN)
    for step in range(0, 9 * tl.cdiv(channels, BLOCK_IN)):
        neighbour, start = step % 9, step // 9 * BLOCK_IN
        dy, dx = 1 - neighbour // 3, 1 - neighbour % 3
        ky, kx = 1 + down - 2 * dy, 1 + right - 2 * dx
        total = _add_tap(
            total,
            rows + (start + (dy * width + dx) * channels),
            (seen & (1 << neighbour)) != 0,
            columns + (start * 48 - (dy * 8 + dx * 2) * 3),
            (ky >= 0) & (ky < 4) & (kx >= 0) & (kx < 4) & (colour < 3),
            start,
            channels,
            PRECISION,
            BLOCK_IN,
        )
    return total


@triton.jit(do_not_specialize=["positions", "height", "width"])
def _reconstruct(
    y,
    own,
    skip,
    own_weight,
    skip_weight,
    channels_skip,
    channels_own,
    positions,
    height,
    width,
    FORM: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK_POSITIONS: tl.constexpr,
    BLOCK_IN: tl.constexpr,
):
    """The 2x2 output pixels of a block of positions.

    The 16 columns of the product are 4 phases of 3 colours and an idle lane. That takes 9 taps of 16 columns, where phase by
    phase it would be 16 of them, and each input is read by one program, not by four.
    """
    lane = tl.arange(0, 16)
    down, right, colour = lane // 8, lane // 4 % 2, lane % 4
    position = tl.program_id(0) * BLOCK_POSITIONS + tl.arange(0, BLOCK_POSITIONS)
    number, row, column = _split(position, height, width)
    tile, lanes = (position, position < positions, row, column, height, width), (down, right, colour)

    result = tl.zeros((BLOCK_POSITIONS, 16), tl.float32)
    result = _add_thin(result, own, own_weight, tile, lanes, channels_own, PRECISION, BLOCK_IN)
    if skip is not None:
        result = _add_thin(result, skip, skip_weight, tile, lanes, channels_skip, PRECISION, BLOCK_IN)
    if FORM != "bare":
        bell = tl.exp(-2 * tl.abs(result))
        result = (tl.where(result < 0, bell, 1.0) if FORM == "tanh" else 1 - bell) / (1 + bell)
    result = result.to(y.dtype.element_ty)

    number, row, column = number[:, None], 2 * row[:, None] + down[None, :], 2 * column[:, None] + right[None, :]
    height, width = 2 * height, 2 * width
    inside = (position < positions)[:, None] & (colour < 3)[None, :]
    place = _place(number, row, column, height, width) * 3 + colour[None, :]
    tl.store(y + place, result, mask=inside)


_SHARED = ("partial", "arrived")
_OPTIONAL = ("y", "given", "level", "scalars", "features", "sums", "scale", "shift", *_SHARED)
_CHANNELS = ("channels_skip", "channels_own", "channels_out")
_TYPES = {
    **dict.fromkeys(("scalars", "sums", "scale", "shift", "partial"), "*fp32"),
    **dict.fromkeys((*_CHANNELS, "positions", "height", "width", "map_per_image"), "i32"),
    "arrived": "*i32",
    "slope": "fp32",
}


def _entry(
    kernel: Any, name: str, precision: str, block: Block, absent: tuple[str, ...], constants: Mapping[str, str | int]
) -> Shipped:
    """A configuration without the tensors that are ``absent``."""
    present = [argument for argument in kernel.arg_names if argument.islower() and argument not in absent]
    signature = {argument: _TYPES.get(argument, f"*{DTYPES[precision]}") for argument in present}
    return Shipped(
        name=f"decoder-{name}-{precision}-{block.positions}x{block.channels_out}",
        kernel=kernel,
        signature=signature,
        constants={**dict.fromkeys(absent), **_constants(precision, block), **constants},
        precision=precision,
        num_warps=block.num_warps,
        num_stages=block.num_stages,
        multiplies=precision != "fp32",
        aligned=tuple(argument for argument, kind in signature.items() if kind.startswith("*") or argument in _CHANNELS),
    )


_OPTIONS: dict[str, tuple[str, ...]] = {
    "decode": ("y", "given"),
    "decode-affine": ("y", "given", "scale", "shift"),
    STATISTICS: ("features", "level", "scalars", "sums"),
    BARE: ("y",),
}
"""What is launched, and the optional tensors that it has."""


def _shipped() -> Iterator[Shipped]:
    for (form, options), precision, two in product(_OPTIONS.items(), DTYPES, (False, True)):
        inputs = ("skip", "skip_weight") if two else ()
        smallest = BLOCKS[precision][-1]
        for block, splits in (*((block, 1) for block in BLOCKS[precision]), (smallest, 8)):
            present = (*options, *inputs, *(_SHARED if splits > 1 else ()))
            absent = tuple(name for name in ("skip", "skip_weight", *_OPTIONAL) if name not in present)
            constants = {"BLOCK_OUT": block.channels_out, "SPLITS": splits}
            yield _entry(_decode_with_map, f"{form}{'-two' * two}-{splits}", precision, block, absent, constants)
    for (precision, block), form in product(THIN_BLOCKS.items(), ("tanh", "abs", BARE)):
        yield _entry(_reconstruct, form, precision, block, (), {"FORM": form})


SHIPPED: tuple[Shipped, ...] = tuple(_shipped())
