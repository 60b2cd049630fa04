"""Work on other threads before and after the computation: results ahead of their use, and jobs that are finished behind it.

Decoders and encoders release the interpreter's lock, so threads overlap with the network and with each other. They step back for
the network's threads: a loop of a kernel ends with the last of its threads, so that one which waits for a core keeps all waiting.
"""

from __future__ import annotations

import contextlib
import os
import queue
import sys
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Generic, Self, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

NICE = 10
"""Of threads that read and write, so that they get a tenth of a core that others want, and what these leave."""


def default_threads() -> int:
    """Threads for each of the two stages: one for every two cores that this process may use, at most 8."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(8, cores // 2))


def step_back() -> None:
    """Let the system prefer other threads to the one that calls this, on Linux, where threads have priorities of their own."""
    if sys.platform == "linux":
        thread = threading.get_native_id()
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, thread, os.getpriority(os.PRIO_PROCESS, thread) + NICE)


def prefetched(items: Iterator[Item], most: int) -> Generator[Item, None, None]:
    """The items in order, made on a thread of their own, up to ``most`` ahead of their use; raises what making them raises.

    Closing what this gives, or leaving it to the collector, ends the thread after the item at hand.
    """
    made: queue.Queue[Item | BaseException | None] = queue.Queue(most)
    closed = threading.Event()

    def run() -> None:
        step_back()
        end: BaseException | None = None
        try:
            for item in items:
                made.put(item)
                if closed.is_set():
                    return
        except BaseException as error:
            end = error
        made.put(end)

    thread = threading.Thread(target=run, name="lbam-read", daemon=True)
    thread.start()
    try:
        while (item := made.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        closed.set()
        while thread.is_alive():  # which may wait for room
            with contextlib.suppress(queue.Empty):
                made.get(timeout=0.05)


class Ahead(Generic[Item, Result]):
    """``work(item)`` for every item, on threads of its own; ``take`` gives the results in the items' order.

    most, budget: threads begin nothing new while so many results, or results of that ``cost`` together, wait to be taken.
    first: so many items are what nobody can compute without, so that twice as many threads begin them.
    """

    def __init__(
        self,
        work: Callable[[Item], Result],
        items: Sequence[Item],
        *,
        threads: int,
        most: int,
        budget: float,
        cost: Callable[[Result], float],
        first: int = 0,
    ) -> None:
        self._work, self._items, self._cost = work, items, cost
        self._most, self._budget = most, budget
        self._change = threading.Condition()
        self._results: dict[int, Result | BaseException] = {}
        self._begun = self._taken = 0
        self._held = 0.0
        self._closed = False
        ends = [len(items)] * threads + [min(first, len(items))] * threads  # where each thread has nothing left to begin
        self._threads = [
            threading.Thread(target=self._run, args=(end,), name=f"lbam-read-{i}", daemon=True)
            for i, end in enumerate(ends)
            if i < end
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        with self._change:
            self._closed = True
            self._change.notify_all()
        for thread in self._threads:
            thread.join()

    def take(self) -> Result:
        """The next result; waits for it. Raises what its work raised."""
        with self._change:
            self._change.wait_for(lambda: self._taken in self._results)
            result = self._results.pop(self._taken)
            self._taken += 1
            if not isinstance(result, BaseException):
                self._held -= self._cost(result)
            self._change.notify_all()
        if isinstance(result, BaseException):
            raise result
        return result

    def _run(self, end: int) -> None:
        step_back()
        while (index := self._next(end)) is not None:
            result: Result | BaseException
            try:
                result = self._work(self._items[index])
            except BaseException as error:
                result = error
            with self._change:
                self._results[index] = result
                if not isinstance(result, BaseException):
                    self._held += self._cost(result)
                self._change.notify_all()
            del result

    def _next(self, end: int) -> int | None:
        """The item to begin with, as soon as there is room; None when there is nothing left to do before ``end``."""
        with self._change:
            self._change.wait_for(lambda: self._begun >= end or self._may_go_on())
            if self._closed or self._begun >= end:
                return None
            self._begun += 1
            return self._begun - 1

    def _may_go_on(self) -> bool:
        if self._closed or self._begun == self._taken:  # the last is being waited for
            return True
        return self._begun - self._taken < self._most and self._held < self._budget


class Behind(Generic[Item, Result]):
    """Calls on threads of their own; ``finished`` gives them back in order.

    most, budget: how many may wait to be finished, and what they may cost together; one may always.
    Leaving the block waits for the calls that have begun; after an error others are not made.
    """

    def __init__(self, *, threads: int, most: int, budget: float) -> None:
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix="lbam-write", initializer=step_back)
        self._most, self._budget = most, budget
        self._waiting: deque[tuple[Item, Future[Result], float]] = deque()
        self._held = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        given_up = kind is not None and not issubclass(kind, GeneratorExit)
        self._executor.shutdown(wait=True, cancel_futures=given_up)

    def add(self, item: Item, call: Callable[[], Result], cost: float) -> None:
        self._waiting.append((item, self._executor.submit(call), cost))
        self._held += cost

    def finished(self, *, all_of_them: bool = False) -> Iterator[tuple[Item, Future[Result]]]:
        """Items in order with their calls: those that are finished, and as many more as are too many to wait, or all."""
        while self._waiting and (all_of_them or self._waiting[0][1].done() or self._too_many()):
            item, future, cost = self._waiting.popleft()
            self._held -= cost
            future.exception()  # waits
            yield item, future

    def _too_many(self) -> bool:
        return len(self._waiting) > self._most or (len(self._waiting) > 1 and self._held > self._budget)
