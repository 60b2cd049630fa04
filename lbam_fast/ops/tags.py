"""What tells the calls of an op apart at a glance, where words take too long: the keys of the choices that a process has made.

Of the tensor that comes first shape, layout, dtype and device, of the others what it leaves open: their sizes and the layout of
filters. Calls that differ in more than that may share a route, which is right for each of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from lbam_fast.ops.arguments import Affine, Gate, Regions, Wanted

Tag = tuple[Any, ...]
_precision = torch._C._get_fp32_precision_getter
"""What ``torch.backends.cudnn.conv.fp32_precision`` reads, in an eighth of the time."""


def _attend(features: Tensor, m: Tensor, gate: Gate, affine: Affine, update: bool) -> Tag:
    return _picture(features), m.numel(), affine.scale is None, update


def _attend_backward(dy: Tensor, du: Tensor | None, features: Tensor, m: Tensor, gate: Gate, affine: Affine) -> Tag:
    return _picture(features), dy.is_contiguous(), m.numel(), affine.scale is None, du is None


def _statistics_backward(dmean: Tensor, dvariance: Tensor, mean: Tensor, features: Tensor, m: Tensor, scalars: Tensor) -> Tag:
    return _picture(features), m.numel()


def _encode(
    x: Tensor, u: Tensor, weight: Tensor, mask_weight: Tensor, gate: Gate, affine: Affine, wanted: Wanted, regions: Regions | None
) -> Tag:
    filters = weight.numel(), weight.is_contiguous(), mask_weight.numel()
    return _picture(x), filters, affine.scale is None, wanted, regions is None


def _encode_with_statistics(x: Tensor, u: Tensor, weight: Tensor, mask_weight: Tensor, scalars: Tensor) -> Tag:
    return _picture(x), weight.numel(), weight.is_contiguous(), mask_weight.numel()


def _encode_with_map(x: Tensor, weight: Tensor, attention: Tensor, affine: Affine) -> Tag:
    return _picture(x), weight.numel(), weight.is_contiguous(), attention.numel(), affine.scale is None


def _mask_step(u: Tensor, weight: Tensor, gate: Gate, wanted: Wanted, regions: Regions | None) -> Tag:
    return _picture(u), weight.numel(), weight.is_contiguous(), wanted, regions is None


def _decode_with_map(
    skip: Tensor | None, own: Tensor, skip_weight: Tensor | None, own_weight: Tensor, attention: Tensor, affine: Affine
) -> Tag:
    return _two(skip, own, own_weight), attention.numel(), affine.scale is None


def _decode_with_statistics(
    skip: Tensor | None, own: Tensor, skip_weight: Tensor | None, own_weight: Tensor, m: Tensor, scalars: Tensor
) -> Tag:
    return _two(skip, own, own_weight)


def _reconstruct(skip: Tensor | None, own: Tensor, skip_weight: Tensor | None, own_weight: Tensor, form: str) -> Tag:
    return _two(skip, own, own_weight), form


def _convolution(x: Tensor, weight: Tensor) -> Tag:
    return _picture(x), weight.numel(), weight.is_contiguous()


def _deconvolution(skip: Tensor | None, own: Tensor, skip_weight: Tensor | None, own_weight: Tensor) -> Tag:
    return _two(skip, own, own_weight)


def _picture(x: Tensor) -> Tag:
    dtype = x.dtype
    precision = _precision("cuda", "conv") if dtype is torch.float32 else None
    return x.shape, x.is_contiguous(), dtype, x.get_device(), precision


def _two(skip: Tensor | None, own: Tensor, own_weight: Tensor) -> Tag:
    """The skip is like the other input."""
    return _picture(own), own_weight.numel(), own_weight.is_contiguous(), skip is None


TAGS: dict[str, Callable[..., Tag]] = {
    "attend": _attend,
    "attend_backward": _attend_backward,
    "statistics_backward": _statistics_backward,
    "encode": _encode,
    "encode_with_statistics": _encode_with_statistics,
    "encode_with_map": _encode_with_map,
    "mask_step": _mask_step,
    "decode_with_map": _decode_with_map,
    "decode_with_statistics": _decode_with_statistics,
    "reconstruct": _reconstruct,
    "convolution": _convolution,
    "deconvolution": _deconvolution,
}
"""By the names of ``eager``; each takes the op's arguments."""
