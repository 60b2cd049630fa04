"""The quality table: what methods make of the same holes in the same photographs, by kinds of holes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from lbam_fast.evaluation.cases import Case
from lbam_fast.evaluation.holes import HOLES, ROWS, Holes, bucket_of, samples
from lbam_fast.evaluation.judging import Judge, MethodError, Result, Task, judged
from lbam_fast.evaluation.methods import Method, Pixels
from lbam_fast.evaluation.metrics import PSNR, Metric

CONFIDENCE, RESAMPLES = 0.95, 2000
Interval = tuple[float, float]


@dataclass(frozen=True)
class QualityRow:
    """Means over pictures, each of which counts with the mean over its masks, by the names of metric and method.

    border: "all" holes, those at the picture's "border", or those "inside" alone. intervals: of the means, by bootstrap over the
    pictures. differences: mean and interval of what each method has more than the first; nothing where a value is not finite,
    and there are fewer than two pictures.
    """

    holes: str
    samples: int
    means: dict[str, dict[str, float]]
    border: str = "all"
    pictures: int = 0
    intervals: dict[str, dict[str, Interval]] = field(default_factory=dict)
    differences: dict[str, dict[str, tuple[float, Interval]]] = field(default_factory=dict)

    def gain(self, method: str, over: Iterable[str], metric: Metric = PSNR) -> float:
        """By how much ``method`` is better than the best of ``over``."""
        values = self.means[metric.name]
        if metric.more_is_better:
            return values[method] - max(values[name] for name in over)
        return min(values[name] for name in over) - values[method]


def quality_table(
    methods: Mapping[str, Method],
    metrics: Sequence[Metric],
    pictures: Sequence[Pixels],
    *,
    holes: Sequence[Holes] = HOLES,
    masks_each: int = 4,
    jobs: int = 1,
) -> list[QualityRow]:
    """A row for each kind of holes: all methods on the same samples.

    pictures [H, W, 3] uint8. jobs: see ``judged``. Raises MethodError where a method fails, as one that alters known pixels.
    """
    tasks = [
        Task(Case(f"{kind.name} {i}", f"{i // masks_each}", picture, mask), tuple(methods))
        for kind in holes
        for i, (picture, mask) in enumerate(samples(kind, pictures, masks_each))
    ]
    found = [result for results in judged(Judge(methods, metrics), tasks, jobs) for result in results]
    for result in found:
        if result.error:
            raise MethodError(result.error)
    each = len(found) // len(holes)
    return [_row(kind.name, "all", found[i * each : (i + 1) * each], tuple(methods), metrics) for i, kind in enumerate(holes)]


def paper_rows(results: Iterable[Result], methods: Sequence[str], metrics: Sequence[Metric], seed: int) -> list[QualityRow]:
    """A row for each range of the hole's share, and for all of them: of all holes, and of those
    inside and at the border apart.

    Only cases that every method has filled count, so that all are compared on the same. The seed decides the bootstrap's draws.
    """
    by_case: dict[str, list[Result]] = defaultdict(list)
    for result in results:
        if not result.error:
            by_case[result.case].append(result)
    whole = [result for case in by_case.values() if len(case) == len(methods) for result in case]
    rows = []
    for bucket in (*ROWS, "all"):
        chosen = [result for result in whole if bucket in ("all", bucket_of(result.share))]
        parts = {"inside": [each for each in chosen if not each.border], "border": [each for each in chosen if each.border]}
        kinds = {"all": chosen} | (parts if all(parts.values()) else {})
        rows += [_row(bucket, border, some, methods, metrics, seed) for border, some in kinds.items() if some]
    return rows


def _row(
    holes: str,
    border: str,
    results: Sequence[Result],
    methods: Sequence[str],
    metrics: Sequence[Metric],
    seed: int | None = None,
) -> QualityRow:
    """The row of these results; without a seed, without intervals."""
    pictures = {picture: number for number, picture in enumerate(dict.fromkeys(result.picture for result in results))}
    values, masks = np.zeros((len(pictures), len(metrics), len(methods))), np.zeros(len(pictures))
    for result in results:
        picture = pictures[result.picture]
        values[picture, :, methods.index(result.method)] += [result.values[metric.name] for metric in metrics]
        masks[picture] += 1 / len(methods)
    values /= masks[:, None, None]
    row = QualityRow(holes, len(results) // len(methods), _named(values.mean(axis=0), methods, metrics), border, len(pictures))
    if seed is None or len(pictures) < 2:
        return row
    with np.errstate(invalid="ignore"):
        differences = values - values[:, :, :1]
    bounds = _intervals(np.stack([values, differences]), seed)
    for m, metric in enumerate(metrics):
        row.intervals[metric.name], row.differences[metric.name] = {}, {}
        for n, name in enumerate(methods):
            if np.isfinite(bounds[:, 0, m, n]).all():
                row.intervals[metric.name][name] = _pair(bounds[:, 0, m, n])
            if n and np.isfinite(bounds[:, 1, m, n]).all():
                row.differences[metric.name][name] = (float(differences[:, m, n].mean()), _pair(bounds[:, 1, m, n]))
    return row


def _pair(bounds: NDArray[np.float64]) -> Interval:
    return float(bounds[0]), float(bounds[1])


def _named(means: NDArray[np.float64], methods: Sequence[str], metrics: Sequence[Metric]) -> dict[str, dict[str, float]]:
    return {m.name: dict(zip(methods, map(float, row), strict=True)) for m, row in zip(metrics, means, strict=True)}


def _intervals(values: NDArray[np.float64], seed: int) -> NDArray[np.float64]:
    """Lower and upper ends [2, K, M, N] of the means of [K, P, M, N] over P: by bootstrap, NaN where not finite."""
    from scipy.stats import bootstrap

    kinds, pictures, *rest = values.shape
    columns = np.moveaxis(values, 1, -1).reshape(-1, pictures)
    ends = np.full((2, len(columns)), np.nan)
    finite = np.isfinite(columns).all(axis=1)
    found = bootstrap(
        (columns[finite],),
        np.mean,
        n_resamples=RESAMPLES,
        batch=100,
        axis=-1,
        confidence_level=CONFIDENCE,
        method="percentile",
        rng=np.random.default_rng(seed),
    )
    ends[:, finite] = found.confidence_interval
    return ends.reshape(2, kinds, *rest)


def markdown(rows: Sequence[QualityRow], metric: Metric, gain: tuple[str, Sequence[str]] | None = None) -> str:
    """The table of one metric as Markdown, the best of each row in bold.

    gain: a method and its rivals, whose difference to the best of them fills a last column.
    """
    unit = f", {metric.unit}" if metric.unit else ""
    names = list(rows[0].means[metric.name])
    header = ["hole ratio", *(f"{name}{unit}" for name in names), *([f"gain{unit}"] if gain else [])]
    lines = [header, ["---"] * len(header)]
    for row in rows:
        values = row.means[metric.name]
        best = (max if metric.more_is_better else min)(values.values())
        cells = [f"{value:.{metric.digits}f}" for value in values.values()]
        cells = [f"**{cell}**" if value == best else cell for cell, value in zip(cells, values.values(), strict=True)]
        lines.append([row.holes, *cells, *([f"{row.gain(*gain, metric):+.{metric.digits}f}"] if gain else [])])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
