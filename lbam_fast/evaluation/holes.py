"""The kinds of holes that a quality table has rows for, and the samples of each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import cv2
import numpy as np

from lbam_fast.data import noise_mask, random_mask
from lbam_fast.data.protocols import NVIDIA_RATIOS, Ratio
from lbam_fast.evaluation.methods import Pixels

MARGIN = 50 / 512
"""How far holes that keep away from the border do so, of the shorter side: as in NVIDIA's masks (Liu et al., ECCV 2018)."""
TRIES = 1000


@dataclass(frozen=True)
class Holes:
    """A kind of holes: draws a mask [height, width] uint8 with 255 = hole; ``number`` sets its draws apart from other kinds'."""

    name: str
    number: int
    draw: Callable[[np.random.Generator, int, int], Pixels]


def noise(low: float, high: float) -> Holes:
    """Smooth noise, as in the published LBAM generator, that makes ``low`` to ``high`` of the picture hole."""
    return Holes(f"{low:g} to {high:g}", round(100 * low), partial(draw_noise, (low, high)))


def draw_noise(ratio: Ratio, rng: np.random.Generator, height: int, width: int) -> Pixels:
    return 255 * (1 - random_mask(rng, height, width, "noise", ratio))


def draw_at_border(ratio: Ratio, rng: np.random.Generator, height: int, width: int) -> Pixels:
    """Noise that reaches the picture's border. Raises ValueError where it does not in a thousand draws."""
    for _ in range(TRIES):
        if reaches_border(mask := draw_noise(ratio, rng, height, width)):
            return mask
    raise ValueError(f"no mask with a hole of {ratio[0]:g} to {ratio[1]:g} reached the border in {TRIES} draws")


def draw_inside(ratio: Ratio, rng: np.random.Generator, height: int, width: int) -> Pixels:
    """Noise that keeps ``MARGIN`` away from the picture's border."""
    margin = max(1, round(MARGIN * min(height, width)))
    inner = (height - 2 * margin, width - 2 * margin)
    share = rng.uniform(*ratio) * height * width / (inner[0] * inner[1])
    return np.pad(255 * (1 - noise_mask(rng, *inner, min(share, 1.0))), margin)


def reaches_border(mask: Pixels) -> bool:
    """Whether there is a hole (> 0) in the outermost rows or columns."""
    return bool(mask[[0, -1]].any() or mask[:, [0, -1]].any())


def bucket_of(share: float) -> str:
    """The name of the range in ``ROWS`` that a hole's share lies in, its upper end included."""
    for low, high in NVIDIA_RATIOS:
        if low < share <= high:
            return bucket_name((low, high))
    return BELOW if share <= NVIDIA_RATIOS[0][0] else ABOVE


def bucket_name(ratio: Ratio) -> str:
    return f"{ratio[0]:g}-{ratio[1]:g}"


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
BELOW, ABOVE = (f"up to {NVIDIA_RATIOS[0][0]:g}", f"above {NVIDIA_RATIOS[-1][1]:g}")
ROWS = (BELOW, *map(bucket_name, NVIDIA_RATIOS), ABOVE)
"""The ranges of the paper's tables, and what lies outside them."""
AT_BORDER, INSIDE = (
    tuple(Holes(bucket_name(ratio), number, partial(draw, ratio)) for number, ratio in enumerate(NVIDIA_RATIOS))
    for draw in (draw_at_border, draw_inside)
)


def samples(holes: Holes, pictures: Sequence[Pixels], masks_each: int) -> Iterator[tuple[Pixels, Pixels]]:
    """Pairs of a picture and a mask (255 = hole), the same ones in every run."""
    for i, picture in enumerate(pictures):
        for j in range(masks_each):
            yield picture, holes.draw(np.random.default_rng([i, j, holes.number]), *picture.shape[:2])
