"""How a large picture is filled: in one pass, at a limited size, in boxes around its holes, or in tiles. Without torch.

>>> plan(filled)                                      # a mask [H, W], True where there is a hole
Plan(strategy='crop', why='2 holes in 2 boxes, 3 % of 12.0 megapixels', boxes=(...), ...)
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from lbam_fast.inference.boxes import Box, Groups, around, cost, groups, region
from lbam_fast.inference.dust import Dust, find_dust
from lbam_fast.inference.errors import InpaintError
from lbam_fast.inference.regions import extent

Strategy = Literal["auto", "whole", "resize", "crop", "tile"]
Chosen = Literal["whole", "resize", "crop", "tile"]

SMALL = 1024 * 1024
"""Pixels up to which a picture is filled whole by "auto"."""
MOST_WHOLE = 4 * 1024 * 1024
"""Pixels up to which it is where boxes save too little."""
SAVING = 2
"""How many times cheaper boxes have to be than the whole picture."""


@dataclass(frozen=True)
class PlanOptions:
    """What a plan depends on beside the hole.

    strategy         "auto" or what is to be done
    side             pixels of a side of a tile, and of what "resize" gives the network, at most; a multiple of 128, from 384 on
    bytes_per_pixel  memory that the network takes for each of the pixels that it is given at once
    memory           bytes that it may take, for "auto"; None: no limit
    specks           whether holes a few pixels wide may be filled without the network, and many small ones in windows of 48 to
                     96 pixels, which ``PartFiller`` puts together
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
              but its dust
    tiled     larger parts likewise, with "tile", which are filled in tiles of ``side`` pixels
    side      see PlanOptions
    chosen    whether it was "auto" that had a choice, which users may want to know of
    dust      with "crop" and "tile", holes that are filled without the network
    """

    strategy: Chosen
    why: str
    boxes: tuple[Box, ...] = ()
    tiled: tuple[Box, ...] = ()
    side: int = 1024
    chosen: bool = False
    dust: tuple[Dust, ...] = ()

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
    dust, cells = find_dust(filled) if options.specks else ((), None)
    found = groups(filled, cells)
    boxes, counted = _boxes(found, filled), _counted(found, dust, filled)
    if asked == "crop":
        return Plan("crop", f"as asked, {counted}", boxes, side=side, dust=dust)
    large = [box for box in boxes if max(extent(box.outer)) > side]
    small = tuple(box for box in boxes if box not in large)
    in_tiles = Plan("tile", "as asked", small, tuple(large), side, dust=dust)
    if asked == "tile":
        return in_tiles
    if SAVING * _pixels(found, filled) <= filled.size and not large:
        return Plan("crop", counted, boxes, side=side, chosen=True, dust=dust)
    why = f"{counted}, which saves too little"
    fits = options.memory is None or filled.size * options.bytes_per_pixel <= options.memory
    if filled.size <= MOST_WHOLE and fits:
        return Plan("whole", why, side=side, chosen=True)
    why = f"a box around its holes has more than {side} pixels on a side, of {_megapixels(filled)}" if large else why
    return replace(in_tiles, why=why, chosen=True)


def _boxes(found: Groups, filled: NDArray[np.bool_]) -> tuple[Box, ...]:
    outer = around(found.rectangles, filled.shape, found.windows)
    return tuple(Box(region(read), region(rectangle)) for read, rectangle in zip(outer, found.rectangles, strict=True))


def _pixels(found: Groups, filled: NDArray[np.bool_]) -> int:
    return int(cost(found.rectangles, filled.shape, found.windows).sum())


def _counted(found: Groups, dust: tuple[Dust, ...], filled: NDArray[np.bool_]) -> str:
    share, count, specks = _pixels(found, filled) / filled.size, len(found.rectangles), sum(len(each.counts) for each in dust)
    dusty = "1 speck" if specks == 1 else f"{specks} specks"
    if specks and not count:
        return f"{dusty} in {_megapixels(filled)}"
    holes = "other holes" if specks else "holes"
    boxes = f"1 box around its {holes} is" if count == 1 else f"{count} boxes around its {holes} are"
    in_boxes = f"{boxes} {share:.0%} of {_megapixels(filled)}"
    return f"{dusty}, {in_boxes}" if specks else in_boxes


def _megapixels(filled: NDArray[np.bool_]) -> str:
    return f"{filled.size / 1e6:.1f} megapixels"
