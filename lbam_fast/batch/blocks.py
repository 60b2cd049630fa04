"""Jobs in blocks for workers in processes of their own, and what these send, told as if one had done them all.

A block holds whole windows, so that the same pictures go through the network together as in one process: results are the same
to the bit, whoever does which block, and however often.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from lbam_fast.batch.errors import JobError
from lbam_fast.batch.events import Event, Failed, Filled, Skipped, Started
from lbam_fast.batch.filling import Filler
from lbam_fast.batch.jobs import Job
from lbam_fast.batch.journal import Record, stamps_of
from lbam_fast.batch.large import is_too_large
from lbam_fast.batch.planning import WINDOW
from lbam_fast.errors import LBAMError

TRIES = 3
"""Times that a block is begun before its jobs fail, where its worker is lost each time."""
WINDOWS_AT_ONCE = 4
"""Windows of a block at most; within it pictures are read ahead, between blocks they are not."""
BLOCKS_EACH = 4
"""Blocks that a worker gets at least, where there are so many windows, so that none waits long for the others in the end."""
Size = tuple[int, int]


@dataclass(frozen=True)
class Block:
    """Jobs that one worker does together.

    done  sizes of the pictures that the journal has as done; None: there is no journal
    """

    jobs: tuple[Job, ...]
    done: Mapping[Job, Size] | None = None


@dataclass(frozen=True)
class Outcome:
    """An event, and for the journal what ``Journal.add`` takes beside the job."""

    event: Event
    entry: tuple[Size, Sequence[Sequence[object]]] | None = None


def blocks_of(
    jobs: Sequence[Job], workers: int, max_memory: int | None, journal: Record | None
) -> tuple[list[Block], list[Skipped]]:
    """The jobs in blocks, but for blocks in which all is done, of which the events are given.

    Pictures that are filled region by region come last, each by itself, as in one process.
    """
    large = {job: None for job in jobs if is_too_large(job.image, max_memory)}
    small = [job for job in jobs if job not in large]
    windows = -(-len(small) // WINDOW)
    length = WINDOW * max(1, min(WINDOWS_AT_ONCE, windows // (BLOCKS_EACH * workers)))
    parts = [small[start : start + length] for start in range(0, len(small), length)]
    blocks = [_block(part, journal) for part in [*parts, *([job] for job in large)]]
    done = [block for block in blocks if block.done is not None and block.done.keys() >= set(block.jobs)]
    return [block for block in blocks if block not in done], [Skipped(job) for block in done for job in block.jobs]


def _block(jobs: Sequence[Job], journal: Record | None) -> Block:
    if journal is None:
        return Block(tuple(jobs))
    sizes = {job: journal.size(job) for job in jobs}
    return Block(tuple(jobs), {job: size for job, size in sizes.items() if size})


class Teller:
    """Tells what workers send: each event of a job once, though its block may be done again where a worker was lost."""

    def __init__(self, journal: Record | None) -> None:
        self._journal = journal
        self._started: set[Job] = set()
        self._ended: set[Job] = set()

    def tell(self, outcomes: Iterable[Outcome]) -> Iterator[Event]:
        """Events that are new. What is filled enters the journal."""
        for outcome in outcomes:
            told = self._started if isinstance(outcome.event, Started) else self._ended
            job = outcome.event.job
            if job in told or job in self._ended:
                continue
            told.add(job)
            yield self._entered(outcome)

    def _entered(self, outcome: Outcome) -> Event:
        if self._journal is not None and outcome.entry is not None:
            try:
                self._journal.add(outcome.event.job, *outcome.entry)
            except LBAMError as error:
                return Failed(outcome.event.job, error)
        return outcome.event


class _Notes:
    """The journal that a worker's ``Filler`` sees; what it adds waits for its event."""

    def __init__(self, done: Mapping[Job, Size]) -> None:
        self._done = done
        self.added: dict[Job, tuple[Size, Sequence[Sequence[object]]]] = {}

    def size(self, job: Job) -> Size | None:
        return self._done.get(job)

    def stamps(self, job: Job) -> list[list[object]]:
        return stamps_of(job)

    def add(self, job: Job, size: Size, inputs: Sequence[Sequence[object]]) -> None:
        self.added[job] = (size, inputs)


def outcomes(filler: Filler, block: Block, *, make_folders: bool, stop: Callable[[], bool]) -> Iterator[Outcome]:
    """Do a block, in the worker; options as for ``Filler.fill``. Nothing is begun after ``stop``."""
    if stop():
        return
    notes = None if block.done is None else _Notes(block.done)
    for event in filler.fill(block.jobs, make_folders=make_folders, stop=stop, journal=notes):
        yield Outcome(event, notes.added.pop(event.job, None) if notes is not None and isinstance(event, Filled) else None)


def given_up(block: Block, why: str) -> Iterator[Outcome]:
    """The end of a block whose worker was lost too often; its jobs that have ended before are not told again."""
    for job in block.jobs:
        yield Outcome(Failed(job, JobError(f"{job.image}: {why}")))
