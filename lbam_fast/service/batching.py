"""Pictures of several requests through the network together."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import torch
from numpy.typing import NDArray

from lbam_fast.errors import LBAMError
from lbam_fast.inference import Inpainter, OutOfMemoryError
from lbam_fast.inference.hands import Room, grouped, hands_of
from lbam_fast.service.admission import stopping
from lbam_fast.service.options import Choices
from lbam_fast.service.pictures import Request

Pixels = NDArray[Any]


@dataclass(eq=False)
class Task:
    """A request that waits for the network: its ``future`` gives the filled pixels, and is cancelled if nobody wants them."""

    request: Request
    future: Future[Pixels] = field(default_factory=Future)
    arrived: float = field(default_factory=time.perf_counter)
    begun: float = 0.0
    ended: float = 0.0
    together: int = 1
    strategy: str = ""

    @property
    def choices(self) -> Choices:
        return self.request.options.choices


class Batcher:
    """Fills pictures on threads of each inpainter, as many as suit it, those of one padded size and the same choices
    together.

    batch   pictures of a pass, at most
    wait    seconds that the oldest picture waits for others, at most
    coming  whether there may be others soon: else no picture waits
    """

    def __init__(
        self,
        inpainters: Sequence[Inpainter],
        *,
        batch: int = 4,
        wait: float = 0.01,
        coming: Callable[[], bool] = lambda: False,
        told: Callable[[int], None] = lambda count: None,
    ) -> None:
        self._batch, self._wait, self._coming, self._told = batch, wait, coming, told
        self._tasks: list[Task] = []
        self._change = threading.Condition()
        self._closed = False
        rooms = [Room(inpainter.device) for inpainter in inpainters]
        self._threads = [
            threading.Thread(target=self._run, args=(inpainter, room), name=f"lbam-fill-{i}", daemon=True)
            for i, (inpainter, room) in enumerate(zip(inpainters, rooms, strict=True))
            for _ in range(hands_of(inpainter))
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, request: Request) -> Task:
        """Raises ServiceError once it is closed."""
        task = Task(request)
        with self._change:
            if self._closed:
                raise stopping()
            self._tasks.append(task)
            self._change.notify_all()
        return task

    @property
    def alive(self) -> bool:
        return not self._closed and all(thread.is_alive() for thread in self._threads)

    def close(self) -> None:
        """Finish what was submitted, and end."""
        with self._change:
            self._closed = True
            self._change.notify_all()
        for thread in self._threads:
            thread.join()

    def _run(self, inpainter: Inpainter, room: Room) -> None:
        if inpainter.device.type == "cuda" and inpainter.device.index is not None:
            torch.cuda.set_device(inpainter.device)  # of this thread: kernels start on the current one

        @cache
        def suited(choices: Choices) -> Inpainter:
            return variant(inpainter, choices, self._batch)

        while tasks := self._next(suited):
            self._told(len(tasks))
            fill(suited(tasks[0].choices), tasks, room)

    def _next(self, suited: Callable[[Choices], Inpainter]) -> list[Task]:
        """The oldest task and those that go with it, once there are enough or it has waited long enough; none at the end.

        Planned without the lock, which submit needs at once.
        """
        while waiting := self._waiting():
            try:
                tasks = together(suited(waiting[0].choices), waiting)
            except LBAMError as error:  # such choices cannot be had here
                for task in self._taken(waiting[:1]):
                    task.future.set_exception(error)
                continue
            if len(tasks) < self._batch and self._await_others(waiting):
                continue
            if taken := self._taken(tasks):
                return taken
        return []

    def _waiting(self) -> list[Task]:
        """The tasks that are wanted, as soon as there are any; none at the end."""
        with self._change:
            while True:
                self._tasks = [task for task in self._tasks if not task.future.cancelled()]
                if self._tasks or self._closed:
                    return list(self._tasks)
                self._change.wait()

    def _await_others(self, waiting: list[Task]) -> bool:
        """Wait for a change of what is waiting; False where that is no use."""
        with self._change:
            left = waiting[0].arrived + self._wait - time.perf_counter()
            if left <= 0 or self._closed or not self._coming():
                return False
            if self._tasks == waiting:
                self._change.wait(left)
            return True

    def _taken(self, tasks: list[Task]) -> list[Task]:
        """Those that are still wanted, which no other thread gets now; none where one was quicker."""
        with self._change:
            if not set(tasks) <= set(self._tasks):
                return []
            self._tasks = [task for task in self._tasks if task not in tasks]
            return [task for task in tasks if task.future.set_running_or_notify_cancel()]


def together(inpainter: Inpainter, tasks: list[Task]) -> list[Task]:
    """The first task, and those that go through the network with it."""
    same = [task for task in tasks if task.choices == tasks[0].choices]
    batches = grouped(inpainter, [task.request.found.hole for task in same])
    return [same[i] for i in next((batch for batch in batches if 0 in batch), [0])]


def variant(inpainter: Inpainter, choices: Choices, batch: int) -> Inpainter:
    """An inpainter of the same network with those choices."""
    return Inpainter(inpainter.model, device=inpainter.device, dtype=inpainter.dtype, batch_size=batch, **choices.model_dump())


def fill(inpainter: Inpainter, tasks: Sequence[Task], room: Room, *, alone: bool = False) -> None:
    """Fill pictures together, or each by itself where that fails, to find the one that does.

    alone: while nothing else is filled, as those are that have lacked memory
    """
    for task in tasks:
        task.begun, task.together = task.begun or time.perf_counter(), len(tasks)
        task.strategy = inpainter.plan(task.request.found.hole).strategy
    try:
        holes = [task.request.found.hole for task in tasks]
        pixels = [task.request.picture.pixels for task in tasks]
        with room.taken(math.inf if alone else inpainter.memory_needed(holes)):
            if alone:
                inpainter.free_memory()
            filled = inpainter.fill(pixels, holes) if any(hole.filled.any() for hole in holes) else pixels
    except Exception as error:  # the thread has to go on with the other requests; the service logs what is no LBAMError
        lacked = isinstance(error, OutOfMemoryError)
        if isinstance(error, LBAMError) and (len(tasks) > 1 or (lacked and not alone)):
            for task in tasks:
                fill(inpainter, [task], room, alone=lacked)
            return
        for task in tasks:
            task.future.set_exception(error)
    else:
        for task, result in zip(tasks, filled, strict=True):
            task.ended = time.perf_counter()
            task.future.set_result(result)
