"""The fused ops on a GPU by the fastest of all ways: Triton kernels, CUDA kernels where they are built, the library."""

from __future__ import annotations

from lbam_fast import native
from lbam_fast.ops.autotune import measured
from lbam_fast.ops.backends import cuda, eager, triton
from lbam_fast.ops.backends.triton import WAYS
from lbam_fast.ops.defaults import CUDA, KERNEL, LIBRARY
from lbam_fast.ops.judge import Way

_PARTS = "attend", "attend_backward", "statistics_backward", "encode", "encode_with_statistics", "mask_step"
_IN_CUDA = (*_PARTS, "decode_with_statistics", "reconstruct")
_COMPILED = not native.unavailable("cuda")
ROUTES = {
    name: tuple(route for route in (KERNEL, CUDA, LIBRARY) if route in ways or (route == CUDA and name in _IN_CUDA))
    for name, ways in WAYS.items()
}
"""Of every op the routes that it has where the CUDA kernels are built."""


def _op(name: str) -> Way:
    ways = {
        route: getattr(cuda, name) if route == CUDA else WAYS[name][route] for route in ROUTES[name] if route != CUDA or _COMPILED
    }
    return measured(name, ways) if len(ways) > 1 else next(iter(ways.values()))


attend = _op("attend")
attend_backward = _op("attend_backward")
statistics_backward = _op("statistics_backward")
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
damaged_input = triton.damaged_input
classify = cuda.classify if _COMPILED else eager.classify
spread = cuda.spread if _COMPILED else eager.spread
