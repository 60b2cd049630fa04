"""A video filled frame by frame, from a file into a file.

>>> job = VideoJob(Path("clip.mp4"), Path("mask.png"), Path("filled.mp4"))
>>> for event in fill_video(job, Inpainter.from_pretrained()):
...     print(event)
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lbam_fast.batch.errors import JobError
from lbam_fast.batch.events import Advanced, Filled, Started, Times, VideoEvent
from lbam_fast.batch.flight import raising
from lbam_fast.batch.holes import Found
from lbam_fast.batch.jobs import Job
from lbam_fast.batch.planning import WINDOW, WINDOW_PIXELS
from lbam_fast.batch.reading import MASKS, Reader
from lbam_fast.batch.stages import Behind, prefetched
from lbam_fast.batch.temporal import Steadier
from lbam_fast.files import is_same_file
from lbam_fast.inference import Hands, Hole, Inpainter, InpaintError, OutOfMemoryError, find_hole, grouped
from lbam_fast.pictures import readable_suffixes, visible_files
from lbam_fast.pictures.luminance import luminance
from lbam_fast.pictures.video import SUFFIXES, Clip, ClipWriter, Encoding, Frame, has_video_suffix, with_filling, writing

AHEAD = 2
"""Groups of frames that are decoded, or wait to be encoded, while one is filled."""


@dataclass(frozen=True)
class VideoJob(Job):
    """One video to fill.

    mask      a picture for all frames; or a folder of pictures or a video, one for each frame in order
    encoding  how the result is encoded; its suffix says the container
    temporal  blend each filling with the one before where nothing moves; see ``temporal``
    """

    encoding: Encoding = field(default_factory=Encoding, hash=False)
    temporal: bool = False


def fill_video(job: VideoJob, inpainter: Inpainter) -> Generator[VideoEvent, None, None]:
    """Do the job, as its events are asked for: one ``Started``, an ``Advanced`` after every few frames, one ``Filled``.

    Frames are decoded ahead and encoded behind, on threads of their own. Leaving the loop leaves no file. Raises PictureError for
    files that cannot be read or written, InpaintError for a mask of another size, JobError for too few masks.
    """
    _check(job)
    start, seconds, done = time.perf_counter(), 0.0, 0
    steadier = Steadier() if job.temporal else None
    with Clip(job.image) as clip:
        masks = _Masks(job, clip, inpainter)
        with (
            contextlib.closing(prefetched(_groups(clip, masks), AHEAD)) as groups,
            writing(job.output, clip, job.encoding) as writer,
            Behind[None, None](threads=1, most=AHEAD, budget=WINDOW_PIXELS) as behind,
            Hands(inpainter) as hands,
        ):
            for group in groups:
                if done == 0:
                    yield _started(job, clip, writer, group[0][1], inpainter)
                began = time.perf_counter()
                pixels, holes = [frame.pixels for frame, _ in group], [found.hole for _, found in group]
                filled = fill_frames(hands, pixels, holes)
                if steadier is not None:
                    filled = [steadier(*each) for each in zip(pixels, filled, holes, strict=True)]
                seconds += time.perf_counter() - began
                done += len(group)
                behind.add(None, partial(_write, writer, group, filled), cost=len(group) * pixels[0].size // 3)
                _raise(behind.finished())
                yield Advanced(job, done, max(done, clip.count))
            _raise(behind.finished(all_of_them=True))
    took = time.perf_counter() - start
    yield Filled(job, (f"{done} frames, {done / took:.1f} a second", *masks.left_over()), Times(filling=seconds))


def fill_frames(hands: Hands, frames: Sequence[NDArray[Any]], holes: Sequence[Hole]) -> list[NDArray[Any]]:
    """Frames [H, W, 3] of one size, filled; those without a hole as they are. Where memory lacks, in halves."""
    filled = list(frames)
    begun: deque[tuple[list[int], Callable[[], list[NDArray[Any]]]]] = deque()

    def land() -> None:
        indices, finish = begun.popleft()
        try:
            results = finish()
        except OutOfMemoryError as error:
            results = _halved(hands, [frames[i] for i in indices], [holes[i] for i in indices], error)
        for i, result in zip(indices, results, strict=True):
            filled[i] = result

    for indices in grouped(hands.inpainter, holes):
        try:
            finish = hands.begin([frames[i] for i in indices], [holes[i] for i in indices])
        except OutOfMemoryError as error:
            finish = raising(error)
        begun.append((indices, finish))
        if len(begun) > hands.ahead:
            land()
    while begun:
        land()
    return filled


def _halved(hands: Hands, frames: list[NDArray[Any]], holes: list[Hole], error: OutOfMemoryError) -> list[NDArray[Any]]:
    """What memory lacked for, in halves down to single frames. Raises the error where nothing helps."""
    if len(frames) == 1:
        raise error
    hands.free_memory()
    results, middle = [], len(frames) // 2
    for part in (slice(0, middle), slice(middle, None)):
        try:
            results += hands.fill_alone(frames[part], holes[part])
        except OutOfMemoryError as again:
            results += _halved(hands, frames[part], holes[part], again)
    return results


def _started(job: VideoJob, clip: Clip, writer: ClipWriter, found: Found, inpainter: Inpainter) -> Started:
    (height, width), plan = clip.size, inpainter.plan(found.hole)
    notes = (*found.notes, *((str(plan),) if plan.chosen else ()), *clip.notes, *writer.notes)
    return Started(job, found.warnings, notes, (width, height), float(found.hole.filled.mean()), plan.strategy)


class _Masks:
    """The hole of every frame in order, as the frames are stored. Raises JobError where there are too few."""

    def __init__(self, job: VideoJob, clip: Clip, inpainter: Inpainter) -> None:
        assert job.mask is not None
        self._mask, self._clip, self._options = job.mask, clip, inpainter.options
        self._reader = Reader(inpainter.options, inpainter.max_pixels)
        self._paths: list[Path] = []
        self._turned: dict[Found, Found] = {}
        self.given = 0

    def __iter__(self) -> Iterator[Found]:
        for found in self._all():
            self.given += 1
            yield self._stored(found)
        raise JobError(
            f"{self._mask}: has {self.given} masks, but {self._clip.path} more frames: expected one each, or one for all"
        )

    def left_over(self) -> tuple[str, ...]:
        """A sentence on masks that have no frame."""
        more = len(self._paths) - self.given
        return (f"{more} masks of {self._mask} have no frame",) if more > 0 else ()

    def _all(self) -> Iterator[Found]:
        if self._mask.is_dir():
            self._paths = [path for path in visible_files(self._mask, False) if path.suffix.lower() in readable_suffixes()]
            yield from map(self._reader.mask, self._paths)
        elif has_video_suffix(self._mask):
            with Clip(self._mask) as masks:
                for frame in masks.frames():
                    white = int(np.iinfo(frame.pixels.dtype).max)
                    shown = turned_upright(luminance(frame.pixels, None, white, self._options.hole), masks.matrix)
                    yield Found(find_hole(shown, self._options))
        else:
            yield from itertools.repeat(self._reader.mask(self._mask))

    def _stored(self, found: Found) -> Found:
        """With the hole turned as the frames lie; the same object for the same mask. Raises InpaintError for another size."""
        if found not in self._turned:
            hole = found.hole.changed(lambda array: turned_back(array, self._clip.matrix))
            if hole.filled.shape != self._clip.size:
                height, width = turned_upright(np.empty(self._clip.size, bool), self._clip.matrix).shape
                mask_height, mask_width = found.hole.filled.shape
                raise InpaintError(
                    f"{self._mask}: the mask is {mask_width}x{mask_height} pixels (width x height), but the video "
                    f"{self._clip.path} is shown at {width}x{height}: expected the same size, with {self._options.hole} = hole"
                )
            if len(self._turned) == MASKS:
                self._turned.clear()
            self._turned[found] = dataclasses.replace(found, hole=hole)
        return self._turned[found]


def turned_upright(stored: NDArray[Any], matrix: Sequence[int] | None) -> NDArray[Any]:
    """[H, W, ...] as it is shown, by the nine numbers of a display matrix, to the nearest quarter turn."""
    if matrix is None:
        return stored
    transposed, flips = _turn(matrix)
    return np.ascontiguousarray(np.flip(np.swapaxes(stored, 0, 1) if transposed else stored, flips))


def turned_back(shown: NDArray[Any], matrix: Sequence[int] | None) -> NDArray[Any]:
    """The other way round."""
    if matrix is None:
        return shown
    transposed, flips = _turn(matrix)
    flipped = np.flip(shown, flips)
    return np.ascontiguousarray(np.swapaxes(flipped, 0, 1) if transposed else flipped)


def _turn(matrix: Sequence[int]) -> tuple[bool, tuple[int, ...]]:
    """Whether rows become columns, and which axes are then flipped: column x, row y go to (a x + c y, b x + d y)."""
    a, b, _, c, d = matrix[:5]
    transposed = abs(b) > abs(a)
    across, down = (c, b) if transposed else (a, d)
    return transposed, tuple(axis for axis, step in ((0, down), (1, across)) if step < 0)


def _groups(clip: Clip, masks: _Masks) -> Iterator[list[tuple[Frame, Found]]]:
    """Frames with their holes, as many as are decoded ahead at once."""
    height, width = clip.size
    count = max(1, min(WINDOW, WINDOW_PIXELS // (height * width)))
    pairs = zip(clip.frames(), masks, strict=False)
    while group := list(itertools.islice(pairs, count)):
        yield group


def _write(writer: ClipWriter, group: Sequence[tuple[Frame, Found]], filled: Sequence[NDArray[Any]]) -> None:
    for (frame, found), pixels in zip(group, filled, strict=True):
        hole = found.hole.filled
        writer.write(with_filling(frame, pixels, hole) if hole.any() else frame.image)


def _raise(calls: Iterator[tuple[None, Future[None]]]) -> None:
    for _, call in calls:
        call.result()


def _check(job: VideoJob) -> None:
    if job.mask is None or job.comparison is not None:
        raise JobError(f"{job.image}: a video needs a MASK, and is shown in no comparison")
    if not job.mask.exists():
        raise JobError(f"{job.mask}: there is no such mask; check the path")
    if any(is_same_file(job.output, each) for each in (job.image, job.mask)):
        raise JobError(f"{job.output} is an input and would be overwritten: choose another output")
    if not has_video_suffix(job.output):
        raise JobError(f"{job.output}: the result of a video is one; expected a suffix out of {', '.join(SUFFIXES)}")
