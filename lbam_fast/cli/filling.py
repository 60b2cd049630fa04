"""Pictures and masks from files through the Inpainter into files."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lbam_fast.cli.common import make_folder, print_note, print_warning
from lbam_fast.cli.pairing import Job
from lbam_fast.config import HoleColour
from lbam_fast.errors import LBAMError
from lbam_fast.inference import Inpainter, InpaintError
from lbam_fast.inference.masks import Hole, find_hole, oddity, same_size_expected
from lbam_fast.pictures import Picture, PictureError, check_output, copy_picture, losses, read_mask, read_picture, write_picture

Mask = NDArray[np.float32]


class Filler:
    """Reads, fills and writes pictures. The last picture and mask are kept, as they may serve the next job too."""

    def __init__(self, inpainter: Inpainter, quiet: bool = False, comparison: Path | None = None) -> None:
        self.inpainter, self.quiet, self.comparison = inpainter, quiet, comparison
        limit = inpainter.max_pixels
        self.read_picture = functools.lru_cache(maxsize=1)(functools.partial(read_picture, max_pixels=limit))
        self.read_mask = functools.lru_cache(maxsize=1)(functools.partial(read_mask, hole=self._colour, max_pixels=limit))

    def fill(self, jobs: Sequence[Job], make_folders: bool = False) -> list[Exception]:
        """Fill and write pictures that share a mask; those of its size go through the network together.

        Gives the errors of the pictures that failed, which keep none of the others from being written.
        """
        failures: list[Exception] = []
        ready: list[tuple[Job, Picture, Hole]] = []
        mask: Mask | None = None
        for job in jobs:
            with _collecting(failures):
                picture = self.read_picture(job.image)
                mask = self._mask(job, picture)
                hole = self._hole(job, mask)
                if job.mask is None:
                    picture = self._opaque_in_hole(job, picture, hole)
                self._check_outputs(job, picture, make_folders)
                ready.append((job, picture, hole))
        if not ready:
            return failures
        try:
            with warnings.catch_warnings():
                # _hole has said so already, with the file's name.
                warnings.filterwarnings("ignore", "the whole picture is hole|the mask has no hole", UserWarning)
                results = self.inpainter([picture.pixels for _, picture, _ in ready], mask)
        except LBAMError as error:
            return [*failures, *(InpaintError(f"{job.image}: {error}") for job, _, _ in ready)]
        for (job, picture, hole), pixels in zip(ready, results, strict=True):
            with _collecting(failures):
                self._write(job, picture, hole, pixels)
        return failures

    def _check_outputs(self, job: Job, picture: Picture, make_folders: bool) -> None:
        """Find out before the work, not after it, what cannot be written."""
        if make_folders:
            make_folder(job.output.parent)
        check_output(job.output, picture)
        if self.comparison is not None:
            given = picture.pixels
            wide = np.broadcast_to(given[:, :1], (given.shape[0], 3 * given.shape[1], given.shape[2]))
            check_output(self.comparison, dataclasses.replace(picture, pixels=wide, alpha=None))

    def _mask(self, job: Job, picture: Picture) -> Mask:
        """The mask as the inpainter takes it; made from the picture's transparency, holes are white."""
        height, width = picture.pixels.shape[:2]
        if job.mask is not None:
            mask = self.read_mask(job.mask)
            if mask.shape != (height, width):
                raise InpaintError(
                    f"{job.mask}: the mask is {mask.shape[1]}x{mask.shape[0]} pixels (width x height), but the picture "
                    f"{job.image} is {width}x{height}"
                    + same_size_expected(mask.shape, (height, width), picture.turned, f"{self._colour} = hole")
                )
            return mask
        if picture.alpha is None:
            raise PictureError(f"{job.image}: has no transparency (alpha channel) to take the hole from; give a MASK instead")
        return 1 - picture.alpha.astype(np.float32) / np.float32(np.iinfo(picture.alpha.dtype).max)

    def _hole(self, job: Job, mask: Mask) -> Hole:
        hole = find_hole(mask, self.inpainter.options)
        meaning = "transparent = hole" if job.mask is None else f"{self._colour} = hole"
        sentence = oddity(mask, hole, self.inpainter.options, meaning)
        empty = mask.max() == 0 if self._colour == "white" else mask.min() == 1
        if sentence and not empty:
            print_warning(f"{job.image}: {sentence}")
        elif sentence and not self.quiet:
            print_note(f"{job.image}: {sentence}")
        return hole

    def _opaque_in_hole(self, job: Job, picture: Picture, hole: Hole) -> Picture:
        """The picture with full opacity where it will be filled; says so if parts around that stay half transparent."""
        assert picture.alpha is not None
        full = np.iinfo(picture.alpha.dtype).max
        left = int(((picture.alpha > 0) & (picture.alpha < full) & ~hole.filled).sum())
        if left:
            print_warning(
                f"{job.image}: {left:,} half transparent pixels count as known and keep their colours; "
                "--threshold 0.001 fills all that is not fully opaque"
            )
        return dataclasses.replace(picture, alpha=np.where(hole.filled, full, picture.alpha).astype(picture.alpha.dtype))

    def _write(self, job: Job, picture: Picture, hole: Hole, pixels: NDArray[Any]) -> None:
        output_format = check_output(job.output, picture)
        notes: list[str] = []
        if not hole.filled.any() and output_format == picture.format:
            copy_picture(picture, job.output)
        else:
            write_picture(job.output, dataclasses.replace(picture, pixels=pixels))
            notes = [*picture.notes, *losses(picture, output_format)]
        if self.comparison is not None:
            write_picture(self.comparison, dataclasses.replace(picture, pixels=_side_by_side(picture, hole, pixels), alpha=None))
        for note in () if self.quiet else notes:
            print_note(f"{job.image}: {note}")

    @property
    def _colour(self) -> HoleColour:
        return self.inpainter.options.hole


def _side_by_side(picture: Picture, hole: Hole, filled: NDArray[Any]) -> NDArray[Any]:
    """The picture as it was given, with its hole in grey, and filled, from left to right."""
    grey = np.iinfo(filled.dtype).max // 2
    emptied = np.where(hole.filled[..., None], grey, picture.pixels).astype(filled.dtype)
    return np.concatenate([picture.pixels, emptied, filled], axis=1)


@contextlib.contextmanager
def _collecting(failures: list[Exception]) -> Iterator[None]:
    try:
        yield
    except LBAMError as error:
        failures.append(error)
