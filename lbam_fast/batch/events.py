"""What happens to jobs. Each ends with one event, ``Filled`` or ``Failed``; ``Started`` comes before every ``Filled``.

Sentences are for users. Warnings and notes do not name the picture, as the event's job does; the messages of errors name files.
"""

from __future__ import annotations

from dataclasses import dataclass

from lbam_fast.batch.jobs import Job
from lbam_fast.errors import LBAMError


@dataclass(frozen=True)
class Started:
    """Its picture is read and its hole is found; what is odd about the hole, and what is only worth a note."""

    job: Job
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Filled:
    """Its result is written, or copied where there was no hole; with notes on what the file does not hold as the picture did."""

    job: Job
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Failed:
    """It has no result, because of that error."""

    job: Job
    error: LBAMError


Event = Started | Filled | Failed
