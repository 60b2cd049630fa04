"""Specks filled: as smoothly as what is around them goes on, or by the network in windows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from lbam_fast.inference.biharmonic import biharmonic
from lbam_fast.inference.detail import Detailer
from lbam_fast.inference.layouts import Array, from_unit, to_unit
from lbam_fast.inference.masks import Hole
from lbam_fast.inference.pasting import paste
from lbam_fast.inference.sheets import sheets
from lbam_fast.inference.specks import Specks

FillSheet = Callable[[Array, Hole, int], Array]


@dataclass(frozen=True)
class SpeckFiller:
    """Fills specks of pictures [H, W, 1 or 3].

    sheet     fills one picture that is made of square windows of that side, each a part of another place, without texture
    detailer  lays texture over what is smooth
    """

    sheet: FillSheet
    detailer: Detailer

    def into(
        self, result: Array, pixels: Array, hole: Hole, specks: Sequence[Specks], rest: Callable[[], None] = lambda: None
    ) -> None:
        """Fill these specks of a hole in ``result``, a copy of ``pixels``. rest: is called between regions."""
        for some in specks:
            self._fill(result, pixels, hole, some)
            rest()
        for some in specks:  # all of which are smooth now
            self._lay_texture(result, some)
            if hole.soft is not None:
                at = some.rows, some.columns
                own = Hole(np.ones((1, len(some.rows)), np.bool_), hole.soft[at][None])
                result[at] = paste(np.ascontiguousarray(pixels[at][None]), to_unit(result[at][None]), own)[0]
            rest()

    def _fill(self, result: Array, pixels: Array, hole: Hole, specks: Specks) -> None:
        alone = specks.chosen(specks.windows == 0)
        if len(alone.counts):
            result[alone.rows, alone.columns] = from_unit(biharmonic(pixels, hole.filled, alone), pixels)
        for sheet in sheets(specks, hole.filled.shape):  # which may show other holes, too
            done = self.sheet(sheet.of(pixels), Hole(sheet.of(hole.filled)), sheet.side)
            result[sheet.pixels] = done[sheet.places]

    def _lay_texture(self, result: Array, specks: Specks) -> None:
        for sheet in sheets(specks, result.shape):
            smooth = sheet.of(result)
            own = np.zeros(smooth.shape[:2], np.bool_)
            own[sheet.places] = True
            textured = self.detailer(smooth, to_unit(smooth), Hole(own))
            result[sheet.pixels] = from_unit(textured[sheet.places], result)
