"""Holes a few pixels wide, filled without the network: as smooth as what is around them."""

from __future__ import annotations

from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

from lbam_fast.inference.layouts import Array, to_unit
from lbam_fast.inference.masks import Hole
from lbam_fast.inference.pasting import paste

DEPTH = 4
"""Pixels from the known ones up to which this is nearer to the truth than the network: docs/large-pictures.md."""
MOST = 512
"""Hole pixels of a window up to which it is faster, too: what is solved grows with their third power."""
MOST_ENTRIES = 1 << 22
"""Of matrices that are solved together."""


def are_specks(filled: NDArray[np.bool_]) -> bool:
    """Whether there are few hole pixels in that window, none of them further than ``DEPTH`` from a known one."""
    if np.count_nonzero(filled) > MOST:
        return False
    return bool(cv2.distanceTransform(filled.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE).max() <= DEPTH)


def fill_specks(pixels: Array, hole: Hole, side: int) -> Array:
    """Fill the hole in squares of that side, parts of different places, by the biharmonic equation (Damelin and Hoang, 2018).

    pixels [H, W, 1 or 3] with H and W multiples of ``side``. In each square by itself a thin plate is laid through the known
    pixels, of which there must be three that are not in line: the sum of its squared second differences becomes as small as
    they allow. Those within two pixels of a hole decide, so that squares may end there. Returns a new array.
    """
    missing = _squares(hole.filled[..., None], side)[:, 0]
    values = _squares(to_unit(pixels), side).copy()
    counts = missing.sum(axis=(1, 2))
    order = np.argsort(-counts, kind="stable")[: np.count_nonzero(counts)]
    while len(order):
        together = max(1, MOST_ENTRIES // int(counts[order[0]]) ** 2)
        few, order = order[:together], order[together:]
        values[few] = _solved(values[few], missing[few])
    output = _joined(values.clip(0, 1), hole.filled.shape)
    return paste(pixels, np.ascontiguousarray(np.broadcast_to(output, (*output.shape[:2], 3))), hole)


def _solved(values: NDArray[np.float32], missing: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Squares [N, C, side, side] with their missing pixels [N, side, side]; what these hold has no say."""
    side = missing.shape[-1]
    bent, mixed = _second_differences(side)
    known = np.where(missing[:, None], 0, values).astype(np.float64)
    pull = -(bent @ known + known @ bent + 2 * mixed @ known @ mixed)
    flat = missing.reshape(len(missing), -1)
    at = np.argsort(~flat, axis=1, kind="stable")[:, : int(flat.sum(axis=1).max())]  # then known ones, which solve to 0
    real = np.take_along_axis(flat, at, axis=1)
    rows, columns = np.divmod(at, side)
    down, across = (rows[:, :, None], rows[:, None]), (columns[:, :, None], columns[:, None])
    energy = bent[down] * (columns[:, :, None] == columns[:, None]) + bent[across] * (rows[:, :, None] == rows[:, None])
    energy += 2 * mixed[down] * mixed[across]
    matrices = np.where(real[:, :, None] & real[:, None], energy, np.eye(at.shape[1]))
    given = np.take_along_axis(pull.reshape(*pull.shape[:2], -1), at[:, None], axis=2) * real[:, None]
    found = np.linalg.solve(matrices, given.swapaxes(1, 2)).swapaxes(1, 2)
    result = known.reshape((*given.shape[:2], side * side))
    np.put_along_axis(result, at[:, None], np.take_along_axis(result, at[:, None], axis=2) + found, axis=2)
    return result.reshape(values.shape).astype(np.float32)


@cache
def _second_differences(side: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Matrices [side, side] of the sums of squares along an axis: of second differences, and of first ones, for the mixed."""
    one, two = np.diff(np.eye(side), axis=0), np.diff(np.eye(side), n=2, axis=0)
    return two.T @ two, one.T @ one


def _squares(values: NDArray, side: int) -> NDArray:  # type: ignore[type-arg]
    """[H, W, C] -> [N, C, side, side], row by row."""
    height, width, channels = values.shape
    apart = values.reshape(height // side, side, width // side, side, channels)
    return apart.transpose(0, 2, 4, 1, 3).reshape(-1, channels, side, side)


def _joined(squares: NDArray[np.float32], shape: tuple[int, ...]) -> NDArray[np.float32]:
    """The way back: [N, C, side, side] -> [H, W, C]."""
    channels, side = squares.shape[1:3]
    apart = squares.reshape(shape[0] // side, shape[1] // side, channels, side, side)
    return apart.transpose(0, 3, 1, 4, 2).reshape(*shape, channels)
