"""The fused ops on Triton. Each has two routes: one kernel for all of it, or the library's convolution and one pass after it."""

from __future__ import annotations

import torch
from torch import Tensor

from lbam_fast.kernels import convolution as encoder
from lbam_fast.kernels import deconvolution as decoder
from lbam_fast.kernels import pointwise
from lbam_fast.ops import eager
from lbam_fast.ops.composed import Composed
from lbam_fast.ops.measured import LIBRARY, Way, allows_tf32, measured

KERNEL = "kernel"


_BY_LIBRARY = Composed(pointwise.attend, pointwise.statistics, pointwise.maps)


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
    return lambda *arguments: kernel(*arguments, tf32=allows_tf32())


WAYS: dict[str, dict[str, Way]] = {
    "attend": {KERNEL: pointwise.attend},
    "attend_backward": {KERNEL: pointwise.attend_backward},
    "statistics_backward": {KERNEL: pointwise.statistics_backward},
    **{
        name: {KERNEL: _with_tf32(kernel), LIBRARY: library}
        for name, kernel, library in (
            ("forward_attention", encoder.forward_attention, _BY_LIBRARY.forward_attention),
            ("forward_statistics", encoder.forward_statistics, _BY_LIBRARY.forward_statistics),
            ("features_with_map", encoder.features_with_map, eager.features_with_map),
            ("mask_attention", encoder.mask_attention, _BY_LIBRARY.mask_attention),
            ("reverse_attention", decoder.reverse_attention, eager.reverse_attention),
            ("reverse_statistics", decoder.reverse_statistics, _BY_LIBRARY.reverse_statistics),
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
