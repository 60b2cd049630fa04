"""What is done in an output folder, so that a run that ended early can go on: one line of JSON for every finished file."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from lbam_fast.batch.errors import JobError
from lbam_fast.batch.jobs import Job

NAME = ".lbam-fast.jsonl"


def fingerprint(options: Mapping[str, object]) -> str:
    """A short name for options, the same for the same ones; files among them count with their bytes. Raises JobError."""
    described = {name: _bytes_of(value) if isinstance(value, Path) else str(value) for name, value in options.items()}
    return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()[:16]


class Record(Protocol):
    """What a ``Filler`` asks of a journal, on any thread, and tells it."""

    def size(self, job: Job) -> tuple[int, int] | None: ...

    def stamps(self, job: Job) -> list[list[object]]: ...

    def add(self, job: Job, size: tuple[int, int], inputs: Sequence[Sequence[object]]) -> None: ...


class Journal:
    """Lines that are only ever appended, each when its file is complete: killing the process loses none.

    A job is done if a line names its output with the inputs as they are now (size and time of change), the same options, and a
    result that is still as it was written. Safe under threads.
    """

    def __init__(self, folder: Path, options: str) -> None:
        """folder: that of the outputs, which must exist. options: their ``fingerprint``. Raises JobError."""
        self._folder, self._options = folder.resolve(), options
        self._path = folder / NAME
        self._lock = threading.Lock()
        self._lines = self._read()
        try:
            self._file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o644)
        except OSError as error:
            raise self._unwritable(error) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        os.close(self._file)

    def size(self, job: Job) -> tuple[int, int] | None:
        """Width and height of the picture if the job is done, else None."""
        line = self._lines.get(self._name(job.output))
        if line is None or line.get("options") != self._options:
            return None
        try:
            same = line["inputs"] == _stamps(job) and line["outputs"] == self._outputs(job)
            width, height = line["size"]
            return (int(width), int(height)) if same else None
        except (OSError, KeyError, TypeError, ValueError):
            return None

    def stamps(self, job: Job) -> list[list[object]]:
        """What the job's inputs are known by; to be taken before they are read."""
        return stamps_of(job)

    def add(self, job: Job, size: tuple[int, int], inputs: Sequence[Sequence[object]]) -> None:
        """The job is done: its files are complete. Raises JobError."""
        try:
            line = {"output": self._name(job.output), "size": size, "options": self._options}
            line |= {"inputs": inputs, "outputs": self._outputs(job)}
            content = b"\n" + json.dumps(line).encode() + b"\n"  # a line that was cut short stays one of its own
            with self._lock:
                if os.write(self._file, content) != len(content):
                    raise OSError("it was cut short")
        except OSError as error:
            raise self._unwritable(error) from error

    def _read(self) -> dict[str, dict[str, Any]]:
        try:
            text = self._path.read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise JobError(f"{self._path}: this journal cannot be read ({error}); remove it to do all again") from error
        lines = {}
        for each in text.splitlines():
            try:
                line = json.loads(each)
                lines[line["output"]] = line
            except (ValueError, KeyError, TypeError):  # empty, or cut short
                continue
        return lines

    def _name(self, output: Path) -> str:
        return Path(os.path.relpath(output.resolve(), self._folder)).as_posix()

    def _outputs(self, job: Job) -> list[list[int]]:
        found = [os.stat(path) for path in (job.output, job.comparison) if path is not None]
        return [[each.st_size, each.st_mtime_ns] for each in found]

    def _unwritable(self, error: OSError) -> JobError:
        return JobError(f"{self._path}: the journal cannot be written ({error}); check the disk, or leave --resume out")


def stamps_of(job: Job) -> list[list[object]]:
    """What the job's inputs are known by; nothing if they are missing."""
    try:
        return _stamps(job)
    except OSError:
        return []


def _stamps(job: Job) -> list[list[object]]:
    found = [(path, os.stat(path)) for path in (job.image, job.mask) if path is not None]
    return [[str(path.resolve()), each.st_size, each.st_mtime_ns] for path, each in found]


def _bytes_of(path: Path) -> str:
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise JobError(f"{path}: cannot be read ({error})") from error
