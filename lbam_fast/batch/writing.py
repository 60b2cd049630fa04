"""From filled pixels to a job's files."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lbam_fast.batch.errors import JobError
from lbam_fast.batch.reading import Work
from lbam_fast.inference import Hole
from lbam_fast.pictures import Picture, check_output, copy_picture, losses, write_picture


def check_outputs(work: Work, make_folders: bool) -> None:
    """Find out before the work, not after it, what cannot be written. Raises JobError or PictureError."""
    job, picture = work.job, work.picture
    if make_folders:
        make_folder(job.output.parent)
    check_output(job.output, picture)
    if job.comparison is not None:
        given = picture.pixels
        wide = np.broadcast_to(given[:, :1], (given.shape[0], 3 * given.shape[1], given.shape[2]))
        check_output(job.comparison, dataclasses.replace(picture, pixels=wide, alpha=None))


def make_folder(folder: Path) -> None:
    """Make the folder and those above it, where they do not exist. Raises JobError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise JobError(f"{folder}: this folder cannot be made ({error.strerror}); choose another one") from error


def write_outputs(work: Work, pixels: NDArray[Any]) -> tuple[str, ...]:
    """Write the result, and give notes on what it does not hold. Raises PictureError.

    A picture without a hole is copied as the file that it is, unless another format is asked for.
    """
    job, picture, hole = work.job, work.picture, work.found.hole
    output_format = check_output(job.output, picture)
    notes: tuple[str, ...] = ()
    if not hole.filled.any() and output_format == picture.format:
        copy_picture(picture, job.output)
    else:
        write_picture(job.output, dataclasses.replace(picture, pixels=pixels))
        notes = (*picture.notes, *losses(picture, output_format))
    if job.comparison is not None:
        write_picture(job.comparison, dataclasses.replace(picture, pixels=_side_by_side(picture, hole, pixels), alpha=None))
    return notes


def _side_by_side(picture: Picture, hole: Hole, filled: NDArray[Any]) -> NDArray[Any]:
    """The picture as it was given, with its hole in grey, and filled, from left to right."""
    grey = np.iinfo(filled.dtype).max // 2
    emptied = np.where(hole.filled[..., None], grey, picture.pixels).astype(filled.dtype)
    return np.concatenate([picture.pixels, emptied, filled], axis=1)
