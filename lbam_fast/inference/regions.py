"""Regions of a picture, pairs of rows and columns, and what lies in them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from lbam_fast.inference.masks import Hole

Region = tuple[slice, slice]


def extent(region: Region) -> tuple[int, int]:
    """Height and width."""
    rows, columns = region
    return rows.stop - rows.start, columns.stop - columns.start


def within(region: Region, outer: Region) -> Region:
    """The region counted from the corner of ``outer``."""
    rows, columns = (slice(r.start - o.start, r.stop - o.start) for r, o in zip(region, outer, strict=True))
    return rows, columns


def grown(region: Region, pixels: int, shape: tuple[int, ...]) -> Region:
    """The region with so many pixels around it, as far as a picture of that (height, width) has them."""
    rows, columns = (
        slice(max(0, r.start - pixels), min(size, r.stop + pixels)) for r, size in zip(region, shape[:2], strict=True)
    )
    return rows, columns


def cells(region: Region, side: int) -> Iterator[Region]:
    """The region in squares of that side, the last ones smaller, row by row."""
    rows, columns = region
    for top in range(rows.start, rows.stop, side):
        for left in range(columns.start, columns.stop, side):
            yield slice(top, min(top + side, rows.stop)), slice(left, min(left + side, columns.stop))


def part(hole: Hole, region: Region) -> Hole:
    """The hole as far as it lies there; views."""
    return hole.changed(lambda array: array[region])


def any_in_cells(filled: NDArray[np.bool_], side: int) -> NDArray[np.bool_]:
    """Whether there is a hole in each square of that side, the last ones smaller."""
    columns = np.arange(0, filled.shape[1], side)
    strips = (filled[top : top + side].any(axis=0) for top in range(0, filled.shape[0], side))
    return np.stack([np.logical_or.reduceat(strip, columns) for strip in strips])
