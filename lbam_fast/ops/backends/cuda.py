"""The fused ops on the compiled CUDA kernels: the first and the last layer whole; elsewhere the library's convolution and one
pass after it. Half precision and float32; all else in plain PyTorch."""

# mypy: disable-error-code="no-any-return"

from __future__ import annotations

from functools import cache
from typing import Any

from torch import Tensor

from lbam_fast import native
from lbam_fast.ops.arguments import Affine, Gate, Regions, Wanted, nhwc
from lbam_fast.ops.backends import eager
from lbam_fast.ops.backends.composed import Composed

convolution = eager.convolution
deconvolution = eager.deconvolution
filter_gradient = eager.filter_gradient
encode_with_map = eager.encode_with_map
decode_with_map = eager.decode_with_map


def attend(features: Tensor, m: Tensor, gate: Gate, affine: Affine, update: bool) -> eager.Pair:
    return _native().attend(nhwc(features), nhwc(m), *gate, *affine, update)


def attend_backward(dy: Tensor, du: Tensor | None, features: Tensor, m: Tensor, gate: Gate, affine: Affine) -> eager.Sextuple:
    given = nhwc(dy), None if du is None else nhwc(du), nhwc(features), nhwc(m)
    dfeatures, dm, dscalars, dchannels = _native().attend_backward(*given, *gate, *affine)
    dscale, dshift = dchannels.chunk(2) if affine.scale is not None else (dchannels, dchannels.clone())
    return dfeatures, dm, dscalars[:4].clone(), dscalars[4].clone(), dscale.clone(), dshift.clone()


def statistics(features: Tensor, m: Tensor, scalars: Tensor) -> eager.Pair:
    return _native().statistics(nhwc(features), nhwc(m), scalars)


def statistics_backward(
    dmean: Tensor, dvariance: Tensor, mean: Tensor, features: Tensor, m: Tensor, scalars: Tensor
) -> eager.Triple:
    given = (x.contiguous() for x in (dmean, dvariance, mean))
    dfeatures, dm, dscalars = _native().statistics_backward(*given, nhwc(features), nhwc(m), scalars)
    return dfeatures, dm, dscalars[:4].clone()


def encode(
    x: Tensor, u: Tensor, weight: Tensor, mask_weight: Tensor, gate: Gate, affine: Affine, wanted: Wanted, regions: Regions | None
) -> eager.Quadruple:
    if is_first_layer(x, u):
        return _native().encode(*map(nhwc, (x, u, weight, mask_weight)), *gate, *affine, *wanted)
    return _COMPOSED.encode(x, u, weight, mask_weight, gate, affine, wanted, regions)


def _maps(m: Tensor, gate: Gate, attention: bool, update: bool) -> eager.Pair:
    if not (attention or update):
        return m.new_empty(0), m.new_empty(0)
    return _native().maps(nhwc(m), *gate, attention, update)


_COMPOSED = Composed(attend, statistics, _maps)
encode_with_statistics = _COMPOSED.encode_with_statistics
mask_step = _COMPOSED.mask_step
decode_with_statistics = _COMPOSED.decode_with_statistics


def reconstruct(skip: Tensor, own: Tensor, skip_weight: Tensor, own_weight: Tensor, form: str) -> Tensor:
    filters = skip_weight.contiguous(), own_weight.contiguous()
    return _native().reconstruct(nhwc(skip), nhwc(own), *filters, form == "abs")


def classify(u: Tensor) -> Tensor:
    return _native().classify(nhwc(u))


def spread(kinds: Tensor) -> eager.Triple:
    return _native().spread(kinds)


def is_first_layer(x: Tensor, u: Tensor) -> bool:
    """Whether the kernel of the first layer takes these: an image of 3 or 4 channels, a mask of 1 or 3."""
    return x.shape[1] in (3, 4) and u.shape[1] in (1, 3)


@cache
def _native() -> Any:
    return native.ops("cuda")
