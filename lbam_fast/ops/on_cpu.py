"""The fused ops on the compiled kernels for the CPU: float32 and bfloat16; other dtypes in plain PyTorch.

Where gradients are wanted, convolutions are PyTorch's and what follows them is one pass. Else a layer is one kernel, and filters
of any dtype are packed once.
"""

# mypy: disable-error-code="no-any-return"

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

import torch
from torch import Tensor

from lbam_fast import native
from lbam_fast.ops import eager
from lbam_fast.ops.buffers import empty
from lbam_fast.ops.prepared import prepared

WINOGRAD_FROM = 128
"""Positions of a layer, of each phase where there are four, from which Winograd's products are the faster ones."""

DEEP = 256
"""Channels of a decoder layer's result from which it goes by Winograd in bfloat16 too: later roundings show in the output."""


def convolution(x: Tensor, weight: Tensor) -> Tensor:
    return eager.convolution(x, weight.to(x.dtype))


def deconvolution(skip: Tensor | None, own: Tensor, skip_weight: Tensor | None, own_weight: Tensor) -> Tensor:
    return eager.deconvolution(skip, own, None if skip_weight is None else skip_weight.to(own.dtype), own_weight.to(own.dtype))


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
        features, m = convolution(x, weight), convolution(u, mask_weight)
        y, new = attend(features, m, scalars, alpha, scale, shift, slope, update)
        return (y, new, features, m) if keep else (y, new, x.new_empty(0), x.new_empty(0))
    attention, new, absent = mask_attention(u, mask_weight, scalars, alpha, update, False, order, kinds, constant)
    return features_with_map(x, weight, attention, scale, shift, slope), new, absent, x.new_empty(0)


