"""Ops that have several ways to run on a GPU, each call by the one that suits its arguments best."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from lbam_fast.ops import eager, routes

LIBRARY = "library"

Way = Callable[..., Any]


def measured(name: str, ways: Mapping[str, Way]) -> Way:
    """The op of ``lbam_fast.ops.eager``'s name by the best of those ways; elsewhere than on a GPU by the first.

    By the library's where that cannot be measured, for want of memory or while a CUDA graph is captured; without one, the first.
    """
    plain = getattr(eager, name)
    first = next(iter(ways))
    unmeasured = LIBRARY if LIBRARY in ways else first

    def call(*arguments: Any) -> Any:
        return ways[choice(arguments)](*arguments)

    def choice(arguments: tuple[Any, ...]) -> str:
        named = routes.fixed()
        if named is not None:
            return _checked(named)
        device = next(x.device for x in arguments if isinstance(x, Tensor))
        if device.type != "cuda":
            return first
        key = routes.key(name, arguments, *_precision(arguments))
        if torch.cuda.is_current_stream_capturing():
            return routes.remembered().choices.get(key, unmeasured)
        return routes.remembered().choose(key, ways, arguments, plain, routes.device_clock, unmeasured)

    def _checked(named: str) -> str:
        if named not in routes.NAMES:
            raise routes.RouteError(f"{routes.VARIABLE} names the route {named!r}, expected {', '.join(routes.NAMES)}")
        return named if named in ways else first

    return call


def allows_tf32() -> bool:
    """Whether cuDNN's convolutions may use TF32, by the most special setting that says so, of either of PyTorch's APIs."""
    settings = (torch.backends.cudnn.conv, torch.backends.cudnn, torch.backends)  # type: ignore[attr-defined]
    named = (setting.fp32_precision for setting in settings)
    return next((precision for precision in named if precision != "none"), "") == "tf32"


def _precision(arguments: tuple[Any, ...]) -> tuple[str, ...]:
    """What decides about the speed of float32 beside shapes."""
    in_float32 = any(isinstance(x, Tensor) and x.dtype == torch.float32 and x.dim() == 4 for x in arguments)
    return (f"tf32={allows_tf32()}",) if in_float32 else ()
