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


def evaluation_files() -> dict[str, Path]:
    """The files of the evaluation pictures by their names. Raises PictureError without scikit-image and scikit-learn."""
    files = {}
    for package, inside in PICTURES.items():
        spec = find_spec(package)  # found, not imported: the pictures are plain files beside the code
        if spec is None or spec.origin is None:
            raise PictureError(
                f"the evaluation pictures lie in {package}, which is not installed: pip install scikit-image scikit-learn"
            )
        for file in inside:
            path = Path(spec.origin).parent / file
            files[path.stem] = path
    return files


def evaluation_pictures() -> dict[str, Pixels]:
    """The pictures by file name, shorter side resized to 256 pixels and the centre cropped: [256, 256, 3] uint8.

    Raises PictureError where scikit-image or scikit-learn is not installed.
    """
    return {name: centre_crop(read_rgb(path)) for name, path in evaluation_files().items()}


def folder_pictures(folder: Path) -> dict[str, Pixels]:
    """Every picture below ``folder`` by its path in it, prepared in the same way.

    Raises PictureError where there is none, or one that has more than 8 bits.
    """
    return {str(path.relative_to(folder)): centre_crop(read_rgb(path)) for path in picture_files(folder)}


def read_rgb(path: Path) -> Pixels:
    """The picture in a file: [H, W, 3] uint8, grey ones too, without alpha. Raises PictureError, also for more than 8 bits."""
    pixels = read_picture(path).pixels
    if pixels.dtype != np.uint8:
        raise PictureError(f"{path} is {pixels.dtype}, expected 8 bits a channel, which the metrics are defined for")
    return np.broadcast_to(pixels, (*pixels.shape[:2], 3)).copy()


def centre_crop(pixels: Pixels, side: int = SIDE, interpolation: int = cv2.INTER_AREA) -> Pixels:
    """[H, W] or [H, W, C] with the shorter side resized to ``side`` and the centre cropped: [side, side] or [side, side, C]."""
    height, width = (round(side * length / min(pixels.shape[:2])) for length in pixels.shape[:2])
    small = cv2.resize(pixels, (width, height), interpolation=interpolation)
    top, left = (height - side) // 2, (width - side) // 2
    return np.ascontiguousarray(small[top : top + side, left : left + side])
