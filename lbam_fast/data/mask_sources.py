"""Where a training's masks come from: drawn at random, any of a folder, or each picture's own."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Protocol

import numpy as np

from lbam_fast.config import HoleColour, MaskKind
from lbam_fast.data.files import picture_files
from lbam_fast.data.framing import Frame, Size, nearest
from lbam_fast.data.masks import Mask, random_mask
from lbam_fast.errors import LBAMError
from lbam_fast.pictures import read_mask

NOISE_RATIOS = ((0.01, 0.05), (0.05, 0.1), (0.1, 0.2), (0.2, 0.3), (0.3, 0.4), (0.4, 0.6))
"""Ranges that the hole ratio of a noise mask is drawn from, each as often: small holes are as many as large ones."""
STROKE_RATIOS = (0.01, 0.6)


class MaskError(LBAMError, ValueError):
    """Masks that do not go with their pictures; the message names both."""


class FreeMasks(Protocol):
    """Draws a mask for any picture: [crop, crop] uint8, 1 = known, a function of the generator's state and of ``crop``."""

    def __call__(self, rng: np.random.Generator, crop: int) -> Mask: ...


def drawn_masks(rng: np.random.Generator, crop: int) -> Mask:
    """Noise, strokes of all widths or scratches, with hole ratios from 0.01 to 0.6."""
    draw = rng.random()
    if draw < 0.6:
        ratio = NOISE_RATIOS[rng.integers(len(NOISE_RATIOS))]
        cells = crop / 256 * 10 * math.exp(rng.uniform(-0.5, 0.5))
        return random_mask(rng, crop, crop, "noise", ratio, cells)
    kind: MaskKind = "scratches" if draw < 0.85 else ("thin", "medium", "thick")[rng.integers(3)]
    return random_mask(rng, crop, crop, kind, STROKE_RATIOS)


class AnyMask:
    """Any mask of these files for any picture, scaled to the crop and mirrored at random."""

    def __init__(self, files: Sequence[Path], hole: HoleColour = "white") -> None:
        self.files, self.hole = files, hole

    def __call__(self, rng: np.random.Generator, crop: int) -> Mask:
        mask = nearest(_known(self.files[int(rng.integers(len(self.files)))], self.hole), (crop, crop))
        mask = mask[::-1] if rng.random() < 0.5 else mask
        return mask[:, ::-1] if rng.random() < 0.5 else mask


class OwnMasks:
    """The mask of each picture, cut as the picture is. Raises MaskError where the two are of different sizes."""

    def __init__(self, pairs: Mapping[Path, Path], hole: HoleColour = "white") -> None:
        self.pairs, self.hole = pairs, hole

    def cut(self, picture: Path, size: Size, frame: Frame) -> Mask:
        """That of a frame of a picture of this size: [crop, crop] uint8, 1 = known."""
        mask = _known(self.pairs[picture], self.hole)
        if mask.shape != size:
            raise MaskError(
                f"the mask {self.pairs[picture]} is {mask.shape[1]}x{mask.shape[0]}, its picture {picture} {size[1]}x{size[0]} "
                "(width x height): make them the same size, or let any mask serve any picture, scaled (--mask-pairs any)"
            )
        return frame.cut_mask(mask)


MaskSource = FreeMasks | OwnMasks


def masks_by_name(pictures: Sequence[Path], root: Path, folder: Path) -> dict[Path, Path]:
    """The mask below ``folder`` for each picture below ``root``: that of the same path without suffix.

    Raises MaskError where a picture has none.
    """
    masks = {path.relative_to(folder).with_suffix(""): path for path in picture_files(folder)}
    names = {picture: picture.relative_to(root).with_suffix("") for picture in pictures}
    if lacking := [picture for picture, name in names.items() if name not in masks]:
        raise MaskError(
            f"{len(lacking)} of {len(pictures)} pictures have no mask of their name in {folder}, {lacking[0]} first: "
            "expected cat.png for cat.jpg; or take any mask for any picture (--mask-pairs any)"
        )
    return {picture: masks[name] for picture, name in names.items()}


@lru_cache(maxsize=256)
def _known(path: Path, hole: HoleColour) -> Mask:
    white = read_mask(path, hole)
    known = white <= 0.5 if hole == "white" else white >= 0.5
    return known.astype(np.uint8)
