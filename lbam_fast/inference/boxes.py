"""Boxes around holes: near ones together, of few sizes, with known pixels around them. Without torch.

Rectangles are arrays [..., 4] of whole numbers: top, left, bottom, right, the last two excluded.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from lbam_fast.inference import dust
from lbam_fast.inference.regions import Region, any_in_cells

Rectangles = NDArray[np.int64]

STEP = 128
"""Sides of boxes are multiples of it, as the network wants them; above ``FINE`` of twice that, so that there are few."""
FINE = 512
LEAST_CONTEXT, MOST_CONTEXT = 32, 128
"""Known pixels around a hole: as many as its shorter side has, within these."""
CELL = 32
"""Pixels of different boxes' holes are further apart than this."""
MOST_GROUPS = 2048
"""Beyond as many, holes further apart count as one."""
PER_BOX = 64 * 64
"""What a box costs beside its pixels, in pixels."""
SMALL, WINDOWS = (24, 32, 40), (48, 64, 96)
"""Holes of up to so many pixels on a side may be filled in windows of such a side, many of which make one picture."""
FEW_SMALL = 16
"""Up to as many, windows save nothing."""
FINE_CELL = dust.CELL
"""Pixels of a hole in a window and of any other hole that counts are further apart than this."""


class Box(NamedTuple):
    """A part of a picture [H, W]: ``outer`` is read, in ``inner`` within it the holes are filled; both rows and columns."""

    outer: Region
    inner: Region


def region(rectangle: Rectangles) -> Region:
    """The rows and columns of one rectangle."""
    top, left, bottom, right = map(int, rectangle)
    return slice(top, bottom), slice(left, right)


class Groups(NamedTuple):
    """Rectangles [N, 4] that hold every hole pixel that counts once, and whether small ones are filled in windows."""

    rectangles: Rectangles
    windows: bool


