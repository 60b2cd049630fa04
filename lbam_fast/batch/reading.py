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

from lbam_fast.batch.errors import JobError
from lbam_fast.batch.holes import Found, check_same_size, hole_of, transparent_hole
from lbam_fast.batch.jobs import Job
from lbam_fast.batch.once import Once
from lbam_fast.inference import MaskOptions
from lbam_fast.pictures import Picture, read_mask, read_picture

MASKS = 8
"""Masks whose holes are kept."""


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
        return self._masks.get(self._content(path), lambda: hole_of(self._read_mask(path), self._options))

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
            return Work(job, *transparent_hole(picture, job.image, self._options))
        found = self.mask(job.mask)
        check_same_size(found, picture, job.mask, job.image, self._options)
        return Work(job, picture, found)


def _digest(path: Path) -> Hashable:
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").digest()
    except OSError:  # the reader says so better
        return path
