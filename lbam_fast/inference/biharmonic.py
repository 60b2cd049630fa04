"""Specks filled as smoothly as what is around them goes on: by the biharmonic equation."""

from __future__ import annotations

import itertools
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lbam_fast.inference.layouts import Array, to_unit
from lbam_fast.inference.specks import Specks

REACH = 2
"""Pixels from one, in steps along the axes, up to which others have to do with it."""
MOST_ENTRIES = 1 << 21
"""Of matrices that are solved together."""
STEPS = [step for step in itertools.product(range(-REACH, REACH + 1), repeat=2) if sum(map(abs, step)) <= REACH]


class _Axis(NamedTuple):
    """For each place along an axis, and each step from -2 to 2 [size, 5]: how the sum of squared differences changes with both.

    bent   second differences
    mixed  first ones, for the mixed second difference
    """

    bent: NDArray[np.float64]
    mixed: NDArray[np.float64]


def biharmonic(pixels: Array, filled: NDArray[np.bool_], specks: Specks) -> NDArray[np.float32]:
    """Values [N, 3] in [0, 1] for the pixels of specks in a picture [H, W, 1 or 3] with holes where ``filled`` [H, W].

    A thin plate is laid through the known pixels, of which there must be three that are not in line (Damelin and Hoang, 2018):
    the sum of its squared second differences becomes as small as they allow. Those within two pixels of a speck decide alone.
    """
    axes = [_Axis(_energy(size, (1, -2, 1)), _energy(size, (1, -1))) for size in filled.shape]
    values = np.empty((len(specks.rows), 3))
    start = first = 0
    while first < len(specks.counts):
        most = int(specks.counts[first])
        counts = specks.counts[first : first + max(1, MOST_ENTRIES // (most * max(most, len(STEPS))))]
        some = slice(start, start + int(counts.sum()))
        values[some] = _solved(pixels, filled, specks.rows[some], specks.columns[some], counts, axes)
        start, first = some.stop, first + len(counts)
    return values.clip(0, 1).astype(np.float32)


def _solved(
    pixels: Array,
    filled: NDArray[np.bool_],
    rows: NDArray[np.int32],
    columns: NDArray[np.int32],
    counts: NDArray[np.int64],
    axes: list[_Axis],
) -> NDArray[np.float64]:
    """Values [N, 3] of the pixels of specks, the first of which is the largest."""
    most = int(counts[0])
    speck = np.repeat(np.arange(len(counts)), counts)
    place = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
    top, left = rows.min(), columns.min()
    places = np.zeros((rows.max() - top + 1, columns.max() - left + 1), np.int32)
    places[rows - top, columns - left] = place
    given = np.zeros((len(rows), 3))
    matrices = np.where(np.arange(most) < counts[:, None, None], 0, np.eye(most))  # beside smaller specks nothing, which is 0
    for down, across in STEPS:
        pull = _pull(rows, columns, down, across, axes)
        y, x = (
            (at + step).clip(0, size - 1) for at, step, size in zip((rows, columns), (down, across), filled.shape, strict=True)
        )
        unknown = filled[y, x]
        given -= pull[:, None] * np.where(unknown[:, None], 0, to_unit(pixels[y, x][None])[0])
        linked = np.flatnonzero(unknown & (pull != 0))
        matrices[speck[linked], place[linked], places[y[linked] - top, x[linked] - left]] = pull[linked]
    padded = np.zeros((len(counts), most, 3))
    padded[speck, place] = given
    return np.asarray(np.linalg.solve(matrices, padded)[speck, place])


def _pull(rows: NDArray[np.int32], columns: NDArray[np.int32], down: int, across: int, axes: list[_Axis]) -> NDArray[np.float64]:
    """How the energy changes with each of these pixels and the one so many steps from it; 0 beyond the picture's edge."""
    vertical, horizontal = axes
    pull: NDArray[np.float64] = 2 * vertical.mixed[rows, down + REACH] * horizontal.mixed[columns, across + REACH]
    if across == 0:
        pull += vertical.bent[rows, down + REACH]
    if down == 0:
        pull += horizontal.bent[columns, across + REACH]
    return pull


def _energy(size: int, weights: tuple[int, ...]) -> NDArray[np.float64]:
    """[size, 5] of the sum of squares of such differences along an axis."""
    length = len(weights)
    found = np.zeros((size, 2 * REACH + 1))
    for i, j in itertools.product(range(length), repeat=2):
        found[i : max(i, size - length + 1 + i), j - i + REACH] += weights[i] * weights[j]
    return found