def forward_statistics(
    x: Tensor, u: Tensor, weight: Tensor, mask_weight: Tensor, scalars: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    features, m = convolution(x, weight), convolution(u, mask_weight)
    return features, m, *_statistics(features, m, scalars)


def features_with_map(
    x: Tensor, weight: Tensor, attention: Tensor, scale: Tensor | None, shift: Tensor | None, slope: float
) -> Tensor:
    if not _covers(x):
        return eager.features_with_map(x, weight, attention, scale, shift, slope)
    winograd = _by_winograd(x, x.shape[2] // 2, x.shape[3] // 2)
    filters = _packed(_planes if winograd else _taps, x.dtype, weight)
    y = _empty(x, weight.shape[0], x.shape[2] // 2, x.shape[3] // 2)
    _native().encode(_nhwc(x), filters, _nhwc(attention), scale, shift, slope, winograd, y)
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
) -> tuple[Tensor, Tensor, Tensor]:
    if not _covers(u):
        return eager.mask_attention(u, weight, scalars, alpha, update, keep)
    if keep or weight.shape[-1] != 4:
        m = _nhwc(convolution(u, weight))
        attention, _ = _native().maps(m, None if keep else scalars, None, False)
        _, new = _native().maps(m, None, alpha if update else None, m.dtype == torch.bfloat16)
        return attention, new, m if keep else m.new_empty(0)
    size = weight.shape[0], u.shape[2] // 2, u.shape[3] // 2
    attention, new = _empty(u, *size, torch.float32), _empty(u, *size) if update else None
    winograd = _by_winograd(u, *size[1:])
    filters = _packed(_planes if winograd else _taps, u.dtype, weight)
    given = scalars, alpha, order, kinds, constant, winograd, attention, new
    _native().advance(_nhwc(u), filters, weight.shape[0], *given)
    absent = u.new_empty(0)
    return attention, absent if new is None else new, u.new_empty(0)


def reverse_attention(
    skip: Tensor | None,
    own: Tensor,
    skip_weight: Tensor | None,
    own_weight: Tensor,
    attention: Tensor,
    scale: Tensor | None,
    shift: Tensor | None,
    slope: float,
) -> Tensor:
    if not _covers(own):
        return eager.reverse_attention(skip, own, skip_weight, own_weight, attention, scale, shift, slope)
    winograd = _by_winograd(own, *own.shape[2:]) and (skip is None or skip.shape[1] % 2 == 0)
    winograd = winograd and (own.dtype == torch.float32 or own_weight.shape[1] >= DEEP)
    layout = _products_of_phases if winograd else _taps_of_phases
    filters = _packed(layout, own.dtype, *(x for x in (skip_weight, own_weight) if x is not None))
    inputs = None if skip is None else _nhwc(skip), _nhwc(own)
    y = _empty(own, own_weight.shape[1], 2 * own.shape[2], 2 * own.shape[3])
    _native().decode(*inputs, filters, _nhwc(attention), scale, shift, slope, winograd, y)
    return y


def reverse_statistics(
    skip: Tensor | None, own: Tensor, skip_weight: Tensor | None, own_weight: Tensor, m: Tensor, scalars: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    features = deconvolution(skip, own, skip_weight, own_weight)
    return features, *_statistics(features, m, scalars)


def reconstruct(
    skip: Tensor, own: Tensor, skip_weight: Tensor, own_weight: Tensor, form: str, image: Tensor | None, mask: Tensor | None
) -> Tensor:
    if not _covers(own):
        return eager.reconstruct(skip, own, skip_weight, own_weight, form, image, mask)
    if image is not None and mask is not None and image.dtype == torch.uint8:
        return eager.pasted(reconstruct(skip, own, skip_weight, own_weight, form, None, None), image, mask)
    known = (None if x is None else _nhwc(x.to(own.dtype)) for x in (image, mask))
    y = _empty(own, 3, 2 * own.shape[2], 2 * own.shape[3])
    filters = _packed(_picture, own.dtype, skip_weight, own_weight)
    _native().reconstruct(_nhwc(skip), _nhwc(own), filters, form == "abs", *known, y)
    return y


def _statistics(features: Tensor, m: Tensor, scalars: Tensor) -> eager.Pair:
    if not _covers(features):
        return eager.statistics(features, m, scalars)
    return _native().statistics(_nhwc(features), _nhwc(m), scalars)


@cache
def _native() -> Any:
    return native.ops()


@cache
def _multiplies_bfloat16() -> bool:
    return _native().bfloat16_products()


def _empty(like: Tensor, channels: int, height: int, width: int, dtype: torch.dtype | None = None) -> Tensor:
    shape = like.shape[0], channels, height, width
    return empty(shape, dtype or like.dtype, _native().in_large_pages)


def _covers(x: Tensor) -> bool:
    return x.dtype in (torch.float32, torch.bfloat16)


def _nhwc(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last)


def _by_winograd(x: Tensor, lines: int, columns: int) -> bool:
    """Whether so many lines and columns of windows go by Winograd: less arithmetic, more than twice the weights to read."""
    return (
        lines % 2 == columns % 2 == 0 and len(x) * lines * columns >= WINOGRAD_FROM and x.shape[1] >= 16 and x.shape[1] % 2 == 0
    )


def _packed(layout: Any, dtype: torch.dtype, *filters: Tensor) -> Tensor:
    """The filters as matrices in that layout, in the panels that the kernels read for pictures of that dtype."""
    narrow = dtype == torch.bfloat16 and _multiplies_bfloat16()

    def make(*given: Tensor) -> Tensor:
        return _native().pack(layout(*(x.float() for x in given)).contiguous(), narrow)

    return prepared(f"{layout.__name__} for {dtype}", make, *filters)


def _taps(weight: Tensor) -> Tensor:
    """[C_out, C_in, 4, 4] -> [1, taps and C_in, C_out]."""
    return weight.permute(2, 3, 1, 0).flatten(0, 2)[None]


def _planes(weight: Tensor) -> Tensor:
    """[C_out, C_in, 4, 4] -> [9 products, 4 planes and C_in, C_out]: tap ``2 t + a`` is the tap t on every second line from a."""
    taps = weight.reshape(*weight.shape[:2], 2, 2, 2, 2)  # [C_out, C_in, tap, plane, tap, plane]
    return _winograd(taps.permute(2, 4, 3, 5, 1, 0).flatten(2, 4))


def _of_phases(weights: tuple[Tensor, ...]) -> Iterator[Tensor]:
    """Each [C_in, C_out, 4, 4] -> for every phase [2, 2, C_in of all, C_out].

    Row ``2 q + p`` of a transposed convolution's result sees the input's rows ``q + p - 1`` and ``q + p``, with the filter's rows
    ``3 - p`` and ``1 - p``; columns likewise.
    """
    for down in (0, 1):
        for right in (0, 1):
            seen = (weight[:, :, [3 - down, 1 - down]][..., [3 - right, 1 - right]] for weight in weights)
            yield torch.cat([x.permute(2, 3, 0, 1) for x in seen], dim=2)


def _taps_of_phases(*weights: Tensor) -> Tensor:
    """-> [phases, taps and C_in, of each weight one after the other, C_out]."""
    parts = zip(*(_of_phases((weight,)) for weight in weights), strict=True)
    return torch.stack([torch.cat([x.flatten(0, 2) for x in part]) for part in parts])


def _products_of_phases(*weights: Tensor) -> Tensor:
    """-> [phases and 9 products, C_in of all, C_out]."""
    return torch.cat([_winograd(taps) for taps in _of_phases(weights)])


def _winograd(taps: Tensor) -> Tensor:
    """The filters of F(2x2, 2x2), in csrc/cpu/winograd.h: [2, 2, ...] -> [9, ...]."""
    rows = torch.stack([taps[0], taps[0] + taps[1], taps[1]])
    return torch.stack([rows[:, 0], rows[:, 0] + rows[:, 1], rows[:, 1]], dim=1).flatten(0, 1)


def _picture(*weights: Tensor) -> Tensor:
    """Each [C_in, 3, 4, 4] -> [1, 2x2 taps and C_in of each weight one after the other, pixels and colours].

    Of the two rows of pixels between two input rows the first sees them with the filter's rows 2 and 0, the second with 3 and 1.
    """
    rows = torch.tensor([[2, 0], [3, 1]])
    parts = [weight[:, :, rows][..., rows] for weight in weights]  # [C_in, 3, pixel row, tap row, pixel column, tap column]
    return torch.cat([part.permute(3, 5, 0, 2, 4, 1).flatten(3).flatten(0, 2) for part in parts])[None]
