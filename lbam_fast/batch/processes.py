"""Several devices of one machine: a process for each, which does one block of jobs after the other."""

from __future__ import annotations

import contextlib
import multiprocessing
import pickle
import signal
import traceback
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

import torch

from lbam_fast.batch.blocks import TRIES, Block, Outcome, Teller, blocks_of, given_up, outcomes
from lbam_fast.batch.errors import JobError
from lbam_fast.batch.events import Event
from lbam_fast.batch.jobs import Job
from lbam_fast.batch.journal import Record
from lbam_fast.batch.recipes import Recipe
from lbam_fast.batch.stages import default_threads
from lbam_fast.errors import LBAMError

SECONDS = 0.2
"""Between two questions whether to stop."""


def devices_of(name: str) -> list[str]:
    """The devices that a name means: "cuda:0,cuda:1" both of them, "auto" all GPUs of this machine, or the CPU without any."""
    if name == "auto":
        return [f"cuda:{i}" for i in range(torch.cuda.device_count())] or ["cpu"]
    return [each.strip() for each in name.split(",")]


def fill_on(
    devices: Sequence[str],
    recipe: Recipe,
    jobs: Sequence[Job],
    *,
    make_folders: bool = False,
    stop: Callable[[], bool] = lambda: False,
    journal: Record | None = None,
) -> Iterator[Event]:
    """Do the jobs with a process for each device; events and results are those of ``Filler.fill``, to the bit.

    Jobs end in any order. A process that is lost is started again, and its block with it; a block that loses three is given up,
    and its jobs fail. A device may be named twice. As processes are started anew, a script needs its
    ``if __name__ == "__main__":``. Raises ConfigError for a device that cannot be used.
    """
    if not devices:
        raise JobError("no device was given: expected at least one, such as cpu or cuda:0")
    blocks, skipped = blocks_of(jobs, len(devices), recipe.max_memory, journal)
    yield from skipped
    teller, waiting = Teller(journal), deque(_Try(block) for block in blocks)
    devices = devices[: len(blocks)]
    threads, file_threads = (
        max(1, all_of_them // max(1, len(devices))) for all_of_them in (torch.get_num_threads(), default_threads())
    )
    share = _Share(pickle.dumps(recipe), threads, file_threads, make_folders)
    workers = [_Worker(device, share) for device in devices]
    try:
        while waiting or any(worker.busy_with for worker in workers):
            if stop():
                waiting.clear()
                for worker in workers:
                    worker.stop()
            for worker in workers:
                if waiting and worker.busy_with is None:
                    worker.begin(waiting.popleft())
            busy = {worker.connection: worker for worker in workers if worker.busy_with is not None}
            for connection in wait(list(busy), SECONDS):
                worker = busy[connection]  # type: ignore[index]
                told, again = worker.receive(teller)
                yield from told
                waiting.extendleft(again)
    finally:
        for worker in workers:
            worker.close()


@dataclass
class _Try:
    """A block, and how often it was begun."""

    block: Block
    times: int = 0


@dataclass(frozen=True)
class _Share:
    """What every process is given: a pickled recipe; threads to compute, and threads to read and to write."""

    recipe: bytes
    threads: int
    file_threads: int
    make_folders: bool


class _Worker:
    """A process, seen from the one that it works for."""

    def __init__(self, device: str, share: _Share) -> None:
        self._device, self._share = device, share
        self._stopped = False
        self.busy_with: _Try | None = None
        self._start()

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        name = f"lbam-{self._device}"
        self._process: BaseProcess = context.Process(
            target=_work, args=(theirs, self._device, self._share), name=name, daemon=True
        )
        self._process.start()
        theirs.close()

    def begin(self, tried: _Try) -> None:
        self.busy_with = tried
        tried.times += 1
        with contextlib.suppress(OSError):  # if it is lost, the next ``receive`` finds it so
            self.connection.send(tried.block)

    def stop(self) -> None:
        """Finish what is at hand; may be called again."""
        if not self._stopped:
            self._stopped = True
            with contextlib.suppress(OSError):
                self.connection.send(None)

    def receive(self, teller: Teller) -> tuple[list[Event], list[_Try]]:
        """Events of one message, and what is to be begun again. Raises what a worker cannot work for."""
        assert self.busy_with is not None
        try:
            message = self.connection.recv()
        except (EOFError, OSError):
            return self._lost(teller)
        if isinstance(message, Outcome):
            return list(teller.tell([message])), []
        if isinstance(message, BaseException):
            raise message
        self.busy_with = None
        return [], []

    def close(self) -> None:
        self.connection.close()
        self._process.join()

    def _lost(self, teller: Teller) -> tuple[list[Event], list[_Try]]:
        tried, self.busy_with = self.busy_with, None
        assert tried is not None
        self.close()
        ended = self._process.exitcode
        if self._stopped:
            return [], []
        self._start()
        if tried.times < TRIES:
            return [], [tried]
        why = f"the process that had it ended {TRIES} times (exit code {ended}); is there enough memory?"
        return list(teller.tell(given_up(tried.block, why))), []


def _work(connection: Connection, device: str, share: _Share) -> None:
    """A process's life: blocks in, outcomes out and None after each block's; until None comes in, or nobody is there."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes; the first one says what it means
    try:
        if device.startswith("cuda:"):
            torch.cuda.set_device(device)
        torch.set_num_threads(share.threads)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the recipe has warned where it was made
            filler = pickle.loads(share.recipe).filler(device, share.file_threads)
        while (block := connection.recv()) is not None:
            for outcome in outcomes(filler, block, make_folders=share.make_folders, stop=connection.poll):
                connection.send(outcome)
            connection.send(None)
    except (EOFError, ConnectionError):
        return
    except LBAMError as error:
        connection.send(error)
    except Exception:
        connection.send(RuntimeError(traceback.format_exc()))
