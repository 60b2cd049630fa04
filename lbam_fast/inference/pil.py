"""PIL images: decoded upright, and results that carry what the image carried."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps
from PIL.TiffImagePlugin import TiffImageFile

from lbam_fast.inference.errors import InpaintError
from lbam_fast.pictures import EXIF_DAMAGE, descriptive, stored_size

_DEEP = ("I;16", "I;16B", "I;16L", "I;16N")
_CONVERTED = ("1", "P", "PA", "La", "RGBa", "CMYK", "YCbCr", "LAB", "HSV", "RGBX")
"""Modes without a place for every filled colour, or with none that the network knows: they come back as RGB(A) or grey."""
_OTHER_COLOURS = ("CMYK", "LAB")
_STALE = ("exif", "Raw profile type exif", "transparency")


@dataclass(frozen=True)
class Shown:
    """An image as it is to be seen, in a mode that the network can fill, with the side information of its results."""

    image: Image.Image
    info: dict[str | tuple[int, int], Any]
    turned: bool


def upright(image: Image.Image, max_pixels: int) -> Shown:
    """The image turned as its EXIF orientation says, its transparent colour as an opacity.

    ``info`` is the image's own without what no longer holds, and with its EXIF block. Raises InpaintError for modes that do not
    convert, images that do not decode, empty ones and such of more than ``max_pixels``, before they are decoded.
    """
    decode("image", image, max_pixels)
    size = stored_size(image)
    exif = _exif(image)
    turned = image if exif is None else ImageOps.exif_transpose(image)
    info = {key: value for key, value in turned.info.items() if key not in _STALE}
    if image.mode in _OTHER_COLOURS:
        info.pop("icc_profile", None)
    block = None if exif is None else _block(image if isinstance(image, TiffImageFile) else turned)
    if block:
        info["exif"] = block
    if turned.mode in _CONVERTED or (turned.has_transparency_data and turned.mode in ("L", "RGB")):
        turned = turned.convert(_plain_mode(turned))
    elif "transparency" in turned.info:
        info["transparency"] = turned.info["transparency"]
    if turned.mode not in ("L", "LA", "RGB", "RGBA", *_DEEP):
        raise InpaintError(f"a PIL image of mode {image.mode!r}: expected L, LA, RGB, RGBA, I;16 or a mode that converts to RGB")
    return Shown(turned, info, turned.size != size)


def restored(shown: Shown, pixels: NDArray[Any]) -> Image.Image:
    """A result of the mode and with the side information of the image that ``pixels`` were made from."""
    result = Image.fromarray(pixels)
    result.info.update(shown.info)
    return result


def mask_array(mask: Image.Image, max_pixels: int) -> NDArray[Any]:
    """A mask's pixels [H, W] or [H, W, C], upright, with an opacity where the image has any transparency."""
    decode("mask", mask, max_pixels)
    mask = mask if _exif(mask) is None else ImageOps.exif_transpose(mask)
    plain = mask.mode in ("LA", "RGBA", "I", "F", *_DEEP)
    if not plain and (mask.has_transparency_data or mask.mode not in ("1", "L", "RGB")):
        mask = mask.convert(_plain_mode(mask))
    values = np.asarray(mask)
    if mask.mode == "I" and values.min() >= 0 and values.max() <= 65535:  # how some files of 16 bits are opened
        return values.astype(np.uint16)
    return values


def decode(name: str, image: Image.Image, max_pixels: int) -> None:
    width, height = image.size
    if 0 in image.size:
        raise InpaintError(f"the {name} is empty: its size is {image.size}, expected at least 1x1")
    if width * height > max_pixels:
        raise InpaintError(
            f"the {name} has {width} x {height} pixels, more than max_pixels={max_pixels:,}: "
            "scale it down, cut it into parts, or raise max_pixels"
        )
    try:
        image.load()
    except MemoryError:
        raise
    except Exception as error:  # decoders meet damaged files with errors of many kinds
        raise InpaintError(
            f"the {name} cannot be decoded ({error}): expected a whole file that is still open; open or save it anew"
        ) from error


def _plain_mode(image: Image.Image) -> str:
    grey = image.mode in ("1", "L", "La")
    if image.has_transparency_data:
        return "LA" if grey else "RGBA"
    return "L" if grey else "RGB"


def _exif(image: Image.Image) -> Image.Exif | None:
    """The EXIF data, or None where they are damaged."""
    try:
        return image.getexif()
    except EXIF_DAMAGE:
        return None


def _block(image: Image.Image) -> bytes | None:
    """The EXIF data of an upright image as one block; from a TIFF file, without what says how it stores its pixels."""
    try:
        exif = image.getexif()
        if isinstance(image, TiffImageFile):
            exif = descriptive(exif)
            exif.pop(ExifTags.Base.Orientation, None)  # Pillow turns TIFF files as it loads them
        return exif.tobytes() if len(exif) else None
    except EXIF_DAMAGE:
        return None
