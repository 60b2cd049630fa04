"""How a large picture is filled: in one pass, at a limited size, in boxes around its holes, or in tiles. Without torch.

>>> plan(filled)                                      # a mask [H, W], True where there is a hole
Plan(strategy='crop', why='2 holes in 2 boxes, 3 % of 12.0 megapixels', boxes=(...), ...)
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from lbam_fast.inference.boxes import CELL, Box, Rectangles, around, cost, groups, region
from lbam_fast.inference.errors import InpaintError
from lbam_fast.inference.regions import any_in_cells, extent
from lbam_fast.inference.specks import CELL as FINE
from lbam_fast.inference.specks import Specks, find_specks

Strategy = Literal["auto", "whole", "resize", "crop", "tile"]
Chosen = Literal["whole", "resize", "crop", "tile"]

SMALL = 1024 * 1024
"""Pixels up to which a picture is filled whole by "auto"."""
MOST_WHOLE = 4 * 1024 * 1024
"""Pixels up to which it is where boxes save too little."""
SAVING = 2
"""How many times cheaper boxes have to be than the whole picture."""
IN_TILES = 2
"""What a box costs in tiles beside one that is filled at once: tiles overlap, and so does what is textured."""
FEW = 16
"""Specks that are too wide to go without the network, up to which windows save nothing."""


@dataclass(frozen=True)
class PlanOptions:
    """What a plan depends on beside the hole.

    strategy         "auto" or what is to be done
    side             pixels of a side of a tile, and of what "resize" gives the network, at most; a multiple of 128, from 384 on
    bytes_per_pixel  memory that the network takes for each of the pixels that it is given at once
    memory           bytes that it may take, for "auto"; None: no limit
    specks           whether specks may be filled one by one: those a few pixels wide without the network, many others in windows
                     of 32 to 96 pixels, side by side in one picture
    """

    strategy: Strategy = "auto"
    side: int = 1024
    bytes_per_pixel: int = 288
    memory: int | None = None
    specks: bool = False

    def __post_init__(self) -> None:
        if self.strategy not in get_args(Strategy):
            raise InpaintError(f"strategy is {self.strategy!r}, expected one of {', '.join(get_args(Strategy))}")
        if self.side % 128 or self.side < 384:
            raise InpaintError(f"side is {self.side}, expected a multiple of 128, 384 at least")


@dataclass(frozen=True)
class Plan:
    """How one picture is filled.

    strategy  "whole", "resize", "crop" or "tile"
    why       the reason, as a part of a sentence
    boxes     parts that are filled by themselves, with "crop" and "tile"; the inner parts share no pixel and hold the whole hole
              but the specks
    tiled     larger parts likewise, with "tile", which are filled in tiles of ``side`` pixels
    side      see PlanOptions
    chosen    whether it was "auto" that had a choice, which users may want to know of
    specks    with "crop" and "tile", small holes that have no box
    """

    strategy: Chosen
    why: str
    boxes: tuple[Box, ...] = ()
    tiled: tuple[Box, ...] = ()
    side: int = 1024
    chosen: bool = False
    specks: tuple[Specks, ...] = ()

    def __str__(self) -> str:
        return f"strategy {self.strategy}: {self.why}"


def plan(filled: NDArray[np.bool_], options: PlanOptions | None = None) -> Plan:
    """How a picture with that hole [H, W] is filled. The same for the same hole and options, whatever the machine is at.

    Raises InpaintError for options that do not exist.
    """
    options = options or PlanOptions()
    asked, side = options.strategy, options.side
    if asked == "whole" or asked == "resize":
        return Plan(asked, "as asked", side=side)
    if asked == "auto" and filled.size <= SMALL:
        return Plan("whole", f"{_megapixels(filled)} are few", side=side)
    holes = _holes(filled, options.specks, side)
    boxes, counted = _boxes(holes.rectangles, filled), _counted(holes, filled)
    if asked == "crop":
        return Plan("crop", f"as asked, {counted}", boxes, side=side, specks=holes.specks)
    large = [box for box in boxes if max(extent(box.outer)) > side]
    small = tuple(box for box in boxes if box not in large)
    in_tiles = Plan("tile", "as asked", small, tuple(large), side, specks=holes.specks)
    if asked == "tile":
        return in_tiles
    if SAVING * holes.pixels <= filled.size and not large:
        return Plan("crop", counted, boxes, side=side, chosen=True, specks=holes.specks)
    why = f"{counted}, which saves too little"
    fits = options.memory is None or filled.size * options.bytes_per_pixel <= options.memory
    if filled.size <= MOST_WHOLE and fits:
        return Plan("whole", why, side=side, chosen=True)
    why = f"a box around its holes has more than {side} pixels on a side, of {_megapixels(filled)}" if large else why
    return replace(in_tiles, why=why, chosen=True)


class _Holes(NamedTuple):
    """Specks and rectangles that hold all others, and the pixels that the network computes to fill both."""

    specks: tuple[Specks, ...]
    rectangles: Rectangles
    pixels: int


def _holes(filled: NDArray[np.bool_], specks: bool, side: int) -> _Holes:
    def pixels(rectangles: Rectangles) -> int:
        return int(cost(rectangles, filled.shape).sum())

    def weighed(rectangles: Rectangles) -> int:
        in_tiles = np.any(rectangles[:, 2:] - rectangles[:, :2] > side, axis=1)
        return pixels(rectangles) + (IN_TILES - 1) * pixels(rectangles[in_tiles])

    if not specks:
        found = groups(filled)
        return _Holes((), found, pixels(found))
    each, others, in_windows = find_specks(filled)
    together = groups(filled, any_in_cells(others | in_windows, CELL // FINE))
    if sum(np.count_nonzero(some.windows) for some in each) > FEW:
        alone = groups(filled, any_in_cells(others, CELL // FINE))
        windows = sum(int((some.windows.astype(np.int64) ** 2).sum()) for some in each)
        if weighed(alone) + windows < weighed(together):
            return _Holes(each, alone, pixels(alone) + windows)
    smooth = (some.chosen(some.windows == 0) for some in each)
    return _Holes(tuple(some for some in smooth if len(some.counts)), together, pixels(together))


def _boxes(rectangles: Rectangles, filled: NDArray[np.bool_]) -> tuple[Box, ...]:
    outer = around(rectangles, filled.shape)
    return tuple(Box(region(read), region(rectangle)) for read, rectangle in zip(outer, rectangles, strict=True))


def _counted(holes: _Holes, filled: NDArray[np.bool_]) -> str:
    count, specks = len(holes.rectangles), sum(len(some.counts) for some in holes.specks)
    parts = [f"{specks} specks" if specks != 1 else "1 speck"] if specks else []
    if count or not specks:
        parts.append(f"{count} box{'' if count == 1 else 'es'} around its {'other ' if specks else ''}holes")
    one = count + specks == 1
    return f"{' and '.join(parts)} {'is' if one else 'are'} {holes.pixels / filled.size:.0%} of {_megapixels(filled)}"


def _megapixels(filled: NDArray[np.bool_]) -> str:
    return f"{filled.size / 1e6:.1f} megapixels"
