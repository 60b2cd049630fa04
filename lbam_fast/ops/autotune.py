"""The choice between ways to run one op, by measurement: each is first held to float64, then timed; the fastest right one stays.

Choices are remembered in a file of the user's cache folder, for the device and the versions that they were measured with. The
variable LBAM_ROUTES changes that: "measure" (the default), or the name of a route that runs wherever there is one of that name,
without being measured: "kernel" (Triton's), "cuda", "library".
"""

# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lbam_fast import native
from lbam_fast.errors import LBAMError
from lbam_fast.files import replace_file
from lbam_fast.ops.arguments import flatten, map_tensors, tensors_of
from lbam_fast.ops.backends import eager

FORMAT = 2
VARIABLE = "LBAM_ROUTES"
MEASURE = "measure"
NAMES = (MEASURE, "kernel", "cuda", "library")
FACTOR = 2.0
"""A route may lose that many times what eager PyTorch loses in the same dtype against float64."""
SLACK = 2e-5
"""Of the largest value of a result, allowed in any case: correct orders of summation differ."""
ROUNDS = 7
LIBRARY = "library"

Way = Callable[..., Any]
Clock = Callable[[Callable[[], object]], float]


class RouteError(LBAMError, RuntimeError):
    """No route of an op gives the right result; the message says what each of them did."""


class Routes:
    """What was chosen, by key, and the file that remembers it. Safe under threads. A file that cannot be used does no harm.

    choices  the route of every key
    refused  why a route may not run, by key and route
    """

    def __init__(self, path: Path, versions: Mapping[str, str]) -> None:
        self.path, self.versions = path, dict(versions)
        self._lock = threading.Lock()
        self.choices, self.refused = self._read()
        self._too_large: set[str] = set()

    def choose(
        self, key: str, routes: Mapping[str, Way], arguments: Sequence[Any], plain: Way, clock: Clock, unmeasured: str
    ) -> str:
        """The name of the route for that key: the one remembered, else the fastest of those that are right.

        plain       the op in plain PyTorch, which float64 and the error budget come from
        unmeasured  the route where none can be judged: results are not finite, which is not remembered, or memory is short, which
                    is remembered as long as the process lives

        Raises RouteError where no route is right.
        """
        with self._lock:
            if self.choices.get(key) in routes:
                return self.choices[key]
            if key in self._too_large:
                return unmeasured
            try:
                chosen, refused = _fastest(routes, arguments, plain, clock)
            except torch.OutOfMemoryError:  # float64 takes more than the call itself
                self._too_large.add(key)
                return unmeasured
            except _NotFiniteError:
                return unmeasured
            self.choices[key] = chosen
            self.refused |= {f"{key}, {name}": reason for name, reason in refused.items()}
            self._write()
            return chosen

    def _read(self) -> tuple[dict[str, str], dict[str, str]]:
        try:
            found = json.loads(self.path.read_text(encoding="utf-8"))
            if found["format"] == FORMAT and found["versions"] == self.versions:
                choices, refused = ({str(k): str(v) for k, v in found[name].items()} for name in ("choices", "refused"))
                return choices, refused
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            pass
        return {}, {}

    def _write(self) -> None:
        """Whole or not at all, beside what other processes have found since."""
        choices, refused = self._read()
        found = {"choices": {**choices, **self.choices}, "refused": {**refused, **self.refused}}
        contents = {"format": FORMAT, "versions": self.versions, **found}
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            replace_file(self.path, json.dumps(contents, indent=1, sort_keys=True).encode())
        except OSError:
            return


class _NotFiniteError(LBAMError, ArithmeticError):
    """No route can be judged by results that are no numbers."""


def measured(name: str, ways: Mapping[str, Way]) -> Way:
    """The op of ``eager``'s name by the best of those ways; elsewhere than on a GPU by the first.

    By the library's where that cannot be measured, for want of memory or while a CUDA graph is captured; without one, the first.
    """
    plain = getattr(eager, name)
    first = next(iter(ways))
    unmeasured = LIBRARY if LIBRARY in ways else first

    def call(*arguments: Any) -> Any:
        return ways[choice(arguments)](*arguments)

    def choice(arguments: tuple[Any, ...]) -> str:
        named = fixed()
        if named is not None:
            return _checked(named)
        device = next(tensors_of(arguments)).device
        if device.type != "cuda":
            return first
        called = key(name, arguments, *_precision(arguments))
        if torch.cuda.is_current_stream_capturing():
            return remembered().choices.get(called, unmeasured)
        return remembered().choose(called, ways, arguments, plain, device_clock, unmeasured)

    def _checked(named: str) -> str:
        if named not in NAMES:
            raise RouteError(f"{VARIABLE} names the route {named!r}, expected {', '.join(NAMES)}")
        return named if named in ways else first

    return call


