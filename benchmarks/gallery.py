"""Draws docs/gallery: scenes with holes, filled by the network that ships and by its rivals, side by side."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from lbam_fast import Inpainter
from lbam_fast.evaluation import HOLES, RIVALS, evaluation_pictures
from lbam_fast.evaluation.holes import samples
from lbam_fast.evaluation.methods import Method, Pixels
from lbam_fast.files import replace_file

FOLDER = Path(__file__).parent.parent / "docs" / "gallery"
SCENES = {
    "coffee": "strokes",
    "chelsea": "strokes",
    "flower": "0.1 to 0.2",
    "rocket": "0.2 to 0.3",
    "astronaut": "0.1 to 0.2",
}
GAP = 6
QUALITY = 88


def sheet(picture: Pixels, mask: Pixels, fillings: list[Pixels]) -> Pixels:
    """The picture, the picture with its hole in grey, and the fillings, from left to right on white."""
    damaged = np.where(mask[..., None] > 0, np.uint8(128), picture)
    gap = np.full((len(picture), GAP, 3), 255, np.uint8)
    parts = [part for each in (picture, damaged, *fillings) for part in (each, gap)]
    return np.concatenate(parts[:-1], axis=1)


def main() -> None:
    networks: list[Method] = [Inpainter.from_pretrained(detail="off"), Inpainter.from_pretrained()]
    methods = [RIVALS["harmonic"], RIVALS["PatchMatch"], *networks]
    photographs = evaluation_pictures()
    FOLDER.mkdir(exist_ok=True)
    for name, kind in SCENES.items():
        holes = next(each for each in HOLES if each.name == kind)
        picture, mask = next(iter(samples(holes, [photographs[name]], masks_each=1)))
        drawn = sheet(picture, mask, [method(picture, mask) for method in methods])
        encoded = cv2.imencode(".jpg", drawn[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1]
        replace_file(FOLDER / f"{name}.jpg", encoded.tobytes())


if __name__ == "__main__":
    main()
