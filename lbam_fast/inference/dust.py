"""Holes a few pixels wide, found among others: specks, which are filled without the network. Without torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from lbam_fast.inference.regions import Region, any_in_cells, cells, grown, within

DEPTH = 6
"""Pixels from the known ones up to which this is as good as the network: docs/large-pictures.md."""
SMOOTH = 3
"""Pixels from the known ones up to which texture makes it no better."""
MOST = 512
"""Pixels of a speck, at most: what is solved grows with their third power."""
LONGEST = 40
"""Pixels of a side of a speck, at most."""
CELL = 8
"""Pixels of a side of the cells that say where other holes are."""
AT_ONCE, MARGIN = 1536, 48
"""Pixels of a side of what is searched at once, a multiple of ``CELL``, and of what is looked at around it."""
CROSS = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]], np.uint8)


@dataclass(frozen=True, eq=False)
class Dust:
    """Specks near each other.

    rows, columns  int32 [N], where their pixels are, those of one speck together and row by row, large specks first
    counts         [K], how many pixels each has
    textured       [K], which are better with texture
    """

    rows: NDArray[np.int32]
    columns: NDArray[np.int32]
    counts: NDArray[np.int64]
    textured: NDArray[np.bool_]


def find_dust(filled: NDArray[np.bool_]) -> tuple[tuple[Dust, ...], NDArray[np.bool_]]:
    """The specks among the holes of ``filled`` [H, W], and cells of ``CELL`` pixels [ceil(H / 8), ceil(W / 8)] with other holes.

    A speck is a hole, with all that is within three steps along the axes of it, of at most ``MOST`` pixels, none of them deeper
    than ``DEPTH``, and with no side longer than ``LONGEST``.
    """
    height, width = filled.shape
    left = np.zeros((-(-height // CELL), -(-width // CELL)), np.bool_)
    found = []
    for place in cells((slice(0, height), slice(0, width)), AT_ONCE):
        read = grown(place, MARGIN, filled.shape)
        if not filled[read].any():
            continue
        area, inner = np.ascontiguousarray(filled[read]), within(place, read)
        kinds = _kinds(area, filled.shape)
        others = area & ~kinds.speck.take(kinds.labels) if kinds.speck.any() else area
        left[tuple(slice(span.start // CELL, -(-span.stop // CELL)) for span in place)] = any_in_cells(others[inner], CELL)
        first, last = [span.start for span in inner], [span.stop for span in inner]
        own: NDArray[np.bool_] = kinds.speck & ((kinds.starts >= first) & (kinds.starts < last)).all(axis=1)
        if own.any():
            found.append(_listed(kinds, own.take(kinds.labels) & area, read))
    return tuple(found), left


class _Kinds(NamedTuple):
    """Holes, near ones as one: a label [H, W] for each, and by label where it starts, and what it is."""

    labels: NDArray[np.int32]
    starts: NDArray[np.int32]
    speck: NDArray[np.bool_]
    textured: NDArray[np.bool_]


def _kinds(area: NDArray[np.bool_], shape: tuple[int, ...]) -> _Kinds:
    """Of the holes in a part of a picture of that (height, width).

    What goes from edge to edge of the picture is no speck: beside any other there are known pixels that are not in line.
    """
    hole = area.view(np.uint8)
    found = cv2.connectedComponentsWithStats(cv2.dilate(hole, CROSS), connectivity=4)
    count, labels, stats = found[0], np.asarray(found[1], np.int32), np.asarray(found[2], np.int32)
    starts, sides = stats[:, 1::-1], stats[:, 3:1:-1]  # of the cross's pixels, one more in each direction
    speck = np.all((sides <= LONGEST + 2) & (sides < shape), axis=1)
    speck[0] = False
    textured = np.zeros(count, np.bool_)
    if speck.any():
        speck[labels[_deeper(area, DEPTH)]] = False
        speck[np.bincount(labels[area], minlength=count) > MOST] = False
        textured[labels[_deeper(area, SMOOTH)]] = True
    return _Kinds(labels, starts, speck, textured)


def _deeper(area: NDArray[np.bool_], pixels: int) -> NDArray[np.bool_]:
    """Which pixels are further than that from any known one."""
    steps = np.arange(-pixels, pixels + 1)
    disc = (steps[:, None] ** 2 + steps**2 <= pixels**2).astype(np.uint8)
    return cv2.erode(area.view(np.uint8), disc).view(np.bool_)


def _listed(kinds: _Kinds, where: NDArray[np.bool_], read: Region) -> Dust:
    rows, columns = np.nonzero(where)
    mine = kinds.labels[rows, columns]
    counts = np.bincount(mine)
    order = np.lexsort((mine, -counts[mine]))
    rows, columns = (at[order] + span.start for at, span in zip((rows, columns), read, strict=True))
    specks = np.flatnonzero(counts)
    specks = specks[np.argsort(-counts[specks], kind="stable")]
    return Dust(rows.astype(np.int32), columns.astype(np.int32), counts[specks], kinds.textured[specks])
