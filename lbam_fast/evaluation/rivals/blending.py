"""Poisson blending, which follows the completion network of Global&Local as published."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from lbam_fast.evaluation.methods import Pixels, harmonic_values

TELEA_RADIUS = 1
"""Of the destination that the authors blend into."""


def blended(output: NDArray[Any], picture: NDArray[Any], hole: NDArray[np.bool_]) -> NDArray[np.float64]:
    """The picture with its hole filled so that the Laplacian there is the output's, and known pixels are the border.

    output, picture [H, W, C] on one scale, output also where known; hole [H, W]. 5 points, no flow across the picture's edge, in
    float64: the output plus the harmonic fill of its difference from what is known. Known pixels stay as they are. Results may
    lie outside of the scale. Without any known pixel the output itself. Needs SciPy.
    """
    filled = np.array(picture, dtype=np.float64)
    filled[hole] = output[hole]
    if hole.any() and not hole.all():
        known = np.where(hole[..., None], 0, picture)
        filled[hole] += harmonic_values(known - np.where(hole[..., None], 0, output.astype(np.float64)), hole)
    return filled


def cloned(composite: Pixels, mask: Pixels) -> Pixels:
    """The same by OpenCV's ``seamlessClone``, as the authors' tool calls it: an approximation, see docs/rivals.md.

    composite [H, W, 3], the picture with the output in its hole; mask [H, W], 255 = hole. It is blended into Telea's fill.
    Known pixels stay as they are.
    """
    if not mask.any():
        return composite.copy()
    hole = mask > 0
    left, top, width, height = cv2.boundingRect(mask)
    centre = left + width // 2, top + height // 2
    destination = cv2.inpaint(composite, mask, TELEA_RADIUS, cv2.INPAINT_TELEA)
    result = cv2.seamlessClone(composite, destination, mask.copy(), centre, cv2.NORMAL_CLONE)  # it writes to the mask
    return np.where(hole[..., None], result, composite)
