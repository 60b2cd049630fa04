"""Large pictures filled as a plan says: at a limited size, in boxes around their holes, in tiles."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

import cv2
import numpy as np
from numpy.typing import NDArray

from lbam_fast.inference.boxes import Box
from lbam_fast.inference.detail import Detailer
from lbam_fast.inference.layouts import Array, from_unit, to_unit
from lbam_fast.inference.masks import Hole
from lbam_fast.inference.memory import padded_pixels
from lbam_fast.inference.pasting import paste
from lbam_fast.inference.reduced import Fill, fill_reduced
from lbam_fast.inference.regions import Region, cells, extent, grown, part, within
from lbam_fast.inference.speck_filler import SpeckFiller
from lbam_fast.inference.strategies import Plan
from lbam_fast.inference.tiles import Tile, tile_rows

SQUARE = 1024, 1024
AT_ONCE = SQUARE[0] * SQUARE[1]
"""Pixels of boxes or tiles in one call of the network."""
DEPTH = 64
"""Pixels from known ones up to which a tile is filled at full size; what lies deeper comes from the reduced picture."""
TEXTURED, AROUND = 1536, 256
"""Pixels of the side of what gets its texture at once, and how far is looked around it."""


@dataclass(frozen=True)
class BoxFiller:
    """Fills boxes of pictures [H, W, 1 or 3].

    outputs  what the network makes of pictures of one size in one pass: [H, W, 3] in [0, 1] for each
    finish   pictures, of any sizes, with such outputs in their holes, with texture where that is wanted
    """

    outputs: Callable[[Sequence[Array], Sequence[Hole]], list[NDArray[np.float32]]]
    finish: Callable[[Sequence[Array], Sequence[NDArray[np.float32]], Sequence[Hole]], list[Array]]

    def into(
        self, result: Array, pixels: Array, hole: Hole, boxes: Sequence[Box], rest: Callable[[], None] = lambda: None
    ) -> None:
        """Fill the hole in the inner parts of boxes: those of one size go through the network together, and some of several sizes
        get their texture side by side. rest: is called between such."""
        for calls in _calls(boxes):
            parts = [[pixels[box.outer] for box in call] for call in calls]
            holes = [[part(hole, box.outer) for box in call] for call in calls]
            outputs = [self.outputs(*each) for each in zip(parts, holes, strict=True)]
            filled = self.finish(*(list(chain(*each)) for each in (parts, outputs, holes)))
            for box, one in zip(chain(*calls), filled, strict=True):
                result[box.inner] = one[within(box.inner, box.outer)]
            rest()


def _calls(boxes: Sequence[Box]) -> Iterator[list[list[Box]]]:
    """Boxes in calls of the network, of one size and ``AT_ONCE`` pixels at most; as many calls as have that many together."""
    sizes: dict[tuple[int, int], list[Box]] = defaultdict(list)
    for box in boxes:
        sizes[extent(box.outer)].append(box)
    calls, pixels = [], 0
    for size, same in sizes.items():
        count = max(1, AT_ONCE // padded_pixels(*size))
        for start in range(0, len(same), count):
            calls.append(same[start : start + count])
            pixels += len(calls[-1]) * padded_pixels(*size)
            if pixels >= AT_ONCE:
                yield calls
                calls, pixels = [], 0
    if calls:
        yield calls


@dataclass(frozen=True)
class PartFiller:
    """Fills pictures [H, W, 1 or 3] by plans other than "whole".

    fill      fills pictures of one size in one pass, with texture where that is wanted
    boxes     fills boxes
    specks    fills what has neither box nor tile
    smooth    as ``fill``, without texture
    detailer  lays texture over what is smooth
    """

    fill: Fill
    boxes: BoxFiller
    specks: SpeckFiller
    smooth: Fill
    detailer: Detailer

    def __call__(self, pixels: Array, hole: Hole, plan: Plan) -> Array:
        """A new picture, ``pixels`` filled in ``hole``; known pixels are the same to the bit."""
        result = pixels.copy()
        self.into(result, pixels, hole, plan)
        return result

    def into(self, result: Array, pixels: Array, hole: Hole, plan: Plan, rest: Callable[[], None] = lambda: None) -> None:
        """Fill the hole in ``result``, a copy of ``pixels``, region by region. rest: is called between regions."""
        if plan.strategy == "resize":
            everything = slice(0, pixels.shape[0]), slice(0, pixels.shape[1])
            fill_reduced(self.fill, pixels, result, hole, Box(everything, hole.box), plan.side)
            return
        self.boxes.into(result, pixels, hole, plan.boxes, rest)
        for cell in (cell for box in plan.tiled for cell in cells(box.inner, TEXTURED)):  # what lies in any hole has no say
            result[cell][hole.filled[cell]] = 0
        for box in plan.tiled:
            self._fill_tiled(pixels, result, hole, box, plan.side)
            rest()
        self.specks.into(result, pixels, hole, plan.specks, rest)  # of which boxes and tiles may hold some too

    def _fill_tiled(self, pixels: Array, result: Array, hole: Hole, box: Box, side: int) -> None:
        if any(depths(hole.filled, tile.region).max() > DEPTH for row in tile_rows(box.outer, side) for tile in row):
            wide = grown(box.inner, max(extent(box.inner)) // 4, pixels.shape)
            hard = Hole(hole.filled)  # its edge is blended at the end
            fill_reduced(self.smooth, pixels, result, hard, Box(wide, box.inner), side)
        fill_tiles(self.smooth, result, hole.filled, box, side)
        area = grown(box.inner, AROUND, pixels.shape)
        self._finish(pixels[area], result[area], part(hole, area), within(box.inner, area), self.detailer.wanted(hole))

    def _finish(self, pixels: Array, result: Array, hole: Hole, inner: Region, textured: bool) -> None:
        """Give ``inner`` of a smooth result its texture, cell by cell, each going on from those before; blend the hole's edge."""
        missing = hole.filled.copy()
        for cell in cells(inner, TEXTURED):
            if textured and missing[cell].any():
                read = grown(cell, AROUND, pixels.shape)
                output = self.detailer(result[read], to_unit(result[read]), Hole(missing[read]))
                values = from_unit(output[within(cell, read)], pixels)
                result[cell] = np.where(missing[cell][..., None], values, result[cell])
            missing[cell] = False
        for cell in cells(inner, TEXTURED):
            if hole.soft is not None and (hole.soft[cell][hole.filled[cell]] < 1).any():
                result[cell] = paste(pixels[cell], to_unit(result[cell]), part(hole, cell))


