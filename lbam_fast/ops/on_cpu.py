"""The fused ops on the compiled kernels for the CPU: float32 and bfloat16; other dtypes in plain PyTorch.

Where gradients are wanted, convolutions are PyTorch's and what follows them is one pass. Else a layer is one kernel, and filters
of any dtype are packed once.
"""

# mypy: disable-error-code="no-any-return"

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor

from lbam_fast import native, reference
from lbam_fast.ops import buffers, eager, tape
from lbam_fast.ops.composed import Composed
from lbam_fast.ops.prepared import prepared
from lbam_fast.ops.sparing import spares

WINOGRAD_FROM = 64
"""Positions of a layer, of each phase where there are four, from which Winograd's products are the faster ones."""

WINOGRAD_ANEW_FROM = 1024
"""The same where the filters are packed for this one product: in training, and for large pictures."""

DEEP = 128
"""Channels of a decoder layer's result from which it goes by Winograd in bfloat16 too: later roundings show in the output."""


def convolution(x: Tensor, weight: Tensor) -> Tensor:
    size = weight.shape[0], x.shape[2] // 2, x.shape[3] // 2
    thin, fast = x.shape[1] == 1, x.dtype == torch.float32 and _by_winograd(x, size[1:], anew=True)
    if not _covers(x) or weight.shape[-1] != 4 or not (thin or fast):
        return eager.convolution(_nhwc(x), weight.to(x.dtype))
    y = _empty(x, *size)
    filters = _packed_anew(x.dtype, None, weight, transposed=False, winograd=not thin)
    _native().encode(_nhwc(x), filters, None, None, None, 1.0, not thin, y)
    return y


def deconvolution(skip: Tensor | None, own: Tensor, skip_weight: Tensor | None, own_weight: Tensor) -> Tensor:
    thin = own.shape[1] == 3 and skip is None
    fast = _by_winograd(own, own.shape[2:], anew=True) and (skip is None or skip.shape[1] % 2 == 0)
    if own.dtype != torch.float32 or not (thin or fast):
        cast = None if skip_weight is None else skip_weight.to(own.dtype)
        return eager.deconvolution(None if skip is None else _nhwc(skip), _nhwc(own), cast, own_weight.to(own.dtype))
    y = _empty(own, own_weight.shape[1], 2 * own.shape[2], 2 * own.shape[3])
    filters = _packed_anew(own.dtype, skip_weight, own_weight, transposed=True, winograd=fast)
    _native().decode(None if skip is None else _nhwc(skip), _nhwc(own), filters, None, None, None, 1.0, fast, y)
    return y


def attend(
    features: Tensor,
    m: Tensor,
    scalars: Tensor,
    alpha: Tensor,
    scale: Tensor | None,
    shift: Tensor | None,
    slope: float,
    update: bool,
) -> eager.Pair:
    arguments = scalars, alpha, scale, shift, slope, update
    if not _covers(features):
        return eager.attend(features, m, *arguments)
    return _native().attend(_nhwc(features), _nhwc(m), *arguments)


def attend_backward(
    dy: Tensor,
    du: Tensor | None,
    features: Tensor,
    m: Tensor,
    scalars: Tensor,
    alpha: Tensor,
    scale: Tensor | None,
    shift: Tensor | None,
    slope: float,
) -> eager.Sextuple:
    arguments = scalars, alpha, scale, shift, slope
    if not _covers(features):
        return eager.attend_backward(dy, du, features, m, *arguments)
    return _native().attend_backward(_nhwc(dy), None if du is None else _nhwc(du), _nhwc(features), _nhwc(m), *arguments)


