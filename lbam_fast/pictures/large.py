"""Pictures larger than memory: decoded into a raw file that is mapped, and encoded from one, by libvips (the extra ``large``)."""

from __future__ import annotations

import mmap
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lbam_fast.files import replacing
from lbam_fast.pictures.picture import PictureError

SUFFIXES = (".tif", ".tiff", ".png", ".jpg", ".jpeg")
"""Of results."""
_HEADER = 64
"""Bytes before the pixels in libvips' own format."""
_TYPES: dict[str, np.dtype[Any]] = {"uchar": np.dtype(np.uint8), "ushort": np.dtype(np.uint16)}
_LOSSLESS = ("pngload", "tiffload")
"""How libvips names the readers of files that are taken for lossless."""
_COLOURS = ("b-w", "srgb", "rgb", "grey16", "rgb16")


@dataclass(frozen=True)
class Raw:
    """A decoded picture on disk, upright.

    path      the file, in libvips' own format, with all metadata of the picture
    pixels    [H, W, C], its pixels, mapped; C from 1 to 4, with alpha in 2 and 4
    lossless  whether the file that it comes from keeps every pixel as it was
    """

    path: Path
    pixels: NDArray[Any]
    lossless: bool

    @property
    def has_alpha(self) -> bool:
        return self.pixels.shape[2] in (2, 4)

    @property
    def colours(self) -> int:
        """How many channels are not alpha."""
        return int(self.pixels.shape[2]) - self.has_alpha

    def release(self) -> None:
        """Let go of the memory of what was read or written so far; it stays in the file."""
        release(self.pixels)


def release(mapped: NDArray[Any]) -> None:
    """Free the memory of a mapped array where the system can be told to, else write it; the file holds what has changed."""
    if hasattr(mmap, "MADV_DONTNEED"):  # the system writes it in its own time; waiting for that takes longer than many a fill
        mapped._mmap.madvise(mmap.MADV_DONTNEED)  # type: ignore[attr-defined]
    else:
        mapped.flush()  # type: ignore[attr-defined]


def size_of(path: str | os.PathLike[str]) -> tuple[int, int]:
    """Height and width of a picture, upright; nothing is decoded. Raises PictureError."""
    image = _open(Path(path))
    return image.height, image.width


def decode(path: str | os.PathLike[str], raw: Path, max_pixels: int) -> Raw:
    """Decode a picture file into ``raw``, a file that does not exist yet, in little memory.

    Raises PictureError for what cannot be read, for more than ``max_pixels``, and for what is not grey or RGB of 8 or 16 bits.
    """
    path = Path(path)
    image = _open(path)
    if image.width * image.height > max_pixels:
        raise PictureError(f"{path}: has {image.width} x {image.height} pixels, more than {max_pixels:,}: raise --max-pixels")
    if image.format not in _TYPES or image.interpretation not in _COLOURS or not 1 <= image.bands <= 4:
        raise PictureError(
            f"{path}: is {image.bands} channels of {image.format}, {image.interpretation}: pictures of this size are filled "
            "in grey or RGB of 8 or 16 bits alone; convert it"
        )
    try:
        image.write_to_file(str(raw))
    except vips().Error as error:
        raise PictureError(f"{path}: cannot be decoded ({_reason(error)}); open or save it anew") from error
    lossless = image.get("vips-loader").startswith(_LOSSLESS)
    return Raw(raw, mapped(raw, (image.height, image.width, image.bands), _TYPES[image.format]), lossless)


def encode(raw: Path, path: str | os.PathLike[str]) -> None:
    """Write a raw file as the picture ``path``, whole or not at all, with all metadata that the format holds.

    TIFF is tiled and compressed without loss, beyond 4 GB as BigTIFF; JPEG has quality 95 and full colour resolution. Raises
    PictureError for other suffixes than ``SUFFIXES``, and where the file cannot be written.
    """
    path = Path(path)
    check_suffix(path)
    image = vips().Image.new_from_file(str(raw))
    tiff = {"tile": True, "compression": "deflate", "predictor": "horizontal", "bigtiff": raw.stat().st_size > 3 << 30}
    jpeg = {"Q": 95, "subsample_mode": "off"}
    options = {".tif": tiff, ".tiff": tiff, ".jpg": jpeg, ".jpeg": jpeg}.get(path.suffix.lower(), {})
    try:
        with replacing(path) as temporary:
            image.write_to_file(str(temporary), **options)
    except (vips().Error, OSError) as error:
        raise PictureError(f"{path}: cannot be written ({_reason(error)})") from error


def check_suffix(path: Path) -> None:
    """Raise PictureError unless results can be written with that suffix."""
    if path.suffix.lower() not in SUFFIXES:
        raise PictureError(f"{path}: a picture of this size is written as one of {', '.join(SUFFIXES)}; choose another suffix")


def mapped(path: Path, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    """The pixels of a raw file as an array that can be written to."""
    return np.memmap(path, dtype, "r+", _HEADER, shape)


def vips() -> Any:
    """The module ``pyvips``. Raises PictureError where it is missing."""
    try:
        import pyvips
    except (ImportError, OSError) as error:
        raise PictureError(
            "pictures beyond --max-memory need libvips: pip install 'lbam-fast[large]', or raise --max-memory"
        ) from error
    return pyvips


def _open(path: Path) -> Any:
    module = vips()
    if not path.is_file():
        raise PictureError(f"{path}: there is no such file; check the path")
    try:
        image = module.Image.new_from_file(str(path), access="sequential", fail_on="error")
        turned = image.get_typeof("orientation") != 0 and image.get("orientation") != 1
        return module.Image.new_from_file(str(path), fail_on="error").autorot() if turned else image
    except module.Error as error:
        raise PictureError(f"{path}: cannot be read ({_reason(error)})") from error


def _reason(error: Exception) -> str:
    """The first line of what libvips says."""
    return str(getattr(error, "detail", "") or error).strip().splitlines()[0]
