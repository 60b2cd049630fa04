"""What a file says beside its pixels, EXIF block, profile and resolution: kept where it is written in the same format."""

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from PIL import ExifTags, ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile

from lbam_fast.pictures import png
from lbam_fast.pictures.picture import DESCRIPTIVE_TAGS

_PNG_COLOUR = {b"cICP": 4, b"cHRM": 32, b"gAMA": 4, b"sRGB": 1, b"mDCV": 24, b"cLLI": 8}
_PNG_HANDLED = {b"tRNS", b"pHYs", b"iCCP", b"eXIf", b"tEXt", b"zTXt", b"iTXt", b"acTL", b"fcTL", b"fdAT"}
_XMP_KEYWORD = b"XML:com.adobe.xmp"
_SRGB_CHRM = struct.pack(">8I", 31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000)
_JPEG_HANDLED = {"APP0", "APP1", "APP2", "APP14"}
_PHOTOSHOP, _IPTC_RESOURCE = b"Photoshop 3.0\0", 0x0404
_SEGMENT = 65533

_TIFF_IPTC = 33723
_TIFF_GEO = {33550, 33922, 34264, 34735, 34736, 34737, 42112, 42113}
_TIFF_RESOLUTION = (ExifTags.Base.XResolution, ExifTags.Base.YResolution, ExifTags.Base.ResolutionUnit)
_TIFF_XMP, _TIFF_PROFILE, _TIFF_PREVIEWS = 700, 34675, 330
# How a TIFF file stores its pixels.
_TIFF_STRUCTURE = {
    *(254, 255, 256, 257, 258, 259, 262, 263, 264, 265, 266, 273, 277, 278, 279, 280, 281, 284, 288, 289, 290, 291, 292),
    *(293, 297, 301, 317, 318, 319, 320, 321, 322, 323, 324, 325, 332, 333, 334, 336, 338, 339, 340, 341, 347, 512, 513),
    *(514, 515, 517, 518, 519, 520, 521, 529, 530, 531, 532, _TIFF_PREVIEWS, _TIFF_XMP, _TIFF_PROFILE, *_TIFF_RESOLUTION),
}


@dataclass(frozen=True)
class Extra:
    """A chunk of PNG, a segment of JPEG or a tag of TIFF that only this format has a place for.

    name     what it is, for a sentence
    key      the chunk's name, the segment's marker or the tag's number
    value    its content; for a tag, its type and value
    matters  whether losing it in another format is worth a sentence
    """

    name: str
    key: bytes | int
    value: Any
    matters: bool = True


def extras_of(image: ImageFile.ImageFile, data: bytes) -> tuple[tuple[Extra, ...], list[str]]:
    """What an opened file, not loaded yet, also holds, and a note on what of that can be kept in no format."""
    if isinstance(image, PngImageFile):
        return _of_png(image, data)
    if isinstance(image, JpegImageFile):
        return _of_jpeg(image)
    if isinstance(image, TiffImageFile):
        return _of_tiff(image)
    return (), ["The comment is not kept."] if image.info.get("comment") else []


def _of_png(image: ImageFile.ImageFile, data: bytes) -> tuple[tuple[Extra, ...], list[str]]:
    chunks = list(png.chunks(data))
    found = {c.name: c.content for c in chunks if len(c.content) == _PNG_COLOUR.get(c.name) and c.whole}
    told = found.keys() & {b"sRGB", b"cICP"} or image.info.get("icc_profile")
    gamma = int.from_bytes(found.get(b"gAMA", b""), "big") / 100_000
    matters = {
        b"cICP": found.get(b"cICP") != bytes([1, 13, 0, 1]),  # sRGB
        b"cHRM": not told and found.get(b"cHRM") != _SRGB_CHRM,
        b"gAMA": not told and abs(gamma - 1 / 2.2) > 0.01,
        b"sRGB": False,
    }
    names = {b"cICP": "colour space (cICP)", b"cHRM": "colour space (cHRM)", b"gAMA": "PNG gamma value"}
    extras = [Extra(names.get(n, f"PNG chunk {n.decode()}"), n, content, matters.get(n, True)) for n, content in found.items()]
    ratios = [c for c in chunks if c.name == b"pHYs" and c.whole and len(c.content) == 9 and c.content[8] == 0]
    extras += [Extra("pixel aspect ratio", c.name, c.content) for c in ratios]
    keywords = {c.keyword for c in chunks if png.is_text(c) and not c.keyword.startswith(b"Raw profile")}
    notes = ["The XMP metadata is not kept."] if _XMP_KEYWORD in keywords else []
    notes += ["The PNG text entries are not kept."] if keywords - {_XMP_KEYWORD} else []
    lost = {c.name.decode("latin-1") for c in chunks if c.ancillary and c.name not in _PNG_HANDLED | found.keys()}
    notes += [f"The PNG chunks {', '.join(sorted(lost))} are not kept."] if lost else []
    return tuple(extras), notes


