"""The fused ops on a GPU by the fastest of all ways: Triton kernels, CUDA kernels where they are built, the library."""

from __future__ import annotations

from lbam_fast import native
from lbam_fast.ops.autotune import LIBRARY, Way, measured
from lbam_fast.ops.backends import cuda, eager, triton
from lbam_fast.ops.backends.triton import WAYS

CUDA = "cuda"
_PARTS = "attend", "attend_backward", "statistics_backward", "encode", "encode_with_statistics", "mask_step"
_COMPILED = () if native.unavailable("cuda") else (*_PARTS, "decode_with_statistics", "reconstruct")
"""Ops that the CUDA kernels have a part in."""


def _op(name: str) -> Way:
    ways = dict(WAYS[name])
    library = ways.pop(LIBRARY, None)
    if name in _COMPILED:
        ways[CUDA] = getattr(cuda, name)
    if library is not None:
        ways[LIBRARY] = library
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
damaged_input = triton.damaged_input
classify = cuda.classify if _COMPILED else eager.classify
spread = cuda.spread if _COMPILED else eager.spread
