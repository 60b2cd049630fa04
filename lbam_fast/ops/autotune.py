"""The choice between ways to run one op, by measurement: each is first held to float64, then timed; the fastest right one stays.

Choices are remembered in a file of the user's cache folder, for the device and the versions that they were measured with. The
variable LBAM_ROUTES, read when the first op runs, changes that: "measure" (the default); "default", the table of ``defaults``
without measuring; or the name of a route that runs wherever there is one of that name: "kernel" (Triton's), "cuda", "library".
"""

# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import torch

from lbam_fast.ops import routes, stopwatch
from lbam_fast.ops.arguments import tensors_of
from lbam_fast.ops.backends import eager
from lbam_fast.ops.defaults import CUDA, KERNEL, LIBRARY, default
from lbam_fast.ops.dispatch import forced_route
from lbam_fast.ops.judge import RouteError, Way
from lbam_fast.ops.routes import Routes
from lbam_fast.ops.tags import TAGS
from lbam_fast.ops.typical import typical

VARIABLE = "LBAM_ROUTES"
MEASURE, DEFAULT = "measure", "default"
NAMES = (MEASURE, DEFAULT, KERNEL, CUDA, LIBRARY)
MOST_TAGS = 4096
"""Calls that are told apart at a glance; beyond, the memory of them starts afresh."""

_Tag = tuple[Any, ...]
"""An op, the route that is forced, and the call's own tag."""


class _State:
    """What was found out in this process, and the file behind it."""

    def __init__(self) -> None:
        folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lbam_fast"
        self.table = Routes(folder / "routes.json", routes.versions())
        self.named = os.environ.get(VARIABLE, MEASURE)
        self.ways: dict[_Tag, Way] = {}


@cache
def _state() -> _State:
    return _State()


def remembered() -> Routes:
    """The user's own choices on this machine."""
    return _state().table


def forget() -> None:
    """Read the file and the variable again at the next call."""
    _state.cache_clear()


@contextmanager
def route(name: str) -> Iterator[None]:
    """Run every op by that route inside the block, or as LBAM_ROUTES of that value would have it. Raises RouteError."""
    token = forced_route.set(_checked(name, "route()"))
    try:
        yield
    finally:
        forced_route.reset(token)


class Measured:
    """An op of ``eager``'s name by the best of some ways; elsewhere than on a GPU by the first.

    Where that cannot be measured, for want of memory or while a CUDA graph is captured, by ``defaults``.
    """

    def __init__(self, name: str, ways: Mapping[str, Way]) -> None:
        self.name, self.ways = name, dict(ways)
        self._plain, self._tag = getattr(eager, name), TAGS[name]

    def __call__(self, *arguments: Any) -> Any:
        state = _state()
        tag = (self, forced_route.get(), self._tag(*arguments))
        way = state.ways.get(tag)
        if way is None:
            way = self._find(state, tag, arguments)
        return way(*arguments)

    def _find(self, state: _State, tag: _Tag, arguments: tuple[Any, ...]) -> Way:
        chosen = self._choice(state, arguments)
        if chosen is None:
            return self.ways[self._unmeasured(state.table, arguments)]
        if len(state.ways) >= MOST_TAGS:
            state.ways.clear()
        state.ways[tag] = self.ways[chosen]
        return self.ways[chosen]

    def _choice(self, state: _State, arguments: tuple[Any, ...]) -> str | None:
        """The route to keep to, or None where it cannot be said yet."""
        named = forced_route.get() or _checked(state.named, VARIABLE)
        first, device = next(iter(self.ways)), next(tensors_of(arguments)).device
        if named in (KERNEL, CUDA, LIBRARY):
            return named if named in self.ways else first
        if not measurable(device):
            return first
        if named == DEFAULT:
            return self._unmeasured(state.table, arguments)
        called = self.key(arguments)
        if torch.cuda.is_current_stream_capturing():
            return state.table.choices.get(called)
        return state.table.choose(called, self.ways, arguments, self._plain, stopwatch.of(device), typical)

    def _unmeasured(self, table: Routes, arguments: tuple[Any, ...]) -> str:
        """The default, unless it has been refused."""
        called = self.key(arguments)
        sound = [name for name in self.ways if routes.refusal(called, name) not in table.refused]
        lead = next(tensors_of(arguments))
        full = lead.dtype == torch.float32 and not allows_tf32()
        return default(self.name, capability(lead.device), full, sound or self.ways)

    def key(self, arguments: Sequence[Any]) -> str:
        """Under which a table remembers the route for such a call: the device, shapes, strides, dtypes, settings."""
        in_float32 = any(x.dtype == torch.float32 and x.dim() == 4 for x in tensors_of(arguments))
        device = routes.device_name(next(tensors_of(arguments)).device)
        return routes.key(f"{device}: {self.name}", arguments, *((f"tf32={allows_tf32()}",) if in_float32 else ()))


def measured(name: str, ways: Mapping[str, Way]) -> Measured:
    """That op by the best of those ways."""
    return Measured(name, ways)


def measurable(device: torch.device) -> bool:
    """Whether routes differ there: elsewhere than on a GPU all but the first exist for tests alone."""
    return device.type == "cuda"


def capability(device: torch.device) -> int:
    """The major number of a GPU's compute capability; 0 for other devices."""
    return torch.cuda.get_device_capability(device)[0] if device.type == "cuda" else 0


def allows_tf32() -> bool:
    """Whether cuDNN's convolutions may use TF32, by the most special setting that says so, of either of PyTorch's APIs."""
    settings = (torch.backends.cudnn.conv, torch.backends.cudnn, torch.backends)  # type: ignore[attr-defined]
    named = (setting.fp32_precision for setting in settings)
    return next((precision for precision in named if precision != "none"), "") == "tf32"


def _checked(named: str, where: str) -> str:
    if named not in NAMES:
        raise RouteError(f"{where} names the route {named!r}, expected {', '.join(NAMES)}")
    return named
