"""What became of every job, as a file of JSON."""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from lbam_fast.batch.errors import JobError
from lbam_fast.batch.events import Event, Failed, Filled, Skipped, Started
from lbam_fast.batch.jobs import Job
from lbam_fast.files import replace_file

STATUSES = ("filled", "skipped", "failed", "unfinished")
LIBRARIES = ("torch", "numpy", "pillow", "opencv-python-headless")


class Report:
    """Collects events; ``write`` may be called at any time, what has no end by then is "unfinished"."""

    def __init__(self, jobs: Sequence[Job], problems: Sequence[str] = ()) -> None:
        """jobs: all that are to be done. problems: sentences on pictures for which there is no job."""
        self._facts: dict[str, object] = {}
        self._problems = list(problems)
        self._files = {job: _entry(job) for job in jobs}
        self._begun = datetime.now(UTC)
        self._start = time.perf_counter()

    def tell(self, **facts: object) -> None:
        """What the report shall say beside the files, such as device and dtype; values that JSON knows."""
        self._facts |= facts

    def add(self, event: Event) -> None:
        entry = self._files.setdefault(event.job, _entry(event.job))
        match event:
            case Started(_, warnings, notes, size, hole, strategy):
                entry |= {"width": size[0], "height": size[1], "hole": round(hole, 6), "strategy": strategy}
                entry["sentences"] += [*warnings, *notes]
            case Filled(_, notes, times):
                entry |= {"status": "filled", "seconds": _seconds(times.reading, times.filling, times.writing)}
                entry |= {"bytes_read": _size(event.job.image), "bytes_written": _size(event.job.output)}
                entry["sentences"] += notes
            case Skipped():
                entry["status"] = "skipped"
            case Failed(_, error):
                entry |= {"status": "failed", "error": str(error), "error_kind": type(error).__name__}

    def write(self, path: Path, ended_by: str | None = None) -> None:
        """ended_by: what ended the run before its end. Raises JobError."""
        files = list(self._files.values())
        seconds = time.perf_counter() - self._start
        counts = {status: sum(file["status"] == status for file in files) for status in STATUSES}
        report = {
            "begun": self._begun.isoformat(timespec="seconds"),
            "ended_by": ended_by,
            **self._facts,
            "versions": _versions(),
            "totals": {
                **counts,
                "seconds": round(seconds, 3),
                "pictures_per_second": round(counts["filled"] / seconds, 3) if seconds else None,
                "megapixels": round(sum(f["width"] * f["height"] for f in files if f["status"] == "filled") / 1e6, 3),
            },
            "problems": self._problems,
            "files": files,
        }
        try:
            replace_file(path, (json.dumps(report, indent=1) + "\n").encode())
        except OSError as error:
            raise JobError(f"{path}: the report cannot be written ({error}); check the folder and the disk") from error


def _entry(job: Job) -> dict[str, Any]:
    names = {"image": str(job.image), "mask": str(job.mask) if job.mask else None, "output": str(job.output)}
    return {**names, "status": "unfinished", "sentences": []}


def _seconds(reading: float, filling: float, writing: float) -> dict[str, float]:
    return {"reading": round(reading, 4), "filling": round(filling, 4), "writing": round(writing, 4)}


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None


def _versions() -> dict[str, str]:
    from lbam_fast import __version__

    found = {"lbam_fast": __version__, "python": platform.python_version(), "platform": platform.platform()}
    for name in LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
