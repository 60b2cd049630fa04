"""The fused ops on the compiled kernels for the CPU: float32 and bfloat16; other dtypes in plain PyTorch.

Where gradients are wanted, convolutions are PyTorch's and what follows them is one pass. Else a layer is one kernel, and filters
of any dtype are packed once.
"""

# mypy: disable-error-code="no-any-return"

from __future__ import annotations

import torch
from torch import Tensor

from lbam_fast.ops.arguments import Affine, Gate, Regions, Wanted, nhwc
from lbam_fast.ops.backends import eager
from lbam_fast.ops.backends.composed import Composed
from lbam_fast.ops.backends.cpu_filters import compiled, filter_product, pack_anew, packed, winograd_tile
from lbam_fast.ops.runtime import session
from lbam_fast.reference import harmonic

DEEP = 128
"""Channels of a decoder layer's result from which it goes by Winograd in bfloat16 too: later roundings show in the output."""

FILTERS_FROM = 8
"""Channels of both pictures from which a filter's gradient is the faster by Winograd."""


def convolution(x: Tensor, weight: Tensor) -> Tensor:
    size = weight.shape[0], x.shape[2] // 2, x.shape[3] // 2
    thin, tile = x.shape[1] == 1, winograd_tile(x, size[1:], anew=True) if x.dtype == torch.float32 else 0
    if not _covers(x) or weight.shape[-1] != 4 or not (thin or tile):
        return eager.convolution(nhwc(x), weight.to(x.dtype))
    y = _empty(x, *size)
    filters = pack_anew(x.dtype, None, weight, transposed=False, tile=tile)
    compiled().encode_with_map(nhwc(x), filters, None, None, None, 1.0, tile, y)
    return y


def deconvolution(skip: Tensor | None, own: Tensor, skip_weight: Tensor | None, own_weight: Tensor) -> Tensor:
    thin = own.shape[1] == 3 and skip is None
    tile = winograd_tile(own, own.shape[2:], anew=True) if skip is None or skip.shape[1] % 2 == 0 else 0
    if own.dtype != torch.float32 or not (thin or tile):
        cast = None if skip_weight is None else skip_weight.to(own.dtype)
        return eager.deconvolution(None if skip is None else nhwc(skip), nhwc(own), cast, own_weight.to(own.dtype))
    y = _empty(own, own_weight.shape[1], 2 * own.shape[2], 2 * own.shape[3])
    filters = pack_anew(own.dtype, skip_weight, own_weight, transposed=True, tile=tile)
    compiled().decode_with_map(None if skip is None else nhwc(skip), nhwc(own), filters, None, None, None, 1.0, tile, None, y)
    return y


def filter_gradient(small: Tensor, large: Tensor, weight: Tensor, transposed: bool) -> Tensor:
    if small.dtype != torch.float32:
        return eager.filter_gradient(small, large, weight, transposed)
    even = small.shape[2] % 2 == small.shape[3] % 2 == 0
    if not even or min(small.shape[1], large.shape[1]) < FILTERS_FROM:
        return filter_product(small, large, weight)
    gradient = torch.empty_like(weight)
    compiled().filter_gradient(nhwc(small), nhwc(large), gradient)
    return gradient


def attend(features: Tensor, m: Tensor, gate: Gate, affine: Affine, update: bool) -> eager.Pair:
    if not _covers(features):
        return eager.attend(features, m, gate, affine, update)
    return compiled().attend(nhwc(features), nhwc(m), *gate, *affine, update)


def attend_backward(dy: Tensor, du: Tensor | None, features: Tensor, m: Tensor, gate: Gate, affine: Affine) -> eager.Sextuple:
    if not _covers(features):
        return eager.attend_backward(dy, du, features, m, gate, affine)
    return compiled().attend_backward(nhwc(dy), None if du is None else nhwc(du), nhwc(features), nhwc(m), *gate, *affine)


def statistics_backward(
    dmean: Tensor, dvariance: Tensor, mean: Tensor, features: Tensor, m: Tensor, scalars: Tensor
) -> eager.Triple:
    if not _covers(features):
        return eager.statistics_backward(dmean, dvariance, mean, features, m, scalars)
    return compiled().statistics_backward(dmean, dvariance, mean, nhwc(features), nhwc(m), scalars)


