"""Windows around specks, side by side in one picture, which the network and texture get in place of many. Without torch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lbam_fast.inference.specks import WINDOWS, Specks

SHEET = 2688, 384
"""Height and width of such a picture, at most: multiples of the windows' sides, and of 128."""

Whole = NDArray[np.int64]


@dataclass(frozen=True)
class Sheet:
    """Windows of one size in a picture [H, W].

    side     of each
    corners  [K, 2], the upper left of each
    pixels   rows and columns [N] of the specks' pixels
    places   where these are in the sheet, likewise
    """

    side: int
    corners: Whole
    pixels: tuple[Whole, Whole]
    places: tuple[Whole, Whole]

    def of(self, array: NDArray[Any]) -> NDArray[Any]:
        """What the windows show of [H, W, ...], row by row; zeros where there is none. One larger than the picture repeats
        its last lines."""
        steps = np.arange(self.side)
        rows, columns = (
            np.minimum(start[:, None] + steps, size - 1) for start, size in zip(self.corners.T, array.shape[:2], strict=True)
        )
        windows = array[rows[:, :, None], columns[:, None]]
        across = _across(len(windows), self.side)
        windows = np.concatenate([windows, np.zeros((-len(windows) % across, *windows.shape[1:]), array.dtype)])
        apart = windows.reshape(-1, across, *windows.shape[1:]).swapaxes(1, 2)
        return np.ascontiguousarray(apart).reshape(-1, across * self.side, *array.shape[2:])


def sheets(specks: Specks, shape: tuple[int, ...]) -> Iterator[Sheet]:
    """Sheets with the windows of all specks that need one, in a picture of that (height, width)."""
    for side in WINDOWS:
        same = specks.chosen(specks.windows == side)
        ends, most = np.cumsum(same.counts), SHEET[0] // side * (SHEET[1] // side)
        for first in range(0, len(ends), most):
            counts = same.counts[first : first + most]
            own = slice(ends[first] - counts[0], ends[first] - counts[0] + counts.sum())
            yield _sheet(side, np.stack([same.rows[own], same.columns[own]], axis=-1).astype(np.int64), counts, shape)


def _sheet(side: int, pixels: Whole, counts: Whole, shape: tuple[int, ...]) -> Sheet:
    """Of specks with these pixels [N, 2], so many each, each in the middle of its window where it can be."""
    starts = np.cumsum(counts) - counts
    first, last = np.minimum.reduceat(pixels, starts), np.maximum.reduceat(pixels, starts)
    corners = np.clip((first + last + 1 - side) // 2, 0, np.maximum(np.array(shape[:2]) - side, 0))
    window, across = np.repeat(np.arange(len(counts)), counts), _across(len(counts), side)
    rows, columns = (pixels - corners[window]).T
    places = rows + window // across * side, columns + window % across * side
    return Sheet(side, corners, (pixels[:, 0], pixels[:, 1]), places)


def _across(count: int, side: int) -> int:
    return min(count, SHEET[1] // side)
