"""How many pictures are filled at once, and the memory that they share."""

from __future__ import annotations

import contextvars
import math
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from types import TracebackType

import torch

from lbam_fast.inference.detail import NARROW
from lbam_fast.inference.inpainter import Inpainter
from lbam_fast.inference.layouts import Array
from lbam_fast.inference.masks import Hole
from lbam_fast.inference.memory import usable_memory

HANDS = 2
"""Fills at once on a CPU of several cores, each on all of them: between its loops a fill by a narrow network, most of all its
texture, leaves cores idle; wide ones do not, and two would take the caches from each other (docs/batches.md)."""
PIXELS_OF_A_HAND = 1 << 18
"""In a batch for one of two hands at most. Four times as many gain nothing with texture and up to 3 % without, and take more
memory, which is then less even: docs/batches.md."""
UNKNOWN = 1 << 40
"""Bytes of room where the system does not say how many there are, and on a GPU, whose fills take turns: more than they need."""


def hands_of(inpainter: Inpainter) -> int:
    """How many fills at once it is the faster for here."""
    return HANDS if torch.get_num_threads() > 1 and _leaves_cores_idle(inpainter) else 1


def grouped(inpainter: Inpainter, holes: Sequence[Hole]) -> list[list[int]]:
    """``Inpainter.batches`` for hands: the same on every machine, however many hands are at work there."""
    return inpainter.batches(holes, pixels_on_cpu=PIXELS_OF_A_HAND) if _leaves_cores_idle(inpainter) else inpainter.batches(holes)


def _leaves_cores_idle(inpainter: Inpainter) -> bool:
    return inpainter.device.type == "cpu" and inpainter.model.config.base_width <= NARROW


class Room:
    """The bytes that fills on a device have together: half of the memory that may be used. For threads, which take turns."""

    def __init__(self, device: torch.device) -> None:
        usable = usable_memory(device) if device.type == "cpu" else None
        self._left = self._all = UNKNOWN if usable is None else usable / 2
        self._turn, self._change = threading.Lock(), threading.Condition()

    @contextmanager
    def taken(self, nbytes: float) -> Iterator[None]:
        """Waits until so many are left, or all of them, which a fill has that needs more."""
        nbytes = min(nbytes, self._all)
        with self._turn, self._change:  # who waits lets nobody pass
            self._change.wait_for(lambda: nbytes <= self._left)
            self._left -= nbytes
        try:
            yield
        finally:
            with self._change:
                self._left += nbytes
                self._change.notify_all()


class Hands:
    """Fill pictures with an inpainter: ``count`` batches at once on threads of their own, as far as there is memory, by default
    what suits it.

    With one hand ``begin`` is ``Inpainter.begin`` itself. Leaving the block ends the threads once what they do is done.
    """

    def __init__(self, inpainter: Inpainter, count: int | None = None) -> None:
        self.inpainter = inpainter
        self.count = hands_of(inpainter) if count is None else count
        self._room = Room(inpainter.device)
        self._pool = ThreadPoolExecutor(self.count, thread_name_prefix="lbam-fill") if self.count > 1 else None
        self.ahead = self.count if self.count > 1 else int(inpainter.device.type == "cuda")
        """How many batches are begun and not waited for, so that no hand is idle."""
        self.begin = inpainter.begin if self._pool is None else self._begin  # with one hand, no frame between the two

    def __enter__(self) -> Hands:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def fill_alone(self, pictures: Sequence[Array], holes: Sequence[Hole]) -> list[Array]:
        """``Inpainter.fill`` while nothing else is filled."""
        return self._fill(pictures, holes, math.inf)

    def free_memory(self) -> None:
        """``Inpainter.free_memory``, once nothing is filled."""
        with self._room.taken(math.inf):
            self.inpainter.free_memory()

    def _begin(self, pictures: Sequence[Array], holes: Sequence[Hole]) -> Callable[[], list[Array]]:
        assert self._pool is not None
        run = contextvars.copy_context().run  # with the caller's choice of a backend
        return self._pool.submit(run, self._fill, pictures, holes, self.inpainter.memory_needed(holes)).result

    def _fill(self, pictures: Sequence[Array], holes: Sequence[Hole], nbytes: float) -> list[Array]:
        with self._room.taken(nbytes):
            return self.inpainter.fill(pictures, holes)
