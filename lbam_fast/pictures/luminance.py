"""What the pixels of a mask mean, whether they lie in memory or are read strip by strip."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lbam_fast.config import HoleColour

# Of Rec. 601, in thousandths.
_WEIGHTS = np.array([299, 587, 114], np.uint32)


def white_of(most: int, dtype: np.dtype[Any], lossless: bool) -> int:
    """What white is in a mask whose colours reach ``most``: a lossless file of zeros and ones alone is black and white."""
    return 1 if lossless and most <= 1 else int(np.iinfo(dtype).max)


def luminance(colours: NDArray[Any], alpha: NDArray[Any] | None, white: int, hole: HoleColour) -> NDArray[np.float32]:
    """Luminance of a mask in [0, 1]; what is not painted on a transparent layer is known.

    Args:
        colours: ``[H, W, C]`` uint8 or uint16, C = 1 or 3.
        alpha: ``[H, W]`` of the same dtype, its opacity, if it has one.
        white: the value of white, as ``white_of`` gives it.
        hole: the colour of holes.

    Returns:
        ``[H, W]`` float32.
    """
    if colours.shape[2] == 3:  # whole numbers keep white at exactly 1
        grey = (colours.astype(np.uint32) @ _WEIGHTS).astype(np.float32) / np.float32(1000 * white)
    else:
        grey = colours[..., 0].astype(np.float32) / np.float32(white)
    if alpha is None:
        return grey
    opacity = alpha.astype(np.float32) / np.float32(np.iinfo(alpha.dtype).max)
    painted: NDArray[np.float32] = grey * opacity if hole == "white" else 1 - (1 - grey) * opacity
    return painted
