"""What an evaluation found, as files: each picture's values, the rows with intervals, and tables to read."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from lbam_fast.evaluation.judging import Result
from lbam_fast.evaluation.metrics import Metric
from lbam_fast.evaluation.quality import CONFIDENCE, RESAMPLES, QualityRow

BORDERS = {"all": "", "inside": ", inside", "border": ", at the border"}


def results_csv(results: Sequence[Result], metrics: Sequence[Metric]) -> str:
    """A line for each picture, mask and method, with an ``error`` in place of values where there is one."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["case", "picture", "hole share", "at border", "method", *(metric.name for metric in metrics), "error"])
    for result in results:
        values = [repr(result.values[metric.name]) if result.values else "" for metric in metrics]
        about = [result.case, result.picture, f"{result.share:.6f}", int(result.border), result.method]
        writer.writerow([*about, *values, result.error])
    return text.getvalue()


def summary_json(
    rows: Sequence[QualityRow],
    results: Sequence[Result],
    distances: Mapping[str, float],
    settings: Mapping[str, Any],
    notes: Sequence[str],
) -> str:
    """All rows with their intervals, Fréchet distances, failures, and how they came about; infinite values as "inf"."""
    summary = {
        "settings": settings,
        "confidence": CONFIDENCE,
        "resamples": RESAMPLES,
        "notes": notes,
        "failed": [{"case": each.case, "method": each.method, "error": each.error} for each in results if each.error],
        "fid": distances,
        "rows": [vars(row) for row in rows],
    }
    return json.dumps(_finite(summary), indent=1, allow_nan=False) + "\n"


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, Mapping):
        return {name: _finite(each) for name, each in value.items()}
    return [_finite(each) for each in value] if isinstance(value, list | tuple) else value


def tables(
    rows: Sequence[QualityRow],
    metrics: Sequence[Metric],
    distances: Mapping[str, float],
    notes: Sequence[str],
) -> str:
    """For each metric a table in the paper's form, with the half width of the interval, and one of the paired differences."""
    parts = []
    for metric in metrics:
        unit = f", {metric.unit}" if metric.unit else ""
        direction = "more" if metric.more_is_better else "less"
        parts += [f"## {metric.name}{unit}", f"Mean and {CONFIDENCE:.0%} interval; {direction} is better.", _means(rows, metric)]
        if len(rows[0].means[metric.name]) > 1:
            first = next(iter(rows[0].means[metric.name]))
            parts += [f"What each has more than {first} on the same pictures:", _differences(rows, metric)]
    if distances:
        line = [f"{value:.2f}" for value in distances.values()]
        parts += ["## FID", "Of all filled pictures to the originals; less is better.", _table([list(distances), line])]
    parts += [f"- {note}" for note in notes]
    return "\n\n".join(parts) + "\n"


def _means(rows: Sequence[QualityRow], metric: Metric) -> str:
    lines = [["holes", "pictures", "masks", *rows[0].means[metric.name]]]
    for row in rows:
        values = row.means[metric.name]
        best = (max if metric.more_is_better else min)(values.values())
        cells = []
        for name, value in values.items():
            cell = f"{value:.{metric.digits}f}"
            cell = f"**{cell}**" if value == best else cell
            if bounds := row.intervals.get(metric.name, {}).get(name):
                cell += f" ({bounds[0]:.{metric.digits}f} to {bounds[1]:.{metric.digits}f})"
            cells.append(cell)
        lines.append([row.holes + BORDERS[row.border], str(row.pictures), str(row.samples), *cells])
    return _table(lines)


def _differences(rows: Sequence[QualityRow], metric: Metric) -> str:
    names = list(rows[0].means[metric.name])[1:]
    lines = [["holes", *names]]
    for row in rows:
        found = row.differences.get(metric.name, {})
        cells = []
        for name in names:
            if name in found:
                mean, (low, high) = found[name]
                cells.append(f"{mean:+.{metric.digits}f} ({low:+.{metric.digits}f} to {high:+.{metric.digits}f})")
            else:
                cells.append("")
        lines.append([row.holes + BORDERS[row.border], *cells])
    return _table(lines)


def _table(lines: Sequence[Sequence[str]]) -> str:
    header, *body = lines
    return "\n".join(f"| {' | '.join(line)} |" for line in (header, ["---"] * len(header), *body))
