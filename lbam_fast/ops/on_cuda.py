"""The fused ops on the compiled CUDA kernels: the first and the last layer whole; elsewhere the library's convolution and one
pass after it. Half precision and float32; all else in plain PyTorch."""

# mypy: disable-error-code="no-any-return"

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor

from lbam_fast import native
from lbam_fast.ops import eager
from lbam_fast.ops.composed import Composed

convolution = eager.convolution
deconvolution = eager.deconvolution
features_with_map = eager.features_with_map
reverse_attention = eager.reverse_attention


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
    return _native().attend(_nhwc(features), _nhwc(m), scalars, alpha, scale, shift, slope, update)


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
    given = _nhwc(dy), None if du is None else _nhwc(du), _nhwc(features), _nhwc(m), scalars, alpha, scale, shift, slope
    dfeatures, dm, dscalars, dchannels = _native().attend_backward(*given)
    dscale, dshift = dchannels.chunk(2) if scale is not None else (dchannels, dchannels.clone())
    return dfeatures, dm, dscalars[:4].clone(), dscalars[4].clone(), dscale.clone(), dshift.clone()


def statistics(features: Tensor, m: Tensor, scalars: Tensor) -> eager.Pair:
    return _native().statistics(_nhwc(features), _nhwc(m), scalars)


def statistics_backward(
    dmean: Tensor, dvariance: Tensor, mean: Tensor, features: Tensor, m: Tensor, scalars: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    given = (x.contiguous() for x in (dmean, dvariance, mean))
    dfeatures, dm, dscalars = _native().statistics_backward(*given, _nhwc(features), _nhwc(m), scalars)
    return dfeatures, dm, dscalars[:4].clone()


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
    *regions: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    if is_first_layer(x, u):
        pictures = map(_nhwc, (x, u, weight, mask_weight))
        return _native().first_layer(*pictures, scalars, alpha, scale, shift, slope, update, keep)
    given = scalars, alpha, scale, shift, slope, update, keep
    return _COMPOSED.forward_attention(x, u, weight, mask_weight, *given)


def _maps(m: Tensor, scalars: Tensor, alpha: Tensor, attention: bool, update: bool) -> eager.Pair:
    if not (attention or update):
        return m.new_empty(0), m.new_empty(0)
    return _native().maps(_nhwc(m), scalars, alpha, attention, update)


_COMPOSED = Composed(attend, statistics, _maps)
forward_statistics = _COMPOSED.forward_statistics
mask_attention = _COMPOSED.mask_attention
reverse_statistics = _COMPOSED.reverse_statistics


def reconstruct(
    skip: Tensor, own: Tensor, skip_weight: Tensor, own_weight: Tensor, form: str, image: Tensor | None, mask: Tensor | None
) -> Tensor:
    if image is not None and mask is not None:
        dtype = eager.result_dtype(own, image)
        image, mask = _nhwc(image.to(dtype)), _nhwc((mask == 1).to(dtype))
    filters = skip_weight.contiguous(), own_weight.contiguous()
    return _native().last_layer(_nhwc(skip), _nhwc(own), *filters, form == "abs", image, mask)


def classified(mask: Tensor) -> Tensor:
    """``regions.classified``."""
    return _native().classified(_nhwc(mask))


def regions(kinds: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """``regions.spread_and_sorted``."""
    return _native().regions(kinds)


def is_first_layer(x: Tensor, u: Tensor) -> bool:
    """Whether the kernel of the first layer takes these: an image of 3 or 4 channels, a mask of 1 or 3."""
    return x.shape[1] in (3, 4) and u.shape[1] in (1, 3)


@cache
def _native() -> Any:
    return native.ops("cuda")


def _nhwc(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last)
