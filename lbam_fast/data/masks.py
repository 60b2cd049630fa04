"""Random irregular masks, 1 = known and 0 = hole, drawn from a NumPy generator so that a seed gives the same masks everywhere."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, get_args

import cv2
import numpy as np
from numpy.typing import NDArray

from lbam_fast.config import MaskKind

Mask = NDArray[np.uint8]
MASK_KINDS: tuple[MaskKind, ...] = get_args(MaskKind)


def noise_mask(rng: np.random.Generator, height: int, width: int, ratio: float, cells: float = 10.0) -> Mask:
    """Thresholded smooth noise, as the published LBAM generator draws its masks: [height, width] uint8, 0 = hole, 1 = known.

    ratio in [0, 1] is the hole's share, met to the pixel. cells: noise values along the shorter side; fewer give larger blobs.
    """
    if cells <= 0:
        raise ValueError(f"cells is {cells}, expected a positive number of noise values along the shorter side")
    step = min(height, width) / cells
    rows, columns = (max(2, round(side / step) + 2) for side in (height, width))
    field = cv2.resize(rng.uniform(0, 1, (rows, columns)).astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC)
    return (~_lowest(field.ravel(), round(ratio * height * width))).astype(np.uint8).reshape(height, width)


def _lowest(values: NDArray[Any], count: int) -> NDArray[np.bool_]:
    """Which of ``values`` [N] are the ``count`` lowest; of equal ones the first."""
    if count == 0:
        return np.zeros(values.shape, np.bool_)
    limit = np.partition(values, count - 1)[count - 1]
    lowest: NDArray[np.bool_] = values < limit
    lowest[np.flatnonzero(values == limit)[: count - np.count_nonzero(lowest)]] = True
    return lowest


@dataclass(frozen=True)
class Strokes:
    """Sizes of LaMa's random strokes and boxes at 256x256 (Suvorov et al., WACV 2022, configuration files of its evaluation)."""

    count: tuple[int, int]
    max_width: int
    max_length: int
    box_probability: float = 0.0
    boxes: tuple[int, int] = (0, 0)
    box_side: tuple[int, int] = (0, 0)
    box_margin: int = 0


STROKES: dict[MaskKind, Strokes] = {
    "thin": Strokes(count=(4, 50), max_width=10, max_length=40),
    "medium": Strokes(count=(4, 5), max_width=50, max_length=100, box_probability=0.3, boxes=(1, 5), box_side=(10, 50)),
    "thick": Strokes(
        count=(1, 5),
        max_width=100,
        max_length=200,
        box_probability=0.3,
        boxes=(1, 3),
        box_side=(30, 150),
        box_margin=10,
    ),
}
_MAX_ANGLE = 4


def stroke_mask(rng: np.random.Generator, height: int, width: int, strokes: Strokes) -> Mask:
    """One draw of LaMa's generator, its sizes scaled from 256 to the shorter side: [height, width] uint8, 0 = hole, 1 = known."""
    scale = min(height, width) / 256
    mask = np.ones((height, width), np.uint8)
    for stroke in range(rng.integers(*strokes.count, endpoint=True)):
        x, y = int(rng.integers(width)), int(rng.integers(height))
        for _ in range(1 + rng.integers(5)):
            angle = 0.01 + rng.integers(_MAX_ANGLE)
            if stroke % 2 == 0:
                angle = 2 * np.pi - angle
            length = scale * (10 + rng.integers(strokes.max_length))
            thickness = max(1, round(scale * (5 + rng.integers(strokes.max_width))))
            end_x = int(np.clip(x + length * np.sin(angle), 0, width))
            end_y = int(np.clip(y + length * np.cos(angle), 0, height))
            cv2.line(mask, (x, y), (end_x, end_y), 0, thickness)
            x, y = end_x, end_y
    if rng.random() < strokes.box_probability:
        margin = round(scale * strokes.box_margin)
        for _ in range(rng.integers(*strokes.boxes, endpoint=True)):
            sides = (scale * rng.integers(*strokes.box_side, size=2)).astype(int)
            top, left = (
                int(rng.integers(margin, max(margin + 1, s - margin - b + 1)))
                for s, b in zip((height, width), sides, strict=True)
            )
            mask[top : top + sides[0], left : left + sides[1]] = 0
    return mask


def scratch_mask(rng: np.random.Generator, height: int, width: int) -> Mask:
    """Six wandering lines on 256x256, in proportion on other sizes, 5 to 14 pixels wide whatever the size: [height, width] uint8,
    0 = hole, 1 = known. As a brush that covers scratches and wires."""
    mask = np.ones((height, width), np.uint8)
    for _ in range(max(1, round(6 * min(height, width) / 256))):
        steps = int(rng.integers(3, 7))
        angle = rng.uniform(0, 2 * np.pi) + np.cumsum(rng.normal(0, 0.6, steps))
        lengths = rng.uniform(10, 45, steps)
        start = rng.uniform(0, 1, 2) * (width, height)
        points = start + np.cumsum(lengths[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1), axis=0)
        line = np.concatenate([start[None], points]).round().astype(np.int32)
        cv2.polylines(mask, [line], False, 0, int(rng.integers(5, 15)))
    return mask


def random_mask(
    rng: np.random.Generator,
    height: int,
    width: int,
    kind: MaskKind = "noise",
    ratio: tuple[float, float] = (0.1, 0.5),
    cells: float = 10.0,
) -> Mask:
    """A mask of the given kind whose hole ratio lies in ``ratio``: [height, width] uint8, 0 = hole, 1 = known.

    Noise masks are drawn to a ratio; strokes are drawn and added to until they reach the range, and started again where
    they pass it. Raises ValueError for an unknown kind or a range outside [0, 1], or one that strokes do not hit.
    """
    low, high = ratio
    if not 0 <= low <= high <= 1:
        raise ValueError(f"the hole ratio range is {low} to {high}, expected 0 <= low <= high <= 1")
    if kind == "noise":
        return noise_mask(rng, height, width, rng.uniform(low, high), cells)
    if kind == "scratches":
        return _within(lambda: scratch_mask(rng, height, width), low, high)
    if kind not in STROKES:
        raise ValueError(f"unknown mask kind {kind!r}; the kinds are {', '.join(MASK_KINDS)}")
    return _within(lambda: stroke_mask(rng, height, width, STROKES[kind]), low, high)


def _within(draw: Callable[[], Mask], low: float, high: float, tries: int = 1000) -> Mask:
    mask = draw()
    for _ in range(tries):
        hole = 1 - float(mask.mean())
        if low <= hole <= high:
            return mask
        mask = mask & draw() if hole < low else draw()
    raise ValueError(
        f"no mask of this kind with a hole ratio of {low} to {high} in {tries} draws; widen the range or choose another kind"
    )
