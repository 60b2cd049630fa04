"""What is to be done."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Job:
    """One picture to fill.

    image       its file
    mask        the file of its mask, of the picture's size; None: the picture's transparent part is the hole
    output      the file for the result, which may be replaced; its suffix says the format
    comparison  a file that shows the picture as given, with its hole in grey, and filled, side by side; None: no such file
    """

    image: Path
    mask: Path | None
    output: Path
    comparison: Path | None = None