def statistics_backward(
    dmean: Tensor, dvariance: Tensor, mean: Tensor, features: Tensor, m: Tensor, scalars: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    if not _covers(features):
        return eager.statistics_backward(dmean, dvariance, mean, features, m, scalars)
    return _native().statistics_backward(dmean, dvariance, mean, _nhwc(features), _nhwc(m), scalars)


def forward_attention(
    x: Tensor,
    u: Tensor,
    weight: Tensor,
    mask_weight: Tensor,
    scalars: Tensor,
    alpha: Tensor,
    scale: Tensor | None,
    shift: Tensor | None,
    slope: float,
    update: bool,
    keep: bool,
    order: Tensor | None = None,
    kinds: Tensor | None = None,
    constant: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    if keep or not _covers(x) or mask_weight.shape[-1] != 4:
        given = scalars, alpha, scale, shift, slope, update, keep
        return _COMPOSED.forward_attention(x, u, weight, mask_weight, *given)
    attention, new, absent = mask_attention(u, mask_weight, scalars, alpha, update, False, order, kinds, constant)
    return features_with_map(x, weight, attention, scale, shift, slope, over_map=True), new, absent, x.new_empty(0)


def features_with_map(
    x: Tensor,
    weight: Tensor,
    attention: Tensor,
    scale: Tensor | None,
    shift: Tensor | None,
    slope: float,
    over_map: bool = False,
) -> Tensor:
    """``over_map``: the result may take the map's memory."""
    if not _covers(x):
        return eager.features_with_map(x, weight, attention, scale, shift, slope)
    size = weight.shape[0], x.shape[2] // 2, x.shape[3] // 2
    winograd = _by_winograd(x, size[1:])
    filters = _packed(x.dtype, None, weight, transposed=False, winograd=winograd)
    attention = _nhwc(attention)
    y = _result(x, attention, over_map, *size)
    _native().encode(_nhwc(x), filters, attention, scale, shift, slope, winograd, y)
    return y


def mask_attention(
    u: Tensor,
    weight: Tensor,
    scalars: Tensor,
    alpha: Tensor,
    update: bool,
    keep: bool,
    order: Tensor | None = None,
    kinds: Tensor | None = None,
    constant: Tensor | None = None,
    mapped: bool = True,
) -> tuple[Tensor, Tensor, Tensor]:
    """``mapped``: whether the map is wanted."""
    if not _covers(u):
        return eager.mask_attention(u, weight, scalars, alpha, update, keep)
    if keep or weight.shape[-1] != 4:
        return _COMPOSED.mask_attention(u, weight, scalars, alpha, update, keep)
    size = weight.shape[0], u.shape[2] // 2, u.shape[3] // 2
    attention = _empty(u, *size, torch.float32) if mapped else None
    new = _empty(u, *size) if update else None
    winograd = _by_winograd(u, size[1:])
    filters = _packed(u.dtype, None, weight, transposed=False, winograd=winograd)
    given = scalars, alpha, order, kinds, constant, winograd, attention, new
    _native().advance(_nhwc(u), filters, weight.shape[0], *given)
    absent = (u.new_empty(0) for _ in range(3))
    return next(absent) if attention is None else attention, next(absent) if new is None else new, next(absent)


def reverse_attention(
    skip: Tensor | None,
    own: Tensor,
    skip_weight: Tensor | None,
    own_weight: Tensor,
    attention: Tensor,
    scale: Tensor | None,
    shift: Tensor | None,
    slope: float,
    over_map: bool = False,
) -> Tensor:
    """``over_map``: the result may take the map's memory."""
    if not _covers(own):
        return eager.reverse_attention(skip, own, skip_weight, own_weight, attention, scale, shift, slope)
    winograd = _by_winograd(own, own.shape[2:]) and (skip is None or skip.shape[1] % 2 == 0)
    winograd = winograd and (own.dtype == torch.float32 or own_weight.shape[1] >= DEEP)
    filters = _packed(own.dtype, skip_weight, own_weight, transposed=True, winograd=winograd)
    attention = _nhwc(attention)
    y = _result(own, attention, over_map, own_weight.shape[1], 2 * own.shape[2], 2 * own.shape[3])
    inputs = None if skip is None else _nhwc(skip), _nhwc(own)
    _native().decode(*inputs, filters, attention, scale, shift, slope, winograd, y)
    return y


def reconstruct(
    skip: Tensor, own: Tensor, skip_weight: Tensor, own_weight: Tensor, form: str, image: Tensor | None, mask: Tensor | None
) -> Tensor:
    if not _covers(own):
        return eager.reconstruct(skip, own, skip_weight, own_weight, form, image, mask)
    if image is not None and mask is not None and image.dtype == torch.uint8:
        return eager.pasted(reconstruct(skip, own, skip_weight, own_weight, form, None, None), image, mask)
    known = (None if x is None else _nhwc(x.to(own.dtype)) for x in (image, mask))
    y = _empty(own, 3, 2 * own.shape[2], 2 * own.shape[3])
    filters = _packed(own.dtype, skip_weight, own_weight, transposed=True, winograd=False, in_halves=True)
    _native().reconstruct(_nhwc(skip), _nhwc(own), filters, form == "abs", *known, y)
    return y


def damaged_input(image: Tensor, mask: Tensor, channels: int, dtype: torch.dtype) -> Tensor:
    """``reference.damaged_input`` of float32 or bfloat16, in either, channels_last; without gradients."""
    y = buffers.empty((len(image), channels, *image.shape[2:]), dtype, _native().in_large_pages)
    _native().damaged(image, mask, y)
    return y


def harmonic_fill(image: Tensor, known: Tensor) -> Tensor:
    """``reference.harmonic_fill`` of float32, channels_last; without gradients."""
    x = image.detach().clone(memory_format=torch.channels_last)
    steps = reference.harmonic.FIRST_SWEEPS, reference.harmonic.CYCLES, reference.harmonic.SWEEPS
    _native().harmonic(x, _nhwc(known.to(torch.uint8)), reference.harmonic.LEVELS, *steps, reference.harmonic.COARSEST_SWEEPS)
    return x


def exemplar(picture: Tensor, hole: Tensor, seed: int) -> Tensor:
    """``reference.exemplar``: picture [1, 3, H, W] float32 in [0, 1], hole [1, 1, H, W] uint8."""
    picture = _nhwc(picture)
    filled = torch.empty_like(picture)
    _native().exemplar(picture, _nhwc(hole), seed, filled)
    return filled


def classified(mask: Tensor) -> Tensor:
    """``regions.classified``."""
    if not _covers(mask):
        mask = mask.float()
    kinds = torch.empty(len(mask), 1, *mask.shape[2:], dtype=torch.uint8, device=mask.device)
    _native().classified(_nhwc(mask), kinds)
    return kinds


def regions(kinds: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """``regions.spread_and_sorted``."""
    following = kinds.new_empty(len(kinds), 1, kinds.shape[2] // 2, kinds.shape[3] // 2)
    in_order = kinds.new_empty(following.numel())
    order = kinds.new_empty(following.numel(), dtype=torch.int32)
    _native().regions(kinds, following, order, in_order)
    return following, order, in_order


def _statistics(features: Tensor, m: Tensor, scalars: Tensor) -> eager.Pair:
    if not _covers(features):
        return eager.statistics(features, m, scalars)
    return _native().statistics(_nhwc(features), _nhwc(m), scalars)


def _maps(m: Tensor, scalars: Tensor, alpha: Tensor, attention: bool, update: bool) -> eager.Pair:
    m = _nhwc(m)
    found, _ = _native().maps(m, scalars if attention else None, None, False)
    _, new = _native().maps(m, None, alpha if update else None, m.dtype == torch.bfloat16)
    return found, new


_COMPOSED = Composed(attend, _statistics, _maps, convolution, deconvolution)
forward_statistics = _COMPOSED.forward_statistics
reverse_statistics = _COMPOSED.reverse_statistics


def _native() -> Any:
    return tape.recording() or kernels()


@cache
def kernels() -> Any:
    """The ops of the compiled kernels. Raises NativeError."""
    return native.ops()


@cache
def _multiplies_bfloat16() -> bool:
    return _native().bfloat16_products()


def _empty(like: Tensor, channels: int, height: int, width: int, dtype: torch.dtype | None = None) -> Tensor:
    shape = like.shape[0], channels, height, width
    return buffers.empty(shape, dtype or like.dtype, _native().in_large_pages)


def _result(like: Tensor, attention: Tensor, over_map: bool, channels: int, height: int, width: int) -> Tensor:
    if over_map and attention.shape == (len(like), channels, height, width) and attention.dtype == like.dtype:
        return attention
    return _empty(like, channels, height, width)


def _covers(x: Tensor) -> bool:
    return x.dtype in (torch.float32, torch.bfloat16)


def _nhwc(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last)


def _by_winograd(x: Tensor, size: Sequence[int], anew: bool = False) -> bool:
    """Whether windows in so many lines and columns go by Winograd: less arithmetic, more than twice the weights to read.

    ``anew``: with filters that are packed for them alone.
    """
    lines, columns = size
    least = WINOGRAD_ANEW_FROM if anew or spares() else WINOGRAD_FROM
    return lines % 2 == columns % 2 == 0 and len(x) * lines * columns >= least and x.shape[1] >= 16 and x.shape[1] % 2 == 0


def _packed(
    dtype: torch.dtype, first: Tensor | None, weight: Tensor, transposed: bool, winograd: bool, in_halves: bool = False
) -> Tensor:
    """Filters as the kernels read them for products of ``dtype``: of layers ``transposed`` one or two, else one.

    ``in_halves``: those of a transposed layer whose results nothing follows that would hide the rounding of its filters: what
    that takes from the outputs comes after them.
    """
    in_halves = in_halves and _element(dtype) == torch.bfloat16
    if spares() and not in_halves:  # which are few and small
        return _packed_anew(dtype, first, weight, transposed, winograd)

    def make(*given: Tensor) -> Tensor:
        if in_halves:
            given = tuple(torch.cat([x.bfloat16().float(), x.float() - x.bfloat16().float()], dim=1) for x in given)
        return _panels(dtype, given[:-1], given[-1], transposed, winograd, partial(torch.empty, device="cpu"))

    how = " by Winograd" * winograd + " in halves" * in_halves
    kind = f"{'decoder' if transposed else 'encoder'}'s filters for {dtype}{how}"
    return prepared(kind, make, *(weight for weight in (first, weight) if weight is not None))


def _packed_anew(dtype: torch.dtype, first: Tensor | None, weight: Tensor, transposed: bool, winograd: bool) -> Tensor:
    def memory(count: int, dtype: torch.dtype) -> Tensor:
        return buffers.flat(count, dtype, _native().in_large_pages)

    return _panels(dtype, () if first is None else (first,), weight, transposed, winograd, memory)


def _panels(
    dtype: torch.dtype,
    first: tuple[Tensor, ...],
    weight: Tensor,
    transposed: bool,
    winograd: bool,
    memory: Callable[..., Tensor],
) -> Tensor:
    channels = sum(x.shape[0 if transposed else 1] for x in (*first, weight))
    outputs = weight.shape[1 if transposed else 0]
    out = memory(_native().panel_elements(channels, outputs, transposed, winograd), dtype=_element(dtype))
    _native().pack(first[0].float() if first else None, weight.float(), transposed, winograd, out)
    return out


def _element(dtype: torch.dtype) -> torch.dtype:
    """Of the products of pictures of that dtype."""
    return torch.bfloat16 if dtype == torch.bfloat16 and _multiplies_bfloat16() else torch.float32
