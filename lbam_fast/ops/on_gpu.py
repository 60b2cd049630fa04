"""The fused ops on a GPU by the fastest of all ways: Triton kernels, CUDA kernels where they are built, the library."""

from __future__ import annotations

from lbam_fast import native
from lbam_fast.ops import on_cuda
from lbam_fast.ops.measured import LIBRARY, Way, measured
from lbam_fast.ops.on_triton import WAYS

CUDA = "cuda"
_PARTS = "attend", "attend_backward", "statistics_backward", "forward_attention", "forward_statistics", "mask_attention"
_COMPILED = () if native.unavailable("cuda") else (*_PARTS, "reverse_statistics", "reconstruct")
"""Ops that the CUDA kernels have a part in."""


def _op(name: str) -> Way:
    ways = dict(WAYS[name])
    library = ways.pop(LIBRARY, None)
    if name in _COMPILED:
        ways[CUDA] = getattr(on_cuda, name)
    if library is not None:
        ways[LIBRARY] = library
    return measured(name, ways) if len(ways) > 1 else next(iter(ways.values()))


attend = _op("attend")
attend_backward = _op("attend_backward")
statistics_backward = _op("statistics_backward")
forward_attention = _op("forward_attention")
forward_statistics = _op("forward_statistics")
features_with_map = _op("features_with_map")
mask_attention = _op("mask_attention")
reverse_attention = _op("reverse_attention")
reverse_statistics = _op("reverse_statistics")
reconstruct = _op("reconstruct")
convolution = _op("convolution")
deconvolution = _op("deconvolution")
