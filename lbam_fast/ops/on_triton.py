"""The fused ops on Triton. Each has two routes: one kernel for all of it, or the library's convolution and one pass after it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from lbam_fast.kernels import convolution as encoder
from lbam_fast.kernels import deconvolution as decoder
from lbam_fast.kernels import pointwise
from lbam_fast.ops import eager, routes

attend = pointwise.attend
attend_backward = pointwise.attend_backward
statistics_backward = pointwise.statistics_backward

KERNEL, LIBRARY = "kernel", "library"


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
    y, new = attend(features, m, scalars, alpha, scale, shift, slope, update)
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


def _op(name: str, kernel: Callable[..., Any], library: Callable[..., Any]) -> Callable[..., Any]:
    """The op by the route that suits its arguments best; by the library's where that cannot be measured, for want of memory or
    while a CUDA graph is captured."""
    plain = getattr(eager, name)

    def call(*arguments: Any) -> Any:
        tf32 = torch.backends.cudnn.allow_tf32
        ways: Mapping[str, Callable[..., Any]] = {KERNEL: lambda *given: kernel(*given, tf32=tf32), LIBRARY: library}
        device = next(x.device for x in arguments if isinstance(x, Tensor))
        chosen = routes.fixed()
        if chosen is None and device.type != "cuda":
            chosen = KERNEL
        if chosen is None:
            key = routes.key(name, arguments, f"tf32={tf32}")
            if torch.cuda.is_current_stream_capturing():
                chosen = routes.remembered().choices.get(key, LIBRARY)
            else:
                try:
                    chosen = routes.remembered().choose(key, ways, arguments, plain, routes.device_clock)
                except torch.OutOfMemoryError:  # float64 takes more than the call itself
                    chosen = LIBRARY
        if chosen not in ways:
            raise routes.RouteError(f"{routes.VARIABLE} names the route {chosen!r}, expected measure, kernel or library")
        return ways[chosen](*arguments)

    return call


forward_attention = _op("forward_attention", encoder.forward_attention, _library_forward_attention)
forward_statistics = _op("forward_statistics", encoder.forward_statistics, _library_forward_statistics)
features_with_map = _op("features_with_map", encoder.features_with_map, eager.features_with_map)
mask_attention = _op("mask_attention", encoder.mask_attention, _library_mask_attention)
reverse_attention = _op("reverse_attention", decoder.reverse_attention, eager.reverse_attention)
reverse_statistics = _op("reverse_statistics", decoder.reverse_statistics, _library_reverse_statistics)
reconstruct = _op("reconstruct", decoder.reconstruct, eager.reconstruct)
convolution = _op("convolution", encoder.convolution, eager.convolution)
deconvolution = _op("deconvolution", decoder.deconvolution, eager.deconvolution)