def encode(
    x: Tensor, u: Tensor, weight: Tensor, mask_weight: Tensor, gate: Gate, affine: Affine, wanted: Wanted, regions: Regions | None
) -> eager.Quadruple:
    if wanted.keep or not _covers(x) or mask_weight.shape[-1] != 4:
        return _COMPOSED.encode(x, u, weight, mask_weight, gate, affine, wanted, regions)
    attention, new, absent = mask_step(u, mask_weight, gate, wanted, regions)
    return encode_with_map(x, weight, attention, affine, over_map=True), new, absent, x.new_empty(0)


def encode_with_map(x: Tensor, weight: Tensor, attention: Tensor, affine: Affine, over_map: bool = False) -> Tensor:
    """``over_map``: the result may take the map's memory."""
    if not _covers(x):
        return eager.encode_with_map(x, weight, attention, affine)
    size = weight.shape[0], x.shape[2] // 2, x.shape[3] // 2
    tile = winograd_tile(x, size[1:], whole=True)
    filters = packed(x.dtype, None, weight, transposed=False, tile=tile)
    attention = nhwc(attention)
    y = _result(x, attention, over_map, *size)
    compiled().encode_with_map(nhwc(x), filters, attention, *affine, tile, y)
    return y


def mask_step(
    u: Tensor,
    weight: Tensor,
    gate: Gate,
    wanted: Wanted,
    regions: Regions | None,
    mapped: bool = True,
) -> eager.Triple:
    """``mapped``: whether the map is wanted."""
    if not _covers(u):
        return eager.mask_step(u, weight, gate, wanted, regions)
    if wanted.keep or weight.shape[-1] != 4:
        return _COMPOSED.mask_step(u, weight, gate, wanted, regions)
    size = weight.shape[0], u.shape[2] // 2, u.shape[3] // 2
    attention = _empty(u, *size, torch.float32) if mapped else None
    new = _empty(u, *size) if wanted.update else None
    tile = winograd_tile(u, size[1:])
    filters = packed(u.dtype, None, weight, transposed=False, tile=tile)
    known = regions or (None, None, None)
    compiled().mask_step(nhwc(u), filters, weight.shape[0], *gate, *known, tile, attention, new)
    absent = (u.new_empty(0) for _ in range(3))
    return next(absent) if attention is None else attention, next(absent) if new is None else new, next(absent)


def decode_with_map(
    skip: Tensor | None,
    own: Tensor,
    skip_weight: Tensor | None,
    own_weight: Tensor,
    attention: Tensor,
    affine: Affine,
    over_map: bool = False,
    needed: Tensor | None = None,
) -> Tensor:
    """``over_map``: the result may take the map's memory. ``needed``, uint8 [N, 1, 2H, 2W]: where it may hold anything, 0."""
    if not _covers(own):
        return eager.decode_with_map(skip, own, skip_weight, own_weight, attention, affine)
    exact = own.dtype == torch.float32 or own_weight.shape[1] >= DEEP
    tile = winograd_tile(own, own.shape[2:]) if exact and (skip is None or skip.shape[1] % 2 == 0) else 0
    filters = packed(own.dtype, skip_weight, own_weight, transposed=True, tile=tile)
    attention = nhwc(attention)
    y = _result(own, attention, over_map, own_weight.shape[1], 2 * own.shape[2], 2 * own.shape[3])
    skip = None if skip is None else nhwc(skip)
    compiled().decode_with_map(skip, nhwc(own), filters, attention, *affine, tile, needed, y)
    return y


def reconstruct(
    skip: Tensor, own: Tensor, skip_weight: Tensor, own_weight: Tensor, form: str, needed: Tensor | None = None
) -> Tensor:
    """``needed`` as for ``decode_with_map``."""
    if not _covers(own):
        return eager.reconstruct(skip, own, skip_weight, own_weight, form)
    y = _empty(own, 3, 2 * own.shape[2], 2 * own.shape[3])
    filters = packed(own.dtype, skip_weight, own_weight, transposed=True, tile=0, in_halves=True)
    compiled().reconstruct(nhwc(skip), nhwc(own), filters, form == "abs", needed, y)
    return y


