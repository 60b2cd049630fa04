"""The pages of a TIFF file, and its kinds of pixels in words, read from its tags alone."""

import struct
from typing import Any

from PIL import ExifTags, Image
from PIL.TiffImagePlugin import TiffImageFile

_NEW_SUBFILE_TYPE, _SUBFILE_TYPE = 254, 255
_REDUCED, _MASK = 0b001, 0b100
_SHORT = 3
_FORMATS = {1: "unsigned", 2: "signed", 3: "floating", 5: "complex", 6: "complex"}
_COLOURS = {0: "grey", 1: "grey", 2: "RGB", 3: "palette", 5: "CMYK", 6: "YCbCr", 8: "Lab", 32803: "raw sensor", 34892: "raw"}


def main_pages(data: bytes) -> tuple[list[int], int]:
    """Which of the file's pages are pictures, rather than previews and masks of others; and how many pages there are."""
    kinds = _kinds(data)
    return [page for page, kind in enumerate(kinds) if not kind & (_REDUCED | _MASK)], len(kinds)


def stored_size(image: Image.Image) -> tuple[int, int]:
    """Width and height as the file has them; Pillow gives those of a TIFF file as if it were upright."""
    return image._tile_size if isinstance(image, TiffImageFile) else image.size


def in_words(tags: Any) -> str:
    """The pixels that these tags tell of, such as "32-bit floating RGB"."""
    bits = max(tags.get(ExifTags.Base.BitsPerSample, (1,)))
    sample_format = _FORMATS.get(max(tags.get(ExifTags.Base.SampleFormat, (1,))), "unknown")
    colour = _COLOURS.get(tags.get(ExifTags.Base.PhotometricInterpretation, 1), "unknown colour")
    samples = tags.get(ExifTags.Base.SamplesPerPixel, 1)
    return f"{bits}-bit {sample_format} {colour}, {samples} channel{'s' if samples > 1 else ''}"


def layout_in_words(tags: Any) -> str:
    """What may keep a decoder from pixels of a kind that it knows."""
    reasons = []
    if 1 in tags.get(ExifTags.Base.ExtraSamples, ()):
        reasons.append("multiplied by the opacity")
    if tags.get(ExifTags.Base.PlanarConfiguration, 1) == 2:
        reasons.append("in a plane for each channel")
    if (compression := tags.get(ExifTags.Base.Compression, 1)) != 1:
        reasons.append(f"with compression {compression}")
    return ", ".join(reasons) or "behind a preview, or damaged"


def _kinds(data: bytes) -> list[int]:
    """NewSubfileType of each page, with that of before TIFF 6.0 as it would be there."""
    order = "<" if data[:2] == b"II" else ">"
    big = struct.unpack_from(f"{order}H", data, 2)[0] == 43
    count_form, offset_form, entry = (f"{order}Q", f"{order}Q", 20) if big else (f"{order}H", f"{order}I", 12)
    count_size = struct.calcsize(count_form)
    kinds: list[int] = []
    seen: set[int] = set()
    (offset,) = struct.unpack_from(offset_form, data, 8 if big else 4)
    while offset and offset not in seen:
        seen.add(offset)
        (count,) = struct.unpack_from(count_form, data, offset)
        kind = 0
        for index in range(count):
            place = offset + count_size + entry * index
            tag, form = struct.unpack_from(f"{order}HH", data, place)
            if tag in (_NEW_SUBFILE_TYPE, _SUBFILE_TYPE):
                at = place + entry - struct.calcsize(offset_form)
                (value,) = struct.unpack_from(f"{order}{'H' if form == _SHORT else 'I'}", data, at)
                kind |= value if tag == _NEW_SUBFILE_TYPE else int(value == 2)
        kinds.append(kind)
        (offset,) = struct.unpack_from(offset_form, data, offset + count_size + entry * count)
    return kinds
