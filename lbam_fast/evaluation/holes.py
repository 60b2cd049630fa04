"""The kinds of holes that a quality table has rows for, and the samples of each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from lbam_fast.data import random_mask
from lbam_fast.evaluation.methods import Pixels


@dataclass(frozen=True)
class Holes:
    """A kind of holes: draws a mask [height, width] uint8 with 255 = hole; ``number`` sets its draws apart from other kinds'."""

    name: str
    number: int
    draw: Callable[[np.random.Generator, int, int], Pixels]


def noise(low: float, high: float) -> Holes:
    """Smooth noise, as in the published LBAM generator, that makes ``low`` to ``high`` of the picture hole."""

    def draw(rng: np.random.Generator, height: int, width: int) -> Pixels:
        return 255 * (1 - random_mask(rng, height, width, "noise", (low, high)))

    return Holes(f"{low:g} to {high:g}", round(100 * low), draw)


def draw_strokes(rng: np.random.Generator, height: int, width: int) -> Pixels:
    """Six straight strokes with round ends between random points, 6 to 13 pixels wide where the shorter side has 256."""
    mask = np.zeros((height, width), np.uint8)
    for _ in range(6):
        start, end = (tuple(map(int, rng.integers((width, height)))) for _ in range(2))
        thickness = max(1, round(int(rng.integers(6, 13, endpoint=True)) * min(height, width) / 256))
        cv2.line(mask, start, end, 255, thickness)
    return mask


BUCKETS = tuple(noise(low, high) for low, high in ((0.01, 0.05), (0.05, 0.1), (0.1, 0.2), (0.2, 0.3), (0.3, 0.4), (0.4, 0.5)))
STROKES = Holes("strokes", 0, draw_strokes)
HOLES = (*BUCKETS, STROKES)


def samples(holes: Holes, pictures: Sequence[Pixels], masks_each: int) -> Iterator[tuple[Pixels, Pixels]]:
    """Pairs of a picture and a mask (255 = hole), the same ones in every run."""
    for i, picture in enumerate(pictures):
        for j in range(masks_each):
            yield picture, holes.draw(np.random.default_rng([i, j, holes.number]), *picture.shape[:2])
