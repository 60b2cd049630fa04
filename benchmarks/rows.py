"""Measured figures as lines of JSON: one row a figure, with everything needed to judge it."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lbam_fast.errors import LBAMError

OK, WRONG, ABSENT, FAILED = "ok", "wrong", "absent", "failed"


class RecordError(LBAMError, ValueError):
    """A file of records that cannot be read; the message names the file and the line."""


@dataclass(frozen=True)
class Row:
    """One figure of one method in one case.

    suite     what was measured: "inference", "latency", "training", "layers", "memory", "limits", "routes"
    case      the work in words that are the same in every record, e.g. "256x256 batch 1 fresh mask"; rows of one case compare
    method    who did it: "lbam_fast" or a peer, e.g. "published form"; with its dtype where that differs: "OpenVINO bf16"
    metric    "seconds", "bytes", "bytes_per_second", "flop_per_second" or "joules_per_image"
    status    "ok"; "wrong" (missed its error budget: no figure); "absent" (not installed, or no such device); "failed"
    median, q1, q3, rounds   of the figure over interleaved rounds; None where the status is not "ok"
    ratio     quartiles of this figure's ratio per round to the case's baseline: {"to": method, "median", "q1", "q3"};
              above 1 is faster, or smaller, than the baseline
    params    height, width, batch, dtype, device, preset, layout, mask, as far as they apply
    error     against float64: {"max": largest absolute error, "psnr": dB}, where it was checked
    extra     what else is known of this figure, e.g. flop, least bytes, fraction of the floor, clocks
    note      a sentence: why it is absent, wrong or failed
    machine   device, processor, driver, threads
    versions  of Python and the libraries in play
    commit, date   of the code, with "-dirty" where the tree had changes; the day of the measurement (ISO)
    """

    suite: str
    case: str
    method: str
    metric: str
    status: str = OK
    median: float | None = None
    q1: float | None = None
    q3: float | None = None
    rounds: int = 0
    ratio: dict[str, Any] | None = None
    params: dict[str, Any] = field(default_factory=dict)
    error: dict[str, float] | None = None
    extra: dict[str, Any] = field(default_factory=dict)
    note: str = ""
    machine: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    commit: str = ""
    date: str = ""


def append_rows(path: Path, rows: Iterable[Row]) -> None:
    """Add rows to the end of a file of records, making it and its folder if need be."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.writelines(json.dumps(dataclasses.asdict(row)) + "\n" for row in rows)


def read_rows(path: Path) -> list[Row]:
    """All rows of a file of records. Raises RecordError for a missing file or a line that is no row."""
    if not path.is_file():
        raise RecordError(f"no records at {path}")
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), start=1):
        try:
            rows.append(Row(**json.loads(line)))
        except (TypeError, ValueError) as error:
            raise RecordError(f"{path}, line {number} is not a row of records: {error}") from error
    return rows
