"""The forms pictures and masks come in, read into arrays and given back as they came."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from lbam_fast.inference.errors import InpaintError
from lbam_fast.inference.masks import Hole
from lbam_fast.inference.pil import restored, upright

Array = NDArray[Any]
TOLERANCE = 1e-6
"""How far numbers may lie outside [0, 1], from rounding; in types less precise than that, two of their steps."""
_RANGES = {np.dtype(np.uint8): 255, np.dtype(np.uint16): 65535}


@dataclass(frozen=True)
class Canvas:
    """One picture as an array, and the way back.

    pixels     [H, W, 1 or 3] in the picture's own dtype, colours alone (a view or a copy; never written to)
    restore    makes the caller's kind of picture from pixels of the same shape and dtype
    tolerance  how far floating values may lie outside [0, 1]
    turned     whether the pixels lie otherwise than the picture stores them, as its EXIF orientation says
    """

    pixels: Array
    restore: Callable[[Array], Any]
    tolerance: float = TOLERANCE
    turned: bool = False


def read_image(image: Any, max_pixels: int) -> Canvas:
    """A PIL image, a NumPy array [H, W], [H, W, 1 to 4] or a tensor [C, H, W]. Raises InpaintError for anything else.

    A PIL image of more than ``max_pixels`` is refused before it is decoded.
    """
    if isinstance(image, Image.Image):
        return _read_pil(image, max_pixels)
    if isinstance(image, Tensor):
        return _read_tensor(image)
    if isinstance(image, np.ndarray):
        return _read_array(image)
    raise InpaintError(f"an image of type {type(image).__name__}: expected a PIL image, a NumPy array or a torch tensor")


def to_unit(pixels: Array) -> NDArray[np.float32]:
    """Pixels of any accepted dtype as float32 in [0, 1], three channels [H, W, 3]."""
    return np.broadcast_to(_unit_range(pixels), (*pixels.shape[:2], 3))


def emptied(pixels: Array, hole: Hole) -> NDArray[np.float32]:
    """A picture like ``to_unit``'s, a copy, with zeros in its hole whatever lies there."""
    canvas = np.empty((*pixels.shape[:2], 3), np.float32)
    with np.errstate(all="ignore"):  # of values in holes
        np.divide(pixels, _top(pixels), out=canvas, dtype=np.float32, casting="same_kind")
    put_pixels(canvas[hole.box], hole.filled[hole.box], np.zeros((1, 3), np.float32))
    return canvas


def pixels_of(picture: Array, where: NDArray[np.bool_]) -> Array:
    """``picture[where]``, [K, C] of [H, W, C], a copy; NumPy takes whole pixels ten times as fast as their channels."""
    if picture.strides[-1] != picture.itemsize:
        return np.asarray(picture[where])
    return _whole(picture)[where].view(picture.dtype).reshape(-1, picture.shape[-1])


def put_pixels(picture: Array, where: NDArray[np.bool_], values: Array) -> None:
    """``picture[where] = values``, in [H, W, C] whose channels lie side by side; values [K or 1, C], contiguous, of its dtype."""
    _whole(picture)[where] = _whole(values)


def _whole(pixels: Array) -> Array:
    """[..., C] as [...] of bytes of all channels."""
    return pixels.view(np.dtype((np.void, pixels.shape[-1] * pixels.itemsize)))[..., 0]


def from_unit(values: NDArray[np.float32], like: Array) -> Array:
    """[..., 3] float32 in [0, 1] in the dtype and channels of ``like``: rounded for integers, the mean for one channel."""
    if like.shape[-1] == 1:
        values = values.mean(axis=-1, keepdims=True)
    top = _RANGES.get(like.dtype)
    return values.astype(like.dtype) if top is None else np.rint(values * top).astype(like.dtype)


def tolerance(dtype: np.dtype[Any] | torch.dtype) -> float:
    """How far values of that type may lie outside [0, 1] and still be meant to lie within."""
    if isinstance(dtype, torch.dtype):
        return max(TOLERANCE, 2 * torch.finfo(dtype).eps) if dtype.is_floating_point else TOLERANCE
    return max(TOLERANCE, 2 * float(np.finfo(dtype).eps)) if np.issubdtype(dtype, np.floating) else TOLERANCE


def check_shape(name: str, array: Array) -> None:
    """Raise InpaintError unless the array is [H, W] or [H, W, 1 to 4] and not empty."""
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[-1] not in (1, 2, 3, 4)):
        raise InpaintError(
            f"the {name} has the shape {list(array.shape)}: expected [H, W] or [H, W, channels] with 1 to 4 channels"
        )
    if 0 in array.shape:
        raise InpaintError(f"the {name} is empty: its shape is {list(array.shape)}, expected at least 1x1")


def native(array: Array) -> Array:
    """The array in the machine's own byte order."""
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def _unit_range(values: Array) -> NDArray[np.float32]:
    return values.astype(np.float32) / _top(values)


def _top(values: Array) -> np.float32:
    """What white is."""
    return np.float32(_RANGES.get(values.dtype, 1))


def _read_array(image: Array) -> Canvas:
    plain = native(image)
    if plain.dtype not in _RANGES and not np.issubdtype(plain.dtype, np.floating):
        raise InpaintError(f"the image has the dtype {image.dtype}: expected uint8, uint16 or floating with values in [0, 1]")
    check_shape("image", plain)
    stacked = plain[..., None] if plain.ndim == 2 else plain
    colours = 1 if stacked.shape[-1] <= 2 else 3

    def restore(pixels: Array) -> Array:
        result = np.concatenate([pixels, stacked[..., colours:]], axis=-1)  # a copy, alpha or not
        return result.reshape(image.shape).astype(image.dtype, copy=False)

    return Canvas(stacked[..., :colours], restore, tolerance(plain.dtype))


def _read_pil(image: Image.Image, max_pixels: int) -> Canvas:
    shown = upright(image, max_pixels)
    canvas = _read_array(np.asarray(shown.image))
    return Canvas(canvas.pixels, lambda pixels: restored(shown, canvas.restore(pixels)), turned=shown.turned)


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

    return Canvas(canvas.pixels, restore, tolerance(image.dtype))
