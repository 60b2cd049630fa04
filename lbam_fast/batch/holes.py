"""The hole that a mask, or a picture's transparency, means, and what is odd about it."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lbam_fast.inference import Hole, InpaintError, MaskOptions, find_hole
from lbam_fast.inference.masks import oddity, same_size_expected
from lbam_fast.pictures import Picture, PictureError


@dataclass(frozen=True, eq=False)
class Found:
    """The hole in a mask, with sentences on what is odd about it and on what is only worth a note."""

    hole: Hole
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def hole_of(mask: NDArray[np.float32], options: MaskOptions, meaning: str = "") -> Found:
    """The hole in a mask [H, W] in [0, 1]; ``meaning`` says in messages what is hole there."""
    hole = find_hole(mask, options)
    sentence = oddity(mask, hole, options, meaning or _meaning(options))
    if sentence is None:
        return Found(hole)
    empty = mask.max() == 0 if options.hole == "white" else mask.min() == 1
    return Found(hole, notes=(sentence,)) if empty else Found(hole, warnings=(sentence,))


def check_same_size(found: Found, picture: Picture, mask_name: str | Path, name: str | Path, options: MaskOptions) -> None:
    """Raise InpaintError where a mask is of another size than its picture."""
    (height, width), (mask_height, mask_width) = picture.pixels.shape[:2], found.hole.filled.shape
    if (mask_height, mask_width) != (height, width):
        raise InpaintError(
            f"{mask_name}: the mask is {mask_width}x{mask_height} pixels (width x height), but the picture "
            f"{name} is {width}x{height}"
            + same_size_expected((mask_height, mask_width), (height, width), picture.turned, _meaning(options))
        )


def transparent_hole(picture: Picture, name: str | Path, options: MaskOptions) -> tuple[Picture, Found]:
    """The hole is what is transparent, which becomes opaque; parts around it that stay half transparent are warned of.

    Raises PictureError for a picture without transparency.
    """
    alpha = picture.alpha
    if alpha is None:
        raise PictureError(f"{name}: has no transparency (alpha channel) to take the hole from; give a MASK instead")
    full = np.iinfo(alpha.dtype).max
    found = hole_of(1 - alpha.astype(np.float32) / np.float32(full), options, "transparent = hole")
    left = int(((alpha > 0) & (alpha < full) & ~found.hole.filled).sum())
    if left:
        sentence = (
            f"{left:,} half transparent pixels count as known and keep their colours; "
            "a threshold of 0.001 fills all that is not fully opaque"
        )
        found = dataclasses.replace(found, warnings=(*found.warnings, sentence))
    opaque = np.where(found.hole.filled, full, alpha).astype(alpha.dtype)
    return dataclasses.replace(picture, alpha=opaque), found


def _meaning(options: MaskOptions) -> str:
    return f"{options.hole} = hole"
