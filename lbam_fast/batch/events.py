"""What happens to jobs. Each ends with one event, ``Filled``, ``Skipped`` or ``Failed``; ``Started`` comes before ``Filled``.
Those of videos tell of ``Advanced`` in between.

Sentences are for users. Warnings and notes do not name the picture, as the event's job does; the messages of errors name files.
"""

from __future__ import annotations

from dataclasses import dataclass

from lbam_fast.batch.jobs import Job
from lbam_fast.errors import LBAMError


@dataclass(frozen=True)
class Times:
    """Seconds that a job took: to be read and decoded with its mask, for the network (its share of the batch; where
    two batches are filled at once, with what it waited for the other), to be written."""

    reading: float = 0.0
    filling: float = 0.0
    writing: float = 0.0


@dataclass(frozen=True)
class Started:
    """Its picture is read and its hole is found; what is odd about the hole, and what is only worth a note.

    size      the picture's width and height in pixels
    hole      the share of its pixels that are filled, from 0 to 1
    strategy  how the network goes over it: "whole", "resize", "crop" or "tile"
    """

    job: Job
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    size: tuple[int, int] = (0, 0)
    hole: float = 0.0
    strategy: str = "whole"


@dataclass(frozen=True)
class Advanced:
    """So many frames of a video are filled, of about so many; 0 if the file does not say."""

    job: Job
    done: int
    total: int


@dataclass(frozen=True)
class Filled:
    """Its result is written, or copied where there was no hole; with notes on what the file does not hold as the picture did."""

    job: Job
    notes: tuple[str, ...] = ()
    times: Times = Times()


@dataclass(frozen=True)
class Skipped:
    """It was done before, from the same inputs with the same options, as the journal says."""

    job: Job


@dataclass(frozen=True)
class Failed:
    """It has no result, because of that error."""

    job: Job
    error: LBAMError


Event = Started | Filled | Skipped | Failed
VideoEvent = Started | Advanced | Filled
