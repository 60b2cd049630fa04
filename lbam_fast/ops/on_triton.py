"""The fused ops on Triton. Each has two routes: one kernel for all of it, or the library's convolution and one pass after it."""

from __future__ import annotations

import torch
from torch import Tensor

from lbam_fast.kernels import convolution as encoder
from lbam_fast.kernels import deconvolution as decoder
from lbam_fast.kernels import pointwise
from lbam_fast.ops import eager
from lbam_fast.ops.measured import LIBRARY, Way, measured

KERNEL = "kernel"


def _library_forward_attention(
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
    features, m = eager.convolution(x, weight), eager.convolution(u, mask_weight)
    y, new = pointwise.attend(features, m, scalars, alpha, scale, shift, slope, update)
    return (y, new, features, m) if keep else (y, new, x.new_empty(0), x.new_empty(0))


def _library_forward_statistics(
    x: Tensor, u: Tensor, weight: Tensor, mask_weight: Tensor, scalars: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    features, m = eager.convolution(x, weight), eager.convolution(u, mask_weight)
    return features, m, *pointwise.statistics(features, m, scalars)


def _library_mask_attention(
    u: Tensor, weight: Tensor, scalars: Tensor, alpha: Tensor, update: bool, keep: bool, *regions: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    m = eager.convolution(u, weight)
    attention, new = pointwise.maps(m, scalars, alpha, not keep, update)
    return attention, new, m if keep else m.new_empty(0)


def _library_reverse_statistics(
    skip: Tensor | None, own: Tensor, skip_weight: Tensor | None, own_weight: Tensor, m: Tensor, scalars: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    features = eager.deconvolution(skip, own, skip_weight, own_weight)
    return features, *pointwise.statistics(features, m, scalars)


def _reconstruct(
    skip: Tensor,
    own: Tensor,
    skip_weight: Tensor,
    own_weight: Tensor,
    form: str,
    image: Tensor | None,
    mask: Tensor | None,
    *,
    tf32: bool,
) -> Tensor:
    in_bytes = image is not None and image.dtype == torch.uint8
    known = (None, None) if in_bytes else (image, mask)
    y: Tensor = decoder.reconstruct(skip, own, skip_weight, own_weight, form, *known, tf32=tf32)
    return y if image is None or mask is None or not in_bytes else eager.pasted(y, image, mask)


def _with_tf32(kernel: Way) -> Way:
    """The kernel in the precision that PyTorch's convolutions are allowed."""
    return lambda *arguments: kernel(*arguments, tf32=torch.backends.cudnn.allow_tf32)


WAYS: dict[str, dict[str, Way]] = {
    "attend": {KERNEL: pointwise.attend},
    "attend_backward": {KERNEL: pointwise.attend_backward},
    "statistics_backward": {KERNEL: pointwise.statistics_backward},
    **{
        name: {KERNEL: _with_tf32(kernel), LIBRARY: library}
        for name, kernel, library in (
            ("forward_attention", encoder.forward_attention, _library_forward_attention),
            ("forward_statistics", encoder.forward_statistics, _library_forward_statistics),
            ("features_with_map", encoder.features_with_map, eager.features_with_map),
            ("mask_attention", encoder.mask_attention, _library_mask_attention),
            ("reverse_attention", decoder.reverse_attention, eager.reverse_attention),
            ("reverse_statistics", decoder.reverse_statistics, _library_reverse_statistics),
            ("reconstruct", _reconstruct, eager.reconstruct),
            ("convolution", encoder.convolution, eager.convolution),
            ("deconvolution", decoder.deconvolution, eager.deconvolution),
        )
    },
}
"""Of each op the ways to run it, by the names of ``routes``."""


def _op(name: str) -> Way:
    return measured(name, WAYS[name])


attend = pointwise.attend
attend_backward = pointwise.attend_backward
statistics_backward = pointwise.statistics_backward
forward_attention = _op("forward_attention")
forward_statistics = _op("forward_statistics")
features_with_map = _op("features_with_map")
mask_attention = _op("mask_attention")
reverse_attention = _op("reverse_attention")
reverse_statistics = _op("reverse_statistics")
reconstruct = _op("reconstruct")
convolution = _op("convolution")
deconvolution = _op("deconvolution")
