"""Results kept in a folder, so that a run that ended early, or one with further methods, computes only what is new."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from lbam_fast.evaluation.cases import Case
from lbam_fast.evaluation.judging import Result, Task, kept_path
from lbam_fast.files import replace_file

NAME = ".evaluation.jsonl"


class Store:
    """A line of JSON for every result, appended when it is there.

    Errors are kept for this run alone, so that the next tries again. A result counts for a
    case and a method only while both are what they were, and so are the metrics.
    """

    def __init__(self, folder: Path, methods: dict[str, str], metrics: Sequence[str]) -> None:
        """folder: exists. methods: what each is known by (its weights' checksum, for instance). Raises OSError."""
        self._path = folder / NAME
        self._methods = methods
        self._metrics = list(metrics)
        self._lines = {(line["case"], line["method"]): line for line in self._read()}

    def missing(self, case: Case, keep: Path | None = None) -> tuple[str, ...]:
        """The methods without a result for the case, or, where ``keep`` is a folder, without the picture that they made there."""
        return tuple(
            name
            for name in self._methods
            if self._lines.get((case.name, name), {}).get("key") != self._key(case, name)
            or (keep is not None and not kept_path(keep, case.name, name).is_file())
        )

    def add(self, task: Task, results: Iterable[Result]) -> None:
        """Keep the results of a task. Raises OSError."""
        lines = [dataclasses.asdict(result) | {"key": self._key(task.case, result.method)} for result in results]
        with open(self._path, "ab") as file:
            file.write(b"".join(b"\n" + _encoded(line) for line in lines if not line["error"]))
            file.flush()
            os.fsync(file.fileno())
        self._lines |= {(line["case"], line["method"]): line for line in lines}

    def results(self, cases: Sequence[Case]) -> list[Result]:
        """Those of the cases, in their order, by every method."""
        fields = [field.name for field in dataclasses.fields(Result)]
        return [
            Result(**{name: line[name] for name in fields})
            for case in cases
            for method in self._methods
            if (line := self._lines.get((case.name, method)))
        ]

    def tidy(self) -> None:
        """Write the lines in the order of their names, whatever the order that they came in. Raises OSError."""
        lines = [_encoded(self._lines[name]) for name in sorted(self._lines) if not self._lines[name]["error"]]
        replace_file(self._path, b"\n".join(lines) + b"\n")

    def _key(self, case: Case, method: str) -> str:
        described = json.dumps([case.key(), self._methods[method], self._metrics])
        return hashlib.sha256(described.encode()).hexdigest()[:16]

    def _read(self) -> Iterator[dict[str, Any]]:
        if not self._path.exists():
            return
        for text in self._path.read_bytes().splitlines():
            try:
                line = json.loads(text)
                if isinstance(line, dict) and {"case", "method", "key"} <= line.keys():
                    yield line
            except ValueError:  # cut short when a run was killed
                continue


def _encoded(line: dict[str, Any]) -> bytes:
    return json.dumps(line, sort_keys=True).encode()
