"""Masks of every kind and depth as numbers from 0, black, to 1, white."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from lbam_fast.config import HoleColour
from lbam_fast.inference.errors import InpaintError
from lbam_fast.inference.layouts import check_shape, native, tolerance
from lbam_fast.inference.pil import mask_array

_LUMINANCE = np.array([0.299, 0.587, 0.114], np.float32)
_WHITES = tuple(int(np.iinfo(f"{sign}int{bits}").max) for bits in (8, 16, 32) for sign in ("", "u"))
"""What white is in integers of 8, 16 and 32 bits."""
_OUTSIDE = "the mask has values outside [0, 1] or that are not numbers: expected 0 to 1, or 0 to 255 as uint8"


def mask_values(mask: Any, hole: HoleColour, max_pixels: int) -> NDArray[np.float32]:
    """A mask as [H, W] float32 in [0, 1]: a PIL image, an array [H, W] or [H, W, 1 to 4], or a tensor [H, W] or [C, H, W].

    White is 1 in bool and floating masks, 255 in uint8, and the largest number that the type holds in all other integers. Integer
    masks of zeros and ones alone count as black and white, in types of more than 8 bits with a warning; such whose largest value
    is the white of a narrower type (255 in uint16) are refused, as it could mean either.
    Colours become luminance. What is not painted on a transparent layer is known, for either colour of the hole. A PIL image
    is turned as its EXIF orientation says. Raises InpaintError.
    """
    if isinstance(mask, Image.Image):
        mask = mask_array(mask, max_pixels)
    allowed = 0.0
    if isinstance(mask, Tensor):
        allowed = tolerance(mask.dtype)
        mask = mask.detach().cpu()
        mask = (mask.float() if mask.is_floating_point() else mask).numpy()
        mask = np.moveaxis(mask, 0, -1) if mask.ndim == 3 else mask
    if not isinstance(mask, np.ndarray):
        raise InpaintError(f"a mask of type {type(mask).__name__}: expected a PIL image, a NumPy array or a torch tensor")
    check_shape("mask", mask)
    allowed = max(allowed, tolerance(mask.dtype))
    values = _unit_range(native(mask))
    if np.issubdtype(mask.dtype, np.floating):
        if not np.isfinite(values).all() or values.min() < -allowed or values.max() > 1 + allowed:
            raise InpaintError(_OUTSIDE)
        values = np.clip(values, 0, 1)
    return _grey(values, hole)


def _grey(values: NDArray[np.float32], hole: HoleColour) -> NDArray[np.float32]:
    if values.ndim == 2:
        return values
    channels = values.shape[-1]
    grey = np.clip(values[..., :3] @ _LUMINANCE, 0, 1) if channels >= 3 else values[..., 0]
    if channels not in (2, 4):
        return grey
    opacity = values[..., -1]
    return opacity * grey if hole == "white" else 1 - opacity * (1 - grey)


def _unit_range(mask: NDArray[Any]) -> NDArray[np.float32]:
    if mask.dtype == bool or np.issubdtype(mask.dtype, np.floating):
        return mask.astype(np.float32)
    if not np.issubdtype(mask.dtype, np.integer):
        raise InpaintError(f"the mask has the dtype {mask.dtype}: expected bool, integers, or floating with values in [0, 1]")
    if mask.min() < 0:
        raise InpaintError(_OUTSIDE)
    most, white = int(mask.max()), int(np.iinfo(mask.dtype).max)
    if most == 1:
        if mask.itemsize > 1:
            warnings.warn(
                f"the mask is {mask.dtype} and holds zeros and ones alone: they are read as black and white; pass bool to say so",
                stacklevel=5,
            )
        return mask.astype(np.float32)
    if most in _WHITES and most < white and mask.itemsize > 1:
        raise InpaintError(
            f"the mask is {mask.dtype} and reaches {most}: that could be white, or as good as black, as white is {white} there. "
            f"Pass bool, uint8 with white = 255, or {mask.dtype} with white = {white}"
        )
    exact = np.float32 if mask.itemsize <= 2 else np.float64  # which holds the integers as they are
    values: NDArray[np.float32] = np.divide(mask, white, dtype=exact).astype(np.float32, copy=False)
    return values
