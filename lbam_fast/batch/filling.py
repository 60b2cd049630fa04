"""Jobs through the Inpainter, and what happens to them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from lbam_fast.batch.events import Event, Failed, Filled, Started
from lbam_fast.batch.jobs import Job
from lbam_fast.batch.reading import Reader, Work
from lbam_fast.batch.writing import check_outputs, write_outputs
from lbam_fast.errors import LBAMError
from lbam_fast.inference import Inpainter, InpaintError


class Filler:
    """Reads, fills and writes pictures with that inpainter."""

    def __init__(self, inpainter: Inpainter) -> None:
        self.inpainter = inpainter
        self._reader = Reader(inpainter.options, inpainter.max_pixels)

    def read_mask(self, path: Path) -> None:
        """Read a mask that many jobs share, so that a bad one is told of once. Raises PictureError."""
        self._reader.mask(path)

    def fill(
        self, jobs: Sequence[Job], *, make_folders: bool = False, stop: Callable[[], bool] = lambda: False
    ) -> Iterator[Event]:
        """Do the jobs in order, each as its events are asked for; see ``events`` for these.

        Jobs in a row that share a mask go through the network together, and fail after those of them that are filled. An error
        of a job stops no other; anything but an LBAMError is raised. make_folders: make the folders of outputs that do not exist.
        stop: asked after each such group; what it leaves undone has no event.
        """
        for group in _sharing_masks(jobs, self.inpainter.batch_size):
            ready: list[Work] = []
            failed: list[Failed] = []
            for job in group:
                try:
                    work = self._reader.read(job)
                    plan = self.inpainter.plan(work.found.hole)
                    notes = (*work.found.notes, str(plan)) if plan.chosen else work.found.notes
                    yield Started(job, work.found.warnings, notes)
                    check_outputs(work, make_folders)
                    ready.append(work)
                except LBAMError as error:
                    failed.append(Failed(job, error))
            pixels, holes = [work.picture.pixels for work in ready], [work.found.hole for work in ready]
            try:
                for indices in self.inpainter.batches(holes):
                    filled = self.inpainter.fill([pixels[i] for i in indices], [holes[i] for i in indices])
                    for i, result in zip(indices, filled, strict=True):
                        pixels[i] = result
            except LBAMError as error:
                failed += [Failed(work.job, InpaintError(f"{work.job.image}: {error}")) for work in ready]
                ready, pixels = [], []
            for work, result in zip(ready, pixels, strict=True):
                try:
                    notes = write_outputs(work, result)
                except LBAMError as error:
                    failed.append(Failed(work.job, error))
                else:
                    yield Filled(work.job, notes)
            yield from failed
            if stop():
                return


def _sharing_masks(jobs: Sequence[Job], most: int) -> Iterator[list[Job]]:
    """The jobs in order, those in a row that share a mask together, up to ``most`` at once."""
    for _, sharing in itertools.groupby(jobs, key=lambda job: job.mask or job.image):
        while group := list(itertools.islice(sharing, most)):
            yield group
