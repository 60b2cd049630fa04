"""CUDA graphs of whole calls: on a GPU short kernels wait for Python, which a graph launches all at once.

A graph is for one network as it is now, for inputs of those shapes and dtypes, and for one use at a time; it holds memory for
all that is computed in it. ``LBAM_GRAPHS=0`` switches graphs off.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from lbam_fast.kernels import counters

VARIABLE = "LBAM_GRAPHS"
MOST, MOST_BYTES = 16, 4 << 30
"""Graphs of one network that are kept, those that were played last, and the memory that they may hold."""

Run = Callable[..., Tensor]


class Captured(NamedTuple):
    """What was captured: how it is played, its result, in memory that each play writes to, and the bytes that it holds."""

    play: Callable[[], object]
    output: Tensor
    nbytes: int


class Device(Protocol):
    """What a graph needs of CUDA, so that a test can stand in for it."""

    def capture(self, run: Callable[[], Tensor], of: torch.device) -> Captured:
        """``run`` captured on a stream of its own, while other threads go on."""

    def mark(self, of: torch.device) -> object:
        """A point in the current stream of that device."""

    def wait(self, mark: Any, of: torch.device) -> None:
        """Let the current stream of that device wait for that point."""


class Cuda:
    """The real one."""

    def capture(self, run: Callable[[], Tensor], of: torch.device) -> Captured:
        graph, before = torch.cuda.CUDAGraph(), torch.cuda.memory_reserved(of)
        with torch.cuda.device(of), torch.cuda.graph(graph, capture_error_mode="thread_local"), counters.one_pass():
            output = run()
        return Captured(graph.replay, output, max(0, torch.cuda.memory_reserved(of) - before))

    def mark(self, of: torch.device) -> object:
        return torch.cuda.current_stream(of).record_event()

    def wait(self, mark: Any, of: torch.device) -> None:
        torch.cuda.current_stream(of).wait_event(mark)


class Graph:
    """``run(*inputs)`` as captured. Safe under threads and on any stream of its device."""

    def __init__(self, run: Run, inputs: Sequence[Tensor], maps: Sequence[Tensor], device: Device) -> None:
        """maps: what it reads where it is, kept as long as the graph."""
        self._device, self._of, self._maps = device, inputs[0].device, maps
        with torch.inference_mode(False), torch.no_grad():  # its tensors are written to in either mode
            self._inputs = [x.clone(memory_format=torch.preserve_format) for x in inputs]
            self._captured = device.capture(lambda: run(*self._inputs), self._of)
        self._captured.play()  # capturing computes nothing
        self._last = device.mark(self._of)
        self._busy = threading.Lock()
        self.usable = True
        self.nbytes = self._captured.nbytes + sum(x.nbytes for x in self._inputs)

    @contextmanager
    def loaded(self, inputs: Sequence[Tensor]) -> Iterator[Sequence[tuple[Callable[..., Any], tuple[Any, ...]]]]:
        """The one call to make for those inputs; until the block ends no other thread gets it."""
        with self._busy:
            self._device.wait(self._last, self._of)  # the use before, perhaps on another stream
            for own, given in zip(self._inputs, inputs, strict=True):
                own.copy_(given)
            yield ((self._captured.play, ()),)
            self._last = self._device.mark(self._of)

    def result(self) -> Tensor:
        """The result of what was played last, in memory of its own."""
        return self._captured.output.clone(memory_format=torch.preserve_format)


def wanted(device: torch.device) -> bool:
    """Whether calls there are captured: on CUDA devices, unless that is switched off, or a user captures already."""
    return device.type == "cuda" and os.environ.get(VARIABLE, "1") != "0" and not capturing(device)


def capturing(device: torch.device) -> bool:
    """Whether what runs there now goes into a graph."""
    return device.type == "cuda" and torch.cuda.is_current_stream_capturing()
