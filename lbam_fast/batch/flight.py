"""Batches through the inpainter: the next is begun before the one before it is finished."""

from __future__ import annotations

import contextvars
import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from types import TracebackType
from typing import Any, NamedTuple

from numpy.typing import NDArray

from lbam_fast.batch.planning import Batch
from lbam_fast.errors import LBAMError
from lbam_fast.inference import Hole, Inpainter, OutOfMemoryError
from lbam_fast.inference.hands import Room, hands_of

Results = list[NDArray[Any]]
Begin = Callable[[Sequence[NDArray[Any]], Sequence[Hole]], Callable[[], Results]]


class Landed(NamedTuple):
    """A batch, or a part of one, with its filled pictures or the error that is final, and its seconds from beginning to end."""

    batch: Batch
    outcome: Results | LBAMError
    seconds: float


class _Begun(NamedTuple):
    batch: Batch
    start: float
    finish: Callable[[], Results]


class Flight:
    """Batches that are begun and not yet finished, in order.

    hands  are filled at once, on threads of their own, as far as there is memory; by default what suits the device
    most   stay begun while others follow; by default as many as there are hands, one on a GPU, none for a single hand on a CPU
    """

    def __init__(self, inpainter: Inpainter, *, hands: int | None = None, most: int | None = None) -> None:
        if hands is None:
            hands = hands_of(inpainter.device)
        if most is None:
            most = hands if hands > 1 else int(inpainter.device.type == "cuda")
        self._inpainter, self._most, self._room = inpainter, most, Room(inpainter.device)
        self._pool = ThreadPoolExecutor(hands, thread_name_prefix="lbam-fill") if hands > 1 else None
        self.begin: Begin = inpainter.begin if self._pool is None else partial(self._begin_in, self._pool)
        """Begins to fill pictures, as ``Inpainter.begin``."""
        self._begun: deque[_Begun] = deque()

    def __enter__(self) -> Flight:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def add(self, batch: Batch, start: float, finish: Callable[[], Results]) -> None:
        """A batch that was begun then; ``finish`` gives its results, or raises what went wrong, when its turn comes to land."""
        self._begun.append(_Begun(batch, start, finish))

    def landed(self, *, all_of_them: bool = False) -> Iterator[Landed]:
        """Those that are more than may stay begun, or all. What fails is tried again in parts, as long as that may help."""
        while len(self._begun) > (0 if all_of_them else self._most):
            batch, start, finish = self._begun.popleft()
            yield from self._finished(batch, start, finish)

    def _begin_in(self, pool: ThreadPoolExecutor, pixels: Sequence[NDArray[Any]], holes: Sequence[Hole]) -> Callable[[], Results]:
        """With the caller's choice of a backend."""
        needed = self._inpainter.memory_needed(holes)
        return pool.submit(contextvars.copy_context().run, self._fill, pixels, holes, needed).result

    def _fill(self, pixels: Sequence[NDArray[Any]], holes: Sequence[Hole], nbytes: float) -> Results:
        with self._room.taken(nbytes):
            return self._inpainter.fill(pixels, holes)

    def _finished(self, batch: Batch, start: float, finish: Callable[[], Results]) -> Iterator[Landed]:
        try:
            filled = finish()
        except LBAMError as error:
            again = self._again(batch, error)
            for part in again:
                yield from self._finished(part, time.perf_counter(), partial(self._fill_alone, part))
            if not again:
                yield Landed(batch, error, time.perf_counter() - start)
        else:
            yield Landed(batch, filled, time.perf_counter() - start)

    def _fill_alone(self, batch: Batch) -> Results:
        return self._fill([work.picture.pixels for work in batch.works], [work.found.hole for work in batch.works], math.inf)

    def _again(self, batch: Batch, error: LBAMError) -> list[Batch]:
        """What to try after an error; nothing if that is final."""
        if not isinstance(error, OutOfMemoryError):
            return batch.single()
        with self._room.taken(math.inf):  # once nothing else has any
            self._inpainter.free_memory()
        return batch.smaller()


def giving(results: Results) -> Callable[[], Results]:
    """What is finished already."""
    return lambda: results


def raising(error: LBAMError) -> Callable[[], Results]:
    """What has failed already."""

    def finish() -> Results:
        raise error

    return finish
