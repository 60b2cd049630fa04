"""Jobs on many machines, with Ray Data: actors hold the network, blocks of jobs go to them, what happened comes back.

>>> pairs = pair_folder(Path("/shared/photos"), Path("/shared/masks"), Path("/shared/filled"))
>>> for event in inpaint_dataset(pairs.jobs, Recipe.from_pretrained(), address="auto", make_folders=True):
...     print(event)
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import pickle
import platform
import shutil
import signal
import socket
import sys
import tempfile
import threading
import uuid
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import lbam_fast
from lbam_fast.batch.addresses import address_of, delivered, file_system, staged
from lbam_fast.batch.blocks import TRIES, Block, Outcome, Teller, blocks_of, given_up, outcomes
from lbam_fast.batch.board import Board
from lbam_fast.batch.errors import JobError
from lbam_fast.batch.events import Event, Failed
from lbam_fast.batch.jobs import Job
from lbam_fast.batch.journal import Record
from lbam_fast.batch.recipes import Recipe
from lbam_fast.batch.writing import make_folder
from lbam_fast.errors import LBAMError

SECONDS = 0.2
"""Between two questions whether to stop."""
REACH = 10
"""Seconds that a cluster may take to answer."""
_LOST = f"the workers that had it were lost {TRIES} times; is there enough memory?"
STORE = 1 << 30
"""Bytes of shared memory that a Ray of our own may take: for a network, most of all; jobs and events are small."""


def inpaint_dataset(
    jobs: Sequence[Job],
    recipe: Recipe,
    *,
    address: str | None = None,
    workers: int | None = None,
    device: str = "auto",
    make_folders: bool = False,
    stop: Callable[[], bool] = lambda: False,
    journal: Record | None = None,
) -> Iterator[Event]:
    """Do the jobs on the machines of a Ray cluster; events and results are those of ``Filler.fill``, to the bit.

    Every machine needs this package, in one version, and the jobs' files under the same paths. Outputs may also be addresses
    that fsspec knows (``Path("s3://bucket/cat.png")``). Jobs end in any order; a block of jobs is told of when all of it is done.
    A worker that is lost is started again, and its block with it; a block that loses three is given up, and its jobs fail.

    address: that of a cluster, as for ``ray.init``; None: that in RAY_ADDRESS, or a Ray of this machine's own, which is stopped
    in the end. A Ray that the caller has started is used as it is.
    workers: by default one for each GPU, or where there are none one for each machine, with a fair share of its cores.
    device: "cuda", "cpu", or "auto" for GPUs where the cluster has any.
    stop: asked five times a second, from another thread; what is at hand is finished.
    Raises JobError where Ray is missing or cannot be reached, and where its workers cannot start.
    """
    with connected(address, workers=workers, device=device) as cluster:
        yield from cluster.fill(recipe, jobs, make_folders=make_folders, stop=stop, journal=journal)


@contextlib.contextmanager
def connected(address: str | None = None, *, workers: int | None = None, device: str = "auto") -> Iterator[Cluster]:
    """The workers of a Ray cluster, for several calls of ``fill``; as for ``inpaint_dataset``. Raises JobError."""
    if workers is not None and workers < 1:
        raise JobError(f"workers is {workers}, expected at least 1")
    if device not in ("auto", "cpu", "cuda"):
        raise JobError(f"the device is {device!r}, expected auto, cpu or cuda: Ray says which GPU a worker gets")
    ray = _imported()
    with _session(ray, address):
        machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        yield Cluster(ray, places_of(machines, workers, device))


class Cluster:
    """Machines that Ray joins. places: where workers go on them."""

    def __init__(self, ray: Any, places: Places) -> None:
        self._ray, self.places = ray, places

    def fill(
        self,
        recipe: Recipe,
        jobs: Sequence[Job],
        *,
        make_folders: bool = False,
        stop: Callable[[], bool] = lambda: False,
        journal: Record | None = None,
    ) -> Iterator[Event]:
        """As ``inpaint_dataset``."""
        _check_addresses(jobs, journal)
        teller, (blocks, skipped) = Teller(journal), blocks_of(jobs, self.places.workers, recipe.max_memory, journal)
        yield from skipped
        if not blocks:
            return
        with _marked(jobs, make_folders) as marks, _board(self._ray, stop) as board:
            share = _Share(self._ray.put(pickle.dumps(recipe)), board, self.places, marks, make_folders, os.getcwd())
            try:
                for row in _rows(self._ray, blocks, share):
                    yield from teller.tell(pickle.loads(row["outcomes"]))
            except self._ray.exceptions.RayError as error:
                raise _told(error) from error


@dataclass(frozen=True)
class Places:
    """How many workers, and what each gets: cores, and GPUs (none or 1)."""

    workers: int
    cores: float
    gpus: int

    @property
    def device(self) -> str:
        return "cuda" if self.gpus else "cpu"

    @property
    def threads(self) -> int:
        return max(1, int(self.cores))


@dataclass(frozen=True)
class _Marks:
    """The name of an empty file in each output folder, by which a worker knows it; folders that could not be given one."""

    name: str
    without: frozenset[Path]


@dataclass(frozen=True)
class _Share:
    """What every worker is given. recipe and board: references of Ray; folder: where relative paths begin."""

    recipe: Any
    board: Any
    places: Places
    marks: _Marks
    make_folders: bool
    folder: str


class _Worker:
    """An actor with a network: rows with a block in, rows with its outcomes out, both pickled."""

    def __init__(self, share: _Share) -> None:
        import torch

        self._ray, self._share = _imported(), share
        with contextlib.suppress(OSError):  # a machine may lack it, where all paths are absolute
            os.chdir(share.folder)
        torch.set_num_threads(share.places.threads)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the recipe has warned where it was made
            recipe: Recipe = pickle.loads(self._ray.get(share.recipe))
            self._filler = recipe.filler(share.places.device, max(1, min(8, share.places.threads // 2)))

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        block: Block = pickle.loads(row["block"])
        begun = self._ray.get(self._share.board.begin.remote(row["number"]))
        found = given_up(block, _LOST) if begun > TRIES else self._outcomes(block)
        return {"outcomes": pickle.dumps(list(found))}

    def _outcomes(self, block: Block) -> Iterator[Outcome]:
        apart = [job for job in block.jobs if not self._sees(job)]
        for job in apart:
            why = f"{job.output.parent}: another folder on {platform.node()} than here; name one that all machines share"
            yield Outcome(Failed(job, JobError(why)))
        with tempfile.TemporaryDirectory(prefix="lbam-") as folder:
            jobs = staged([job for job in block.jobs if job not in apart], Path(folder))
            block = dataclasses.replace(block, jobs=tuple(jobs))
            for outcome in outcomes(self._filler, block, make_folders=self._share.make_folders, stop=self._is_stopped):
                yield dataclasses.replace(outcome, event=delivered(outcome.event, jobs[outcome.event.job]))

    def _sees(self, job: Job) -> bool:
        folder, marks = job.output.parent, self._share.marks
        return folder in marks.without or address_of(job.output) is not None or (folder / marks.name).exists()

    def _is_stopped(self) -> bool:
        return bool(self._ray.get(self._share.board.is_stopped.remote()))


def places_of(machines: Sequence[Mapping[str, float]], workers: int | None, device: str) -> Places:
    """Where workers go on machines of those resources, of which "CPU" and "GPU" count. Raises JobError without such a device."""
    with_gpus = [machine for machine in machines if machine.get("GPU", 0) >= 1]
    if device == "cuda" and not with_gpus:
        raise JobError("--device cuda: no machine of the Ray cluster has a GPU; use auto or cpu")
    if with_gpus and device != "cpu":
        cores = min(machine.get("CPU", 0) // machine["GPU"] for machine in with_gpus)
        return Places(workers or int(sum(machine["GPU"] for machine in with_gpus)), cores, 1)
    with_cores = [machine["CPU"] for machine in machines if machine.get("CPU", 0) >= 1]
    if not with_cores:
        raise JobError("no machine of the Ray cluster has a core to work with")
    count = workers or len(with_cores)
    cores = min(with_cores) / -(-count // len(with_cores))
    return Places(count, float(int(cores)) or cores, 0)


def _check_addresses(jobs: Sequence[Job], journal: Record | None) -> None:
    addresses = {address for job in jobs if (address := address_of(job.output.parent)) is not None}
    if addresses and journal is not None:
        raise JobError(f"{min(addresses)}: a journal goes with results in a folder, not with an address")
    for address in addresses:
        file_system(address)


def _imported() -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import_module("ray.data")
    except ImportError as error:
        raise JobError(f"many machines need Ray: pip install 'lbam-fast[ray]' ({error})") from error
    return import_module("ray")


@contextlib.contextmanager
def _session(ray: Any, address: str | None) -> Iterator[None]:
    """A connection to that cluster, or a Ray of our own that is gone in the end with its files."""
    if ray.is_initialized():
        yield
        return
    address = address or os.environ.get("RAY_ADDRESS") or "local"
    with contextlib.ExitStack() as stack:
        options: dict[str, Any] = {}
        if address == "local":
            folder = tempfile.mkdtemp(prefix="lbam-ray-")
            stack.callback(shutil.rmtree, folder, ignore_errors=True)
            options = {"_temp_dir": folder, "object_store_memory": STORE, "include_dashboard": False}
        stack.callback(_shut_down, ray)
        try:
            # Workers look for modules first where this process is: let that be where it has this package from.
            with _own_signals(), _no_words(), contextlib.chdir(Path(lbam_fast.__file__).parent.parent):
                _check_reach(address)
                ray.init(address=address, logging_level=logging.ERROR, log_to_driver=False, **options)
        except (OSError, RuntimeError, ValueError) as error:
            raise JobError(f"Ray at {address!r} cannot be reached or started: {error}") from error
        yield


def _shut_down(ray: Any) -> None:
    """Ray takes handlers of signals back that are not its own."""
    with _own_signals():
        ray.shutdown()


def _check_reach(address: str) -> None:
    """Raises OSError where nobody answers, for which Ray itself waits many minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdigit():
        with socket.create_connection((host.strip("[]"), int(port)), timeout=REACH):
            pass


