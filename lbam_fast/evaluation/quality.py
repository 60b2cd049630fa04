"""The quality table: what methods make of the same holes in the same photographs, by kinds of holes."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from lbam_fast.evaluation.holes import HOLES, Holes, samples
from lbam_fast.evaluation.methods import Method, Pixels
from lbam_fast.evaluation.metrics import PSNR, Metric


@dataclass(frozen=True)
class QualityRow:
    """Means over the samples of one kind of holes, by the names of metric and method."""

    holes: str
    samples: int
    means: dict[str, dict[str, float]]

    def gain(self, method: str, over: Iterable[str], metric: Metric = PSNR) -> float:
        """By how much ``method`` is better than the best of ``over``."""
        values = self.means[metric.name]
        if metric.more_is_better:
            return values[method] - max(values[name] for name in over)
        return min(values[name] for name in over) - values[method]


@dataclass(frozen=True)
class _Judge:
    methods: Mapping[str, Method]
    metrics: Sequence[Metric]

    def __call__(self, sample: tuple[Pixels, Pixels]) -> NDArray[np.float64]:
        """Values [metric, method] of one picture with one mask."""
        original, mask = sample
        filled = [_filled(name, method, original, mask) for name, method in self.methods.items()]
        return np.array([[metric.of(picture, original) for picture in filled] for metric in self.metrics])


def _filled(name: str, method: Method, picture: Pixels, mask: Pixels) -> Pixels:
    filled = method(picture, mask)
    known = mask == 0
    if not np.array_equal(filled[known], picture[known]):
        raise ValueError(f"{name} altered known pixels: expected the picture with nothing but its hole filled")
    return filled


def quality_table(
    methods: Mapping[str, Method],
    metrics: Sequence[Metric],
    pictures: Sequence[Pixels],
    *,
    holes: Sequence[Holes] = HOLES,
    masks_each: int = 4,
    jobs: int = 1,
) -> list[QualityRow]:
    """A row for each kind of holes: all methods on the same samples, measured on the whole picture.

    pictures [H, W, 3] uint8. With ``jobs`` above 1 as many processes share the samples, with one thread each, and methods and
    metrics must be picklable. Raises ValueError for a method that alters known pixels.
    """
    pairs = [sample for kind in holes for sample in samples(kind, pictures, masks_each)]
    judge = _Judge(methods, metrics)
    if jobs == 1:
        values = np.array([judge(pair) for pair in pairs])
    else:
        with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn"), _start_worker, (judge,)) as pool:
            values = np.array(list(pool.map(_work, pairs)))
    means = values.reshape(len(holes), -1, len(metrics), len(methods)).mean(axis=1)
    return [
        QualityRow(
            kind.name,
            len(pictures) * masks_each,
            {metric.name: dict(zip(methods, map(float, row), strict=True)) for metric, row in zip(metrics, of_kind, strict=True)},
        )
        for kind, of_kind in zip(holes, means, strict=True)
    ]


_worker: _Judge


def _start_worker(judge: _Judge) -> None:
    global _worker
    _worker = judge
    torch.set_num_threads(1)
    cv2.setNumThreads(1)


def _work(sample: tuple[Pixels, Pixels]) -> NDArray[np.float64]:
    return _worker(sample)


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
