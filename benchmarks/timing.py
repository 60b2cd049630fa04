"""Interleaved rounds, so that whatever disturbs the machine disturbs every method alike; medians, quartiles, ratios."""

# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
import torch

Run = Callable[[int], object]
"""One call of a method; its argument is the number of the round, which selects the inputs."""
Clock = Callable[[Callable[[], object]], float]
"""Runs something once and returns the seconds that it took."""


class Quartiles(NamedTuple):
    """Of measured figures, by linear interpolation."""

    median: float
    q1: float
    q3: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Quartiles:
        q1, median, q3 = np.quantile(np.asarray(values, float), (0.25, 0.5, 0.75))
        return cls(float(median), float(q1), float(q3))


@dataclass(frozen=True)
class Schedule:
    """How long a case is measured: seconds of warm-up per method, seconds of rounds in all, and bounds on their number."""

    warmup: float = 0.5
    seconds: float = 10.0
    at_least: int = 3
    at_most: int = 40


def interleave(
    runs: Mapping[str, Run], clock: Clock, schedule: Schedule, warm: Mapping[str, float] | None = None
) -> dict[str, list[float]]:
    """Seconds of every round of every method. A round runs each once on the same inputs, in an order drawn for that round.

    What one method leaves behind, such as memory that the system takes back, disturbs the next: it must not be the same one.

    ``warm``: seconds for which methods have run already, to be taken off their warm-up.
    """
    for name, run in runs.items():
        _warm_up(run, clock, schedule.warmup - (warm or {}).get(name, 0.0))
    names, orders = list(runs), random.Random(0)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    start, done = time.perf_counter(), 0
    while names and (done < schedule.at_least or (done < schedule.at_most and time.perf_counter() - start < schedule.seconds)):
        for name in orders.sample(names, len(names)):
            seconds[name].append(clock(partial(runs[name], done)))
        done += 1
    return seconds


def ratios(seconds: Sequence[float], baseline: Sequence[float]) -> Quartiles:
    """How many times faster than the baseline, round by round: above 1 is faster."""
    return Quartiles.of([b / s for s, b in zip(seconds, baseline, strict=True)])


def _warm_up(run: Run, clock: Clock, seconds: float) -> None:
    start, calls = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        clock(partial(run, calls))
        calls += 1


class WallClock:
    """For a CPU. A short rest before each call lets the idle threads of the method before it go to sleep."""

    def __init__(self, rest: float = 0.01) -> None:
        self.rest = rest

    def __call__(self, work: Callable[[], object]) -> float:
        time.sleep(self.rest)
        start = time.perf_counter()
        work()
        return time.perf_counter() - start


class CudaClock:
    """Device events around the call, with an L2 cache that holds nothing of use: a buffer of twice its size is written first."""

    def __init__(self, device: str) -> None:
        cache = torch.cuda.get_device_properties(device).L2_cache_size or (64 << 20)
        self._flush = torch.empty(2 * cache, dtype=torch.int8, device=device)
        self._start, self._end = (torch.cuda.Event(enable_timing=True) for _ in range(2))

    def __call__(self, work: Callable[[], object]) -> float:
        self._flush.fill_(1)
        self._start.record()
        work()
        self._end.record()
        self._end.synchronize()
        return float(self._start.elapsed_time(self._end)) / 1e3


class EndToEndClock:
    """Wall clock around work that ends on the host, on either kind of device."""

    def __init__(self, device: str) -> None:
        self._wall = WallClock()
        self._settle = torch.cuda.synchronize if device.startswith("cuda") else lambda: None

    def __call__(self, work: Callable[[], object]) -> float:
        self._settle()
        return self._wall(work)


def device_clock(device: str) -> Clock:
    """The clock for computations that start and end on that device."""
    return CudaClock(device) if device.startswith("cuda") else WallClock()
