"""Jobs whose pictures do not fit into memory: by regions, from mapped files into mapped files."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lbam_fast.batch.jobs import Job
from lbam_fast.inference import Hole, Inpainter, InpaintError, find_hole
from lbam_fast.inference.regions import grown
from lbam_fast.pictures import PictureError
from lbam_fast.pictures.large import Raw, check_suffix, decode, encode, mapped, release, size_of, vips

IN_MEMORY = 48
"""Bytes that a picture, its mask, its hole and its result take at their highest for each pixel, if nothing is mapped."""
BESIDE = 600 << 20
"""Bytes that the process takes besides, with a narrow network at work."""
STRIP = 512
"""Rows of a mask that are looked at together."""
_LUMINANCE = np.array([299, 587, 114], np.uint32)


def is_too_large(image: Path, max_memory: int) -> bool:
    """Whether a picture takes more than so many bytes if it is filled in memory. Raises PictureError where libvips is missing."""
    vips()
    try:
        height, width = size_of(image)
    except PictureError:  # which is told of when it is read
        return False
    return height * width * IN_MEMORY + BESIDE > max_memory


def fill_large(job: Job, inpainter: Inpainter, max_pixels: int) -> tuple[str, ...]:
    """Fill one picture with its mask in boxes around its holes, and in tiles where these are large; give notes.

    Memory is that of a box or a tile and does not grow with the picture; beside the result, files of some nine times the
    picture's pixels are made for the time it takes. Raises PictureError and InpaintError.
    """
    if job.mask is None or job.comparison is not None:
        raise PictureError(f"{job.image}: a picture beyond --max-memory needs a MASK, and is shown in no comparison")
    check_suffix(job.output)
    with tempfile.TemporaryDirectory(prefix=".lbam-", dir=job.output.parent) as name:
        folder = Path(name)
        picture = decode(job.image, folder / "picture.v", max_pixels)
        mask = decode(job.mask, folder / "mask.v", max_pixels)
        if picture.pixels.shape[:2] != mask.pixels.shape[:2]:
            (height, width), (mask_height, mask_width) = picture.pixels.shape[:2], mask.pixels.shape[:2]
            raise InpaintError(
                f"{job.mask}: the mask is {mask_width}x{mask_height} pixels (width x height), but the picture {job.image} is "
                f"{width}x{height}: expected the same size, with {inpainter.options.hole} = hole"
            )
        hole = _mapped_hole(mask, inpainter, folder)
        result_file = folder / "result.v"
        shutil.copyfile(picture.path, result_file)
        result = mapped(result_file, picture.pixels.shape, picture.pixels.dtype)
        why = _fill(inpainter, picture, result, hole)
        release(result)
        encode(result_file, job.output)
    return (why,)


def _fill(inpainter: Inpainter, picture: Raw, result: NDArray[Any], hole: Hole) -> str:
    colours = 1 if picture.pixels.shape[2] <= 2 else 3

    def rest() -> None:
        for each in (picture.pixels, result, hole.filled, hole.weight):
            release(each)

    plan = inpainter.fill_into(result[..., :colours], picture.pixels[..., :colours], hole, rest)
    return str(plan)


def _mapped_hole(mask: Raw, inpainter: Inpainter, folder: Path) -> Hole:
    """The hole of a mask, strip by strip, in mapped files."""
    shape, options = mask.pixels.shape[:2], inpainter.options
    filled = np.memmap(folder / "filled", bool, "w+", shape=shape)
    weight = np.memmap(folder / "weight", np.float32, "w+", shape=shape)
    white = _white(mask)
    for top in range(0, shape[0], STRIP):
        rows = slice(top, min(top + STRIP, shape[0]))
        read, columns = grown((rows, slice(0, shape[1])), options.grow + options.feather + 1, shape)
        found = find_hole(_luminance(mask.pixels[read, columns], white, options.hole), options)
        own = slice(rows.start - read.start, rows.stop - read.start)
        filled[rows], weight[rows] = found.filled[own], found.weight[own]
        for each in (mask.pixels, filled, weight):
            release(each)
    return Hole(filled, weight)


def _white(mask: Raw) -> int:
    """What white is in a mask's pixels: files that hold zeros and ones alone are black and white."""
    most = max(int(mask.pixels[top : top + STRIP].max()) for top in range(0, len(mask.pixels), STRIP))
    return 1 if most <= 1 else int(np.iinfo(mask.pixels.dtype).max)


def _luminance(pixels: NDArray[Any], white: int, hole: str) -> NDArray[np.float32]:
    """Mask pixels [H, W, C] in [0, 1]; what is not painted is known."""
    channels = pixels.shape[2]
    if channels >= 3:
        grey = (pixels[..., :3].astype(np.uint32) @ _LUMINANCE).astype(np.float32) / np.float32(1000 * white)
    else:
        grey = pixels[..., 0].astype(np.float32) / np.float32(white)
    if channels in (1, 3):
        return grey
    opacity = pixels[..., -1].astype(np.float32) / np.float32(np.iinfo(pixels.dtype).max)
    painted: NDArray[np.float32] = grey * opacity if hole == "white" else 1 - (1 - grey) * opacity
    return painted
