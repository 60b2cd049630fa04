"""The fused ops on Triton. Each has two routes: one kernel for all of it, or the library's convolution and one pass after it."""

from __future__ import annotations

from typing import Any

import torch

from lbam_fast.kernels import decoder, encoder, inputs, pointwise
from lbam_fast.ops.arguments import tensors_of
from lbam_fast.ops.autotune import allows_tf32, measured
from lbam_fast.ops.backends import eager
from lbam_fast.ops.backends.composed import Composed
from lbam_fast.ops.defaults import KERNEL, LIBRARY
from lbam_fast.ops.judge import Way

_BY_LIBRARY = Composed(pointwise.attend, pointwise.statistics, pointwise.maps)


def _with_tf32(kernel: Way) -> Way:
    """The kernel in the precision that PyTorch's convolutions are allowed."""

    def run(*arguments: Any) -> Any:
        return kernel(*arguments, tf32=next(tensors_of(arguments)).dtype == torch.float32 and allows_tf32())

    return run


WAYS: dict[str, dict[str, Way]] = {
    "attend": {KERNEL: pointwise.attend},
    "attend_backward": {KERNEL: pointwise.attend_backward},
    "statistics_backward": {KERNEL: pointwise.statistics_backward},
    **{
        name: {KERNEL: _with_tf32(kernel), LIBRARY: library}
        for name, kernel, library in (
            ("encode", encoder.encode, _BY_LIBRARY.encode),
            ("encode_with_statistics", encoder.encode_with_statistics, _BY_LIBRARY.encode_with_statistics),
            ("encode_with_map", encoder.encode_with_map, eager.encode_with_map),
            ("mask_step", encoder.mask_step, _BY_LIBRARY.mask_step),
            ("decode_with_map", decoder.decode_with_map, eager.decode_with_map),
            ("decode_with_statistics", decoder.decode_with_statistics, _BY_LIBRARY.decode_with_statistics),
            ("reconstruct", decoder.reconstruct, eager.reconstruct),
            ("convolution", encoder.convolution, eager.convolution),
            ("deconvolution", decoder.deconvolution, eager.deconvolution),
        )
    },
}
"""Of each op the ways to run it, by the names of ``autotune``."""


def _op(name: str) -> Way:
    return measured(name, WAYS[name])


attend = pointwise.attend
attend_backward = pointwise.attend_backward
statistics_backward = pointwise.statistics_backward
encode = _op("encode")
encode_with_statistics = _op("encode_with_statistics")
encode_with_map = _op("encode_with_map")
mask_step = _op("mask_step")
decode_with_map = _op("decode_with_map")
decode_with_statistics = _op("decode_with_statistics")
reconstruct = _op("reconstruct")
convolution = _op("convolution")
deconvolution = _op("deconvolution")
filter_gradient = eager.filter_gradient
damaged_input = inputs.damaged_input
classify = eager.classify
spread = eager.spread
