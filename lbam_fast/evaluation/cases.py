"""What is evaluated: pictures with masks, from files or drawn, each pair a case that loads itself."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import cv2
import numpy as np

from lbam_fast.config import HoleColour
from lbam_fast.data.protocols import Ratio
from lbam_fast.errors import LBAMError
from lbam_fast.evaluation.holes import AT_BORDER, INSIDE, bucket_name
from lbam_fast.evaluation.methods import Pixels
from lbam_fast.evaluation.pictures import centre_crop, read_rgb
from lbam_fast.pictures import read_mask


class CaseError(LBAMError, ValueError):
    """A picture and a mask that cannot be evaluated; the message says why."""


@dataclass(frozen=True)
class DrawnMask:
    """A mask for a picture of any size, which the seed decides. ``name`` is that of what ``draw`` draws."""

    name: str
    draw: Callable[[np.random.Generator, int, int], Pixels]
    seed: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Case:
    """A picture and a mask. ``name`` is the only one of its kind and a file name; ``picture`` is what means are taken over.

    image: a file, or [H, W, 3] uint8. mask: a file, [H, W] uint8 with 255 = hole, or drawn. side: that of the square in
    the middle that is taken, after the shorter side is resized to it; None takes the picture as it is.
    """

    name: str
    picture: str
    image: Path | Pixels
    mask: Path | Pixels | DrawnMask
    side: int | None = None
    hole: HoleColour = "white"

    def load(self) -> tuple[Pixels, Pixels]:
        """The picture [H, W, 3] uint8 and the mask [H, W] uint8, 255 = hole.

        Masks of a file have the size of their picture and go through what that goes through, without new values; others, as of a
        set of masks, are resized to the picture. Raises CaseError where the mask has no hole, or nothing else; PictureError.
        """
        original = read_rgb(self.image) if isinstance(self.image, Path) else self.image
        image = original if self.side is None else centre_crop(original, self.side)
        mask = self._mask(original.shape[:2], image.shape[:2])
        if not mask.any():
            raise CaseError(f"{self.name}: the mask has no hole, so there is nothing to judge ({self.hole} = hole)")
        if mask.all():
            raise CaseError(f"{self.name}: the mask is hole all over, so nothing is known ({self.hole} = hole)")
        return image, mask

    def _mask(self, whole: tuple[int, ...], size: tuple[int, ...]) -> Pixels:
        if isinstance(self.mask, DrawnMask):
            return self.mask.draw(np.random.default_rng(self.mask.seed), size[0], size[1])
        if isinstance(self.mask, Path):
            mask = np.where(read_mask(self.mask, self.hole) > 0.5, np.uint8(255), np.uint8(0))
        else:
            mask = self.mask
        if self.side is not None and mask.shape == whole:
            return centre_crop(mask, self.side, cv2.INTER_NEAREST)
        if mask.shape != size:
            mask = cv2.resize(mask, (size[1], size[0]), interpolation=cv2.INTER_NEAREST)
        return mask

    def key(self) -> str:
        """What the case is known by: equal where picture, mask and size are."""
        parts = [_digest(part) for part in (self.image, self.mask)]
        return " ".join([*parts, str(self.side), self.hole])


def _digest(part: Path | Pixels | DrawnMask) -> str:
    if isinstance(part, Path):
        return _file_digest(part)
    if isinstance(part, DrawnMask):
        return f"{part.name} {part.seed}"
    return hashlib.sha256(part.tobytes()).hexdigest()


@cache
def _file_digest(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:  # loading it says so
        return "unreadable"


def cases_of_pairs(
    pictures: Mapping[str, Path], masks: Mapping[str, Sequence[Path]], side: int | None, hole: HoleColour
) -> list[Case]:
    """A case for each of a picture's masks, both by the picture's name."""
    return [
        Case(f"{name}__{mask.stem}", name, image, mask, side, hole)
        for name, image in pictures.items()
        for mask in masks.get(name, ())
    ]


def cases_of_drawn(pictures: Mapping[str, Path], side: int | None, masks_each: int, seed: int) -> list[Case]:
    """For each picture, by name, ``masks_each`` masks of every range, by turns away from the border and at it."""
    return [
        Case(f"{name}__{kind}", name, image, DrawnMask(kind, holes.draw, (seed, i, j, holes.number)), side)
        for i, (name, image) in enumerate(pictures.items())
        for j in range(masks_each)
        for holes in (INSIDE, AT_BORDER)[j % 2]
        for kind in [f"{holes.name}-{('inside', 'border')[j % 2]}-{j // 2}"]
    ]


def cases_of_set(
    pictures: Mapping[str, Path],
    masks: Mapping[Ratio, Sequence[Path]],
    side: int | None,
    masks_each: int,
    seed: int,
    hole: HoleColour,
) -> list[Case]:
    """For each picture, by name, ``masks_each`` of every range of a set of masks, drawn without repetition, as far as they go."""
    return [
        Case(f"{name}__{bucket_name(ratio)}-{position}-{files[position].stem}", name, image, files[position], side, hole)
        for i, (name, image) in enumerate(pictures.items())
        for number, (ratio, files) in enumerate(masks.items())
        for position in _drawn(len(files), masks_each, (seed, i, number))
    ]


def _drawn(count: int, most: int, seed: tuple[int, ...]) -> list[int]:
    return list(map(int, np.random.default_rng(seed).permutation(count)[:most]))
