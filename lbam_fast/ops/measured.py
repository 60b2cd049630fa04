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
        key = routes.key(name, arguments, f"tf32={torch.backends.cudnn.allow_tf32}")
        if torch.cuda.is_current_stream_capturing():
            return routes.remembered().choices.get(key, unmeasured)
        try:
            return routes.remembered().choose(key, ways, arguments, plain, routes.device_clock)
        except torch.OutOfMemoryError:  # float64 takes more than the call itself
            return unmeasured

    def _checked(named: str) -> str:
        if named not in routes.NAMES:
            raise routes.RouteError(f"{routes.VARIABLE} names the route {named!r}, expected {', '.join(routes.NAMES)}")
        return named if named in ways else first

    return call