def allows_tf32() -> bool:
    """Whether cuDNN's convolutions may use TF32, by the most special setting that says so, of either of PyTorch's APIs."""
    settings = (torch.backends.cudnn.conv, torch.backends.cudnn, torch.backends)  # type: ignore[attr-defined]
    named = (setting.fp32_precision for setting in settings)
    return next((precision for precision in named if precision != "none"), "") == "tf32"


def _precision(arguments: tuple[Any, ...]) -> tuple[str, ...]:
    """What decides about the speed of float32 beside shapes."""
    in_float32 = any(x.dtype == torch.float32 and x.dim() == 4 for x in tensors_of(arguments))
    return (f"tf32={allows_tf32()}",) if in_float32 else ()


def key(op: str, arguments: Sequence[Any], *more: object) -> str:
    """Shapes, dtypes and settings of a call, in words."""
    return " ".join([op, *map(_word, flatten(arguments)), *map(str, more)])


def fixed() -> str | None:
    """The route that LBAM_ROUTES names, or None where routes are measured."""
    named = os.environ.get(VARIABLE, MEASURE)
    return None if named == MEASURE else named


@cache
def remembered() -> Routes:
    """The user's own choices on this machine."""
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lbam_fast"
    return Routes(folder / "routes.json", _versions())


def device_clock(work: Callable[[], object]) -> float:
    """Seconds of one call on the current CUDA device, by events."""
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    work()
    end.record()
    end.synchronize()
    return float(start.elapsed_time(end)) / 1e3


def _fastest(routes: Mapping[str, Way], arguments: Sequence[Any], plain: Way, clock: Clock) -> tuple[str, dict[str, str]]:
    """The fastest of the routes that are right, and why others are not."""
    exact = _tensors(plain(*map_tensors(lambda x: x.double() if x.is_floating_point() else x, arguments)))
    rounded = _tensors(plain(*arguments))
    if not all(bool(x.isfinite().all()) for x in (*exact, *rounded)):
        raise _NotFiniteError
    allowed = [FACTOR * _error(y, e) + _slack(e) for y, e in zip(rounded, exact, strict=True)]
    refused, right = {}, {}
    for name, route in routes.items():
        reason = _refusal(route, arguments, exact, allowed)
        if reason:
            refused[name] = reason
        else:
            right[name] = route
    if not right:
        raise RouteError(f"no route gives the right result: {refused}; set {VARIABLE} or LBAM_BACKEND=reference, and report this")
    if len(right) == 1:
        return next(iter(right)), refused
    seconds: dict[str, list[float]] = {name: [] for name in right}
    for _ in range(ROUNDS):
        for name, route in right.items():
            seconds[name].append(clock(lambda route=route: route(*arguments)))  # type: ignore[misc]
    return min(seconds, key=lambda name: sorted(seconds[name])[ROUNDS // 2]), refused


def _refusal(route: Way, arguments: Sequence[Any], exact: Sequence[Tensor], allowed: Sequence[float]) -> str:
    try:
        results = _tensors(route(*arguments))
    except torch.OutOfMemoryError:  # no fault of the route
        raise
    except Exception as error:  # whatever a compiler or a driver raises
        return f"{type(error).__name__}: {error}"[:200]
    for i, (result, e, most) in enumerate(zip(results, exact, allowed, strict=True)):
        found = _error(result, e)
        if not found <= most:
            return f"result {i} differs from float64 by {found:.2g}, allowed {most:.2g}"
    return ""


def _tensors(results: Any) -> Sequence[Tensor]:
    return [results] if isinstance(results, Tensor) else results


def _error(result: Tensor, exact: Tensor) -> float:
    if result.shape != exact.shape:
        return float("inf")
    difference = (result.double() - exact.double()).abs()
    return float(torch.where(difference.isfinite(), difference, torch.inf).max()) if difference.numel() else 0.0


def _slack(exact: Tensor) -> float:
    if not exact.is_floating_point():  # what was halfway between two integers
        return 1.0
    return SLACK * float(exact.abs().max()) if exact.numel() else 0.0


def _word(x: Any) -> str:
    if isinstance(x, Tensor):
        return f"{'x'.join(map(str, x.shape)) or 'scalar'}:{str(x.dtype).removeprefix('torch.')}"
    return str(x)


def _versions() -> dict[str, str]:
    import triton

    import lbam_fast

    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    kernels = "none" if native.unavailable("cuda") else "built"
    return {
        "lbam_fast": lbam_fast.__version__,
        "torch": torch.__version__,
        "triton": triton.__version__,
        "CUDA kernels": kernels,
        "device": device,
    }