@contextlib.contextmanager
def _own_signals() -> Iterator[None]:
    """Ctrl-C and SIGTERM mean after the block what they meant before it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _no_words() -> Iterator[None]:
    """Ray's core, which begins here, tells its log of nothing that does not come as an error too; nor does it tell stderr so."""
    if "RAY_BACKEND_LOG_LEVEL" in os.environ:
        yield
        return
    os.environ["RAY_BACKEND_LOG_LEVEL"] = "fatal"
    sys.stderr.flush()
    kept, nothing = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 2)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nothing)
        del os.environ["RAY_BACKEND_LOG_LEVEL"]


@contextlib.contextmanager
def _marked(jobs: Sequence[Job], make_folders: bool) -> Iterator[_Marks]:
    """A mark in every output folder, made if need be."""
    name = f".{uuid.uuid4().hex}"
    folders = {job.output.parent for job in jobs if address_of(job.output) is None}
    without = set()
    for folder in folders:
        try:
            if make_folders:
                make_folder(folder)
            (folder / name).touch()
        except (LBAMError, OSError):  # the jobs say so
            without.add(folder)
    try:
        yield _Marks(name, frozenset(without))
    finally:
        for folder in folders - without:
            (folder / name).unlink(missing_ok=True)


@contextlib.contextmanager
def _board(ray: Any, stop: Callable[[], bool]) -> Iterator[Any]:
    """A board, told by a thread when to stop."""
    board = ray.remote(num_cpus=0)(Board).remote()
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(SECONDS):
            if stop():
                board.stop.remote()
                return

    thread = threading.Thread(target=watch, name="lbam-stop", daemon=True)
    thread.start()
    try:
        yield board
    finally:
        ended.set()
        thread.join()
        ray.kill(board)


