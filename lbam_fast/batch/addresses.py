"""Results that go to an fsspec address, such as s3://bucket/folder, and not to a file that this machine sees."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lbam_fast.batch.errors import JobError
from lbam_fast.batch.events import Event, Failed, Filled
from lbam_fast.batch.jobs import Job

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.:-]+:")


def address_of(path: Path) -> str | None:
    """The address that a path was made of, which drops its second slash; None for a plain path.

    >>> address_of(Path("s3://bucket/filled"))
    's3://bucket/filled'
    """
    first, *others = path.parts or ("",)
    if not _SCHEME.fullmatch(first):
        return None
    return first + ("///" if first in ("file:", "local:") else "//") + "/".join(others)


def file_system(address: str) -> tuple[Any, str]:
    """What fsspec knows there, and the path in it. Raises JobError where that needs a package, or is nothing."""
    from fsspec.core import url_to_fs

    try:
        system, path = url_to_fs(address)
    except (ImportError, ValueError) as error:
        raise JobError(f"{address}: cannot be written to ({error}); expected a path, or an address that fsspec knows") from error
    return system, path


def staged(jobs: Sequence[Job], folder: Path) -> dict[Job, Job]:
    """The jobs, by others that write into that folder where the result of the first goes to an address."""
    found = {}
    for i, job in enumerate(jobs):
        place = job.output
        if address_of(job.output) is not None:
            place = folder / str(i) / job.output.name
            place.parent.mkdir()
        found[dataclasses.replace(job, output=place)] = job
    return found


def delivered(event: Event, job: Job) -> Event:
    """The event of a staged job as that of the job that it stands for; once filled, the result is sent to its address."""
    address = address_of(job.output)
    if address is None:
        return event
    if isinstance(event, Filled):
        try:
            _send(event.job.output, address)
        except Exception as error:  # each file system has errors of its own
            return Failed(job, JobError(f"{address}: cannot be written ({error}); check the address and what you may do there"))
    if isinstance(event, Failed):
        said = str(event.error).replace(str(event.job.output), address)
        return Failed(job, type(event.error)(said))
    return dataclasses.replace(event, job=job)


def _send(file: Path, address: str) -> None:
    """Move the file there, whole or not at all where the file system has a way to do that."""
    system, path = file_system(address)
    system.makedirs(path.rpartition("/")[0], exist_ok=True)
    with system.transaction, system.open(path, "wb") as target:
        target.write(file.read_bytes())
    file.unlink()
