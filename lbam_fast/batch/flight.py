"""Batches through the inpainter: the next is begun before the one before it is finished."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

from numpy.typing import NDArray

from lbam_fast.batch.planning import Batch
from lbam_fast.errors import LBAMError
from lbam_fast.inference import Hands, OutOfMemoryError

Results = list[NDArray[Any]]


class Landed(NamedTuple):
    """A batch, or a part of one, with its filled pictures or the error that is final, and its seconds from beginning to end,
    also those that it waited for others."""

    batch: Batch
    outcome: Results | LBAMError
    seconds: float


class _Begun(NamedTuple):
    batch: Batch
    start: float
    finish: Callable[[], Results]


class Flight:
    """Batches that are begun and not yet finished, in order.

    most  stay begun while others follow; by default what the hands need
    """

    def __init__(self, hands: Hands, most: int | None = None) -> None:
        self._hands, self._most = hands, hands.ahead if most is None else most
        self._begun: deque[_Begun] = deque()

    def add(self, batch: Batch, start: float, finish: Callable[[], Results]) -> None:
        """A batch that was begun then; ``finish`` gives its results, or raises what went wrong, when its turn comes to land."""
        self._begun.append(_Begun(batch, start, finish))

    def landed(self, *, all_of_them: bool = False) -> Iterator[Landed]:
        """Those that are more than may stay begun, or all. What fails is tried again in parts, as long as that may help."""
        while len(self._begun) > (0 if all_of_them else self._most):
            batch, start, finish = self._begun.popleft()
            yield from self._finished(batch, start, finish)

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
        return self._hands.fill_alone([work.picture.pixels for work in batch.works], [work.found.hole for work in batch.works])

    def _again(self, batch: Batch, error: LBAMError) -> list[Batch]:
        """What to try after an error; nothing if that is final."""
        if not isinstance(error, OutOfMemoryError):
            return batch.single()
        self._hands.free_memory()
        return batch.smaller()


def giving(results: Results) -> Callable[[], Results]:
    """What is finished already."""
    return lambda: results


def raising(error: LBAMError) -> Callable[[], Results]:
    """What has failed already."""

    def finish() -> Results:
        raise error

    return finish
