"""Boxes around holes: near ones together, of few sizes, with known pixels around them. Without torch.

Rectangles are arrays [..., 4] of whole numbers: top, left, bottom, right, the last two excluded.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from lbam_fast.inference.regions import Region, any_in_cells

Rectangles = NDArray[np.int64]

STEP = 128
"""Sides of boxes are multiples of it, as the network wants them; above ``FINE`` of twice that, so that there are few."""
FINE = 512
LEAST_CONTEXT, MOST_CONTEXT = 32, 128
"""Known pixels around a hole: half as many as its shorter side has, within these. As many as it has take a tenth longer and gain
nothing (docs/large-pictures.md)."""
CELL = 32
"""Pixels of different boxes' holes are further apart than this."""
MOST_GROUPS = 2048
"""Beyond as many, holes further apart count as one."""
PER_BOX = 64 * 64
"""What a box costs beside its pixels, in pixels."""


class Box(NamedTuple):
    """A part of a picture [H, W]: ``outer`` is read, in ``inner`` within it the holes are filled; both rows and columns."""

    outer: Region
    inner: Region


def region(rectangle: Rectangles) -> Region:
    """The rows and columns of one rectangle."""
    top, left, bottom, right = map(int, rectangle)
    return slice(top, bottom), slice(left, right)


def groups(filled: NDArray[np.bool_], cells: NDArray[np.bool_] | None = None) -> Rectangles:
    """Rectangles [N, 4] around the holes of ``filled`` [H, W], each in one of them; near holes are in one.

    cells: of ``CELL`` pixels, with the holes that count, if it is not all.
    """
    found = _grouped(filled, any_in_cells(filled, CELL) if cells is None else cells)
    if len(found) > 1:
        one = np.concatenate([found[:, :2].min(axis=0), found[:, 2:].max(axis=0)])[None]
        if cost(one, filled.shape).sum() <= cost(found, filled.shape).sum():
            return one
    return found


def _grouped(filled: NDArray[np.bool_], cells: NDArray[np.bool_]) -> Rectangles:
    """Rectangles around the holes in ``cells`` of ``CELL`` pixels, merged where that saves something."""
    cell = CELL
    while True:
        count, _, stats, _ = cv2.connectedComponentsWithStats(cells.astype(np.uint8), connectivity=8)
        if count - 1 <= MOST_GROUPS:
            break
        cell, cells = 2 * cell, any_in_cells(cells, 2)
    left, top, width, height = (stats[1:, i].astype(np.int64) * cell for i in range(4))
    found = np.stack([top, left, np.minimum(top + height, filled.shape[0]), np.minimum(left + width, filled.shape[1])], axis=-1)
    return _merged(np.array([_trimmed(filled, each) for each in found], np.int64).reshape(-1, 4), filled.shape)


def around(rectangles: Rectangles, shape: tuple[int, ...]) -> Rectangles:
    """What is to be read for each of these rectangles in a picture of that (height, width): with context, of few sizes."""
    starts, stops = rectangles[..., :2], rectangles[..., 2:]
    sides = stops - starts
    context = np.clip(sides.min(axis=-1, keepdims=True) // 2, LEAST_CONTEXT, MOST_CONTEXT)
    size = np.array(shape[:2])
    sides = np.minimum(_rounded(sides + 2 * context), size)
    corners = np.clip((starts + stops - sides) // 2, 0, size - sides)
    return np.concatenate([corners, corners + sides], axis=-1)


def cost(rectangles: Rectangles, shape: tuple[int, ...]) -> NDArray[np.int64]:
    """Pixels that the network computes to fill each rectangle, with what a box costs besides."""
    read = around(rectangles, shape)
    sides = -(-(read[..., 2:] - read[..., :2]) // STEP) * STEP
    return np.asarray(PER_BOX + sides.prod(axis=-1))


def _rounded(sides: Rectangles) -> Rectangles:
    step = np.where(sides > FINE, 2 * STEP, STEP)
    return -(-sides // step) * step


def _trimmed(filled: NDArray[np.bool_], rectangle: Rectangles) -> list[int]:
    """The smallest rectangle with the same holes."""
    top, left = map(int, rectangle[:2])
    part = filled[region(rectangle)]
    rows, columns = np.flatnonzero(part.any(axis=1)), np.flatnonzero(part.any(axis=0))
    return [top + int(rows[0]), left + int(columns[0]), top + int(rows[-1]) + 1, left + int(columns[-1]) + 1]


def _merged(rectangles: Rectangles, shape: tuple[int, ...]) -> Rectangles:
    """Two are made one where they overlap, and where that costs no more than both."""
    rectangles, costs = rectangles.copy(), cost(rectangles, shape)
    alive = np.ones(len(rectangles), bool)
    waiting = list(range(len(rectangles)))
    while waiting:
        i = waiting.pop()
        others = np.flatnonzero(alive)
        others = others[others != i]
        if not alive[i] or not others.size:
            continue
        mine, theirs = rectangles[i], rectangles[others]
        corners = np.maximum(mine[:2], theirs[:, :2]), np.minimum(mine[2:], theirs[:, 2:])
        joined = np.concatenate([np.minimum(mine[:2], theirs[:, :2]), np.maximum(mine[2:], theirs[:, 2:])], axis=-1)
        together = cost(joined, shape)
        gain: NDArray[Any] = np.where((corners[0] < corners[1]).all(axis=-1), np.inf, costs[i] + costs[others] - together)
        best = int(gain.argmax())
        if gain[best] >= 0:
            j = int(others[best])
            rectangles[j], costs[j], alive[i] = joined[best], together[best], False
            waiting.append(j)
    return rectangles[alive]