def damaged_input(image: Tensor, mask: Tensor, channels: int, dtype: torch.dtype) -> Tensor:
    """``reference.damaged_input`` of float32 or bfloat16, in either, channels_last; without gradients."""
    y = session.current().empty((len(image), channels, *image.shape[2:]), dtype, compiled().in_large_pages)
    compiled().damage(image, mask, y)
    return y


def correction_input(image: Tensor, mask: Tensor, trend: Tensor | None) -> eager.Pair:
    """``reference.correction_input`` of an image in float32 or bfloat16, channels_last; without gradients."""
    if trend is None:
        trend = harmonic.plane(image.float(), harmonic.known_pixels(mask, torch.float32))
    mask, trend = (x if _covers(x) else x.float() for x in (mask, trend))
    x, base = (_empty(image, channels, *image.shape[2:]) for channels in (6, 3))
    steps = harmonic.LEVELS, harmonic.FIRST_SWEEPS, harmonic.CYCLES, harmonic.SWEEPS, harmonic.COARSEST_SWEEPS
    compiled().correction_input(image, mask, trend, harmonic.CONTRAST, *steps, x, base)
    return x, base


def corrected(base: Tensor, y: Tensor) -> Tensor:
    """``reference.corrected`` of a base in float32 or bfloat16, which it writes over; without gradients."""
    compiled().correct(base, nhwc(y if _covers(y) else y.float()), base)
    return base


def exemplar(picture: Tensor, hole: Tensor, seed: int, alone: bool = False) -> Tensor:
    """``reference.exemplar``: picture [1, 3, H, W] float32 in [0, 1], hole [1, 1, H, W] uint8. alone: on the calling thread."""
    picture = nhwc(picture)
    filled = torch.empty_like(picture)
    compiled().exemplar(picture, nhwc(hole), seed, alone, filled)
    return filled


def classify(u: Tensor) -> Tensor:
    kinds = torch.empty(len(u), 1, *u.shape[2:], dtype=torch.uint8, device=u.device)
    compiled().classify(nhwc(u if _covers(u) else u.float()), kinds)
    return kinds


def spread(kinds: Tensor) -> eager.Triple:
    following = kinds.new_empty(len(kinds), 1, kinds.shape[2] // 2, kinds.shape[3] // 2)
    in_order = kinds.new_empty(following.numel())
    order = kinds.new_empty(following.numel(), dtype=torch.int32)
    compiled().spread(kinds, following, order, in_order)
    return following, order, in_order


def needs(needed: Tensor) -> Tensor:
    """Which inputs of a transposed convolution those results are made of: uint8 [N, 1, H, W], 0 or 1 -> [N, 1, H/2, W/2]."""
    inputs = needed.new_empty(len(needed), 1, needed.shape[2] // 2, needed.shape[3] // 2)
    compiled().needs(needed, inputs)
    return inputs


def _statistics(features: Tensor, m: Tensor, scalars: Tensor) -> eager.Pair:
    if not _covers(features):
        return eager.statistics(features, m, scalars)
    return compiled().statistics(nhwc(features), nhwc(m), scalars)


def _maps(m: Tensor, gate: Gate, attention: bool, update: bool) -> eager.Pair:
    m = nhwc(m)
    found, _ = compiled().maps(m, gate.scalars if attention else None, None, False)
    _, new = compiled().maps(m, None, gate.alpha if update else None, m.dtype == torch.bfloat16)
    return found, new


_COMPOSED = Composed(attend, _statistics, _maps, convolution, deconvolution)
encode_with_statistics = _COMPOSED.encode_with_statistics
decode_with_statistics = _COMPOSED.decode_with_statistics


def _empty(like: Tensor, channels: int, height: int, width: int, dtype: torch.dtype | None = None) -> Tensor:
    shape = like.shape[0], channels, height, width
    return session.current().empty(shape, dtype or like.dtype, compiled().in_large_pages)


def _result(like: Tensor, attention: Tensor, over_map: bool, channels: int, height: int, width: int) -> Tensor:
    if over_map and attention.shape == (len(like), channels, height, width) and attention.dtype == like.dtype:
        return attention
    return _empty(like, channels, height, width)


def _covers(x: Tensor) -> bool:
    return x.dtype in (torch.float32, torch.bfloat16)
