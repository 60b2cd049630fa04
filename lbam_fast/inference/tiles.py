"""Overlapping tiles, and the weights that blend them. Without torch."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lbam_fast.inference.boxes import STEP
from lbam_fast.inference.regions import Region

OVERLAP = 192
"""Pixels that neighbouring tiles have in common at least."""
BLENDED = 128
"""Pixels in the middle of these over which one tile gives way to the next; at its very edge the network sees too little."""


@dataclass(frozen=True)
class Tile:
    """A part of a picture, and its share in each of its pixels: ``down[:, None] * across``. All tiles' shares add up to 1."""

    region: Region
    down: NDArray[np.float32]
    across: NDArray[np.float32]


def tile_rows(region: Region, side: int) -> list[list[Tile]]:
    """Tiles of one size, up to that side, that cover the region, row by row."""
    rows, columns = (_spans(span, side) for span in region)
    down, across = _shares(rows), _shares(columns)
    return [
        [Tile((row, column), row_share, share) for column, share in zip(columns, across, strict=True)]
        for row, row_share in zip(rows, down, strict=True)
    ]


def _spans(span: slice, most: int) -> list[slice]:
    """Evenly spread over the span, no larger than they have to be."""
    length = span.stop - span.start
    if length <= most:
        return [span]
    count = -(-(length - OVERLAP) // (most - OVERLAP))
    needed = -(-(length + (count - 1) * OVERLAP) // count)
    side = needed + -needed % STEP
    starts = (span.start + round(i * (length - side) / (count - 1)) for i in range(count))
    return [slice(start, start + side) for start in starts]


def _shares(spans: list[slice]) -> list[NDArray[np.float32]]:
    shares = [np.ones(span.stop - span.start, np.float32) for span in spans]
    for (before, after), (earlier, later) in zip(itertools.pairwise(spans), itertools.pairwise(shares), strict=True):
        middle = (before.stop + after.start) / 2
        earlier *= 1 - _ramp(before, middle)
        later *= _ramp(after, middle)
    return shares


def _ramp(span: slice, middle: float) -> NDArray[np.float32]:
    """From 0 to 1 across ``BLENDED`` pixels around the middle."""
    at = np.arange(span.start, span.stop) + 0.5 - middle
    return np.clip(at / BLENDED + 0.5, 0, 1).astype(np.float32)
