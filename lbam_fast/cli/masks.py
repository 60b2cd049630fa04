"""``lbam-fast masks``."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from lbam_fast.cli.common import ArgumentError, failing_with_message, make_folder, print_note
from lbam_fast.config import HoleColour, MaskKind


def masks(
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for mask_00000.png, mask_00001.png ...")],
    count: Annotated[int, typer.Option(min=1, help="How many.")] = 1,
    size: Annotated[str, typer.Option(metavar="WxH", help="Width and height in pixels.")] = "256x256",
    kind: Annotated[
        MaskKind, typer.Option(help="noise: blobs, as in LBAM; thin, medium, thick: strokes, as in LaMa; scratches: thin lines.")
    ] = "noise",
    ratio: Annotated[str, typer.Option(metavar="LOW-HIGH", help="Range of the hole's share of the mask.")] = "0.1-0.5",
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same files, however many.")] = 0,
    cells: Annotated[float, typer.Option(help="Noise only: blobs along the shorter side; fewer are larger.")] = 10.0,
    hole: Annotated[HoleColour, typer.Option(help="Colour of the hole.")] = "white",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files that exist.")] = False,
) -> None:
    """Draw random masks into PNG files. White is the hole, unless --hole black."""
    with failing_with_message():
        import numpy as np

        from lbam_fast.data import random_mask
        from lbam_fast.pictures import Picture, write_picture

        width, height = map(int, _parsed("--size", size, r"([1-9]\d*)x([1-9]\d*)", "WIDTHxHEIGHT, such as 640x480"))
        low, high = map(float, _parsed("--ratio", ratio, r"(\d*\.?\d+)-(\d*\.?\d+)", "LOW-HIGH, such as 0.1-0.5"))
        if not cells > 0:
            raise ArgumentError(f"--cells is {cells}, expected a number above 0")
        files = [output / f"mask_{i:05d}.png" for i in range(count)]
        existing = [file for file in files if file.exists()]
        if existing and not overwrite:
            raise ArgumentError(f"{existing[0]} exists already: choose another folder, or add --overwrite")

        holes = []
        for i, file in enumerate(files):
            try:
                known = random_mask(np.random.default_rng([seed, i]), height, width, kind, (low, high), cells)
            except ValueError as error:
                raise ArgumentError(str(error)) from error
            bright = known == 0 if hole == "white" else known == 1
            make_folder(output)
            pixels = np.where(bright, 255, 0).astype(np.uint8)[..., None]
            picture = Picture(pixels, alpha=None, format="PNG", exif=None, icc_profile=None, notes=(), lossless=True)
            write_picture(file, picture)
            holes.append(1 - float(known.mean()))
        share = f"{min(holes):.3f} to {max(holes):.3f}"
        print_note(f"{count} masks in {output}: {hole} = hole, which takes {share} of each")


def _parsed(option: str, text: str, pattern: str, expected: str) -> tuple[str, ...]:
    match = re.fullmatch(pattern, text)
    if match is None:
        raise ArgumentError(f"{option} is {text!r}, expected {expected}")
    return match.groups()
