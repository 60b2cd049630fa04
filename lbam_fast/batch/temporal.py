"""Frames of a video steadied: where nothing moves, a hole shows what it showed before."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from lbam_fast.inference import Hole
from lbam_fast.inference.regions import grown, part, within

KEPT = 0.9
"""The share of the frame before in a hole where nothing moves."""
AROUND = 32
"""Pixels around each one of a hole whose known ones say whether it moves."""
STILL, MOVING = 4 / 255, 8 / 255
"""Mean change of known pixels up to which nothing moves, noise aside, and from which on everything does."""


class Steadier:
    """Blends each frame's filling with the one before, in the order of the frames.

    A pixel of the hole takes ``KEPT`` of what was there in the frame before, or all of it if that was known there, as far as the
    known pixels around it have not changed from frame to frame. So what is uncovered for a while on a still background stays
    in place of what is made up. Where something moves, and at cuts, the filling is that of the frame alone.
    """

    def __init__(self) -> None:
        self._before: _State | None = None

    def __call__(self, pixels: NDArray[Any], filled: NDArray[Any], hole: Hole) -> NDArray[Any]:
        """The filled frame [H, W, 3], uint8 or uint16, steadied inside the hole. pixels: the same frame as it was given."""
        top = np.iinfo(filled.dtype).max
        shown, truth = filled.astype(np.float32) / np.float32(top), ~hole.filled
        before = self._before
        if before is not None and hole.filled.any():
            area = grown(hole.box, AROUND, hole.filled.shape)
            change = np.abs(shown[area] - before.given[area]).mean(axis=-1)
            still = stillness(change, truth[area] & before.known[area])[within(hole.box, area)]
            inside = hole.box
            share = np.where(before.true[inside], still, np.float32(KEPT) * still) * part(hole, inside).weight
            shown[inside] += share[..., None] * (before.shown[inside] - shown[inside])
            truth[inside] |= before.true[inside] & (still >= 1)
            result = filled.copy()
            result[inside][hole.filled[inside]] = np.rint(shown[inside] * top)[hole.filled[inside]]
            filled = result
        self._before = _State(pixels.astype(np.float32) / np.float32(top), shown, ~hole.filled, truth)
        return filled


@dataclass(frozen=True, eq=False)
class _State:
    """A frame.

    given  [H, W, 3] as it came, in [0, 1]
    shown  the same with its filling
    known  [H, W], where it was known
    true   where what is shown was known, then or before
    """

    given: NDArray[np.float32]
    shown: NDArray[np.float32]
    known: NDArray[np.bool_]
    true: NDArray[np.bool_]


def stillness(change: NDArray[np.float32], known: NDArray[np.bool_]) -> NDArray[np.float32]:
    """From 1, where nothing moves, to 0 for every pixel of [H, W]; 0 where nothing around it is known.

    change: the mean over the channels of how much each pixel changed, in [0, 1]; known: where that says anything.
    """
    size = (2 * AROUND + 1,) * 2
    share = cv2.boxFilter(known.astype(np.float32), -1, size)
    mean = cv2.boxFilter(np.where(known, change, np.float32(0)).astype(np.float32), -1, size)
    moved = np.where(share > 1e-6, mean / np.maximum(share, 1e-6), np.inf)
    return np.clip((MOVING - moved) / (MOVING - STILL), 0, 1).astype(np.float32)
