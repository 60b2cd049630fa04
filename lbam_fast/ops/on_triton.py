"""The fused ops on Triton. Each has two routes: one kernel for all of it, or the library's convolution and one pass after it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from lbam_fast.kernels import convolution, deconvolution, pointwise
from lbam_fast.ops import eager, routes

attend = pointwise.attend
attend_backward = pointwise.attend_backward
statistics = pointwise.statistics
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
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    features, m = eager.convolution(x, weight), eager.convolution(u, mask_weight)
    y, new = attend(features, m, scalars, alpha, scale, shift, slope, update)
    return (y, new, features, m) if keep else (y, new, x.new_empty(0), x.new_empty(0))


def _library_mask_attention(
    u: Tensor, weight: Tensor, scalars: Tensor, alpha: Tensor, update: bool, keep: bool
) -> tuple[Tensor, Tensor, Tensor]:
    m = eager.convolution(u, weight)
    attention, new = attend(torch.ones_like(m), m, scalars, alpha, None, None, 1.0, update)
    return (m.new_empty(0), new, m) if keep else (attention, new, m.new_empty(0))


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


forward_attention = _op("forward_attention", convolution.forward_attention, _library_forward_attention)
features_with_map = _op("features_with_map", convolution.features_with_map, eager.features_with_map)
mask_attention = _op("mask_attention", convolution.mask_attention, _library_mask_attention)
reverse_attention = _op("reverse_attention", deconvolution.reverse_attention, eager.reverse_attention)
reconstruct = _op("reconstruct", deconvolution.reconstruct, eager.reconstruct)
