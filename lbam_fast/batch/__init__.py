"""Pictures from files into files: what is to be done as jobs, and what comes of it as events. Prints nothing.

>>> pairs = pair_folder(Path("photos"), Path("masks"), Path("filled"))
>>> for event in Filler(Inpainter.from_pretrained()).fill(pairs.jobs, make_folders=True):
...     print(event)

Names are imported on first use, so that arguments can be found wrong without waiting for PyTorch.
"""

from typing import TYPE_CHECKING

from lbam_fast.lazy import looked_up

if TYPE_CHECKING:
    from lbam_fast.batch.errors import JobError
    from lbam_fast.batch.events import Advanced, Event, Failed, Filled, Skipped, Started, Times, VideoEvent
    from lbam_fast.batch.filling import Filler
    from lbam_fast.batch.jobs import Job
    from lbam_fast.batch.journal import Journal, fingerprint
    from lbam_fast.batch.locking import locked, remove_leftovers
    from lbam_fast.batch.pairing import Pairs, pair_file, pair_folder
    from lbam_fast.batch.processes import fill_on
    from lbam_fast.batch.recipes import Recipe
    from lbam_fast.batch.report import Report
    from lbam_fast.batch.video import VideoJob, fill_video

_MODULES = {
    "errors": ("JobError",),
    "events": ("Advanced", "Event", "Failed", "Filled", "Skipped", "Started", "Times", "VideoEvent"),
    "filling": ("Filler",),
    "jobs": ("Job",),
    "journal": ("Journal", "fingerprint"),
    "locking": ("locked", "remove_leftovers"),
    "pairing": ("Pairs", "pair_file", "pair_folder"),
    "processes": ("fill_on",),
    "recipes": ("Recipe",),
    "report": ("Report",),
    "video": ("VideoJob", "fill_video"),
}

__all__ = [
    "Advanced",
    "Event",
    "Failed",
    "Filled",
    "Filler",
    "Job",
    "JobError",
    "Journal",
    "Pairs",
    "Recipe",
    "Report",
    "Skipped",
    "Started",
    "Times",
    "VideoEvent",
    "VideoJob",
    "fill_on",
    "fill_video",
    "fingerprint",
    "locked",
    "pair_file",
    "pair_folder",
    "remove_leftovers",
]

if not TYPE_CHECKING:
    __getattr__ = looked_up(__name__, _MODULES)
