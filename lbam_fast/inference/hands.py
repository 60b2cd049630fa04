"""How many pictures are filled at once, and the memory that they share."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from lbam_fast.inference.memory import usable_memory

HANDS = 2
"""Fills at once on a CPU of several cores, each on all of them: between its loops a fill leaves most of them idle."""


def hands_of(device: torch.device) -> int:
    """How many fills at once a device is the faster for."""
    return HANDS if device.type == "cpu" and torch.get_num_threads() > 1 else 1


UNKNOWN = 1 << 40
"""Bytes of room where the system does not say how many there are, and on a GPU, whose fills take turns: more than they need."""


class Room:
    """The bytes that fills on a device have together: half of the memory that may be used. Safe under threads."""

    def __init__(self, device: torch.device) -> None:
        usable = usable_memory(device) if device.type == "cpu" else None
        self._left = self._all = UNKNOWN if usable is None else usable / 2
        self._change = threading.Condition()

    @contextmanager
    def taken(self, nbytes: float) -> Iterator[None]:
        """Waits until so many are left, or all of them, which a fill has that needs more."""
        nbytes = min(nbytes, self._all)
        with self._change:
            self._change.wait_for(lambda: nbytes <= self._left)
            self._left -= nbytes
        try:
            yield
        finally:
            with self._change:
                self._left += nbytes
                self._change.notify_all()
