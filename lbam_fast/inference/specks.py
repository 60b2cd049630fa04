"""Holes of up to 40 pixels on a side, found one by one; how large a part of the picture each needs, if any. Without torch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from lbam_fast.inference.regions import Region, any_in_cells, cells, grown, within

SIDES, WINDOWS = (12, 24, 32, 40), (32, 48, 64, 96)
"""Specks of up to so many pixels on a side are filled in windows of such a side."""
SMOOTH, MOST = 3, 512
"""Pixels from the known ones, and pixels at all, up to which a speck needs no network: docs/large-pictures.md."""
CELL = 8
"""Pixels of a side of the cells that say where holes are."""
AT_ONCE, MARGIN = 1536, 48
"""Pixels of a side of what is searched at once, a multiple of ``CELL``, and of what is looked at around it."""
FEW, SPARSE = 64, 4
"""Clusters of holes up to which they are searched one by one, if their rectangles take less than one part in so many."""
CROSS = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]], np.uint8)


@dataclass(frozen=True, eq=False)
class Specks:
    """Those of a region, or of a picture with few holes.

    rows, columns  int32 [N], where their pixels are, those of one speck together and row by row
    counts         [K], how many pixels each has, the largest first
    windows        [K], the side of the window around it in which it is filled; 0 where its pixels' neighbours are enough
    """

    rows: NDArray[np.int32]
    columns: NDArray[np.int32]
    counts: NDArray[np.int64]
    windows: NDArray[np.int8]

    def chosen(self, which: NDArray[np.bool_]) -> Specks:
        """Those [K] of them."""
        pixels = np.repeat(which, self.counts)
        return Specks(self.rows[pixels], self.columns[pixels], self.counts[which], self.windows[which])


class Found(NamedTuple):
    """What is found in a mask: specks, cells of ``CELL`` pixels with other holes, and cells with specks that need windows."""

    specks: tuple[Specks, ...]
    others: NDArray[np.bool_]
    in_windows: NDArray[np.bool_]


def find_specks(filled: NDArray[np.bool_]) -> Found:
    """The specks among the holes of ``filled`` [H, W].

    A speck is a hole, with all that is within three steps along the axes of it, of up to 40 pixels on a side, that does not reach
    from one edge of the picture to the opposite one. It needs no window if it has at most ``MOST`` pixels, none of them deeper
    than ``SMOOTH``.
    """
    shape = [-(-side // CELL) for side in filled.shape]
    others, in_windows = np.zeros(shape, np.bool_), np.zeros(shape, np.bool_)
    found = []
    for parts in _parts(filled):
        lists = [_search(filled, place, read, others, in_windows) for place, read in parts]
        if any(len(each.rows) for each in lists):
            found.append(_listed(lists))
    return Found(tuple(found), others, in_windows)


def _parts(filled: NDArray[np.bool_]) -> Iterator[list[tuple[Region, Region]]]:
    """What is searched, and what is looked at for it, so much of it together as makes one of ``Specks``: a few holes by
    themselves, others in squares."""
    holes = any_in_cells(filled, CELL)
    _, _, stats, _ = cv2.connectedComponentsWithStats(holes.view(np.uint8), connectivity=8)
    if 0 < len(stats) - 1 <= FEW:
        taken = np.zeros(holes.shape, np.int64)
        for left, top, width, height in stats[1:, :4]:
            taken[top : top + height, left : left + width] += 1
        if taken.max() == 1 and SPARSE * taken.sum() < taken.size:
            places = map(partial(_in_pixels, filled.shape), stats[1:, :4])
            yield [(place, grown(place, CELL // 2, filled.shape)) for place in places]  # as far as there is no other hole
            return
    for place in cells((slice(0, filled.shape[0]), slice(0, filled.shape[1])), AT_ONCE):
        read = grown(place, MARGIN, filled.shape)
        if filled[read].any():
            yield [(place, read)]


def _in_pixels(shape: tuple[int, ...], stats: NDArray[np.int32]) -> Region:
    left, top, width, height = (int(number) * CELL for number in stats)
    return slice(top, min(top + height, shape[0])), slice(left, min(left + width, shape[1]))


class _Pixels(NamedTuple):
    """Pixels [N] of specks with their labels, and the window for each label."""

    rows: NDArray[np.int64]
    columns: NDArray[np.int64]
    labels: NDArray[np.int32]
    windows: NDArray[np.int8]


def _search(
    filled: NDArray[np.bool_], place: Region, read: Region, others: NDArray[np.bool_], in_windows: NDArray[np.bool_]
) -> _Pixels:
    """The specks that begin in a place; which of its cells have what is written to the last two."""
    area, inner = np.ascontiguousarray(filled[read]), within(place, read)
    labels, starts, windows = _labelled(area, filled.shape)
    at = tuple(slice(span.start // CELL, -(-span.stop // CELL)) for span in place)
    if (windows >= 0).any():
        kinds = windows.take(labels[inner])
        others[at] = any_in_cells(area[inner] & (kinds < 0), CELL)
        in_windows[at] = any_in_cells(area[inner] & (kinds > 0), CELL)
    else:
        others[at] = any_in_cells(area[inner], CELL)
    first, last = [span.start for span in inner], [span.stop for span in inner]
    own = (windows >= 0) & np.all((starts >= first) & (starts < last), axis=1)
    rows, columns = np.nonzero(own.take(labels) & area) if own.any() else np.zeros((2, 0), np.int64)
    return _Pixels(rows + read[0].start, columns + read[1].start, labels[rows, columns], windows)


def _labelled(area: NDArray[np.bool_], shape: tuple[int, ...]) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int8]]:
    """Holes in a part of a picture of that (height, width), near ones as one: their labels [H, W], and by label where each starts
    and the window that it needs; -1 where it is no speck.

    What goes from edge to edge of the picture is none: beside any other there are known pixels that are not in line.
    """
    hole = area.view(np.uint8)
    found = cv2.connectedComponentsWithStats(cv2.dilate(hole, CROSS), connectivity=4)
    count, labels, stats = found[0], np.asarray(found[1], np.int32), np.asarray(found[2], np.int32)
    starts, sides = stats[:, 1::-1] + 1, stats[:, 3:1:-1]  # these with one more pixel in each direction
    small = np.all((sides <= SIDES[-1] + 2) & (sides < shape), axis=1)
    small[0] = False
    needed = np.zeros(count, np.bool_)
    if small.any():
        needed[labels[_deep(area)]] = True
        needed[np.bincount(labels[area], minlength=count) > MOST] = True
    sizes = np.minimum(np.searchsorted(np.add(SIDES, 2), sides.max(axis=1)), len(SIDES) - 1)
    return labels, starts, np.where(small, np.where(needed, np.take(WINDOWS, sizes), 0), -1).astype(np.int8)


def _deep(area: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which pixels are further than ``SMOOTH`` from any known one."""
    steps = np.arange(-SMOOTH, SMOOTH + 1)
    disc = (steps[:, None] ** 2 + steps**2 <= SMOOTH**2).astype(np.uint8)
    return cv2.erode(area.view(np.uint8), disc).view(np.bool_)


def _listed(parts: list[_Pixels]) -> Specks:
    first = np.cumsum([0, *(len(part.windows) for part in parts[:-1])])
    rows, columns, windows = (np.concatenate([part[i] for part in parts]) for i in (0, 1, 3))
    labels = np.concatenate([part.labels + by for part, by in zip(parts, first, strict=True)])
    counts = np.bincount(labels)
    order = np.lexsort((labels, -counts[labels]))
    found = np.flatnonzero(counts)
    found = found[np.argsort(-counts[found], kind="stable")]
    return Specks(rows[order].astype(np.int32), columns[order].astype(np.int32), counts[found], windows[found])
