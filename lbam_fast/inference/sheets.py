"""Square windows of one size, each of another place, side by side in one picture. Without torch."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

SHEET = 2688, 384
"""Height and width of such a picture, at most: multiples of 48, 64 and 96, and of 128."""


def at_once(side: int) -> int:
    """How many windows one picture holds."""
    return SHEET[0] // side * (SHEET[1] // side)


def side_by_side(array: NDArray[Any], corners: NDArray[np.int64], side: int) -> NDArray[Any]:
    """What lies in windows with these upper left corners [K, 2] of [H, W, ...], row by row; beyond the last one zeros.

    A window that is larger than the picture repeats its last lines.
    """
    steps = np.arange(side)
    rows, columns = (np.minimum(start[:, None] + steps, size - 1) for start, size in zip(corners.T, array.shape[:2], strict=True))
    windows = array[rows[:, :, None], columns[:, None]]
    count, across = len(windows), _across(len(windows), side)
    windows = np.concatenate([windows, np.zeros((-count % across, *windows.shape[1:]), array.dtype)])
    apart = windows.reshape(-1, across, *windows.shape[1:]).swapaxes(1, 2)
    return np.ascontiguousarray(apart).reshape(-1, across * side, *array.shape[2:])


def taken_apart(sheet: NDArray[Any], count: int, side: int) -> NDArray[Any]:
    """The windows [K, side, side, ...] of such a picture."""
    across = _across(count, side)
    apart = sheet.reshape(-1, side, across, side, *sheet.shape[2:]).swapaxes(1, 2)
    return apart.reshape(-1, side, side, *sheet.shape[2:])[:count]


def _across(count: int, side: int) -> int:
    return min(count, SHEET[1] // side)
