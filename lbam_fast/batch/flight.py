"""Batches through the inpainter: the next is begun before the one before it is finished."""

from __future__ import annotations

import contextlib
import contextvars
import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from types import TracebackType
from typing import Any, NamedTuple

import torch
from numpy.typing import NDArray

from lbam_fast.batch.planning import Batch
from lbam_fast.errors import LBAMError
from lbam_fast.inference import Hole, Inpainter, OutOfMemoryError
from lbam_fast.inference.memory import usable_memory

Results = list[NDArray[Any]]
Begin = Callable[[Sequence[NDArray[Any]], Sequence[Hole]], Callable[[], Results]]
HANDS = 2
"""Batches that a CPU of several cores fills at once, each on all of them: between its loops a fill leaves most of them idle."""


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

    hands  are filled at once, on threads of their own, as long as together they need no more than half of the memory that may be
           used; by default ``HANDS`` on a CPU of several cores, one on a GPU
    most   stay begun while others follow; by default as many as there are hands, one on a GPU, none for a single hand
    """

    def __init__(self, inpainter: Inpainter, *, hands: int | None = None, most: int | None = None) -> None:
        on_gpu = inpainter.device.type == "cuda"
        if hands is None:
            hands = HANDS if torch.get_num_threads() > 1 and not on_gpu else 1
        if most is None:
            most = hands if hands > 1 else int(on_gpu)
        self._inpainter, self._most = inpainter, most
        self._pool = ThreadPoolExecutor(hands, thread_name_prefix="lbam-fill") if hands > 1 else None
        self.begin: Begin = inpainter.begin if self._pool is None else partial(self._begin_in, self._pool)
        """Begins to fill pictures, as ``Inpainter.begin``."""
        usable = usable_memory(inpainter.device)
        self._room = usable // 2 if self._pool is not None and usable is not None else math.inf
        self._begun: deque[_Begun] = deque()

    def __enter__(self) -> Flight:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def add(self, batch: Batch, start: float, finish: Callable[[], Results]) -> None:
        """A batch that was begun then; ``finish`` gives its results, or raises what went wrong, when its turn comes to land."""
        self._begun.append(_Begun(batch, start, finish))

    def landed_for(self, batch: Batch) -> Iterator[Landed]:
        """Those that have to land before there is memory to begin that batch."""
        while self._begun and sum(map(self._nbytes, (batch, *(begun.batch for begun in self._begun)))) > self._room:
            yield from self._land()

    def landed(self, *, all_of_them: bool = False) -> Iterator[Landed]:
        """Those that are more than may stay begun, or all. What fails is tried again in parts, as long as that may help."""
        while len(self._begun) > (0 if all_of_them else self._most):
            yield from self._land()

    def _begin_in(self, pool: ThreadPoolExecutor, pixels: Sequence[NDArray[Any]], holes: Sequence[Hole]) -> Callable[[], Results]:
        """With the caller's choice of a backend."""
        return pool.submit(contextvars.copy_context().run, self._inpainter.fill, pixels, holes).result

    def _nbytes(self, batch: Batch) -> int:
        return 0 if batch.empty else self._inpainter.memory_needed([work.found.hole for work in batch.works])

    def _land(self) -> Iterator[Landed]:
        batch, start, finish = self._begun.popleft()
        yield from self._finished(batch, start, finish)

    def _finished(self, batch: Batch, start: float, finish: Callable[[], Results]) -> Iterator[Landed]:
        try:
            filled = finish()
        except LBAMError as error:
            again = self._again(batch, error)
            for part in again:
                yield from self._finished(part, time.perf_counter(), partial(self._fill, part))
            if not again:
                yield Landed(batch, error, time.perf_counter() - start)
        else:
            yield Landed(batch, filled, time.perf_counter() - start)

    def _fill(self, batch: Batch) -> Results:
        return self._inpainter.fill([work.picture.pixels for work in batch.works], [work.found.hole for work in batch.works])

    def _again(self, batch: Batch, error: LBAMError) -> list[Batch]:
        """What to try after an error; nothing if that is final."""
        if not isinstance(error, OutOfMemoryError):
            return batch.single()
        if self._pool is not None:
            self._wait()
        self._inpainter.free_memory()
        return batch.smaller()

    def _wait(self) -> None:
        """Until nothing else takes memory."""
        for begun in self._begun:
            with contextlib.suppress(LBAMError):
                begun.finish()


def giving(results: Results) -> Callable[[], Results]:
    """What is finished already."""
    return lambda: results


def raising(error: LBAMError) -> Callable[[], Results]:
    """What has failed already."""

    def finish() -> Results:
        raise error

    return finish
