"""Draws docs/gallery: photographs with holes, filled by the network that ships and by its rivals, side by side.

python benchmarks/gallery.py                       # the photographs inside scikit-image and scikit-learn
python benchmarks/gallery.py --pictures judged     # those of docs/evaluation-photographs.tsv too, gathered by photographs.py
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from lbam_fast import Inpainter
from lbam_fast.evaluation import HOLES, RIVALS, evaluation_files, evaluation_pictures, samples, sheet, with_hole
from lbam_fast.evaluation.figures import jpeg
from lbam_fast.evaluation.methods import Method, Pixels
from lbam_fast.evaluation.pictures import read_rgb
from lbam_fast.files import replace_file

FOLDER = Path(__file__).parent.parent / "docs" / "gallery"
RANDOM = {
    "coffee": "strokes",
    "chelsea": "strokes",
    "flower": "0.1 to 0.2",
    "rocket": "0.2 to 0.3",
    "astronaut": "0.1 to 0.2",
}
"""Pictures, 256x256, and the kind of holes that are drawn into them."""
HEIGHT = 220
Points = list[list[int]]


@dataclass(frozen=True)
class Removal:
    """An object outlined by hand in a photograph, (x, y) in its pixels: areas, and lines of a width."""

    photograph: str
    areas: list[Points]
    lines: list[Points]
    width: int

    def mask(self, height: int, width: int) -> Pixels:
        """[height, width] uint8, 255 = hole."""
        mask = np.zeros((height, width), np.uint8)
        for area in self.areas:
            cv2.fillPoly(mask, [np.array(area, np.int32)], 255)
        for line in self.lines:
            cv2.polylines(mask, [np.array(line, np.int32)], False, 255, self.width)
        return mask


def removals() -> dict[str, Removal]:
    """By the names of their sheets."""
    listed = json.loads((FOLDER / "objects.json").read_text(encoding="utf-8"))
    return {name: Removal(**each) for name, each in listed.items()}


def draw(name: str, picture: Pixels, mask: Pixels, methods: list[Method]) -> None:
    """The picture, the picture with its hole in grey, and the fillings, from left to right."""
    line = [picture, with_hole(picture, mask), *(method(picture, mask) for method in methods)]
    replace_file(FOLDER / f"{name}.jpg", jpeg(sheet([line], height=HEIGHT if mask.shape != (256, 256) else None)))


def gathered(folder: Path | None) -> Mapping[str, Path]:
    """Photographs by name: ``000_city.png`` is ``city``."""
    files = {} if folder is None else {path.stem.partition("_")[2]: path for path in sorted(folder.glob("*.png"))}
    return evaluation_files() | files


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--pictures", type=Path, metavar="FOLDER", help="the gathered photographs of docs/evaluation-photographs.tsv"
    )
    parser.add_argument("--only", nargs="*", help="names of sheets")
    options = parser.parse_args()
    networks: list[Method] = [Inpainter.from_pretrained(detail="off"), Inpainter.from_pretrained()]
    methods = [RIVALS["harmonic"], RIVALS["PatchMatch"], *networks]
    FOLDER.mkdir(exist_ok=True)
    squares = evaluation_pictures()
    for name, kind in RANDOM.items():
        if options.only is None or name in options.only:
            holes = next(each for each in HOLES if each.name == kind)
            draw(name, *next(iter(samples(holes, [squares[name]], masks_each=1))), methods)
    files = gathered(options.pictures)
    for name, removal in removals().items():
        if (options.only is None or name in options.only) and removal.photograph in files:
            picture = read_rgb(files[removal.photograph])
            draw(name, picture, removal.mask(*picture.shape[:2]), methods)


if __name__ == "__main__":
    main()
