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
from lbam_fast.pictures.luminance import luminance, white_of

IN_MEMORY = 48
"""Bytes that a picture, its mask, its hole and its result take at their highest for each pixel, if nothing is mapped."""
BESIDE = 600 << 20
"""Bytes that the process takes besides, with a narrow network at work."""
STRIP = 512
"""Rows of a mask that are looked at together."""


def is_too_large(image: Path, max_memory: int | None) -> bool:
    """Whether a picture takes more than so many bytes if it is filled in memory. Raises PictureError where libvips is missing."""
    if max_memory is None:
        return False
    vips()
    try:
        height, width = size_of(image)
    except PictureError:  # which is told of when it is read
        return False
    return height * width * IN_MEMORY + BESIDE > max_memory


def fill_large(job: Job, inpainter: Inpainter, max_pixels: int) -> tuple[str, ...]:
    """Fill one picture with its mask in boxes around its holes, and in tiles where these are large; give notes.

    Memory is that of a box or a tile and does not grow with the picture; beside the result, files of some eight
    bytes a pixel of 8-bit RGB, twelve where edges are blended, are made for the time it takes. Raises PictureError and
    InpaintError.
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
        hole = mapped_hole(mask, inpainter, folder)
        result_file = folder / "result.v"
        shutil.copyfile(picture.path, result_file)
        result = mapped(result_file, picture.pixels.shape, picture.pixels.dtype)
        why = _fill(inpainter, picture, result, hole)
        release(result)
        encode(result_file, job.output)
    return (why,)


def _fill(inpainter: Inpainter, picture: Raw, result: NDArray[Any], hole: Hole) -> str:
    def rest() -> None:
        for each in (picture.pixels, result, hole.filled, hole.soft):
            if each is not None:
                release(each)

    plan = inpainter.fill_into(result[..., : picture.colours], picture.pixels[..., : picture.colours], hole, rest)
    return str(plan)


def mapped_hole(mask: Raw, inpainter: Inpainter, folder: Path) -> Hole:
    """The hole of a mask, strip by strip, in mapped files; the same as in memory, to the bit."""
    shape, options = mask.pixels.shape[:2], inpainter.options
    filled = np.memmap(folder / "filled", bool, "w+", shape=shape)
    soft = np.memmap(folder / "soft", np.float32, "w+", shape=shape) if options.blended else None
    colours, alpha = mask.pixels[..., : mask.colours], mask.pixels[..., -1] if mask.has_alpha else None
    most = max(int(colours[top : top + STRIP].max()) for top in range(0, shape[0], STRIP))
    white = white_of(most, colours.dtype, mask.lossless)
    for top in range(0, shape[0], STRIP):
        rows = slice(top, min(top + STRIP, shape[0]))
        read, columns = grown((rows, slice(0, shape[1])), options.grow + options.feather + 1, shape)
        opacity = None if alpha is None else alpha[read, columns]
        found = find_hole(luminance(colours[read, columns], opacity, white, options.hole), options)
        own = slice(rows.start - read.start, rows.stop - read.start)
        filled[rows] = found.filled[own]
        release(mask.pixels)
        release(filled)
        if soft is not None:
            soft[rows] = found.weight[own]
            release(soft)
    return Hole(filled, soft)
