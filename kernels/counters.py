"""The zeros from which programs of a split layer count how many of them have arrived: ``split``.

Nothing outlives a pass, so nothing has to be set back. All layers of a pass take theirs from one tensor, each its own part, which
is filled by the stream that runs them, at the head of the CUDA graph where one is captured: whatever runs at the same time, on
another stream or in another graph, has memory of its own, and every replay begins at 0.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import torch
from torch import Tensor

MOST = 1024
"""Counters that are made at once: those of the network's 20 layers at batch 1, on up to 200 multiprocessors, and more."""
STEP = 4
"""Counters begin at a multiple of 16 bytes, which Triton asks of pointers or compiles anew."""

_Place = tuple[torch.device, int, bool]
"""Device, stream, and whether what runs there is captured."""


@dataclass
class _Pass:
    free: Tensor | None = None
    place: _Place | None = None

    def take(self, count: int, device: torch.device) -> Tensor:
        place, count = _place(device), -(-count // STEP) * STEP
        if self.free is None or self.place != place or len(self.free) < count:
            self.free, self.place = torch.zeros(max(count, MOST), dtype=torch.int32, device=device), place
        taken, self.free = self.free[:count], self.free[count:]
        return taken


_pass: ContextVar[_Pass | None] = ContextVar("lbam_counters", default=None)


@contextmanager
def one_pass() -> Iterator[None]:
    """Launches inside share one fill. Whoever captures a graph opens another within the capture."""
    token = _pass.set(_Pass())
    try:
        yield
    finally:
        _pass.reset(token)


def zeros(count: int, device: torch.device) -> Tensor:
    """At least ``count`` zeros, int32, that no other launch gets."""
    return (_pass.get() or _Pass()).take(count, device)


def _place(device: torch.device) -> _Place:
    if device.type != "cuda":
        return device, 0, False
    return device, torch.cuda.current_stream(device).cuda_stream, torch.cuda.is_current_stream_capturing()
