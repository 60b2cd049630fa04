"""``crop`` beside ``whole`` on photographs with small holes: ``python benchmarks/strategies.py FOLDER [--side 2000] [--specks]``.

PSNR inside the holes and seconds, both interleaved, with the network that ships.
"""

import argparse
import time
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from lbam_fast.evaluation import PSNR
from lbam_fast.inference import Inpainter
from lbam_fast.pictures import read_picture

HOLES, SMALLEST, LARGEST = 10, 10, 120
SPECKS, LARGEST_SPECK = 200, 24


def small_holes(rng: np.random.Generator, height: int, width: int) -> NDArray[np.uint8]:
    """Ellipses and strokes, 255 = hole."""
    mask = np.zeros((height, width), np.uint8)
    for _ in range(HOLES):
        size, y, x = int(rng.integers(SMALLEST, LARGEST)), int(rng.integers(height)), int(rng.integers(width))
        if rng.random() < 0.5:
            axes = size // 2, max(2, int(size * rng.uniform(0.3, 1)) // 2)
            cv2.ellipse(mask, (x, y), axes, rng.uniform(0, 180), 0, 360, 255, -1)
        else:
            cv2.line(mask, (x, y), (int(x + size * rng.normal()), int(y + size * rng.normal())), 255, max(3, size // 8))
    return mask


def specks(rng: np.random.Generator, height: int, width: int) -> NDArray[np.uint8]:
    """Squares all over the picture, 255 = hole."""
    mask = np.zeros((height, width), np.uint8)
    for side in rng.integers(3, LARGEST_SPECK, SPECKS):
        y, x = rng.integers(height - side), rng.integers(width - side)
        mask[y : y + side, x : x + side] = 255
    return mask


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="of photographs; the largest are taken")
    parser.add_argument("--count", type=int, default=20)
    parser.add_argument("--side", type=int, help="enlarge to so many pixels on the longer side")
    parser.add_argument("--detail", default="auto")
    parser.add_argument("--specks", action="store_true", help="200 specks all over the picture in place of 10 small holes")
    options = parser.parse_args()
    pictures = [read_picture(path).pixels for path in options.folder.iterdir()]
    pictures = sorted((each for each in pictures if each.shape[-1] == 3), key=lambda each: -each.size)[: options.count]
    whole, crop = (Inpainter.from_pretrained(strategy=strategy, detail=options.detail) for strategy in ("whole", "crop"))
    rows = []
    for number, original in enumerate(pictures):
        scale = options.side / max(original.shape[:2]) if options.side else 1
        picture = np.asarray(cv2.resize(original, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC), np.uint8)
        draw = specks if options.specks else small_holes
        mask = draw(np.random.default_rng(number), *picture.shape[:2])
        row = []
        for inpainter in (whole, crop):
            start = time.perf_counter()
            filled = inpainter(picture, mask)
            row += [time.perf_counter() - start, PSNR.of(filled[mask > 0], picture[mask > 0])]
        rows.append(row)
        print(f"{picture.shape[1]}x{picture.shape[0]}: whole {row[0]:.2f} s {row[1]:.2f} dB, crop {row[2]:.2f} s {row[3]:.2f} dB")
    found = np.array(rows)
    gain, faster = (found[:, 3] - found[:, 1]).mean(), np.median(found[:, 0] / found[:, 2])
    print(f"mean of crop - whole: {gain:+.2f} dB; {faster:.1f} times as fast")


if __name__ == "__main__":
    main()