def groups(filled: NDArray[np.bool_], cells: NDArray[np.bool_] | None = None) -> Groups:
    """Rectangles around the holes of ``filled`` [H, W]; near holes are in one of them.

    cells: of ``FINE_CELL`` pixels, with the holes that count. Many small ones may then get windows.
    """
    found = None if cells is None else _with_windows(filled, cells)
    if found is not None:
        return Groups(_one_if_cheaper(found, filled.shape, True), True)
    coarse = any_in_cells(filled, CELL) if cells is None else any_in_cells(cells, CELL // FINE_CELL)
    return Groups(_one_if_cheaper(_grouped(filled, coarse, False), filled.shape, False), False)


def _with_windows(filled: NDArray[np.bool_], cells: NDArray[np.bool_]) -> Rectangles | None:
    """Rectangles around the holes in ``cells``, with those of small ones that stand alone; None where there are few."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(cells.astype(np.uint8), connectivity=8)
    small: NDArray[np.bool_] = np.all(stats[:, 2:4] <= SMALL[-1] // FINE_CELL + 1, axis=1)
    small[0] = False
    found = np.zeros((count, 4), np.int64)
    for label in np.flatnonzero(small):
        left, top, width, height = (int(side) * FINE_CELL for side in stats[label, :4])
        found[label] = _trimmed(filled, np.array([top, left, top + height, left + width]))
    small &= (found[:, 2:] - found[:, :2]).max(axis=1) <= SMALL[-1]
    alone = np.flatnonzero(small)
    if len(alone) <= FEW_SMALL:
        return None

    def rest() -> Rectangles:
        return _grouped(filled, any_in_cells(cells & ~small[labels], CELL // FINE_CELL), True)

    others = rest()
    near = _crowded(found[alone], cells.shape) | _touching(found[alone], others)
    while near.any():
        crowd, alone = alone[near], alone[~near]
        small[crowd] = False
        joined = np.concatenate([others, found[crowd]])
        others = _merged(joined, filled.shape, True) if len(joined) <= MOST_GROUPS else rest()
        near = _touching(found[alone], others)
    return np.concatenate([others, found[alone]])


def _grouped(filled: NDArray[np.bool_], cells: NDArray[np.bool_], windows: bool) -> Rectangles:
    """Rectangles around the holes in ``cells`` of ``CELL`` pixels, merged where that saves something."""
    cell = CELL
    while True:
        count, _, stats, _ = cv2.connectedComponentsWithStats(cells.astype(np.uint8), connectivity=8)
        if count - 1 <= MOST_GROUPS:
            break
        cell, cells = 2 * cell, _halved(cells)
    left, top, width, height = (stats[1:, i].astype(np.int64) * cell for i in range(4))
    found = np.stack([top, left, np.minimum(top + height, filled.shape[0]), np.minimum(left + width, filled.shape[1])], axis=-1)
    return _merged(np.array([_trimmed(filled, each) for each in found], np.int64).reshape(-1, 4), filled.shape, windows)


def _one_if_cheaper(found: Rectangles, shape: tuple[int, ...], windows: bool) -> Rectangles:
    if len(found) > 1:
        one = np.concatenate([found[:, :2].min(axis=0), found[:, 2:].max(axis=0)])[None]
        if cost(one, shape, windows).sum() <= cost(found, shape, windows).sum():
            return one
    return found


def around(rectangles: Rectangles, shape: tuple[int, ...], windows: bool = False) -> Rectangles:
    """What is to be read for each of these rectangles in a picture of that (height, width): with context, of few sizes."""
    starts, stops = rectangles[..., :2], rectangles[..., 2:]
    sides = stops - starts
    context = np.clip(sides.min(axis=-1, keepdims=True), LEAST_CONTEXT, MOST_CONTEXT)
    size, window = np.array(shape[:2]), _window(rectangles, windows)[..., None]
    sides = np.minimum(np.where(window > 0, window, _rounded(sides + 2 * context)), size)
    corners = np.clip((starts + stops - sides) // 2, 0, size - sides)
    return np.concatenate([corners, corners + sides], axis=-1)


def cost(rectangles: Rectangles, shape: tuple[int, ...], windows: bool = False) -> NDArray[np.int64]:
    """Pixels that the network computes to fill each rectangle, with what a box costs besides."""
    read = around(rectangles, shape, windows)
    sides = -(-(read[..., 2:] - read[..., :2]) // STEP) * STEP
    window = _window(rectangles, windows)
    return np.asarray(np.where(window > 0, window**2, PER_BOX + sides.prod(axis=-1)))


def _window(rectangles: Rectangles, windows: bool) -> NDArray[np.int64]:
    """The side of the window for each rectangle, 0 for those that get a box of their own."""
    largest = (rectangles[..., 2:] - rectangles[..., :2]).max(axis=-1)
    fits = [largest <= most if windows else np.zeros_like(largest, bool) for most in SMALL]
    return np.select(fits, WINDOWS, 0).astype(np.int64)


def _rounded(sides: Rectangles) -> Rectangles:
    step = np.where(sides > FINE, 2 * STEP, STEP)
    return -(-sides // step) * step


def _crowded(small: Rectangles, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Which of these share a cell of that grid (height, width) with the rectangle of another."""
    first, last = small[:, :2] // FINE_CELL, (small[:, 2:] - 1) // FINE_CELL
    reach = np.arange(SMALL[-1] // FINE_CELL + 1)
    steps = np.stack(np.meshgrid(reach, reach, indexing="ij"), axis=-1).reshape(-1, 2)
    cells = first[:, None] + steps
    own: NDArray[np.bool_] = np.all(cells <= last[:, None], axis=-1)
    cells = np.where(own[..., None], cells, first[:, None])
    counts = np.zeros(shape, np.int64)
    np.add.at(counts, tuple(cells[own].T), 1)
    crowded: NDArray[np.bool_] = (counts[tuple(np.moveaxis(cells, -1, 0))] > 1).any(axis=-1)
    return crowded


def _touching(some: Rectangles, others: Rectangles) -> NDArray[np.bool_]:
    """Which rectangles share a pixel with any of the others."""
    touching = np.zeros(len(some), bool)
    for other in others:
        touching |= (np.maximum(some[:, :2], other[:2]) < np.minimum(some[:, 2:], other[2:])).all(axis=-1)
    return touching


def _halved(cells: NDArray[np.bool_]) -> NDArray[np.bool_]:
    return any_in_cells(cells, 2)


def _trimmed(filled: NDArray[np.bool_], rectangle: Rectangles) -> list[int]:
    """The smallest rectangle with the same holes."""
    top, left = map(int, rectangle[:2])
    part = filled[region(rectangle)]
    rows, columns = np.flatnonzero(part.any(axis=1)), np.flatnonzero(part.any(axis=0))
    return [top + int(rows[0]), left + int(columns[0]), top + int(rows[-1]) + 1, left + int(columns[-1]) + 1]


def _merged(rectangles: Rectangles, shape: tuple[int, ...], windows: bool) -> Rectangles:
    """Two are made one where they overlap, and where that costs no more than both."""
    rectangles, costs = rectangles.copy(), cost(rectangles, shape, windows)
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
        together = cost(joined, shape, windows)
        gain: NDArray[Any] = np.where((corners[0] < corners[1]).all(axis=-1), np.inf, costs[i] + costs[others] - together)
        best = int(gain.argmax())
        if gain[best] >= 0:
            j = int(others[best])
            rectangles[j], costs[j], alive[i] = joined[best], together[best], False
            waiting.append(j)
    return rectangles[alive]
