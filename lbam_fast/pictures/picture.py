"""A decoded picture, its errors, and what reading and writing have in common."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import ExifTags, Image

from lbam_fast.errors import LBAMError

FORMATS = {
    **dict.fromkeys((".jpg", ".jpeg", ".jpe", ".jfif"), "JPEG"),
    **dict.fromkeys((".tif", ".tiff"), "TIFF"),
    **{".png": "PNG", ".webp": "WEBP", ".bmp": "BMP"},
}
_READ_ALONE = {".apng", ".avif", ".gif", ".heic", ".heif", ".hif", ".mpo"}

# Number of channels without opacity to the colour space that a profile names, and with opacity to PNG's colour type.
PROFILE_SPACES = {1: b"GRAY", 3: b"RGB "}
PNG_COLOUR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}

_SUB_DIRECTORIES = (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo)
DESCRIPTIVE_TAGS = {
    *_SUB_DIRECTORIES,
    ExifTags.Base.ImageDescription,
    ExifTags.Base.Make,
    ExifTags.Base.Model,
    ExifTags.Base.Orientation,
    ExifTags.Base.Software,
    ExifTags.Base.DateTime,
    ExifTags.Base.Artist,
    ExifTags.Base.HostComputer,
    ExifTags.Base.Copyright,
    ExifTags.Base.Rating,
    ExifTags.Base.XPTitle,
    ExifTags.Base.XPComment,
    ExifTags.Base.XPAuthor,
    ExifTags.Base.XPKeywords,
    ExifTags.Base.XPSubject,
}


class PictureError(LBAMError, ValueError):
    """A picture file that cannot be read, written or used.

    The message says what was wrong, what was expected and what to do.
    """


@dataclass(frozen=True, eq=False)
class Picture:
    """A decoded picture with everything needed to write it back in the same format.

    To write changed pixels, replace them with ``dataclasses.replace(picture, pixels=...)``.

    Attributes:
        pixels: ``[H, W, 3]`` RGB or ``[H, W, 1]`` grey, uint8 or uint16, upright (the EXIF orientation is applied).
        alpha: ``[H, W]`` opacity in the dtype of ``pixels``, or None. Colours are never multiplied by it, so those
            under transparent pixels are the ones that the file holds.
        format: Pillow's name of the source's format: "PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF", "AVIF" or "HEIF".
        exif: EXIF block, starting with ``Exif\\0\\0``, or None. Its orientation is 1, as the pixels are upright, and
            its thumbnail is gone, as it would show the picture as it was before.
        icc_profile: colour profile of ``pixels``, or None.
        notes: sentences for the user about what could not be kept.
        lossless: whether the source stored its pixels without loss; WebP is then written without loss too.
        dpi: horizontal and vertical pixels per inch, or None.
        extras: what else the file says and only its own format has a place for, such as IPTC metadata; see ``Extra``.
        turned: whether the file stores its pixels turned by a quarter, which its EXIF orientation undoes.
        source: the file as it was read, or no bytes.
    """

    pixels: np.ndarray
    alpha: np.ndarray | None
    format: str
    exif: bytes | None
    icc_profile: bytes | None
    notes: tuple[str, ...]
    lossless: bool
    dpi: tuple[float, float] | None = None
    extras: tuple[Any, ...] = ()
    turned: bool = False
    source: bytes = field(default=b"", repr=False)


def readable_suffixes() -> frozenset[str]:
    """Suffixes, in lower case and with their dot, of the files that ``read_picture`` and ``read_mask`` can read."""
    return frozenset(FORMATS) | _READ_ALONE


def output_suffixes() -> frozenset[str]:
    """Suffixes, in lower case and with their dot, of the files that ``write_picture`` can write."""
    return frozenset(FORMATS)


def descriptive(exif: Image.Exif) -> Image.Exif:
    """What EXIF tags say about the picture, without those that say how a TIFF file stores it."""
    kept = Image.Exif()
    for tag in DESCRIPTIVE_TAGS & exif.keys():
        kept[tag] = _sub_directory(exif, tag) if tag in _SUB_DIRECTORIES else exif[tag]
    return kept


def _sub_directory(exif: Image.Exif, tag: int) -> dict[int, object]:
    return {key: value for key, value in exif.get_ifd(tag).items() if key != ExifTags.IFD.Interop}
