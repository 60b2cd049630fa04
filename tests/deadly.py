"""A recipe whose workers are killed at their work; in a module of its own, which they import."""

import os
import signal
from dataclasses import dataclass
from pathlib import Path

from lbam_fast.batch import Recipe


@dataclass(frozen=True)
class Deadly(Recipe):
    """Its workers are killed so many times as they come to that picture. A file in ``marks`` stands for each time."""

    picture: str = ""
    times: int = 0
    marks: Path = Path()

    def filler(self, device, threads=None):
        filler = super().filler(device, threads)
        read = filler._reader.read

        def deadly(job):
            if job.image.name == self.picture and len(list(self.marks.iterdir())) < self.times:
                (self.marks / str(os.getpid())).touch()
                os.kill(os.getpid(), signal.SIGKILL)
            return read(job)

        filler._reader.read = deadly
        return filler
