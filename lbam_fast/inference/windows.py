"""Specks filled: as smoothly as what is around them, or by the network in windows that it gets side by side in one picture."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from lbam_fast.inference.biharmonic import biharmonic
from lbam_fast.inference.layouts import Array
from lbam_fast.inference.masks import Hole
from lbam_fast.inference.pasting import paste
from lbam_fast.inference.sheets import at_once, places_in, side_by_side
from lbam_fast.inference.specks import WINDOWS, Specks

FillSheet = Callable[[Array, Hole, int], Array]


def fill_specks(
    sheet: FillSheet, pixels: Array, result: Array, hole: Hole, specks: Sequence[Specks], rest: Callable[[], None]
) -> None:
    """Fill specks of a hole in ``result``, a copy of ``pixels`` [H, W, 1 or 3].

    sheet  fills one picture that is made of square windows of that side, each a part of another place
    rest   is called between regions
    """
    for some in specks:
        _fill_smoothly(pixels, result, hole, some.chosen(some.windows == 0))
        for side in WINDOWS:
            _fill_windows(sheet, pixels, result, hole, some.chosen(some.windows == side), side)
        rest()


def _fill_smoothly(pixels: Array, result: Array, hole: Hole, specks: Specks) -> None:
    if not len(specks.counts):
        return
    at = specks.rows, specks.columns
    own = Hole(np.ones((1, len(specks.rows)), np.bool_), None if hole.soft is None else hole.soft[at][None])
    result[at] = paste(np.ascontiguousarray(pixels[at][None]), biharmonic(pixels, hole.filled, specks)[None], own)[0]


def _fill_windows(sheet: FillSheet, pixels: Array, result: Array, hole: Hole, specks: Specks, side: int) -> None:
    ends = np.cumsum(specks.counts)
    for first in range(0, len(ends), at_once(side)):
        counts = specks.counts[first : first + at_once(side)]
        own = slice(ends[first] - counts[0], ends[first] - counts[0] + counts.sum())
        at = np.stack([specks.rows[own], specks.columns[own]], axis=-1).astype(np.int64)
        _fill_sheet(sheet, pixels, result, hole, at, counts, side)


def _fill_sheet(
    sheet: FillSheet, pixels: Array, result: Array, hole: Hole, at: NDArray[np.int64], counts: NDArray[np.int64], side: int
) -> None:
    """Specks whose pixels are ``at`` [N, 2], so many of each. Windows may show other holes, too, which are filled for nothing."""

    starts = np.cumsum(counts) - counts
    top_left, bottom_right = np.minimum.reduceat(at, starts), np.maximum.reduceat(at, starts) + 1
    corners = np.clip((top_left + bottom_right - side) // 2, 0, np.maximum(np.array(hole.filled.shape) - side, 0))
    window = np.repeat(np.arange(len(counts)), counts)
    laid_out = partial(side_by_side, corners=corners, side=side)
    done = sheet(laid_out(pixels), hole.changed(laid_out), side)
    rows, columns = places_in(done.shape, at - corners[window], window, side)
    result[at[:, 0], at[:, 1]] = done[rows, columns]
