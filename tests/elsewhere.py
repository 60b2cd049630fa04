"""A Ray cluster that a process of its own joins.

Who has joined one is not safe afterwards: whatever still asks the cluster ends the process after a minute, without a word, and of
a fault of the processor none is said any more either.
"""

import contextlib
import os
import signal
import traceback
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection

import forked
from typer.testing import CliRunner

from lbam_fast.batch import Event, Job, Journal, Recipe


@contextlib.contextmanager
def cluster(workers: int) -> Iterator[Callable]:
    """Of this machine. Gives what calls a function there, with the ``Cluster`` and what else it is given."""
    context = forked.context("elsewhere")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, workers), daemon=True)
    process.start()
    theirs.close()

    def call(function: Callable, *given: object, **named: object) -> object:
        ours.send((function, given, named))
        result, error = ours.recv()
        assert error is None, error
        return result

    try:
        assert ours.recv() == "joined"
        yield call
    finally:
        ours.close()
        process.join()
    assert process.exitcode == 0, "Ray took back handlers of signals that are not its own"


def _serve(connection: Connection, workers: int) -> None:
    from lbam_fast.batch.ray import connected

    received: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: received.append(number))
    os.environ["PYTHONPATH"] = os.path.dirname(__file__)  # where workers find the deadly recipe
    with connected("local", workers=workers) as cluster, contextlib.suppress(EOFError):
        connection.send("joined")
        while True:
            function, given, named = connection.recv()
            try:
                connection.send((function(cluster, *given, **named), None))
            except Exception:
                connection.send((None, traceback.format_exc()))
    os.kill(os.getpid(), signal.SIGTERM)
    assert received


def fill(cluster, recipe: Recipe, jobs: list[Job], **options: object) -> list[Event]:
    return told(cluster.fill, recipe, jobs, **options)


def told(fill: Callable, recipe: Recipe, jobs: list[Job], *, journal=None, stopped=False, **options: object) -> list[Event]:
    """The events of that ``Filler.fill``, with a journal in that folder if one is given, and stopped from the start or not."""
    with Journal(journal, "x") if journal else contextlib.nullcontext() as record:
        return list(fill(recipe, jobs, journal=record, stop=lambda: stopped, **options))


def command(_, *arguments: str) -> tuple[int, str, str]:
    """The exit code of ``lbam-fast`` with these arguments, and what it prints."""
    from lbam_fast.cli import app

    done = CliRunner().invoke(app, arguments)
    return done.exit_code, done.stdout, done.stderr
