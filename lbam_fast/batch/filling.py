"""Jobs through the Inpainter, and what happens to them: decoded ahead of the network, encoded and written behind it."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lbam_fast.batch.errors import JobError
from lbam_fast.batch.events import Event, Failed, Filled, Skipped, Started, Times
from lbam_fast.batch.flight import Flight, Landed, giving, raising
from lbam_fast.batch.jobs import Job
from lbam_fast.batch.journal import Record
from lbam_fast.batch.large import fill_large, is_too_large
from lbam_fast.batch.planning import WINDOW, WINDOW_PIXELS, Batch, ends_window, planned
from lbam_fast.batch.reading import Reader, Work
from lbam_fast.batch.stages import Ahead, Behind, default_threads
from lbam_fast.batch.writing import check_outputs, make_folder, write_outputs
from lbam_fast.errors import LBAMError
from lbam_fast.inference import Hands, Inpainter, InpaintError, Plan
from lbam_fast.pictures.large import size_of

Pixels = NDArray[Any]
Sizes = Mapping[Job, tuple[int, int] | None]


class Filler:
    """Reads, fills and writes pictures with that inpainter.

    threads: how many read, and how many write, while others compute; by default one for every two cores, at most 8. Twice as
    many read the first pictures, before which there is nothing to compute.
    max_memory: bytes; pictures that would take more are filled last and region by region, from files into files.
    """

    def __init__(self, inpainter: Inpainter, *, threads: int | None = None, max_memory: int | None = None) -> None:
        self.inpainter, self._max_memory = inpainter, max_memory
        self._threads = default_threads() if threads is None else threads
        if self._threads < 1:
            raise JobError(f"threads is {threads}, expected at least 1")
        self._reader = Reader(inpainter.options, inpainter.max_pixels)

    def read_mask(self, path: Path) -> None:
        """Read a mask that many jobs share, so that a bad one is told of once. Raises PictureError."""
        self._reader.mask(path)

    def is_large(self, path: Path) -> bool:
        """Whether a picture or a mask is beyond ``max_memory``. Raises PictureError where what that needs is missing."""
        return is_too_large(path, self._max_memory)

    def fill(
        self,
        jobs: Sequence[Job],
        *,
        make_folders: bool = False,
        stop: Callable[[], bool] = lambda: False,
        journal: Record | None = None,
    ) -> Iterator[Event]:
        """Do the jobs, as their events are asked for; see ``events`` for these.

        Pictures are read ahead, filled in batches found within 16 jobs in a row, and written behind. Too little memory is met
        with smaller batches. An error of a job stops no other; anything but an LBAMError is raised.
        make_folders: make the folders of outputs that do not exist. stop: asked after each batch; what is filled by then is
        written, the rest has no event. journal: jobs that are done as it says are skipped, others enter it once they are.
        """
        done: Sizes = {} if journal is None else {job: journal.size(job) for job in jobs}
        large = {job: None for job in jobs if self.is_large(job.image)}
        jobs = [job for job in jobs if job not in large]
        todo = [job for job in jobs if not done.get(job)]
        read = partial(self._read, make_folders=make_folders, journal=journal)
        ahead = Ahead(read, todo, threads=self._threads, most=2 * WINDOW, budget=WINDOW_PIXELS, cost=_pixels, first=WINDOW)
        behind: _Writer = Behind(threads=self._threads, most=WINDOW, budget=WINDOW_PIXELS)
        hands = Hands(self.inpainter, None if self._max_memory is None else 1)
        flight = Flight(hands)
        with ahead, behind, hands:
            for events, batch in self._batches(jobs, done, ahead):
                yield from events
                start, pixels = time.perf_counter(), [work.picture.pixels for work in batch.works]
                try:  # no frame between here and the network
                    holes = [work.found.hole for work in batch.works]
                    finish = giving(pixels) if batch.empty else hands.begin(pixels, holes)
                except LBAMError as error:
                    finish = raising(error)
                flight.add(batch, start, finish)
                yield from _hand_on(flight.landed(), behind, journal)
                yield from _ended(behind.finished())
                if stop():
                    break
            yield from _hand_on(flight.landed(all_of_them=True), behind, journal)
            yield from _ended(behind.finished(all_of_them=True))
        for job in itertools.takewhile(lambda _: not stop(), large):
            yield from [Skipped(job)] if done.get(job) else self._fill_large(job, make_folders, journal)

    def _fill_large(self, job: Job, make_folders: bool, journal: Record | None) -> Iterator[Event]:
        start = time.perf_counter()
        try:
            if make_folders:
                make_folder(job.output.parent)
            stamps = [] if journal is None else journal.stamps(job)
            height, width = size_of(job.image)
            yield Started(job, size=(width, height), strategy="tile")
            notes = fill_large(job, self.inpainter, self.inpainter.max_pixels)
            if journal is not None:
                journal.add(job, (width, height), stamps)
        except LBAMError as error:
            yield Failed(job, error)
        else:
            yield Filled(job, notes, Times(0.0, time.perf_counter() - start, 0.0))

    def _batches(self, jobs: Sequence[Job], done: Sizes, ahead: Ahead[Job, Work]) -> Iterator[tuple[list[Event], Batch]]:
        """Batches in order, each with what is to be told before it; an empty batch where there is nothing but that."""
        position = 0
        while position < len(jobs):
            told: list[Event] = []
            window: list[Work | Job] = []
            first, pixels = position, 0
            while position < len(jobs) and (position == first or not ends_window(position, pixels)):
                job, size = jobs[position], done.get(jobs[position])
                position += 1
                if size:
                    told.append(Skipped(job))
                    window.append(job)
                    pixels += size[0] * size[1]
                    continue
                try:
                    work = ahead.take()
                except LBAMError as error:
                    told.append(Failed(job, error))
                else:
                    window.append(work)
                    pixels += _pixels(work)
            if told:
                yield told, Batch([])
            for batch in planned(self._complete(window), self.inpainter):
                if wanted := [work for work in batch.works if not work.done]:
                    yield [_started(work, self.inpainter.plan(work.found.hole)) for work in wanted], batch

    def _complete(self, window: Sequence[Work | Job]) -> Iterator[Work]:
        """The works of a window: those that are done are read again if others may go through the network with them, as they would
        have without an interruption, so that results are the same to the bit.
        """
        if all(isinstance(each, Job) for each in window):
            return
        for each in window:
            if isinstance(each, Work):
                yield each
                continue
            with contextlib.suppress(LBAMError):
                yield dataclasses.replace(self._reader.read(each), done=True)

    def _read(self, job: Job, *, make_folders: bool, journal: Record | None) -> Work:
        stamps = [] if journal is None else journal.stamps(job)
        work = dataclasses.replace(self._reader.read(job), stamps=stamps)
        check_outputs(work, make_folders)
        with contextlib.suppress(MemoryError):  # who asks again meets it where smaller batches help
            self.inpainter.examine(work.found.hole)
        return work


@dataclass(frozen=True, eq=False)
class _Written:
    """A work that is being written, and its seconds in the network."""

    work: Work
    filling: float


_Writer = Behind[_Written, tuple[tuple[str, ...], float]]


def _hand_on(landed: Iterator[Landed], behind: _Writer, journal: Record | None) -> Iterator[Failed]:
    """What is filled to those who write; the failures."""
    for batch, outcome, seconds in landed:
        if isinstance(outcome, LBAMError):
            yield from _failed(batch, outcome)
            continue
        for work, result in zip(batch.works, outcome, strict=True):
            if not work.done:
                call = partial(_write, work, result, journal)
                behind.add(_Written(work, seconds / len(outcome)), call, cost=_pixels(work))


def _write(work: Work, result: Pixels, journal: Record | None) -> tuple[tuple[str, ...], float]:
    """Write the result; notes on what it does not hold, and seconds. Raises LBAMError."""
    start = time.perf_counter()
    try:
        notes = write_outputs(work, result)
    except MemoryError as error:
        raise JobError(f"{work.job.output}: too little memory to write it; try fewer threads, or smaller pictures") from error
    if journal is not None:
        height, width = work.picture.pixels.shape[:2]
        journal.add(work.job, (width, height), work.stamps)
    return notes, time.perf_counter() - start


def _ended(calls: Iterator[tuple[_Written, Future[tuple[tuple[str, ...], float]]]]) -> Iterator[Event]:
    for written, future in calls:
        work = written.work
        try:
            notes, seconds = future.result()
        except LBAMError as error:
            yield Failed(work.job, error)
        else:
            yield Filled(work.job, notes, Times(work.seconds, written.filling, seconds))


def _started(work: Work, plan: Plan) -> Started:
    height, width = work.picture.pixels.shape[:2]
    notes = (*work.found.notes, str(plan)) if plan.chosen else work.found.notes
    share = np.count_nonzero(work.found.hole.filled) / (height * width)
    return Started(work.job, work.found.warnings, notes, (width, height), share, plan.strategy)


def _failed(batch: Batch, error: LBAMError) -> list[Failed]:
    jobs = [work.job for work in batch.works if not work.done]
    return [Failed(job, InpaintError(f"{job.image}: {error}")) for job in jobs]


def _pixels(work: Work) -> int:
    height, width = work.picture.pixels.shape[:2]
    return int(height * width)
