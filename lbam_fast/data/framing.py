"""Which square of a picture is trained on: how it is cut out, scaled, turned, and its colours exchanged."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import cv2
import numpy as np
from numpy.typing import NDArray

from lbam_fast.data.masks import Mask

Preprocessing = Literal["zoom", "published", "centre"]
PREPROCESSINGS: tuple[Preprocessing, ...] = get_args(Preprocessing)
Size = tuple[int, int]

PUBLISHED_SIDE, PUBLISHED_CROP = 350, 256


@dataclass(frozen=True)
class Frame:
    """A window of a picture, in pixels, that becomes a square of ``crop`` pixels; the picture is first scaled to ``scaled``.

    The square is then mirrored and transposed.
    """

    top: int
    left: int
    side: int
    crop: int
    scaled: Size | None = None
    mirrored: bool = False
    transposed: bool = False

    def cut(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """[H, W, 3] uint8 -> [crop, crop, 3], not turned: means over areas where it shrinks, cubic where it grows."""
        if self.scaled is not None:
            pixels = _resized(pixels, self.scaled)
        return _resized(self._window(pixels), (self.crop, self.crop))

    def cut_mask(self, mask: Mask) -> Mask:
        """[H, W] -> [crop, crop], turned: nearest values, so that a mask of two values stays one."""
        if self.scaled is not None:
            mask = nearest(mask, self.scaled)
        return self.turn(nearest(self._window(mask), (self.crop, self.crop)))

    def turn(self, square: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The square mirrored and transposed, where this frame is."""
        square = cv2.flip(square, 1).astype(np.uint8, copy=False) if self.mirrored else square
        return cv2.transpose(square).astype(np.uint8, copy=False) if self.transposed else square

    def _window(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return pixels[self.top : self.top + self.side, self.left : self.left + self.side]


def zoom(rng: np.random.Generator, size: Size, crop: int) -> Frame:
    """From ``crop`` pixels up to the whole shorter side, log-uniformly, anywhere. Keeps the aspect; a smaller picture grows."""
    height, width = size
    short = min(height, width)
    side = round(math.exp(rng.uniform(math.log(min(crop, short)), math.log(short))))
    return Frame(*_anywhere(rng, size, side), side, crop)


def published(rng: np.random.Generator, size: Size, crop: int) -> Frame:
    """As LBAM was trained: the picture scaled to 350x350, whatever its aspect, for a crop of 256 anywhere in it."""
    side = round(crop * PUBLISHED_SIDE / PUBLISHED_CROP)
    return Frame(*_anywhere(rng, (side, side), crop), crop, crop, (side, side))


def centre(rng: np.random.Generator, size: Size, crop: int) -> Frame:
    """The square in the middle, always the same."""
    side = min(size)
    return Frame((size[0] - side) // 2, (size[1] - side) // 2, side, crop)


@dataclass(frozen=True)
class Preparation:
    """A way to frame, whether crops without detail are passed over, and how often (in [0, 1]) a crop is changed further."""

    frame: Callable[[np.random.Generator, Size, int], Frame]
    detailed: bool = False
    mirrored: float = 0.0
    transposed: float = 0.0
    recoloured: float = 0.0


PREPARATIONS: dict[Preprocessing, Preparation] = {
    "zoom": Preparation(zoom, detailed=True, mirrored=0.5, transposed=0.25, recoloured=0.3),
    "published": Preparation(published, mirrored=0.5),
    "centre": Preparation(centre),
}


def has_detail(image: NDArray[np.uint8]) -> bool:
    """Whether [H, W, 3] shows more than sky, fog or blur: in grey, mean absolute Laplacian above 3, deviation above 8."""
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    return cv2.meanStdDev(grey)[1].item() > 8 and cv2.norm(cv2.Laplacian(grey, cv2.CV_16S), cv2.NORM_L1) > 3 * grey.size


def nearest(mask: Mask, size: Size) -> Mask:
    """[H, W] scaled to [size] by nearest values."""
    if mask.shape == size:
        return mask
    return cv2.resize(mask, size[::-1], interpolation=cv2.INTER_NEAREST_EXACT).astype(np.uint8, copy=False)


def _resized(pixels: NDArray[np.uint8], size: Size) -> NDArray[np.uint8]:
    if pixels.shape[:2] == size:
        return pixels
    method = cv2.INTER_AREA if pixels.shape[0] > size[0] else cv2.INTER_CUBIC
    return cv2.resize(pixels, size[::-1], interpolation=method).astype(np.uint8, copy=False)


def _anywhere(rng: np.random.Generator, size: Size, side: int) -> Size:
    return int(rng.integers(size[0] - side + 1)), int(rng.integers(size[1] - side + 1))
