"""The choice between ways to run one op: each is held to float64, those that are right are timed, the fastest stays."""

# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from lbam_fast.errors import LBAMError
from lbam_fast.ops.arguments import map_tensors
from lbam_fast.ops.defaults import KERNEL

FACTOR = 2.0
"""A route may lose that many times what eager PyTorch loses in the same dtype against float64."""
SLACK = 2e-5
"""Of the largest value of a result, allowed in any case: correct orders of summation differ."""
SUMS = 64 * 2.0**-24
"""Of the root of the sum of the squared terms, allowed where a result is a sum: rounding errors of that many terms add up to it,
however small eager's own happen to be, and however small the sum is."""
ROUNDS = 7
REPEATABLE, REPEATS = (KERNEL,), 8
"""Routes that give the same bits at every call, and how often they are called again to see it: programs that hand their sums on
too early do so now and then."""

Way = Callable[..., Any]
Lap = Callable[[], float]
Clock = Callable[[Callable[[], object]], Lap]
"""Makes a piece of work ready; what it gives runs it and returns the seconds of one call."""


class RouteError(LBAMError, RuntimeError):
    """No route of an op gives the right result; the message says what each of them did."""


class NotFiniteError(LBAMError, ArithmeticError):
    """No route can be judged by results that are no numbers."""


@dataclass(frozen=True)
class Verdict:
    """The fastest route that is right, the seconds of all that are, and why others are not."""

    chosen: str
    seconds: dict[str, float]
    refused: dict[str, str]


def fastest(
    routes: Mapping[str, Way],
    arguments: Sequence[Any],
    plain: Way,
    clock: Clock,
    typical: Callable[[Sequence[Any]], Sequence[Any]] = lambda arguments: arguments,
) -> Verdict:
    """Judges the routes by ``arguments`` and times them on ``typical(arguments)``. Raises RouteError and NotFiniteError."""
    exact, allowed = _budgets(plain, arguments)
    refused = {name: _refusal(name, route, arguments, exact, allowed) for name, route in routes.items()}
    refused = {name: reason for name, reason in refused.items() if reason}
    right = {name: route for name, route in routes.items() if name not in refused}
    if not right:
        raise RouteError(
            f"no route gives the right result: {refused}; set LBAM_ROUTES or LBAM_BACKEND=reference, and report this"
        )
    timed = typical(arguments)
    laps = {name: clock(partial(route, *timed)) for name, route in right.items()}
    seconds: dict[str, list[float]] = {name: [] for name in right}
    for _ in range(ROUNDS):
        for name, lap in laps.items():
            seconds[name].append(lap())
    medians = {name: sorted(each)[ROUNDS // 2] for name, each in seconds.items()}
    return Verdict(min(medians, key=lambda name: medians[name]), medians, refused)


def _budgets(plain: Way, arguments: Sequence[Any]) -> tuple[Sequence[Tensor], list[float]]:
    """The results in float64, and how far from each a route's may lie."""
    wide = map_tensors(lambda x: x.double() if x.is_floating_point() else x, arguments)
    exact, rounded = _tensors(plain(*wide)), _tensors(plain(*arguments))
    if not all(bool(x.isfinite().all()) for x in (*exact, *rounded)):
        raise NotFiniteError
    sizes: Sequence[Tensor | None] = [None] * len(exact)
    if any(x.dim() < 4 and x.numel() for x in exact):
        with _SizesOfSums():
            sizes = _tensors(plain(*wide))
    allowed = [FACTOR * _error(y, e) + _slack(e) + _slack_of_sums(size) for y, e, size in zip(rounded, exact, sizes, strict=True)]
    return exact, allowed


class _SizesOfSums(TorchDispatchMode):
    """Every sum gives the root of the sum of its squared terms instead."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in (torch.ops.aten.sum.default, torch.ops.aten.sum.dim_IntList):
            return func(args[0].square(), *args[1:], **(kwargs or {})).sqrt()
        return func(*args, **(kwargs or {}))


def _refusal(name: str, route: Way, arguments: Sequence[Any], exact: Sequence[Tensor], allowed: Sequence[float]) -> str:
    try:
        results = _tensors(route(*arguments))
        steady = name not in REPEATABLE or _gives_the_same_bits(route, arguments, results)
    except torch.OutOfMemoryError:  # no fault of the route
        raise
    except Exception as error:  # whatever a compiler or a driver raises
        return f"{type(error).__name__}: {error}"[:200]
    for i, (result, e, most) in enumerate(zip(results, exact, allowed, strict=True)):
        found = _error(result, e)
        if not found <= most:
            return f"result {i} differs from float64 by {found:.2g}, allowed {most:.2g}"
    return "" if steady else "it gives other bits from call to call"


def _gives_the_same_bits(route: Way, arguments: Sequence[Any], results: Sequence[Tensor]) -> bool:
    """Whether ``results`` come again. Calls of other numbers lie between, so that what a call before left in memory, which the
    next one gets, cannot pass for its own."""
    others = map_tensors(lambda x: -x if x.is_floating_point() and x.dim() == 4 else x, arguments)
    for _ in range(REPEATS):
        route(*others)
        if not all(map(torch.equal, _tensors(route(*arguments)), results)):
            return False
    return True


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


def _slack_of_sums(size: Tensor | None) -> float:
    return SUMS * float(size.abs().max()) if size is not None and size.dim() < 4 and size.numel() else 0.0
