"""What is filled, put into the picture."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lbam_fast.inference.errors import InpaintError
from lbam_fast.inference.layouts import Array, from_unit, pixels_of, put_pixels, to_unit
from lbam_fast.inference.masks import Hole


def paste(pixels: Array, output: NDArray[np.float32], hole: Hole) -> Array:
    """``pixels`` [H, W, 1 or 3] with the network's ``output`` [H, W, 3] in its hole; all other pixels are the very same.

    Raises InpaintError for an output that is no numbers.
    """
    filled = hole.filled[hole.box]
    values = pixels_of(output[hole.box], filled)
    if not np.isfinite(values).all():
        raise InpaintError("the network gave values that are no numbers: try dtype float32, or other weights")
    result = pixels.copy()
    region = result[hole.box]
    if hole.soft is not None:
        weight = hole.soft[hole.box][filled][:, None]
        blended = weight[:, 0] < 1
        known = to_unit(pixels_of(region, filled)[None, blended])[0]
        values[blended] = weight[blended] * values[blended] + (1 - weight[blended]) * known
    put_pixels(region, filled, from_unit(values, pixels))
    return result
