"""Photographs to judge on: those inside scikit-image and scikit-learn, or a folder."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np

from lbam_fast.data import picture_files
from lbam_fast.evaluation.methods import Pixels
from lbam_fast.pictures import PictureError, read_picture

SIDE = 256
PICTURES = {
    "skimage": (
        "data/astronaut.png",
        "data/coffee.png",
        "data/chelsea.png",
        "data/rocket.jpg",
        "data/motorcycle_left.png",
        "data/motorcycle_right.png",
    ),
    "sklearn": ("datasets/images/china.jpg", "datasets/images/flower.jpg"),
}
"""Where the evaluation pictures lie: inside the packages scikit-image and scikit-learn."""


def evaluation_pictures() -> dict[str, Pixels]:
    """The pictures by file name, shorter side resized to 256 pixels and the centre cropped: [256, 256, 3] uint8.

    Raises PictureError where scikit-image or scikit-learn is not installed.
    """
    pictures = {}
    for package, files in PICTURES.items():
        spec = find_spec(package)  # found, not imported: the pictures are plain files beside the code
        if spec is None or spec.origin is None:
            raise PictureError(
                f"the evaluation pictures lie in {package}, which is not installed: pip install scikit-image scikit-learn"
            )
        for file in files:
            path = Path(spec.origin).parent / file
            pictures[path.stem] = _read(path)
    return pictures


def folder_pictures(folder: Path) -> dict[str, Pixels]:
    """Every picture below ``folder`` by its path in it, prepared in the same way.

    Raises PictureError where there is none, or one that is not 8-bit RGB.
    """
    return {str(path.relative_to(folder)): _read(path) for path in picture_files(folder)}


def _read(path: Path) -> Pixels:
    pixels = read_picture(path).pixels
    if pixels.dtype != np.uint8 or pixels.shape[2] != 3:
        raise PictureError(f"{path} is {pixels.dtype} with {pixels.shape[2]} colour channels, expected 8-bit RGB")
    return centre_crop(pixels)


def centre_crop(pixels: Pixels, side: int = SIDE) -> Pixels:
    """[H, W, 3] with the shorter side resized to ``side`` and the centre cropped: [side, side, 3]."""
    height, width = (round(side * length / min(pixels.shape[:2])) for length in pixels.shape[:2])
    small = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA)
    top, left = (height - side) // 2, (width - side) // 2
    return np.ascontiguousarray(small[top : top + side, left : left + side])
