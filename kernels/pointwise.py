"""Attention, activation and mask update in one pass over the results of the convolutions, and their backward in another.

The functions equal those of the same names in ``ops.backends.eager`` for float32, float16 and bfloat16. Tensors are read and
written as [positions, channels] (channels_last; others are converted) and computed in float32. Sums are added up from partial
sums, one per program, in a fixed order: two runs agree to the bit.
"""

from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from lbam_fast.kernels.arguments import Affine, Gate
from lbam_fast.kernels.formulas import activation, attention_map, mask_update
from lbam_fast.kernels.shipped import DTYPES, Shipped

_WIDEST = 64  # channels of a block: a cache line in half precision
_TILE = 2048  # elements of a block that is passed through
_SUMMING_TILE = 1024  # elements of a block with a register for each of its up to seven sums
_PROGRAMS = 2048  # that share out a summation: enough to fill a GPU, few enough to add up quickly
_WARPS = 4
_WARPS_OF_STATISTICS = 8  # with fewer they spill in float32, on compute capability 10.0 in the forward pass too
_STAGES = 3  # what Triton takes unless it is told
_LEAST = tl.constexpr(2.0**-126)  # the smallest normal float32: a GPU may take less for 0


@triton.jit
def _place(channels, BLOCK_C: tl.constexpr):
    """This program's number along the positions and its channels."""
    across = tl.cdiv(channels, BLOCK_C)
    columns = tl.program_id(0) % across * BLOCK_C + tl.arange(0, BLOCK_C)
    return (tl.program_id(0) // across).to(tl.int64), columns


@triton.jit
def _tile(block, columns, positions, channels, BLOCK_P: tl.constexpr):
    """Offsets of the elements of a block, and which of them exist."""
    rows = block * BLOCK_P + tl.arange(0, BLOCK_P)
    return rows[:, None] * channels + columns[None, :], (rows < positions)[:, None] & (columns < channels)[None, :]


@triton.jit
def _load(x, offsets, inside):
    return tl.load(x + offsets, mask=inside, other=0.0).to(tl.float32)


@triton.jit
def _load_row(x, columns, channels):
    """One value for each channel, as a row."""
    return _load(x, columns, columns < channels)[None, :]


@triton.jit
def _load_scalars(scalars):
    return tl.load(scalars), tl.load(scalars + 1), tl.load(scalars + 2), tl.load(scalars + 3)


@triton.jit
def _map_derivatives(m, a, mu, gamma_l, gamma_r):
    """g_A(m), its derivative by m, by a, and by the gamma of m's side of mu."""
    below = m < mu
    distance = m - mu
    gamma = tl.where(below, gamma_l, gamma_r)
    bell = tl.exp(-gamma * distance * distance)
    peak = tl.where(below, a, a - 1) * bell
    far = distance * peak  # in this order 0 far away, where the square overflows
    return tl.where(below, peak, 1 + peak), -2 * gamma * far, bell, -distance * far


@triton.jit
def _update_derivatives(m, alpha, dnew):
    """``dnew`` through g_M: to m, and to alpha but for the factor ln 2."""
    dnew = tl.where(m > 0, dnew, 0.0)
    base = tl.where(m > 0, tl.maximum(m, _LEAST), 1.0)
    logarithm = tl.log2(base)
    root = tl.exp2((alpha - 1) * logarithm)
    return dnew * alpha * root, dnew * root * base * logarithm


@triton.jit
def _activation_gradient(x, dy, slope):
    """``dy`` times the derivative of ``activation`` at ``x``."""
    return tl.where(x > 0, dy, slope * dy)


@triton.jit
def _store_sum(sums, index: tl.constexpr, values):
    tl.store(sums + index * tl.num_programs(0) + tl.program_id(0), tl.sum(values))


@triton.jit
def _store_channel_sum(sums, index: tl.constexpr, values, block, columns, channels):
    blocks = tl.num_programs(0) // tl.cdiv(channels, values.shape[1])
    tl.store(sums + (index * blocks + block) * channels + columns, tl.sum(values, axis=0), mask=columns < channels)


@triton.jit(do_not_specialize=["positions"])
def attend_kernel(
    features, m, scalars, alpha, scale, shift, slope, y, u, positions, channels, BLOCK_P: tl.constexpr, BLOCK_C: tl.constexpr
):
    """Those of ``y`` and ``u`` that are not None; without ``features``, ``y`` is the map. Axis 1 of the grid counts the parts of
    ``features`` that share ``m``."""
    block, columns = _place(channels, BLOCK_C)
    offsets, inside = _tile(block, columns, positions, channels, BLOCK_P)
    part = tl.program_id(1)
    own = part.to(tl.int64) * positions * channels + offsets
    a, mu, gamma_l, gamma_r = _load_scalars(scalars)
    level = _load(m, offsets, inside)
    if y is not None:
        result = attention_map(level, a, mu, gamma_l, gamma_r)
        if features is not None:
            result *= _load(features, own, inside)
        if scale is not None:
            result = result * _load_row(scale, columns, channels) + _load_row(shift, columns, channels)
        tl.store(y + own, activation(result, slope), mask=inside)
    if u is not None:
        tl.store(u + offsets, mask_update(level, tl.load(alpha)), mask=inside & (part == 0))


@triton.jit(do_not_specialize=["positions", "steps"])
def statistics_kernel(
    features, m, scalars, pivot, channel_sums, positions, channels, steps, BLOCK_P: tl.constexpr, BLOCK_C: tl.constexpr
):
    """Partial sums [2, blocks, channels] of the product less ``pivot`` [channels], and of its square.

    The pivot is the mean over the first block: so near that of all, as seen from the spread, that squares cancel harmlessly.
    """
    block, columns = _place(channels, BLOCK_C)
    a, mu, gamma_l, gamma_r = _load_scalars(scalars)
    start, there = _tile(0, columns, positions, channels, BLOCK_P)
    beginning = _load(features, start, there) * attention_map(_load(m, start, there), a, mu, gamma_l, gamma_r)
    first = tl.sum(tl.where(there, beginning, 0.0), axis=0)[None, :] / tl.minimum(positions, BLOCK_P)
    tl.store(pivot + columns[None, :], first, mask=(columns < channels)[None, :] & (block == 0))
    total = tl.zeros((BLOCK_P, BLOCK_C), tl.float32)
    squares = tl.zeros((BLOCK_P, BLOCK_C), tl.float32)
    step = 0
    while step < steps:  # the interpreter has no ``range`` over an argument
        offsets, inside = _tile(block * steps + step, columns, positions, channels, BLOCK_P)
        step += 1
        level = _load(m, offsets, inside)
        result = _load(features, offsets, inside) * attention_map(level, a, mu, gamma_l, gamma_r)
        result = tl.where(inside, result - first, 0.0)
        total += result
        squares += result * result
    _store_channel_sum(channel_sums, 0, total, block, columns, channels)
    _store_channel_sum(channel_sums, 1, squares, block, columns, channels)


@triton.jit(do_not_specialize=["positions", "steps"])
def backward_kernel(
    dy,
    du,
    dsum,
    dsquares,
    mean,
    features,
    m,
    scalars,
    alpha,
    scale,
    shift,
    slope,
    dfeatures,
    dm,
    scalar_sums,
    channel_sums,
    positions,
    channels,
    steps,
    BLOCK_P: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    """The backward of ``attend``, or with ``dsum``, ``dsquares`` and ``mean`` in place of ``dy`` that of ``statistics``.

    Partial sums [5, programs] for a, mu, gamma_l, gamma_r, alpha (the last with ``du`` alone) and, with ``scale``, [2, blocks,
    channels] for scale and shift.
    """
    block, columns = _place(channels, BLOCK_C)
    a, mu, gamma_l, gamma_r = _load_scalars(scalars)
    by_a = tl.zeros((BLOCK_P,), tl.float32)
    by_mu = tl.zeros((BLOCK_P,), tl.float32)
    by_gamma_l = tl.zeros((BLOCK_P,), tl.float32)
    by_gamma_r = tl.zeros((BLOCK_P,), tl.float32)
    by_alpha = tl.zeros((BLOCK_P,), tl.float32)
    by_scale = tl.zeros((BLOCK_P, BLOCK_C), tl.float32)
    by_shift = tl.zeros((BLOCK_P, BLOCK_C), tl.float32)
    if du is not None and scale is None:
        exponent = tl.load(alpha)
    step = 0
    while step < steps:  # the interpreter has no ``range`` over an argument
        offsets, inside = _tile(block * steps + step, columns, positions, channels, BLOCK_P)
        step += 1
        if du is not None and scale is not None:  # loaded above, it makes ptxas 12.8 spill; without a scale, here
            exponent = tl.load(alpha)
        x = _load(features, offsets, inside)
        level = _load(m, offsets, inside)
        attention, slope_of_map, bell, fall = _map_derivatives(level, a, mu, gamma_l, gamma_r)
        result = x * attention
        if dy is None:
            centred = result - _load_row(mean, columns, channels)
            dresult = _load_row(dsum, columns, channels) + 2 * centred * _load_row(dsquares, columns, channels)
        else:
            dresult = _load(dy, offsets, inside)
            if scale is None:
                dresult = _activation_gradient(result, dresult, slope)
            else:
                factor = _load_row(scale, columns, channels)
                dresult = _activation_gradient(result * factor + _load_row(shift, columns, channels), dresult, slope)
                by_scale += dresult * result
                by_shift += dresult
                dresult *= factor
        dmap = dresult * x
        dlevel = dmap * slope_of_map
        by_a += tl.sum(dmap * bell, axis=1)
        by_mu -= tl.sum(dlevel, axis=1)
        by_gamma_l += tl.sum(tl.where(level < mu, dmap * fall, 0.0), axis=1)
        by_gamma_r += tl.sum(tl.where(level < mu, 0.0, dmap * fall), axis=1)
        if du is not None:
            by_level, by_exponent = _update_derivatives(level, exponent, _load(du, offsets, inside))
            dlevel += by_level
            by_alpha += tl.sum(by_exponent, axis=1) * 0.6931471805599453
        tl.store(dfeatures + offsets, dresult * attention, mask=inside)
        tl.store(dm + offsets, dlevel, mask=inside)
    _store_sum(scalar_sums, 0, by_a)
    _store_sum(scalar_sums, 1, by_mu)
    _store_sum(scalar_sums, 2, by_gamma_l)
    _store_sum(scalar_sums, 3, by_gamma_r)
    if du is not None:
        _store_sum(scalar_sums, 4, by_alpha)
    if scale is not None:
        _store_channel_sum(channel_sums, 0, by_scale, block, columns, channels)
        _store_channel_sum(channel_sums, 1, by_shift, block, columns, channels)


def attend(features: Tensor, m: Tensor, gate: Gate, affine: Affine, update: bool) -> tuple[Tensor, Tensor]:
    """``y`` and, with ``update``, ``g_M(m)``. An ``m`` of batch 1 serves features of any batch."""
    if m.shape[1:] != features.shape[1:] or len(m) not in (1, len(features)):
        raise ValueError(f"m is {tuple(m.shape)}: expected the shape of features, {tuple(features.shape)}, or that with batch 1")
    features, m = _channels_last(features), _channels_last(m)
    y, u = torch.empty_like(features), torch.empty_like(m) if update else None
    _launch_attend(features, m, gate, affine, y, u, parts=len(features) // len(m))
    return y, m.new_empty(0) if u is None else u


def maps(m: Tensor, gate: Gate, attention: bool, update: bool) -> tuple[Tensor, Tensor]:
    """``g_A(m)`` and ``g_M(m)``, those that are wanted."""
    m = _channels_last(m)
    y, u = (torch.empty_like(m) if wanted else None for wanted in (attention, update))
    if attention or update:
        _launch_attend(None, m, gate, Affine(), y, u, parts=1)
    return m.new_empty(0) if y is None else y, m.new_empty(0) if u is None else u


def _launch_attend(
    features: Tensor | None,
    m: Tensor,
    gate: Gate,
    affine: Affine,
    y: Tensor | None,
    u: Tensor | None,
    parts: int,
) -> None:
    share = _share(m, _TILE, programs=None)
    given = features, m, *gate, *affine, y, u, share.positions, share.channels
    with torch.cuda.device_of(m):
        attend_kernel[(share.programs, parts)](*given, **share.blocks, num_warps=_WARPS)


def attend_backward(
    dy: Tensor, du: Tensor | None, features: Tensor, m: Tensor, gate: Gate, affine: Affine
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of features, m, scalars [4], alpha [], scale and shift [C] (empty without a scale)."""
    dfeatures, dm, by_scalar, by_channel = _backward(dy, du, None, None, None, features, m, gate.scalars, gate.alpha, affine)
    return (
        dfeatures,
        dm,
        by_scalar[:4].sum(dim=1),
        gate.scalars.new_zeros(()) if du is None else by_scalar[4].sum(),
        gate.scalars.new_empty(0) if by_channel is None else by_channel[0].sum(dim=0),
        gate.scalars.new_empty(0) if by_channel is None else by_channel[1].sum(dim=0),
    )


def statistics(features: Tensor, m: Tensor, scalars: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and biased variance of ``features * g_A(m)`` over batch and positions: [C] each, float32."""
    _require_one_shape(features, m)
    features, m = _channels_last(features), _channels_last(m)
    share = _share(features, _SUMMING_TILE, _PROGRAMS)
    sums, pivot = share.channel_sums(features), scalars.new_empty(share.channels)
    with torch.cuda.device_of(features):
        statistics_kernel[(share.programs,)](
            features,
            m,
            scalars,
            pivot,
            sums,
            share.positions,
            share.channels,
            share.steps,
            **share.blocks,
            num_warps=_WARPS_OF_STATISTICS,
        )
    offset, square = sums.sum(dim=1) / share.positions
    return pivot + offset, (square - offset * offset).clamp(min=0)


def statistics_backward(
    dmean: Tensor, dvariance: Tensor, mean: Tensor, features: Tensor, m: Tensor, scalars: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of features, m and scalars [4]."""
    count = features.numel() // features.shape[1]
    given = dmean / count, dvariance / count, mean
    dfeatures, dm, by_scalar, _ = _backward(None, None, *given, features, m, scalars, None, Affine())
    return dfeatures, dm, by_scalar[:4].sum(dim=1)


def _backward(
    dy: Tensor | None,
    du: Tensor | None,
    dsum: Tensor | None,
    dsquares: Tensor | None,
    mean: Tensor | None,
    features: Tensor,
    m: Tensor,
    scalars: Tensor,
    alpha: Tensor | None,
    affine: Affine,
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """Gradients of features and m, and the partial sums of ``backward_kernel``."""
    _require_one_shape(features, m)
    dy, du, features, m = (None if x is None else _channels_last(x) for x in (dy, du, features, m))
    dfeatures, dm = torch.empty_like(features), torch.empty_like(m)
    share = _share(features, _SUMMING_TILE, _PROGRAMS)
    by_scalar = features.new_empty((5, share.programs), dtype=torch.float32)
    by_channel = None if affine.scale is None else share.channel_sums(features)
    given = dy, du, dsum, dsquares, mean, features, m, scalars, alpha, *affine
    with torch.cuda.device_of(features):
        backward_kernel[(share.programs,)](
            *given,
            dfeatures,
            dm,
            by_scalar,
            by_channel,
            share.positions,
            share.channels,
            share.steps,
            **share.blocks,
            num_warps=_WARPS if dy is not None else _WARPS_OF_STATISTICS,
        )
    return dfeatures, dm, by_scalar, by_channel


class _Share(NamedTuple):
    """How a tensor is shared out: each program passes through ``steps`` blocks of positions, for the channels of one block."""

    positions: int
    channels: int
    across: int
    programs: int
    steps: int
    blocks: dict[str, int]

    def channel_sums(self, x: Tensor) -> Tensor:
        return x.new_empty((2, self.programs // self.across, self.channels), dtype=torch.float32)


def _share(x: Tensor, tile: int, programs: int | None) -> _Share:
    """Blocks of about ``tile`` elements, over at most about ``programs`` programs; with None, a program for each."""
    channels = x.shape[1]
    positions = x.numel() // channels
    width = min(triton.next_power_of_2(channels), _WIDEST)
    across, along = triton.cdiv(channels, width), triton.cdiv(positions, tile // width)
    steps = 1 if programs is None else max(1, triton.cdiv(along * across, programs))
    return _Share(
        positions, channels, across, triton.cdiv(along, steps) * across, steps, {"BLOCK_P": tile // width, "BLOCK_C": width}
    )


def _channels_last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last)


def _require_one_shape(features: Tensor, m: Tensor) -> None:
    if m.shape != features.shape:
        raise ValueError(
            f"m is {tuple(m.shape)}, features {tuple(features.shape)}: expected one shape; expand a mask shared by a batch"
        )


_TYPES = {"slope": "fp32", "positions": "i32", "channels": "i32", "steps": "i32"}
_STORED = ("dy", "du", "features", "m", "y", "u", "dfeatures", "dm")
_AFFINE = ("scale", "shift", "channel_sums")
_FORMS = (
    ("attend", attend_kernel, _TILE, ("u", *_AFFINE)),
    ("attend_affine", attend_kernel, _TILE, ("u",)),
    ("attend_update", attend_kernel, _TILE, _AFFINE),
    ("attend_affine_update", attend_kernel, _TILE, ()),
    ("maps", attend_kernel, _TILE, ("features", *_AFFINE)),
    ("map", attend_kernel, _TILE, ("features", "u", *_AFFINE)),
    ("update", attend_kernel, _TILE, ("features", "y", *_AFFINE)),
    ("attend_backward", backward_kernel, _SUMMING_TILE, ("dsum", "dsquares", "mean", "du", *_AFFINE)),
    ("attend_affine_backward", backward_kernel, _SUMMING_TILE, ("dsum", "dsquares", "mean", "du")),
    ("attend_update_backward", backward_kernel, _SUMMING_TILE, ("dsum", "dsquares", "mean", *_AFFINE)),
    ("attend_affine_update_backward", backward_kernel, _SUMMING_TILE, ("dsum", "dsquares", "mean")),
    ("statistics", statistics_kernel, _SUMMING_TILE, ()),
    ("statistics_backward", backward_kernel, _SUMMING_TILE, ("dy", "du", "alpha", *_AFFINE)),
)
"""Name, kernel, elements of a block, and the arguments that are None."""


def _shipped(form: str, kernel: Any, tile: int, absent: tuple[str, ...], precision: str) -> Shipped:
    """For 64 channels or more."""
    constants = {"BLOCK_P": tile // _WIDEST, "BLOCK_C": _WIDEST, **dict.fromkeys(set(absent) & set(kernel.arg_names))}
    given = [name for name in kernel.arg_names if name not in constants]
    pointers = {name: f"*{DTYPES[precision]}" if name in _STORED else "*fp32" for name in given if name not in _TYPES}
    signature = {name: pointers.get(name) or _TYPES[name] for name in given}
    return Shipped(
        name=f"{form}_{precision}",
        kernel=kernel,
        signature=signature,
        constants=constants,
        precision=precision,
        num_warps=_WARPS_OF_STATISTICS if form.startswith("statistics") else _WARPS,
        num_stages=_STAGES,
        multiplies=False,
        aligned=(*pointers, "channels"),
    )


SHIPPED = tuple(_shipped(*form, precision) for precision in ("fp32", "fp16", "bf16") for form in _FORMS)
