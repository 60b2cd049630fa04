"""How long a call takes on a GPU that is at work: replayed from a graph, each time with a cache that holds nothing of use."""

# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch

from lbam_fast.kernels import counters

CALLS = 4
"""In one stretch that is timed: enough to drown the two events around it."""
_SMALLEST_CACHE = 32 << 20

Work = Callable[[], object]


class Device(Protocol):
    """What the stopwatch needs of a device."""

    def recorded(self, work: Work) -> Work:
        """What runs ``work`` again with as little of the host as can be."""

    def flush(self) -> object:
        """Fill the cache with what no work reads; does not wait."""

    def seconds(self, work: Work) -> float:
        """From the beginning to the end of ``work`` on the device."""


class Stopwatch:
    """Seconds of one call among others, flushes of the cache taken off."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._flushes = device.recorded(self._stretch(lambda: None))

    def __call__(self, work: Work) -> Callable[[], float]:
        """Makes ``work`` ready; what this gives runs and times it."""
        stretch = self._device.recorded(self._stretch(work))

        def lap() -> float:
            whole = self._device.seconds(stretch)
            return max(0.0, whole - self._device.seconds(self._flushes)) / CALLS

        return lap

    def _stretch(self, work: Work) -> Work:
        def run() -> None:
            for _ in range(CALLS):
                self._device.flush()
                work()

        return run


class Cuda:
    """A CUDA device. Work that cannot be captured in a graph is run by the host at every round."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        cache = getattr(torch.cuda.get_device_properties(device), "L2_cache_size", 0)
        with torch.cuda.device(device):
            self._filler = torch.empty(2 * max(cache, _SMALLEST_CACHE), dtype=torch.int8, device=device)
            self._start, self._end = (torch.cuda.Event(enable_timing=True) for _ in range(2))

    def recorded(self, work: Work) -> Work:
        with torch.cuda.device(self._device):
            graph, stream = torch.cuda.CUDAGraph(), torch.cuda.Stream()
            stream.wait_stream(torch.cuda.current_stream())
            try:
                with torch.cuda.stream(stream):
                    graph.capture_begin(capture_error_mode="thread_local")
                    try:
                        with counters.one_pass():
                            work()
                    finally:
                        graph.capture_end()
            except torch.OutOfMemoryError:
                raise
            except RuntimeError:  # it synchronises, or does something else that no graph can hold
                return work
            torch.cuda.current_stream().wait_stream(stream)
        return graph.replay

    def flush(self) -> object:
        return self._filler.zero_()

    def seconds(self, work: Work) -> float:
        with torch.cuda.device(self._device):
            self.flush()  # while it lasts the host can go ahead
            self._start.record()
            work()
            self._end.record()
            self._end.synchronize()
        return float(self._start.elapsed_time(self._end)) / 1e3


def of(device: torch.device) -> Callable[[Work], Callable[[], float]]:
    """A stopwatch for that device, be it the current one or not; it takes memory from its first use on."""
    made: list[Stopwatch] = []

    def clock(work: Work) -> Callable[[], float]:
        if not made:
            made.append(Stopwatch(Cuda(device)))
        return made[0](work)

    return clock
