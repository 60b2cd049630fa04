"""Which pictures go through the network together. It depends on the list of jobs and the pictures alone, never on time."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from lbam_fast.batch.reading import Work
from lbam_fast.inference import Inpainter, grouped

WINDOW = 16
"""Jobs in a row within which pictures are put together; of a list, from its multiples of 16 on."""
WINDOW_PIXELS = 1 << 24
"""Pixels at which a window ends, so that large pictures do not gather in memory."""


@dataclass(frozen=True)
class Batch:
    """Works that go through the network together, or one that needs no network; ``tried`` if that has failed before."""

    works: list[Work]
    tried: bool = False

    @property
    def empty(self) -> bool:
        """Whether there is nothing to fill."""
        return not any(work.found.hole.filled.any() for work in self.works)

    def smaller(self) -> list[Batch]:
        """What to do where memory did not suffice: the same, once what can be freed is free; then halves; then nothing."""
        if not self.tried:
            return [Batch(self.works, tried=True)]
        half = len(self.works) // 2
        return [Batch(part, tried=True) for part in (self.works[:half], self.works[half:])] if half else []

    def single(self) -> list[Batch]:
        """Each alone, to find the one that fails; nothing for one that is alone."""
        return [Batch([work], tried=True) for work in self.works] if len(self.works) > 1 else []


def ends_window(position: int, pixels: int) -> bool:
    """Whether a window of so many pixels ends before that place in the list of jobs.

    Each of its multiples of 16 begins one, whatever was before, so that parts of the list may be done apart.
    """
    return position % WINDOW == 0 or pixels >= WINDOW_PIXELS


def planned(works: Iterable[Work], inpainter: Inpainter) -> list[Batch]:
    """The works of a window in batches, in the order of their first pictures.

    Pictures under one mask stay together, so that what depends on it alone is computed once; others go by padded size. A picture
    without a hole is alone.
    """
    window = list(works)
    sharing = Counter(id(work.found) for work in window)
    groups: dict[int, list[Work]] = defaultdict(list)
    for work in window:
        groups[id(work.found) if sharing[id(work.found)] > 1 else 0].append(work)
    batches = [[work] for work in window if not work.found.hole.filled.any()]
    for group in groups.values():
        batches += [[group[i] for i in indices] for indices in grouped(inpainter, [work.found.hole for work in group])]
    places = {id(work): i for i, work in enumerate(window)}
    return [Batch(batch) for batch in sorted(batches, key=lambda batch: places[id(batch[0])])]