def _of_jpeg(image: Any) -> tuple[tuple[Extra, ...], list[str]]:
    extras, notes = [], []
    for name, content in image.applist:
        if name == "COM" and len(content) <= _SEGMENT:
            extras.append(Extra("comment", b"\xff\xfe", content))
    resources = image.info.get("photoshop", {})
    iptc = resources.get(_IPTC_RESOURCE) if isinstance(resources, dict) else None
    if isinstance(iptc, bytes) and len(iptc) < _SEGMENT - 64:
        block = b"8BIM" + struct.pack(">HHI", _IPTC_RESOURCE, 0, len(iptc)) + iptc + bytes(len(iptc) % 2)
        extras.append(Extra("IPTC metadata", b"\xff\xed", _PHOTOSHOP + block))
    elif iptc:
        notes.append("The IPTC metadata is not kept.")
    if isinstance(resources, dict) and resources.keys() - {_IPTC_RESOURCE}:
        notes.append("The further Photoshop data is not kept.")
    lost = {name for name, content in image.applist if name not in {*_JPEG_HANDLED, "COM"}}
    lost -= {"APP13"} if resources else set()
    if lost:
        notes.append(f"The JPEG segments {', '.join(sorted(lost))} are not kept.")
    return tuple(extras), notes


def _of_tiff(image: TiffImageFile) -> tuple[tuple[Extra, ...], list[str]]:
    tags = image.tag_v2
    extras = []
    if _TIFF_IPTC in tags:
        extras.append(Extra("IPTC metadata", _TIFF_IPTC, (7, _as_bytes(tags, _TIFF_IPTC))))
    geo = _TIFF_GEO & tags.keys() if tags.get(ExifTags.Base.Orientation, 1) == 1 else set()
    extras += [Extra("GeoTIFF data", tag, (tags.tagtype[tag], tags[tag])) for tag in sorted(geo)]
    if tags.get(ExifTags.Base.ResolutionUnit) == 1 and {*_TIFF_RESOLUTION} <= tags.keys():
        extras += [Extra("pixel size", tag, (tags.tagtype[tag], tags[tag])) for tag in _TIFF_RESOLUTION]
    lost = tags.keys() - _TIFF_STRUCTURE - DESCRIPTIVE_TAGS - {extra.key for extra in extras}
    return tuple(extras), [f"The TIFF tags {', '.join(map(str, sorted(lost)))} are not kept."] if lost else []


def _as_bytes(tags: Any, tag: int) -> bytes:
    """A tag's content; some programs store bytes as numbers of 32 bits."""
    value = tags[tag]
    if isinstance(value, bytes):
        return value
    numbers = value if isinstance(value, tuple) else (value,)
    return struct.pack(f"{'<' if tags.prefix == b'II' else '>'}{len(numbers)}I", *numbers)


def segments(extras: Iterable[Extra]) -> bytes:
    """Segments of JPEG as they stand in a file."""
    return b"".join(bytes(extra.key) + struct.pack(">H", len(extra.value) + 2) + extra.value for extra in extras)  # type: ignore[arg-type]
