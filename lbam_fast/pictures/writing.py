"""Encode pictures, and write them completely or not at all."""

import dataclasses
import io
import os
import struct
import zlib
from itertools import accumulate
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import ExifTags, Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from lbam_fast.files import replace_file
from lbam_fast.pictures.extras import segments
from lbam_fast.pictures.picture import FORMATS, Picture, PictureError, descriptive
from lbam_fast.pictures.png_writing import png

_LONGEST_SIDE = {"JPEG": 65_500, "WEBP": 16_383}
_JPEG_SEGMENT = 65_533
_ENCODER_ERRORS = (OSError, ValueError, OverflowError, struct.error, cv2.error)


def write_picture(path: str | os.PathLike[str], picture: Picture, *, quality: int = 95) -> None:
    """Write a picture in the format of the path's suffix: completely, or not at all.

    PNG, TIFF and BMP hold the pixels without loss, and so does WebP for a picture whose source was ``lossless``. JPEG
    keeps the full colour resolution (4:4:4). EXIF block, colour profile and resolution are written where the format
    has a place for them; BMP has none for the first two, WebP none for the resolution and for a grey profile, JPEG none
    for an EXIF block beyond 64 kB. ``extras`` go into the source's own format alone. ``losses`` says what is left out. An
    opacity that is full everywhere is left out where the format has no place for it.

    The file takes its name only once it is complete, so a failure leaves what was there before.

    Args:
        path: the file to write or to replace; its suffix is one of ``output_suffixes()``, in any case.
        picture: the picture; see ``Picture`` for shapes and dtypes.
        quality: quality of JPEG and of lossy WebP, 1 to 100.

    Raises:
        PictureError: the suffix is unknown; the format cannot hold 16 bits or opacity as the picture has them (JPEG:
            neither; WebP: no 16 bits; BMP: no 16 bits, and opacity only if the source was a BMP; TIFF: no opacity
            with 16-bit grey); arrays or quality are not as described; or the file cannot be written.
    """
    path = Path(path)
    if not 1 <= quality <= 100:
        raise PictureError(f"{path}: quality is {quality}; choose 1 to 100")
    output_format = check_output(path, picture)
    try:
        replace_file(path, _encode(picture, output_format, quality))
    except _ENCODER_ERRORS as error:
        raise PictureError(
            f"{path}: cannot be written ({error}); check the folder and the disk, or choose another file or format"
        ) from error


def encode_picture(picture: Picture, output_format: str, name: str | os.PathLike[str], *, quality: int = 95) -> bytes:
    """The file that ``write_picture`` would write in that format, as Pillow names it; ``name`` is what messages call it.

    Raises PictureError as ``write_picture`` does.
    """
    check_encoding(picture, output_format, name)
    try:
        return _encode(picture, output_format, quality)
    except _ENCODER_ERRORS as error:
        raise PictureError(f"{name}: cannot be encoded as {output_format} ({error}); choose another format") from error


def check_encoding(picture: Picture, output_format: str, name: str | os.PathLike[str]) -> None:
    """Raise the PictureError that ``encode_picture`` would, as far as that can be told without encoding."""
    _check_arrays(Path(name), picture)
    _check_capacity(Path(name), picture, output_format)


def check_output(path: str | os.PathLike[str], picture: Picture) -> str:
    """The format in which ``write_picture`` will write a picture to ``path``; nothing is written.

    Raises:
        PictureError: as ``write_picture`` does, as far as that can be told without writing.
    """
    path = Path(path)
    output_format = FORMATS.get(path.suffix.lower())
    if output_format is None:
        raise PictureError(f"{path}: cannot write files with suffix {path.suffix!r}; choose one of " + ", ".join(sorted(FORMATS)))
    if not path.parent.is_dir():
        raise PictureError(f"{path}: there is no folder {path.parent}; create it or choose another one")
    if path.is_dir():
        raise PictureError(f"{path}: cannot be written, as it is a folder; name a file in it")
    check_encoding(picture, output_format, path)
    return output_format


def copy_picture(picture: Picture, target: str | os.PathLike[str]) -> None:
    """Write the file that a picture was read from, byte by byte: completely, or not at all. Raises PictureError."""
    try:
        replace_file(Path(target), picture.source)
    except OSError as error:
        raise PictureError(f"{target}: cannot be written ({error}); check the folder and the disk") from error