def _rows(ray: Any, blocks: Sequence[Block], share: _Share) -> Iterator[dict[str, Any]]:
    """A row of outcomes for each block that comes to an end, as it does; without a word on the console."""
    data, places = ray.data, share.places
    strategy = data.ActorPoolStrategy(size=min(places.workers, len(blocks)), max_tasks_in_flight_per_actor=2)
    resources = {"num_cpus": places.cores, "num_gpus": places.gpus}
    with _silent(data):
        items = [{"number": number, "block": pickle.dumps(block)} for number, block in enumerate(blocks)]
        dataset = data.from_items(items, override_num_blocks=len(items))
        yield from dataset.map(_Worker, fn_constructor_args=(share,), compute=strategy, **resources).iter_rows()


@contextlib.contextmanager
def _silent(data: Any) -> Iterator[None]:
    """Ray Data without progress bars and logs on the console, for this time."""
    logger = logging.getLogger("ray.data")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of one part of Ray about another
        context = data.DataContext.get_current()
        before = context.enable_progress_bars, context.print_on_execution_start, logger.level
        context.enable_progress_bars = context.print_on_execution_start = False
        logger.setLevel(logging.CRITICAL + 1)
        try:
            yield
        finally:
            context.enable_progress_bars, context.print_on_execution_start, level = before
            logger.setLevel(level)


def _told(error: BaseException) -> LBAMError:
    """What a worker raised if that speaks to users, else what Ray says."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, LBAMError):
            return cause
        cause = getattr(cause, "cause", None) or cause.__cause__
    return JobError(f"Ray gave up: {str(error).strip().splitlines()[-1]}")
