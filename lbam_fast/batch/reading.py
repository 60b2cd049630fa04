"""From a job's files to a picture and its hole."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import os
import stat
import time
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lbam_fast.batch.errors import JobError
from lbam_fast.batch.jobs import Job
from lbam_fast.batch.once import Once
from lbam_fast.inference import Hole, InpaintError, MaskOptions, find_hole
from lbam_fast.inference.masks import oddity, same_size_expected
from lbam_fast.pictures import Picture, PictureError, read_mask, read_picture

MASKS = 8
"""Masks whose holes are kept."""


@dataclass(frozen=True, eq=False)
class Found:
    """The hole in a mask, with sentences on what is odd about it and on what is only worth a note."""

    hole: Hole
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Work:
    """A job whose picture and hole are known, after so many ``seconds`` of reading.

    stamps  what its inputs were known by before they were read, for the journal
    done    its result exists, and is not written again
    """

    job: Job
    picture: Picture
    found: Found
    seconds: float = 0.0
    stamps: Sequence[Sequence[object]] = ()
    done: bool = False


class Reader:
    """Reads pictures and finds holes, on any number of threads. The hole of a mask is found once for all files that hold it."""

    def __init__(self, options: MaskOptions, max_pixels: int) -> None:
        self._options = options
        self._read_picture = functools.partial(read_picture, max_pixels=max_pixels)
        self._read_mask = functools.partial(read_mask, hole=options.hole, max_pixels=max_pixels)
        self._pictures, self._files = Once[Picture](1), Once[Hashable](MASKS)
        self._masks = Once[Found](MASKS)

    def read(self, job: Job) -> Work:
        """Raises PictureError for files that cannot be read, InpaintError for a mask of another size than the picture's,
        JobError where memory does not suffice.
        """
        start = time.perf_counter()
        try:
            work = self._read(job)
        except MemoryError as error:
            raise JobError(f"{job.image}: too little memory to read it; try fewer threads, or smaller pictures") from error
        return dataclasses.replace(work, seconds=time.perf_counter() - start)

    def mask(self, path: Path) -> Found:
        """The hole in that mask; one and the same object for files of the same bytes. Raises PictureError."""
        return self._masks.get(self._content(path), lambda: self._found(self._read_mask(path), self._meaning))

    def _content(self, path: Path) -> Hashable:
        """What is the same for files of the same bytes; the path of what is no plain file, as that can be read but once."""
        try:
            found = os.stat(path)
        except OSError:
            return path
        if not stat.S_ISREG(found.st_mode):
            return path
        return self._files.get((path, found.st_size, found.st_mtime_ns), lambda: _digest(path))

    def _read(self, job: Job) -> Work:
        picture = self._pictures.get(job.image, lambda: self._read_picture(job.image))
        if job.mask is None:
            return self._transparent(job, picture)
        found = self.mask(job.mask)
        (height, width), (mask_height, mask_width) = picture.pixels.shape[:2], found.hole.filled.shape
        if (mask_height, mask_width) != (height, width):
            raise InpaintError(
                f"{job.mask}: the mask is {mask_width}x{mask_height} pixels (width x height), but the picture "
                f"{job.image} is {width}x{height}"
                + same_size_expected((mask_height, mask_width), (height, width), picture.turned, self._meaning)
            )
        return Work(job, picture, found)

    def _transparent(self, job: Job, picture: Picture) -> Work:
        """The hole is what is transparent, which becomes opaque; parts around it that stay half transparent are warned of."""
        alpha = picture.alpha
        if alpha is None:
            raise PictureError(f"{job.image}: has no transparency (alpha channel) to take the hole from; give a MASK instead")
        full = np.iinfo(alpha.dtype).max
        found = self._found(1 - alpha.astype(np.float32) / np.float32(full), "transparent = hole")
        left = int(((alpha > 0) & (alpha < full) & ~found.hole.filled).sum())
        if left:
            sentence = (
                f"{left:,} half transparent pixels count as known and keep their colours; "
                "--threshold 0.001 fills all that is not fully opaque"
            )
            found = dataclasses.replace(found, warnings=(*found.warnings, sentence))
        opaque = np.where(found.hole.filled, full, alpha).astype(alpha.dtype)
        return Work(job, dataclasses.replace(picture, alpha=opaque), found)

    def _found(self, mask: NDArray[np.float32], meaning: str) -> Found:
        hole = find_hole(mask, self._options)
        sentence = oddity(mask, hole, self._options, meaning)
        if sentence is None:
            return Found(hole)
        empty = mask.max() == 0 if self._options.hole == "white" else mask.min() == 1
        return Found(hole, notes=(sentence,)) if empty else Found(hole, warnings=(sentence,))

    @property
    def _meaning(self) -> str:
        return f"{self._options.hole} = hole"


def _digest(path: Path) -> Hashable:
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").digest()
    except OSError:  # the reader says so better
        return path
