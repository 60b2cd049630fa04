"""A picture filled at a fraction of its size."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from lbam_fast.inference.boxes import Box
from lbam_fast.inference.layouts import Array, emptied
from lbam_fast.inference.masks import Hole
from lbam_fast.inference.pasting import paste
from lbam_fast.inference.regions import Region, cells, extent, part, within

Fill = Callable[[Sequence[Array], Sequence[Hole]], list[Array]]

CELL = 512
"""Side of what is enlarged at once."""


def fill_reduced(fill: Fill, pixels: Array, result: Array, hole: Hole, box: Box, side: int) -> None:
    """Fill the hole in ``box.inner`` of ``result``, at a size at which ``box.outer`` has at most ``side`` pixels on a side."""
    factor = -(-max(extent(box.outer)) // side)
    if factor == 1:
        (filled,) = fill([pixels[box.outer]], [part(hole, box.outer)])
        result[box.inner] = filled[within(box.inner, box.outer)]
        return
    small, share = reduced(pixels, hole.filled, box.outer, factor)
    missing = share < 0.5
    if missing.any():
        (small,) = fill([small], [Hole(missing)])
    for cell in cells(box.inner, CELL):
        if hole.filled[cell].any():
            result[cell] = paste(pixels[cell], enlarged(small, within(cell, box.outer), factor), part(hole, cell))


def reduced(
    pixels: Array, filled: NDArray[np.bool_], region: Region, factor: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Means of the known pixels in squares of ``factor``, [h, w, 3] in [0, 1], and the known share of each, [h, w]."""
    _, width = extent(region)
    columns = np.arange(0, width, factor)
    means, shares = [], []
    for top in range(region[0].start, region[0].stop, factor):
        strip = slice(top, min(top + factor, region[0].stop)), region[1]
        known = ~filled[strip]
        values = emptied(pixels[strip], Hole(~known))
        count = np.add.reduceat(known.sum(axis=0, dtype=np.float32), columns)
        means.append(np.add.reduceat(values.sum(axis=0), columns, axis=0) / np.maximum(count, 1)[:, None])
        whole = np.add.reduceat(np.full(width, known.shape[0], np.float32), columns)
        shares.append(count / whole)
    return np.stack(means), np.stack(shares)


def enlarged(small: NDArray[np.float32], region: Region, factor: int) -> NDArray[np.float32]:
    """A region of the reduced picture [h, w, 3] at full size, cubic, within [0, 1]."""
    height, width = extent(region)
    top, left = ((span.start + 0.5) / factor - 0.5 for span in region)
    back = np.array([[1 / factor, 0, left], [0, 1 / factor, top]])
    flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
    values = cv2.warpAffine(small, back, (width, height), flags=flags, borderMode=cv2.BORDER_REPLICATE)
    return np.clip(np.asarray(values, np.float32), 0, 1)
