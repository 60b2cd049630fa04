"""A request's bytes to a picture and its hole, and the filled picture to the bytes of the answer. Opens no file."""

from __future__ import annotations

import dataclasses
import hashlib
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from lbam_fast.batch.holes import Found, check_same_size, hole_of, transparent_hole
from lbam_fast.batch.once import Once
from lbam_fast.errors import LBAMError
from lbam_fast.pictures import Picture, check_encoding, decode_picture, encode_picture, losses, mask_of
from lbam_fast.service.errors import ServiceError
from lbam_fast.service.options import Options

MEDIA_TYPES = {"PNG": "image/png", "JPEG": "image/jpeg", "WEBP": "image/webp", "TIFF": "image/tiff", "BMP": "image/bmp"}
SUFFIXES = {"PNG": ".png", "JPEG": ".jpg", "WEBP": ".webp", "TIFF": ".tif", "BMP": ".bmp"}
MASKS = 8
"""Masks whose holes are kept, so that pictures under one mask share what depends on it alone."""


@dataclass(frozen=True, eq=False)
class Request:
    """A picture that is decoded, its hole, and the format of the answer as Pillow names it."""

    picture: Picture
    found: Found
    options: Options
    format: str
    notes: tuple[str, ...] = ()

    @property
    def pixels(self) -> int:
        height, width = self.picture.pixels.shape[:2]
        return int(height * width)


class Decoder:
    """Decodes requests, on any number of threads."""

    def __init__(self, max_pixels: int) -> None:
        self._max_pixels = max_pixels
        self._masks = Once[Found](MASKS)

    def __call__(self, image: bytes, mask: bytes | None, options: Options) -> Request:
        """Raises ServiceError, with the status of the answer."""
        try:
            picture = decode_picture(image, "image", self._max_pixels)
            if mask is None:
                picture, found = transparent_hole(picture, "image", options.mask_options(transparency=True))
            else:
                found = self._found(mask, options)
                check_same_size(found, picture, "mask", "image", options.mask_options())
            wanted = options.format.upper() if options.format else picture.format
            output_format = wanted if wanted in MEDIA_TYPES else "PNG"
            check_encoding(picture, output_format, "image")
        except MemoryError as error:
            raise ServiceError(
                "too little memory to read it at the moment; try again, or smaller pictures", 503, "memory", 5
            ) from error
        except LBAMError as error:
            raise ServiceError(str(error), 422, "bad_picture") from error
        notes = (*options.notes, *found.warnings, *found.notes)
        if output_format != wanted:
            notes += (f"{wanted} is read but not written: the answer is a PNG",)
        return Request(picture, found, options, output_format, notes)

    def _found(self, mask: bytes, options: Options) -> Found:
        look = options.mask_options()

        def found() -> Found:
            return hole_of(mask_of(decode_picture(mask, "mask", self._max_pixels), look.hole), look)

        return self._masks.get((hashlib.sha256(mask).digest(), look), found)


def encode(request: Request, filled: NDArray[Any]) -> tuple[bytes, tuple[str, ...]]:
    """The bytes of the answer, and notes. A picture without a hole comes back as the file that it is. Raises PictureError."""
    picture = request.picture
    if not request.found.hole.filled.any() and request.format == picture.format:
        return picture.source, request.notes
    data = encode_picture(dataclasses.replace(picture, pixels=filled), request.format, "image")
    return data, (*request.notes, *picture.notes, *losses(picture, request.format))
