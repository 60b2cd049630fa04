"""From the masks that people bring to the hole that is filled, and to the weights that blend its edge."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from lbam_fast.config import HoleColour
from lbam_fast.inference.errors import InpaintError

STRIP = 512
"""Rows that are looked at together, as a hole may be a mapped file."""


@dataclass(frozen=True)
class MaskOptions:
    """How a mask is read.

    hole       the colour of holes in the mask, "white" or "black"
    threshold  in (0, 1): a mask value beyond it, towards the hole's colour, is hole
    grow       pixels by which the hole is widened in every direction (a square, as a dilation by a box)
    feather    pixels over which the filling blends into the picture, inside the grown band alone: at most ``grow`` take effect
    """

    hole: HoleColour = "white"
    threshold: float = 0.5
    grow: int = 0
    feather: int = 0

    def __post_init__(self) -> None:
        if self.hole not in ("white", "black"):
            raise InpaintError(f"hole is {self.hole!r}, expected 'white' or 'black': the colour of holes in the mask")
        if not 0 < self.threshold < 1:
            raise InpaintError(f"threshold is {self.threshold}, expected a number between 0 and 1, both excluded")
        for name, pixels in (("grow", self.grow), ("feather", self.feather)):
            if not isinstance(pixels, int) or pixels < 0:
                raise InpaintError(f"{name} is {pixels!r}, expected a whole number of pixels, 0 or more")
        if self.feather > self.grow:
            warnings.warn(beyond_grow(self.feather, self.grow), stacklevel=4)

    @property
    def blended(self) -> int:
        """Pixels of ``feather`` that take effect."""
        return min(self.feather, self.grow)


def beyond_grow(feather: int, grow: int) -> str:
    """What to know where feather is more than grow."""
    return f"feather is {feather} but grow is {grow}: only the grown band is blended; raise grow as far"


@dataclass(frozen=True, eq=False)
class Hole:
    """What is filled in one picture.

    filled  [H, W] bool
    soft    [H, W] float32 in [0, 1], the filling's share, 0 outside; None where no edge is blended
    """

    filled: NDArray[np.bool_]
    soft: NDArray[np.float32] | None = None

    @property
    def weight(self) -> NDArray[np.float32]:
        """The filling's share, [H, W]: 0 outside, 1 inside but where an edge is blended. A new array where none is."""
        return self.filled.astype(np.float32) if self.soft is None else self.soft

    def changed(self, function: Callable[[NDArray[Any]], NDArray[Any]]) -> Hole:
        """The hole with that done to its arrays, such as a cut or a turn."""
        return Hole(function(self.filled), None if self.soft is None else function(self.soft))

    @cached_property
    def box(self) -> tuple[slice, slice]:
        """The rows and columns that hold all that is filled."""
        rows, columns = (np.flatnonzero(self.filled.any(axis=axis)) for axis in (1, 0))
        return _span(rows), _span(columns)

    @cached_property
    def content(self) -> tuple[tuple[int, ...], bytes]:
        """What holes have in common that are of one size and filled in the same places: size and digest."""
        return self.filled.shape, hashlib.blake2b(np.packbits(self.filled).data, digest_size=16).digest()

    @cached_property
    def depth(self) -> float:
        """Pixels from the middle of the widest hole to the nearest known pixel."""
        return float(cv2.distanceTransform(self.filled.astype(np.uint8), cv2.DIST_L2, 5).max())

    @cached_property
    def fine(self) -> bool:
        """Whether all but one in a hundred of its pixels touch a known one, if only at a corner, as fine lines and noise do."""
        pixels = deep = 0
        for top in range(0, len(self.filled), STRIP):
            above = min(top, 1)
            strip = np.ascontiguousarray(self.filled[top - above : top + STRIP + 1]).view(np.uint8)
            deep += int(np.count_nonzero(cv2.erode(strip, np.ones((3, 3), np.uint8))[above : above + STRIP]))
            pixels += int(np.count_nonzero(strip[above : above + STRIP]))
        return 100 * deep <= pixels


def _span(indices: NDArray[np.intp]) -> slice:
    return slice(int(indices[0]), int(indices[-1]) + 1) if indices.size else slice(0)


def find_hole(mask: NDArray[np.float32], options: MaskOptions) -> Hole:
    """The hole in a mask [H, W] with values in [0, 1]. Inside the drawn hole the weight is 1 whatever the feathering."""
    drawn = mask > options.threshold if options.hole == "white" else mask < options.threshold
    side = 2 * options.grow + 1
    filled = cv2.dilate(drawn.astype(np.uint8), np.ones((side, side), np.uint8)).astype(bool) if options.grow else drawn
    if not options.blended or filled.all():
        return Hole(filled)
    depth = cv2.distanceTransform(filled.astype(np.uint8), cv2.DIST_C, 3)
    return Hole(filled, np.where(drawn, 1, np.minimum(depth / (options.blended + 1), filled)).astype(np.float32))


def same_size_expected(mask: tuple[int, ...], image: tuple[int, int], turned: bool, meaning: str) -> str:
    """The end of a sentence about a mask of another height and width than its image's, which may lie as the file stores it."""
    lying = turned and mask == image[::-1]
    why = ", turned upright as its EXIF orientation says: turn the mask too; " if lying else ": "
    return f"{why}expected the same size, with {meaning}"


def oddity(mask: NDArray[np.float32], hole: Hole, options: MaskOptions, meaning: str) -> str | None:
    """A sentence about a hole that takes the whole picture, or about a mask [H, W] in [0, 1] without one; else None."""
    if hole.filled.all():
        return f"the whole picture is hole ({meaning}): all of it is made up, from nothing"
    if hole.filled.any():
        return None
    reach = float(mask.max() if options.hole == "white" else 1 - mask.min())
    but = f"its values reach {reach:.0%} of the way, and only what is beyond the threshold counts; " if reach > 0 else ""
    return f"the mask has no hole ({meaning}): {but}the picture is copied as it is"