def losses(picture: Picture, output_format: str) -> list[str]:
    """Sentences on what a picture carries that is lost when it is written in that format, as Pillow names it."""
    where = f"not kept in {output_format}."
    lost = [extra.name for extra in picture.extras if extra.matters and output_format != picture.format]
    notes = [f"The {name} is {where}" for name in dict.fromkeys(lost)]
    if picture.exif and output_format == "BMP":
        notes.append(f"The EXIF block is {where}")
    if picture.exif and output_format == "JPEG" and len(picture.exif) > _JPEG_SEGMENT:
        notes.append(f"The EXIF block, of {len(picture.exif):,} bytes, is {where} It holds at most {_JPEG_SEGMENT:,}.")
    if picture.icc_profile and (output_format == "BMP" or (output_format == "WEBP" and picture.pixels.shape[2] == 1)):
        notes.append(f"The colour profile is {where}")
    if picture.dpi and output_format == "WEBP":
        notes.append(f"The resolution is {where}")
    return notes


def _check_arrays(path: Path, picture: Picture) -> None:
    pixels, alpha = picture.pixels, picture.alpha
    shaped = pixels.ndim == 3 and pixels.shape[2] in (1, 3) and pixels.size > 0
    if not shaped or pixels.dtype not in (np.uint8, np.uint16):
        raise PictureError(
            f"{path}: pixels are {list(pixels.shape)} {pixels.dtype}; expected [H, W, 3] or [H, W, 1] of uint8 or uint16"
        )
    if alpha is not None and (alpha.shape != pixels.shape[:2] or alpha.dtype != pixels.dtype):
        raise PictureError(
            f"{path}: alpha is {list(alpha.shape)} {alpha.dtype}; expected {list(pixels.shape[:2])} "
            f"{pixels.dtype} as the pixels are"
        )


def _check_capacity(path: Path, picture: Picture, output_format: str) -> None:
    sixteen, transparent = picture.pixels.dtype == np.uint16, _is_transparent(picture)
    if sixteen and output_format not in {"PNG", "TIFF"}:
        raise PictureError(f"{path}: {output_format} cannot hold the picture's 16 bits a channel; choose .png or .tif")
    if sixteen and transparent and output_format == "TIFF" and picture.pixels.shape[2] == 1:
        raise PictureError(f"{path}: 16-bit grey with opacity is not supported in TIFF; choose .png")
    most, (height, width) = _LONGEST_SIDE.get(output_format), picture.pixels.shape[:2]
    if most is not None and max(height, width) > most:
        raise PictureError(
            f"{path}: cannot be written: {output_format} holds at most {most:,} pixels a side, the picture is {width}x{height}; "
            "choose .png or .tif"
        )
    if transparent and not _holds_opacity(picture, output_format):
        raise PictureError(
            f"{path}: {output_format} cannot hold the picture's opacity (alpha channel); choose .png, .tif or .webp"
        )


def _is_transparent(picture: Picture) -> bool:
    return picture.alpha is not None and bool((picture.alpha < np.iinfo(picture.alpha.dtype).max).any())


def _holds_opacity(picture: Picture, output_format: str) -> bool:
    if output_format == "TIFF":
        return picture.pixels.dtype == np.uint8 or picture.pixels.shape[2] == 3
    return output_format != "JPEG" and (output_format != "BMP" or picture.format == "BMP")


def _encode(picture: Picture, output_format: str, quality: int) -> bytes:
    samples = picture.pixels
    if picture.alpha is not None and not _holds_opacity(picture, output_format):
        picture = dataclasses.replace(picture, alpha=None)  # opaque, as has been checked
    if picture.alpha is not None:
        samples = np.dstack([samples, picture.alpha])
    if output_format == "TIFF":
        return _tiff(picture, samples)
    if output_format == "PNG":
        return _png(picture, samples)
    if output_format == "BMP" and samples.shape[2] == 4:  # Pillow's 32-bit BMP does not mark its alpha as such
        return bytes(cv2.imencode(".bmp", samples[..., [2, 1, 0, 3]])[1])
    return _with_pillow(picture, samples, output_format, quality)


