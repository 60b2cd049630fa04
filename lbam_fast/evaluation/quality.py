"""The quality table: PSNR by hole ratio on photographs that no shipped network was trained on, beside OpenCV's methods."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from lbam_fast.data import MaskKind, random_mask
from lbam_fast.evaluation.metrics import psnr
from lbam_fast.pictures import PictureError, read_picture

Pixels = NDArray[np.uint8]
Method = Callable[[Pixels, Pixels], NDArray[Any]]
"""Takes a picture [H, W, 3] and a mask [H, W] with 255 = hole, gives the filled picture."""

SIDE = 256
BUCKETS = ((0.1, 0.2), (0.2, 0.3), (0.3, 0.4), (0.4, 0.5))
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

_RADIUS = 3
CLASSICAL: dict[str, Method] = {
    "Telea": partial(cv2.inpaint, inpaintRadius=_RADIUS, flags=cv2.INPAINT_TELEA),
    "Navier-Stokes": partial(cv2.inpaint, inpaintRadius=_RADIUS, flags=cv2.INPAINT_NS),
}


@dataclass(frozen=True)
class Row:
    """Mean PSNR in dB of each method over the samples of one bucket of hole ratios."""

    bucket: tuple[float, float]
    samples: int
    psnr: dict[str, float]

    def gain(self, method: str) -> float:
        """dB by which ``method`` is above the better of the classical ones."""
        return self.psnr[method] - max(self.psnr[name] for name in CLASSICAL)


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
            pictures[path.stem] = centre_crop(read_picture(path).pixels)
    return pictures


def centre_crop(pixels: Pixels, side: int = SIDE) -> Pixels:
    """[H, W, 3] with the shorter side resized to ``side`` and the centre cropped: [side, side, 3]."""
    height, width = (round(side * length / min(pixels.shape[:2])) for length in pixels.shape[:2])
    small = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA)
    top, left = (height - side) // 2, (width - side) // 2
    return np.ascontiguousarray(small[top : top + side, left : left + side])


def samples(
    pictures: Sequence[Pixels], bucket: tuple[float, float], kind: MaskKind = "noise", masks_each: int = 4
) -> Iterator[tuple[Pixels, Pixels]]:
    """Pairs of a picture and a mask (255 = hole), the same ones in every run."""
    for i, picture in enumerate(pictures):
        for j in range(masks_each):
            rng = np.random.default_rng([i, j, round(100 * bucket[0])])
            yield picture, 255 * (1 - random_mask(rng, picture.shape[0], picture.shape[1], kind, bucket))


def quality_table(
    methods: dict[str, Method], pictures: Sequence[Pixels], kind: MaskKind = "noise", masks_each: int = 4
) -> list[Row]:
    """A row for each bucket of hole ratios: the classical methods and those given, on the same samples."""
    rows = []
    for bucket in BUCKETS:
        pairs = list(samples(pictures, bucket, kind, masks_each))
        means = {
            name: float(np.mean([psnr(method(picture, mask), picture) for picture, mask in pairs]))
            for name, method in {**CLASSICAL, **methods}.items()
        }
        rows.append(Row(bucket, len(pairs), means))
    return rows


def markdown(rows: Sequence[Row], method: str) -> str:
    """The table as Markdown, with the gain of ``method`` in the last column."""
    names = list(rows[0].psnr)
    lines = [
        "| hole ratio | " + " | ".join(f"{name}, dB" for name in names) + " | gain, dB |",
        "|---" * (len(names) + 2) + "|",
    ]
    for row in rows:
        values = " | ".join(f"{row.psnr[name]:.2f}" for name in names)
        lines.append(f"| {row.bucket[0]:.1f} to {row.bucket[1]:.1f} | {values} | {row.gain(method):+.2f} |")
    return "\n".join(lines)
