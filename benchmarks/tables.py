"""Figures as tables for the terminal, and the comparison of two records."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rich.table import Table
from rows import OK, Row

UNITS = {
    "seconds": ("ms", 1e3),
    "bytes": ("MB", 1e-6),
    "bytes_per_second": ("GB/s", 1e-9),
    "flop_per_second": ("GFLOP/s", 1e-9),
}
HIGHER_IS_BETTER = {"bytes_per_second", "flop_per_second"}


def case_tables(rows: Iterable[Row]) -> list[Table]:
    """A table for each suite's case: every method with its figure, or the reason that it has none."""
    groups: dict[tuple[str, str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.suite, row.case, row.metric), []).append(row)
    return [_case_table(f"{suite}: {case}", UNITS[metric][0], group) for (suite, case, metric), group in groups.items()]


def _case_table(title: str, unit: str, rows: list[Row]) -> Table:
    table = Table(title=title, title_justify="left")
    table.add_column("method")
    for heading in (unit, "quartiles", "ratio", "of floor", "max error", "dB"):
        table.add_column(heading, justify="right")
    table.add_column("status")
    for row in rows:
        error = (f"{row.error['max']:.1e}", f"{row.error['psnr']:.1f}") if row.error else ("", "")
        status = row.status + (f": {row.note}" if row.note else "")
        table.add_row(row.method, *_figure(row), *error, status)
    return table


def _figure(row: Row) -> tuple[str, str, str, str]:
    if row.median is None or row.q1 is None or row.q3 is None:
        return "", "", "", ""
    scale = UNITS[row.metric][1]
    share = row.extra.get("fraction_of_floor")
    return (
        _number(row.median * scale),
        f"{_number(row.q1 * scale)} - {_number(row.q3 * scale)}",
        f"{row.ratio['median']:.2f}" if row.ratio else "",
        "" if share is None else f"{share:.0%}",
    )


def _number(value: float) -> str:
    return f"{value:.0f}" if value >= 1000 else f"{value:.3g}"


@dataclass(frozen=True)
class Change:
    """A figure then and now. ``factor`` is now over then; ``beyond`` whether their quartiles lie wholly apart."""

    then: Row
    now: Row
    factor: float
    beyond: bool

    @property
    def worse(self) -> bool:
        return (self.factor < 1) == (self.now.metric in HIGHER_IS_BETTER)

    @property
    def words(self) -> str:
        if not self.beyond:
            return "within the spread"
        better = {"bytes": ("more", "less")}.get(self.now.metric, ("slower", "faster"))
        return better[0 if self.worse else 1]


def compare(then: Sequence[Row], now: Sequence[Row]) -> list[Change]:
    """What both have, the newest of ``then`` for each. Figures of another device or number of threads do not compare."""
    before = {_identity(row): row for row in then if row.status == OK}
    changes = []
    for row in now:
        old = before.get(_identity(row))
        if old is None or row.status != OK or old.median is None or row.median is None:
            continue
        assert None not in (old.q1, old.q3, row.q1, row.q3)
        beyond = bool(row.q1 > old.q3 or row.q3 < old.q1)  # type: ignore[operator]
        changes.append(Change(old, row, row.median / old.median, beyond))
    return changes


def _identity(row: Row) -> tuple[str, ...]:
    where = (str(row.machine.get(name, "")) for name in ("device", "processor", "threads"))
    return row.suite, row.case, row.method, row.metric, str(row.params.get("device", "")), *where


def comparison_table(changes: Sequence[Change], source: str) -> Table:
    """The changes, the worst first, then those within the spread."""
    table = Table(title=f"against {source}", title_justify="left")
    for heading in ("suite", "case", "method"):
        table.add_column(heading)
    for heading in ("then", "now", "now / then"):
        table.add_column(heading, justify="right")
    table.add_column("verdict")
    ordered = sorted(changes, key=lambda c: (not c.beyond, not c.worse, -abs(c.factor - 1)))
    for change in ordered:
        unit, scale = UNITS[change.now.metric]
        then, now = (f"{_number((row.median or 0) * scale)} {unit}" for row in (change.then, change.now))
        table.add_row(change.now.suite, change.now.case, change.now.method, then, now, f"{change.factor:.2f}", change.words)
    return table
