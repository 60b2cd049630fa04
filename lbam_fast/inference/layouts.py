"""The forms pictures and masks come in, read into arrays and given back as they came."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor

from lbam_fast.inference.errors import InpaintError

Array = NDArray[Any]
_LUMINANCE = np.array([0.299, 0.587, 0.114], np.float32)
_RANGES = {np.dtype(np.uint8): 255, np.dtype(np.uint16): 65535}


@dataclass(frozen=True)
class Canvas:
    """One picture as an array, and the way back.

    pixels   [H, W, 1 or 3] in the picture's own dtype, colours alone (a view or a copy; never written to)
    restore  makes the caller's kind of picture from pixels of the same shape and dtype
    """

    pixels: Array
    restore: Callable[[Array], Any]


def read_image(image: Any) -> Canvas:
    """A PIL image, a NumPy array [H, W], [H, W, 1 to 4] or a tensor [C, H, W]. Raises InpaintError for anything else."""
    if isinstance(image, Image.Image):
        return _read_pil(image)
    if isinstance(image, Tensor):
        return _read_tensor(image)
    if isinstance(image, np.ndarray):
        return _read_array(image)
    raise InpaintError(f"an image of type {type(image).__name__}: expected a PIL image, a NumPy array or a torch tensor")


def read_mask(mask: Any) -> NDArray[np.float32]:
    """A mask as [H, W] float32 in [0, 1]: a PIL image, an array [H, W] or [H, W, 1 to 4], or a tensor [H, W] or [C, H, W].

    Values are scaled by their dtype's range (bool and float: 1), but integer masks of zeros and ones count as 0 and 1.
    Colours become luminance; transparent parts count as black. A PIL image is turned as its EXIF orientation says.
    Raises InpaintError.
    """
    if isinstance(mask, Image.Image):
        mask = _pil_mask(ImageOps.exif_transpose(mask))
    elif isinstance(mask, Tensor):
        mask = mask.detach().cpu()
        mask = (mask.float() if mask.is_floating_point() else mask).numpy()
        mask = np.moveaxis(mask, 0, -1) if mask.ndim == 3 else mask
    if not isinstance(mask, np.ndarray):
        raise InpaintError(f"a mask of type {type(mask).__name__}: expected a PIL image, a NumPy array or a torch tensor")
    _check_array("mask", mask, also=(bool, np.int32, np.int64))
    values = mask.astype(np.float32) if mask.max() <= 1 else _unit_range(mask)
    if values.ndim == 3:
        channels = values.shape[-1]
        opacity = values[..., -1] if channels in (2, 4) else np.float32(1)
        values = opacity * (values[..., :3] @ _LUMINANCE if channels >= 3 else values[..., 0])
    if not np.isfinite(values).all() or values.min() < 0 or values.max() > 1 + 1e-6:
        raise InpaintError("the mask has values outside [0, 1] or that are not numbers: expected 0 to 1, or 0 to 255 as uint8")
    return np.clip(values, 0, 1).astype(np.float32, copy=False)


def to_unit(pixels: Array) -> NDArray[np.float32]:
    """Pixels of any accepted dtype as float32 in [0, 1], three channels [H, W, 3]."""
    return np.broadcast_to(_unit_range(pixels), (*pixels.shape[:2], 3))


def emptied(pixels: Array, filled: NDArray[np.bool_]) -> NDArray[np.float32]:
    """``to_unit`` with zeros where ``filled`` [H, W]: what lies there is not even converted."""
    return to_unit(np.where(filled[..., None], pixels.dtype.type(0), pixels))


def from_unit(values: NDArray[np.float32], like: Array) -> Array:
    """[..., 3] float32 in [0, 1] in the dtype and channels of ``like``: rounded for integers, the mean for one channel."""
    if like.shape[-1] == 1:
        values = values.mean(axis=-1, keepdims=True)
    top = _RANGES.get(like.dtype)
    return values.astype(like.dtype) if top is None else np.rint(values * top).astype(like.dtype)


def _unit_range(values: Array) -> NDArray[np.float32]:
    return values.astype(np.float32) / np.float32(_RANGES.get(values.dtype, 1))


def _check_array(name: str, array: Array, also: tuple[type, ...] = ()) -> None:
    if array.dtype not in (*_RANGES, *also) and not np.issubdtype(array.dtype, np.floating):
        raise InpaintError(f"the {name} has the dtype {array.dtype}: expected uint8, uint16 or floating with values in [0, 1]")
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[-1] not in (1, 2, 3, 4)):
        raise InpaintError(
            f"the {name} has the shape {list(array.shape)}: expected [H, W] or [H, W, channels] with 1 to 4 channels"
        )
    if 0 in array.shape:
        raise InpaintError(f"the {name} is empty: its shape is {list(array.shape)}, expected at least 1x1")


def _read_array(image: Array) -> Canvas:
    _check_array("image", image)
    stacked = image[..., None] if image.ndim == 2 else image
    colours = 1 if stacked.shape[-1] <= 2 else 3

    def restore(pixels: Array) -> Array:
        result = np.concatenate([pixels, stacked[..., colours:]], axis=-1)
        return result.reshape(image.shape)

    return Canvas(stacked[..., :colours], restore)


def _pil_mask(mask: Image.Image) -> Array:
    if mask.mode == "I":  # how some files of 16 bits are opened
        return np.asarray(mask).clip(0, 65535).astype(np.uint16)
    if mask.mode in ("1", "L", "LA", "I;16", "F", "RGB", "RGBA"):
        return np.asarray(mask)
    return np.asarray(mask.convert("RGBA" if mask.has_transparency_data else "L"))


def _read_pil(image: Image.Image) -> Canvas:
    image = ImageOps.exif_transpose(image)
    kept: dict[str | tuple[int, int], Any] = {key: image.info[key] for key in ("icc_profile", "dpi") if key in image.info}
    exif = image.getexif()
    if image.mode == "CMYK":
        kept.pop("icc_profile", None)
    if image.mode in ("1", "P", "PA", "CMYK", "YCbCr", "LAB", "HSV", "RGBX"):
        # These have no place for every filled colour, or none that the network knows: they come back as RGB(A) or grey.
        image = image.convert("L" if image.mode == "1" else "RGBA" if image.has_transparency_data else "RGB")
    if image.mode not in ("L", "LA", "RGB", "RGBA", "I;16"):
        raise InpaintError(f"a PIL image of mode {image.mode!r}: expected L, LA, RGB, RGBA, I;16 or a mode that converts to RGB")
    if 0 in image.size:
        raise InpaintError(f"the image is empty: its size is {image.size}, expected at least 1x1")
    canvas = _read_array(np.asarray(image))

    def restore(pixels: Array) -> Image.Image:
        result = Image.fromarray(canvas.restore(pixels))
        result.info.update(kept)
        result.getexif().update(exif)
        if exif:
            result.info["exif"] = exif.tobytes()
        return result

    return Canvas(canvas.pixels, restore)


def _read_tensor(image: Tensor) -> Canvas:
    if image.dim() != 3 or image.shape[0] not in (1, 2, 3, 4):
        raise InpaintError(
            f"the image tensor has the shape {list(image.shape)}: expected [C, H, W] or [N, C, H, W] with 1 to 4 channels"
        )
    host = image.detach().cpu()
    wide = host.float() if image.dtype == torch.bfloat16 else host
    canvas = _read_array(wide.permute(1, 2, 0).numpy())

    def restore(pixels: Array) -> Tensor:
        return torch.from_numpy(canvas.restore(pixels)).permute(2, 0, 1).contiguous().to(image.device, image.dtype)

    return Canvas(canvas.pixels, restore)
