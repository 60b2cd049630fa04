"""The output folder of a run, held for it alone, and the report beside it."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from lbam_fast.cli.common import BY_SIGNAL, print_warning
from lbam_fast.signals import signal_behind

if TYPE_CHECKING:
    from lbam_fast.batch import Job, Pairs, Report


@contextlib.contextmanager
def held(folder: Path | None, jobs: Sequence[Job]) -> Iterator[None]:
    """Hold the output folder, made if need be, and free of what killed runs, and killed processes of this one, left half written;
    None: nothing to hold.

    A folder that was made and is empty in the end is removed. Raises JobError if another run holds it.
    """
    if folder is None:
        yield
        return
    from lbam_fast.batch import locked, remove_leftovers

    missing = [each for each in (folder, *folder.parents) if not each.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:  # every job says so
        yield
        return
    try:
        with locked(folder):
            folders = {job.output.parent for job in jobs}
            if removed := remove_leftovers(folders):
                print_warning(f"{len(removed)} half-written files of an earlier run were removed from {folder}")
            try:
                yield
            finally:
                remove_leftovers(folders)
    finally:
        for each in missing:
            with contextlib.suppress(OSError):
                each.rmdir()


@contextlib.contextmanager
def reporting(path: Path | None, pairs: Pairs) -> Iterator[Report]:
    """A report of the jobs, written to ``path``, if given, however the block ends. Raises JobError if it cannot be."""
    from lbam_fast.batch import Report

    report = Report(pairs.jobs, pairs.problems)
    ended: str | None = None
    try:
        yield report
    except BaseException as error:
        ended = _in_words(error)
        raise
    finally:
        if path is not None:
            report.write(path, ended)


def _in_words(error: BaseException) -> str:
    if signal_behind(error) is not None:
        return "stopped by a signal"
    if isinstance(error, typer.Exit):
        return f"stopped by {signal.Signals(error.exit_code - BY_SIGNAL).name}"
    return f"{type(error).__name__}: {error}"
