"""Specks filled without the network: as smooth as what is around them, and where that is better with texture."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from lbam_fast.inference.biharmonic import biharmonic
from lbam_fast.inference.detail import Detailer
from lbam_fast.inference.dust import LONGEST, Dust
from lbam_fast.inference.layouts import Array, from_unit, to_unit
from lbam_fast.inference.masks import Hole
from lbam_fast.inference.pasting import paste
from lbam_fast.inference.sheets import at_once, side_by_side

SIDES, WINDOWS = (12, 24, LONGEST), (32, 48, 64)
"""Specks of up to so many pixels on a side get their texture in windows of such a side."""


def fill_specks(
    detailer: Detailer, pixels: Array, result: Array, hole: Hole, specks: Sequence[Dust], rest: Callable[[], None]
) -> None:
    """Fill specks of a hole in ``result``, a copy of ``pixels`` [H, W, 1 or 3]. rest: is called between regions."""
    for dust in specks:
        result[dust.rows, dust.columns] = from_unit(biharmonic(pixels, hole.filled, dust), pixels)
        rest()
    for dust in specks:  # all of which are smooth now
        _lay_texture(detailer, result, dust)
        if hole.soft is not None:
            at = dust.rows, dust.columns
            own = Hole(np.ones((1, len(dust.rows)), np.bool_), hole.soft[at][None])
            result[at] = paste(np.ascontiguousarray(pixels[at][None]), to_unit(result[at][None]), own)[0]
        rest()


def _lay_texture(detailer: Detailer, result: Array, dust: Dust) -> None:
    """Give specks of a smooth result their texture, from all windows that are in one sheet."""
    starts = np.cumsum(dust.counts) - dust.counts
    at = np.stack([dust.rows, dust.columns], axis=-1).astype(np.int64)
    first, last = np.minimum.reduceat(at, starts), np.maximum.reduceat(at, starts)
    sides = np.searchsorted(SIDES, (last - first + 1).max(axis=1))
    for i, side in enumerate(WINDOWS):
        chosen = np.flatnonzero((sides == i) & dust.textured)
        corners = np.clip((first + last + 1 - side) // 2, 0, np.maximum(np.array(result.shape[:2]) - side, 0))
        for start in range(0, len(chosen), at_once(side)):
            few = chosen[start : start + at_once(side)]
            counts = dust.counts[few]
            own = np.repeat(starts[few] - (np.cumsum(counts) - counts), counts) + np.arange(counts.sum())
            _lay(detailer, result, at[own], np.repeat(np.arange(len(few)), counts), corners[few], side)


def _lay(
    detailer: Detailer,
    result: Array,
    at: NDArray[np.int64],
    window: NDArray[np.int64],
    corners: NDArray[np.int64],
    side: int,
) -> None:
    """The same for pixels ``at`` [N, 2], each in one of the windows at these corners [K, 2]."""
    sheet = side_by_side(result, corners, side)
    rows, columns = (at - corners[window]).T
    across = sheet.shape[1] // side
    rows, columns = rows + window // across * side, columns + window % across * side
    filled = np.zeros(sheet.shape[:2], np.bool_)
    filled[rows, columns] = True
    output = detailer(sheet, to_unit(sheet), Hole(filled))
    result[at[:, 0], at[:, 1]] = from_unit(output[rows, columns], result)
