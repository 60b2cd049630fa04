"""Square windows of one size, each of another place, side by side in one picture. Without torch."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

SHEET = 2688, 384
"""Height and width of such a picture, at most: multiples of 32, 48, 64 and 96, and of 128."""


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
    across = min(len(windows), SHEET[1] // side)
    windows = np.concatenate([windows, np.zeros((-len(windows) % across, *windows.shape[1:]), array.dtype)])
    apart = windows.reshape(-1, across, *windows.shape[1:]).swapaxes(1, 2)
    return np.ascontiguousarray(apart).reshape(-1, across * side, *array.shape[2:])


def places_in(
    sheet: tuple[int, ...], at: NDArray[np.int64], window: NDArray[np.int64], side: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Where places ``at`` [N, 2] in windows, those of the numbers ``window`` [N], are in such a picture of that shape."""
    across = sheet[1] // side
    return at[:, 0] + window // across * side, at[:, 1] + window % across * side