def fill_tiles(fill: Fill, result: Array, filled: NDArray[np.bool_], box: Box, side: int) -> None:
    """Fill a box in overlapping tiles, which are blended; what is deep in a hole is filled already and counts as known."""
    rows = tile_rows(box.outer, side)
    tops = [row[0].region[0].start for row in rows]
    total = np.zeros((*extent((rows[0][0].region[0], box.outer[1])), result.shape[2]), np.float32)
    for row, top, next_top in zip(rows, tops, [*tops[1:], box.outer[0].stop], strict=True):
        _add_row(fill, total, result, filled, box, row)
        done = slice(top, next_top), box.outer[1]
        final = shallow(filled, done, box.inner) & _inside(done, box.inner)
        _put(result[done], total[: next_top - top], final)
        total = np.concatenate([total[next_top - top :], np.zeros_like(total[: next_top - top])])


def _add_row(
    fill: Fill, total: NDArray[np.float32], result: Array, filled: NDArray[np.bool_], box: Box, row: Sequence[Tile]
) -> None:
    """Add the values of one row of tiles, by their shares."""
    found = [(tile, shallow(filled, tile.region, box.inner)) for tile in row]
    needed = [(tile, hole) for tile, hole in found if (hole & _inside(tile.region, box.inner)).any()]
    count = max(1, AT_ONCE // padded_pixels(*extent(row[0].region)))
    for start in range(0, len(needed), count):
        few = needed[start : start + count]
        values = fill([result[tile.region] for tile, _ in few], [Hole(missing) for _, missing in few])
        for (tile, _), one in zip(few, values, strict=True):
            _, columns = within(tile.region, box.outer)
            total[:, columns] += tile.down[:, None, None] * tile.across[:, None] * one


def shallow(filled: NDArray[np.bool_], region: Region, inner: Region) -> NDArray[np.bool_]:
    """The hole in a region without what is deep in it; outside ``inner``, where nothing is filled yet, with that."""
    return filled[region] & ~(_inside(region, inner) & (depths(filled, region) > DEPTH))


def depths(filled: NDArray[np.bool_], region: Region) -> NDArray[np.float32]:
    """Pixels from each pixel of a region to the nearest known one, exact up to ``DEPTH``."""
    around = grown(region, DEPTH + 1, filled.shape)
    found = cv2.distanceTransform(filled[around].astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return np.asarray(found, np.float32)[within(region, around)]


def _inside(region: Region, inner: Region) -> NDArray[np.bool_]:
    """Which of a region's pixels lie in ``inner``."""
    rows, columns = (
        (np.arange(r.start, r.stop) >= i.start) & (np.arange(r.start, r.stop) < i.stop)
        for r, i in zip(region, inner, strict=True)
    )
    inside: NDArray[np.bool_] = rows[:, None] & columns
    return inside


def _put(result: Array, values: NDArray[np.floating], where: NDArray[np.bool_]) -> None:
    """Write values of the result's own range there."""
    chosen = values[where]
    result[where] = np.rint(chosen) if np.issubdtype(result.dtype, np.integer) else chosen
