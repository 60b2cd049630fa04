"""How close a filled picture is to the original."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def psnr(picture: NDArray[Any], original: NDArray[Any]) -> float:
    """Peak signal-to-noise ratio in dB over all pixels and channels of two uint8 arrays of one shape; infinite if equal."""
    if picture.shape != original.shape or picture.dtype != np.uint8 or original.dtype != np.uint8:
        raise ValueError(
            f"psnr of {picture.dtype}{list(picture.shape)} and {original.dtype}{list(original.shape)}: "
            "expected two uint8 arrays of one shape"
        )
    error = np.mean((picture.astype(np.float64) - original) ** 2)
    return float("inf") if error == 0 else float(10 * np.log10(255**2 / error))