def _png(picture: Picture, samples: np.ndarray) -> bytes:
    """With the picture's own chunks after the header, where those of colour have to stand."""
    chunks = [(extra.key, extra.value) for extra in picture.extras] if picture.format == "PNG" else []
    if picture.icc_profile:
        chunks.append((b"iCCP", b"ICC Profile\0\0" + zlib.compress(picture.icc_profile)))
    if picture.dpi:
        chunks.append((b"pHYs", struct.pack(">IIB", *(round(value / 0.0254) for value in picture.dpi), 1)))
    if picture.exif:
        chunks.append((b"eXIf", picture.exif.removeprefix(b"Exif\0\0")))
    return png(samples, chunks)


def _with_pillow(picture: Picture, samples: np.ndarray, output_format: str, quality: int) -> bytes:
    options: dict[str, Any] = {"exif": picture.exif, "icc_profile": picture.icc_profile, "dpi": picture.dpi}
    if output_format == "JPEG":
        options |= {"quality": quality, "subsampling": "4:4:4"}
        if picture.exif and len(picture.exif) > _JPEG_SEGMENT:
            del options["exif"]
        if picture.format == "JPEG":
            options["extra"] = segments(picture.extras)
    if output_format == "WEBP":
        options |= {"quality": quality, "lossless": picture.lossless, "exact": True}
        if picture.pixels.shape[2] == 1:  # WebP stores grey as RGB
            del options["icc_profile"]
    buffer = io.BytesIO()
    image = Image.fromarray(samples[..., 0] if samples.shape[2] == 1 else samples)
    image.save(buffer, output_format, **{name: value for name, value in options.items() if value is not None})
    return buffer.getvalue()


def _tiff(picture: Picture, samples: np.ndarray) -> bytes:
    """A TIFF file of one picture: deflated strips of about a megabyte, with horizontal differencing."""
    height, width, channels = samples.shape
    differences = np.diff(samples, axis=1, prepend=np.zeros_like(samples[:, :1]))
    differences = differences.astype(samples.dtype.newbyteorder("<"), copy=False)
    rows = max(1, (1 << 20) // differences[0].nbytes)
    strips = [zlib.compress(differences[start : start + rows].tobytes()) for start in range(0, height, rows)]
    sizes = [len(strip) for strip in strips]

    tags = _exif_directory(picture.exif)
    tags[ExifTags.Base.ImageWidth] = width
    tags[ExifTags.Base.ImageLength] = height
    tags[ExifTags.Base.BitsPerSample] = (8 * samples.itemsize,) * channels
    tags[ExifTags.Base.Compression] = 8
    tags[ExifTags.Base.PhotometricInterpretation] = 2 if channels >= 3 else 1
    tags[ExifTags.Base.SamplesPerPixel] = channels
    tags[ExifTags.Base.RowsPerStrip] = rows
    tags[ExifTags.Base.StripOffsets] = tuple(accumulate(sizes[:-1], initial=0))  # from the end of the tags
    tags[ExifTags.Base.StripByteCounts] = tuple(sizes)
    tags[ExifTags.Base.PlanarConfiguration] = 1
    tags[ExifTags.Base.Predictor] = 2
    if picture.alpha is not None:
        tags[ExifTags.Base.ExtraSamples] = 2  # opacity that the colours are not multiplied by
    if picture.icc_profile:
        tags[ExifTags.Base.InterColorProfile] = picture.icc_profile
    if picture.dpi:
        tags[ExifTags.Base.XResolution], tags[ExifTags.Base.YResolution] = picture.dpi
        tags[ExifTags.Base.ResolutionUnit] = 2
    for extra in picture.extras if picture.format == "TIFF" else ():
        tags.tagtype[extra.key], tags[extra.key] = extra.value
    buffer = io.BytesIO()
    tags.save(buffer)
    return buffer.getvalue() + b"".join(strips)


def _exif_directory(block: bytes | None) -> ImageFileDirectory_v2:
    """The tags of a TIFF file that hold an EXIF block."""
    directory = ImageFileDirectory_v2()
    exif = Image.Exif()
    exif.load(block or b"")
    for tag, value in descriptive(exif).items():
        directory[tag] = value
    return directory
