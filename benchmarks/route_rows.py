"""What every route of every call took when it was chosen, as rows of a record: ``python benchmarks/route_rows.py RECORD``."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import machine
import torch
from rows import OK, WRONG, Row, append_rows

from lbam_fast.ops import autotune
from lbam_fast.ops.judge import ROUNDS
from lbam_fast.ops.routes import Routes

SUITE = "routes"


def rows_of(table: Routes) -> Iterator[Row]:
    """One for each route of each call, the refused ones without a figure."""
    for key, seconds in table.seconds.items():
        for name, median in seconds.items():
            extra = {"chosen": table.choices.get(key) == name}
            yield Row(SUITE, key, name, "seconds", OK, median, median, median, ROUNDS, extra=extra)
    for call, reason in table.refused.items():
        key, _, name = call.rpartition(", ")
        yield Row(SUITE, key, name, "seconds", WRONG, note=reason)


def main() -> None:
    """Add what this machine's routes took to a record."""
    record, found = Path(sys.argv[1]), list(rows_of(autotune.remembered()))
    device = "cuda" if torch.cuda.is_available() else "cpu"
    append_rows(record, machine.signed(found, device))
    print(f"{record}: {len(found)} rows of routes")


if __name__ == "__main__":
    main()
