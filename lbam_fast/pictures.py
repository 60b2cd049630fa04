"""Read pictures and masks from files without losing anything, and write pictures back.

PNG, JPEG, WebP, TIFF and BMP are read and written. Pillow decodes and encodes, except where it would lose bits:
16-bit colour is decoded by OpenCV and encoded here, and so is every TIFF.

A file is recognised by its content, so a wrong suffix does no harm. Files with several pictures (animations, pages)
are refused, because all but one of them would be lost.

All functions may be called from several threads at once. A picture may have up to ``MAX_PIXELS`` pixels, whatever
Pillow's own limit is; only for WebP does Pillow's limit (178 million pixels unless changed) count too.
"""

import io
import os
import shutil
import struct
import uuid
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import ExifTags, Image, ImageCms, ImageFile
from PIL.BmpImagePlugin import BmpImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import ImageFileDirectory_v2, TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

__all__ = ["Picture", "PictureError", "output_suffixes", "read_mask", "read_picture", "readable_suffixes",
           "write_picture"]

MAX_PIXELS = 500_000_000


class PictureError(ValueError):
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
        format: Pillow's name of the source's format: "PNG", "JPEG", "WEBP", "TIFF" or "BMP".
        exif: EXIF block, starting with ``Exif\\0\\0``, or None. Its orientation is 1, as the pixels are upright, and
            its thumbnail is gone, as it would show the picture as it was before.
        icc_profile: colour profile of ``pixels``, or None.
        notes: sentences for the user about what could not be kept.
        lossless: whether the source stored its pixels without loss; WebP is then written without loss too.
        dpi: horizontal and vertical pixels per inch, or None.
    """

    pixels: np.ndarray
    alpha: np.ndarray | None
    format: str
    exif: bytes | None
    icc_profile: bytes | None
    notes: tuple[str, ...]
    lossless: bool
    dpi: tuple[float, float] | None = None


class _LargeTiff(TiffImageFile):
    """A TIFF file that may have more pixels than Pillow's process-wide limit, which its parent checks on loading."""

    def load_prepare(self) -> None:
        if self._im is None:
            self.im = Image.core.new(self.mode, self._tile_size)
        super().load_prepare()


_SUFFIXES = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP", ".tif": "TIFF", ".tiff": "TIFF",
             ".bmp": "BMP"}

# The plugins are used directly since Image.open applies Pillow's process-wide limit on the number of pixels.
_PLUGINS: dict[bytes, type[ImageFile.ImageFile]] = {
    b"\x89PNG\r\n\x1a\n": PngImageFile,
    b"\xff\xd8\xff": JpegImageFile,
    b"RIFF": WebPImageFile,
    b"II*\0": _LargeTiff, b"MM\0*": _LargeTiff, b"II+\0": _LargeTiff, b"MM\0+": _LargeTiff,
    b"BM": BmpImageFile,
}

_PLAIN_MODES = {"L": "L", "LA": "LA", "RGB": "RGB", "RGBA": "RGBA", "I;16": "I;16", "I;16B": "I;16", "I;16L": "I;16"}
_CONVERSIONS = {"1": ("1-bit", "L"), "P": ("palette", "RGB"), "PA": ("palette", "RGBA"), "CMYK": ("CMYK", "RGB"),
                "YCbCr": ("YCbCr", "RGB"), "RGBX": ("RGBX", "RGB")}
_WITH_ALPHA = {"L": "LA", "RGB": "RGBA"}
_PROFILE_SPACES = {1: b"GRAY", 3: b"RGB "}
_PNG_COLOUR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}

_SUB_DIRECTORIES = (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo)
_DESCRIPTIVE_TAGS = {  # what an EXIF block of a TIFF file keeps: the other tags say how the file stores its pixels
    *_SUB_DIRECTORIES, ExifTags.Base.ImageDescription, ExifTags.Base.Make, ExifTags.Base.Model,
    ExifTags.Base.Orientation, ExifTags.Base.Software, ExifTags.Base.DateTime, ExifTags.Base.Artist,
    ExifTags.Base.HostComputer, ExifTags.Base.Copyright, ExifTags.Base.Rating, ExifTags.Base.XPTitle,
    ExifTags.Base.XPComment, ExifTags.Base.XPAuthor, ExifTags.Base.XPKeywords, ExifTags.Base.XPSubject,
}


def readable_suffixes() -> frozenset[str]:
    """Suffixes, in lower case and with their dot, of the files that ``read_picture`` and ``read_mask`` can read."""
    return frozenset(_SUFFIXES)


def output_suffixes() -> frozenset[str]:
    """Suffixes, in lower case and with their dot, of the files that ``write_picture`` can write."""
    return frozenset(_SUFFIXES)


def read_picture(path: str | os.PathLike[str]) -> Picture:
    """Read a picture with its opacity, EXIF block, colour profile and resolution.

    Palette, YCbCr and CMYK pictures become RGB (CMYK through its colour profile to sRGB, where it has one) and 1-bit
    pictures become 8-bit grey; ``notes`` says so. A transparent colour becomes an alpha channel. 8 bits stay 8 bits
    and 16 bits stay 16 bits.

    Args:
        path: a PNG, JPEG, WebP, TIFF or BMP file of at most ``MAX_PIXELS`` pixels, with any suffix.

    Returns:
        The picture, upright.

    Raises:
        PictureError: the file is missing, empty, truncated, damaged or no picture; it holds several pictures; or its
            pixels are neither 8-bit nor 16-bit integers.
    """
    path = Path(path)
    data = _file_bytes(path)
    try:
        return _decode(path, data)
    except PictureError:
        raise
    except Exception as error:  # decoders meet damaged files with errors of many kinds
        raise PictureError(f"{path}: cannot be read as a picture ({error}); the file is damaged, truncated or of an "
                           "unsupported kind: save it anew as an 8-bit or 16-bit PNG") from error


def read_mask(path: str | os.PathLike[str]) -> np.ndarray:
    """Read a mask as the luminance of a picture file.

    Transparent parts count as black, partly transparent ones as that much darker: what is painted white on a
    transparent layer is white in the mask, whatever colour lies hidden under the transparent pixels.

    Args:
        path: any file that ``read_picture`` reads.

    Returns:
        ``[H, W]`` float32 in [0, 1], upright: 0 is black and 1 is the full range (255, 65535 or a set bit).

    Raises:
        PictureError: as ``read_picture`` does.
    """
    picture = read_picture(path)
    full = np.iinfo(picture.pixels.dtype).max
    pixels = picture.pixels.astype(np.uint32)
    if pixels.shape[2] == 3:  # whole numbers keep white at exactly 1
        luminance = (pixels @ np.array([299, 587, 114], np.uint32)).astype(np.float32) / np.float32(1000 * full)
    else:
        luminance = pixels[..., 0].astype(np.float32) / np.float32(full)
    return luminance if picture.alpha is None else luminance * (picture.alpha.astype(np.float32) / np.float32(full))


def write_picture(path: str | os.PathLike[str], picture: Picture, *, quality: int = 95) -> None:
    """Write a picture in the format of the path's suffix: completely, or not at all.

    PNG, TIFF and BMP hold the pixels without loss, and so does WebP for a picture whose source was ``lossless``. JPEG
    keeps the full colour resolution (4:4:4). EXIF block, colour profile and resolution are written where the format
    has a place for them; BMP has none for the first two, WebP none for the resolution and for a grey profile.

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
    output_format = _SUFFIXES.get(path.suffix.lower())
    if output_format is None:
        raise PictureError(f"{path}: cannot write files with suffix {path.suffix!r}; choose one of "
                           + ", ".join(sorted(_SUFFIXES)))
    _check_arrays(path, picture)
    _check_capacity(path, picture, output_format)
    if not 1 <= quality <= 100:
        raise PictureError(f"{path}: quality is {quality}; choose 1 to 100")
    if not path.parent.is_dir():
        raise PictureError(f"{path}: there is no folder {path.parent}; create it or choose another one")
    try:
        _replace_file(path.resolve(), _encode(picture, output_format, quality))
    except (OSError, ValueError, OverflowError, struct.error, cv2.error) as error:
        raise PictureError(f"{path}: cannot be written ({error}); check the folder and the disk, or choose another "
                           "file or format") from error


# ---- Reading


def _file_bytes(path: Path) -> bytes:
    if path.is_dir():
        raise PictureError(f"{path}: is a folder; name a picture file in it")
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise PictureError(f"{path}: there is no such file; check the path") from error
    except OSError as error:
        raise PictureError(f"{path}: cannot be read ({error.strerror}); check the path and its permissions") from error
    if not data:
        raise PictureError(f"{path}: the file is empty; expected a picture")
    return data


def _decode(path: Path, data: bytes) -> Picture:
    image = _open(path, data)
    hidden_pages = _check_pages(path, image)
    depth = _bits_per_sample(image, data)
    if image.mode not in _PLAIN_MODES.keys() | _CONVERSIONS.keys() or (depth > 8 and depth != 16):
        raise PictureError(f"{path}: its pixels are of an unsupported kind ({depth} bits, mode {image.mode}); expected "
                           "integers of 8 or 16 bits: convert it to a 16-bit PNG or TIFF")
    if depth == 16 and image.mode not in {*_PLAIN_MODES, "RGBX"}:
        raise PictureError(f"{path}: is a 16-bit {image.mode} picture; expected grey or RGB: convert it to RGB")
    orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    tags = image.tag_v2 if isinstance(image, TiffImageFile) else {}
    lossless = _is_lossless(image, data)
    image.load()
    exif = _exif_block(image)
    notes = [*_conversion_notes(image), *_loss_notes(image, tags)]
    if hidden_pages:
        notes.append("The previews that the file also holds are not kept.")

    profile = image.info.get("icc_profile")
    if image.mode == "CMYK":
        plain, note = _cmyk_to_rgb(image, profile)
        profile = None
        notes += [note] if note else []
    else:
        plain = _plain(image)
    samples = np.asarray(plain)
    samples = samples.reshape(*samples.shape[:2], -1)
    if not isinstance(image, TiffImageFile):  # those Pillow has turned while loading
        samples = _upright(samples, orientation)
    if depth == 16:
        samples = _sixteen_bits(path, data, image, samples, orientation, tags)

    colours = samples.shape[2] - (samples.shape[2] % 2 == 0)
    if profile and profile[16:20] != _PROFILE_SPACES[colours]:
        notes.append("The colour profile does not belong to such pixels and is not kept.")
        profile = None
    return Picture(
        pixels=np.array(samples[..., :colours]),
        alpha=np.array(samples[..., colours]) if samples.shape[2] > colours else None,
        format=str(image.format), exif=exif, icc_profile=profile or None, notes=tuple(notes), lossless=lossless,
        dpi=_resolution(image),
    )


def _open(path: Path, data: bytes) -> ImageFile.ImageFile:
    plugin = next((plugin for signature, plugin in _PLUGINS.items() if data.startswith(signature)), None)
    if plugin is None:
        raise PictureError(f"{path}: is not a picture that can be read; expected PNG, JPEG, WebP, TIFF or BMP: "
                           "convert it to one of them")
    image = plugin(io.BytesIO(data))
    if image.width * image.height > MAX_PIXELS:
        raise PictureError(f"{path}: has {image.width} x {image.height} pixels, more than {MAX_PIXELS:,}; scale it "
                           "down or cut it into parts")
    return image


def _check_pages(path: Path, image: ImageFile.ImageFile) -> int:
    """Refuse several pictures in one file; return how many previews and masks a TIFF file holds besides its picture."""
    frames = getattr(image, "n_frames", 1)
    previews = 0
    if isinstance(image, TiffImageFile):
        for frame in range(1, frames):
            image.seek(frame)
            previews += bool(image.tag_v2.get(ExifTags.Base.NewSubfileType, 0) & 0b101)
        image.seek(0)
    if frames - previews > 1:
        raise PictureError(f"{path}: holds {frames - previews} pictures (an animation or pages); expected one: save "
                           "the one that is meant to a file of its own")
    return previews


def _bits_per_sample(image: ImageFile.ImageFile, data: bytes) -> int:
    if isinstance(image, TiffImageFile):
        return max(image.tag_v2.get(ExifTags.Base.BitsPerSample, (1,)))
    return data[24] if isinstance(image, PngImageFile) else 8


def _is_lossless(image: ImageFile.ImageFile, data: bytes) -> bool:
    if isinstance(image, WebPImageFile):
        return b"VP8L" in _webp_chunk_names(data)
    return image.format != "JPEG" and image.info.get("compression") not in {"jpeg", "tiff_jpeg", "webp"}


def _webp_chunk_names(data: bytes) -> Iterable[bytes]:
    position = 12
    while position + 8 <= len(data):
        name, size = struct.unpack_from("<4sI", data, position)
        yield name
        position += 8 + size + size % 2


def _exif_block(image: ImageFile.ImageFile) -> bytes | None:
    exif = image.getexif()
    if isinstance(image, TiffImageFile):
        exif = _descriptive(exif)
    if ExifTags.Base.Orientation in exif:
        exif[ExifTags.Base.Orientation] = 1
    return exif.tobytes() if len(exif) else None


def _descriptive(exif: Image.Exif) -> Image.Exif:
    """What the tags of a TIFF file say about the picture, without what they say about the file."""
    kept = Image.Exif()
    for tag in _DESCRIPTIVE_TAGS & exif.keys():
        kept[tag] = _tag_value(exif, tag)
    return kept


def _tag_value(exif: Image.Exif, tag: int) -> Any:
    if tag not in _SUB_DIRECTORIES:
        return exif[tag]
    return {key: value for key, value in exif.get_ifd(tag).items() if key != ExifTags.IFD.Interop}


def _conversion_notes(image: ImageFile.ImageFile) -> Iterable[str]:
    if image.mode in _CONVERSIONS:
        name, mode = _CONVERSIONS[image.mode]
        yield f"{name} picture: written back as {'8-bit grey' if mode == 'L' else 'RGB'}."


def _loss_notes(image: ImageFile.ImageFile, tags: Any) -> Iterable[str]:
    info = image.info
    if "xmp" in info or "XML:com.adobe.xmp" in info:
        yield "The XMP metadata is not kept."
    if isinstance(image, PngImageFile) and any(not key.startswith(("XML:", "Raw profile")) for key in image.text):
        yield "The PNG text entries are not kept."
    if "mpoffset" in info:
        yield "The further pictures in the file (such as a gain map or a second view) are not kept."
    if "gamma" in info and not {"icc_profile", "srgb"} & info.keys() and abs(info["gamma"] - 1 / 2.2) > 0.01:
        yield "The PNG gamma value is not kept."
    extra = tags.get(ExifTags.Base.ExtraSamples, ())
    if 1 in extra:
        yield "The colours were stored multiplied by the opacity; written back unmultiplied."
    if len(extra) > ("A" in image.getbands()):
        yield "The channels besides colour and opacity are not kept."


def _plain(image: Image.Image) -> Image.Image:
    """The image in the mode L, LA, RGB, RGBA or I;16 that holds all it has."""
    mode = _PLAIN_MODES.get(image.mode) or _CONVERSIONS[image.mode][1]
    if "transparency" in image.info and mode in _WITH_ALPHA:
        mode = _WITH_ALPHA[mode]
    return image if image.mode == mode else image.convert(mode)


def _cmyk_to_rgb(image: Image.Image, profile: bytes | None) -> tuple[Image.Image, str | None]:
    """The image as sRGB, and a note if it has a colour profile that could not be used."""
    if not profile:
        return image.convert("RGB"), None
    try:
        converted = ImageCms.profileToProfile(
            image, io.BytesIO(profile), ImageCms.createProfile("sRGB"), outputMode="RGB",
            renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC, flags=ImageCms.Flags.BLACKPOINTCOMPENSATION)
    except (ImageCms.PyCMSError, OSError, ValueError):
        converted = None
    if converted is None:
        return image.convert("RGB"), "The CMYK colour profile could not be used: colours may have shifted."
    return converted, None


def _sixteen_bits(path: Path, data: bytes, image: ImageFile.ImageFile, shown: np.ndarray, orientation: int,
                  tags: Any) -> np.ndarray:
    """All 16 bits, ``[H, W, C]``, of a picture that Pillow shows as ``shown``: in full if grey, else in 8 bits."""
    if image.mode.startswith("I;16"):
        samples = np.invert(shown) if tags.get(ExifTags.Base.PhotometricInterpretation) == 0 else shown
        key = image.info.get("transparency")
        if key is None:
            return samples
        return np.concatenate([samples, np.where(samples == key, 0, 65535).astype(np.uint16)], axis=2)
    decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if decoded is None or decoded.dtype != np.uint16 or decoded.ndim != 3 or decoded.shape[2] < shown.shape[2]:
        raise PictureError(f"{path}: its 16-bit pixels cannot be decoded; save it anew as a 16-bit PNG")
    samples = _upright(decoded[..., [2, 1, 0, 3][:shown.shape[2]]], orientation)
    if samples.shape != shown.shape or not np.array_equal((samples >> 8).astype(np.uint8), shown):
        raise PictureError(f"{path}: its 16-bit pixels are stored in an unusual way (such as multiplied by the "
                           "opacity) that cannot be decoded safely; save it anew as a 16-bit PNG")
    grey_with_alpha = isinstance(image, PngImageFile) and data[25] == _PNG_COLOUR_TYPES[2]
    return samples[..., [0, 3]] if grey_with_alpha else samples


def _upright(array: np.ndarray, orientation: int) -> np.ndarray:
    """Turn and mirror ``[H, W, ...]`` as an EXIF orientation asks for; other values than 2 to 8 leave it as it is."""
    if orientation in {5, 6, 7, 8}:
        array = array.swapaxes(0, 1)
    if orientation in {2, 3, 6, 7}:
        array = array[:, ::-1]
    if orientation in {3, 4, 7, 8}:
        array = array[::-1]
    return array


def _resolution(image: ImageFile.ImageFile) -> tuple[float, float] | None:
    dpi = image.info.get("dpi")
    if dpi is None or not all(0 < value < 65536 for value in dpi):
        return None
    return float(dpi[0]), float(dpi[1])


# ---- Writing


def _check_arrays(path: Path, picture: Picture) -> None:
    pixels, alpha = picture.pixels, picture.alpha
    if pixels.ndim != 3 or pixels.shape[2] not in (1, 3) or pixels.dtype not in (np.uint8, np.uint16) or not pixels.size:
        raise PictureError(f"{path}: pixels are {list(pixels.shape)} {pixels.dtype}; expected [H, W, 3] or [H, W, 1] "
                           "of uint8 or uint16")
    if alpha is not None and (alpha.shape != pixels.shape[:2] or alpha.dtype != pixels.dtype):
        raise PictureError(f"{path}: alpha is {list(alpha.shape)} {alpha.dtype}; expected {list(pixels.shape[:2])} "
                           f"{pixels.dtype} as the pixels are")


def _check_capacity(path: Path, picture: Picture, output_format: str) -> None:
    sixteen, transparent = picture.pixels.dtype == np.uint16, picture.alpha is not None
    if sixteen and output_format not in {"PNG", "TIFF"}:
        raise PictureError(f"{path}: {output_format} cannot hold the picture's 16 bits per channel; choose .png or .tif")
    if sixteen and transparent and output_format == "TIFF" and picture.pixels.shape[2] == 1:
        raise PictureError(f"{path}: 16-bit grey with opacity is not supported in TIFF; choose .png")
    if transparent and (output_format == "JPEG" or (output_format == "BMP" and picture.format != "BMP")):
        raise PictureError(f"{path}: {output_format} cannot hold the picture's opacity (alpha channel); choose .png, "
                           ".tif or .webp")


def _replace_file(target: Path, content: bytes) -> None:
    temporary = target.with_name(f".{uuid.uuid4().hex}{target.suffix}")
    try:
        with open(temporary, "xb") as file:
            file.write(content)
        if target.exists():
            shutil.copymode(target, temporary)
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


def _encode(picture: Picture, output_format: str, quality: int) -> bytes:
    samples = picture.pixels
    if picture.alpha is not None:
        samples = np.dstack([samples, picture.alpha])
    if output_format == "TIFF":
        return _tiff(picture, samples)
    if samples.dtype == np.uint16:
        return _png16(picture, samples)
    if output_format == "BMP" and samples.shape[2] == 4:  # Pillow's 32-bit BMP does not mark its alpha as such
        return bytes(cv2.imencode(".bmp", samples[..., [2, 1, 0, 3]])[1])
    return _with_pillow(picture, samples, output_format, quality)


def _with_pillow(picture: Picture, samples: np.ndarray, output_format: str, quality: int) -> bytes:
    options: dict[str, Any] = {"exif": picture.exif, "icc_profile": picture.icc_profile, "dpi": picture.dpi}
    if output_format == "JPEG":
        options |= {"quality": quality, "subsampling": "4:4:4"}
    if output_format == "WEBP":
        options |= {"quality": quality, "lossless": picture.lossless, "exact": True}
        if picture.pixels.shape[2] == 1:  # WebP stores grey as RGB
            del options["icc_profile"]
    buffer = io.BytesIO()
    image = Image.fromarray(samples[..., 0] if samples.shape[2] == 1 else samples)
    image.save(buffer, output_format, **{name: value for name, value in options.items() if value is not None})
    return buffer.getvalue()


def _png16(picture: Picture, samples: np.ndarray) -> bytes:
    height, width, channels = samples.shape
    rows = samples.astype(">u2").reshape(height, -1).view(np.uint8)
    filtered = np.empty((height, rows.shape[1] + 1), np.uint8)
    filtered[:, 0] = 1  # filter "Sub": each byte less the one a pixel before it
    step = 2 * channels
    filtered[:, 1:step + 1] = rows[:, :step]
    np.subtract(rows[:, step:], rows[:, :-step], out=filtered[:, step + 1:])

    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, _PNG_COLOUR_TYPES[channels], 0, 0, 0))]
    if picture.icc_profile:
        chunks.append((b"iCCP", b"ICC Profile\0\0" + zlib.compress(picture.icc_profile)))
    if picture.dpi:
        chunks.append((b"pHYs", struct.pack(">IIB", *(round(value / 0.0254) for value in picture.dpi), 1)))
    if picture.exif:
        chunks.append((b"eXIf", picture.exif.removeprefix(b"Exif\0\0")))
    compressed, size = zlib.compress(filtered.data), 1 << 24
    chunks += [(b"IDAT", compressed[start:start + size]) for start in range(0, len(compressed), size)]
    chunks.append((b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
        for name, content in chunks)


def _tiff(picture: Picture, samples: np.ndarray) -> bytes:
    """A TIFF file of one picture: deflated strips of about a megabyte, with horizontal differencing."""
    height, width, channels = samples.shape
    differences = np.diff(samples, axis=1, prepend=np.zeros_like(samples[:, :1]))
    differences = differences.astype(samples.dtype.newbyteorder("<"), copy=False)
    rows = max(1, (1 << 20) // differences[0].nbytes)
    strips = [zlib.compress(differences[start:start + rows].tobytes()) for start in range(0, height, rows)]
    sizes = [len(strip) for strip in strips]

    tags = _exif_directory(picture.exif)
    tags[ExifTags.Base.ImageWidth] = width
    tags[ExifTags.Base.ImageLength] = height
    tags[ExifTags.Base.BitsPerSample] = (8 * samples.itemsize,) * channels
    tags[ExifTags.Base.Compression] = 8
    tags[ExifTags.Base.PhotometricInterpretation] = 2 if channels >= 3 else 1
    tags[ExifTags.Base.SamplesPerPixel] = channels
    tags[ExifTags.Base.RowsPerStrip] = rows
    tags[ExifTags.Base.StripOffsets] = tuple(sum(sizes[:i]) for i in range(len(sizes)))  # from the end of the tags
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
    buffer = io.BytesIO()
    tags.save(buffer)
    return buffer.getvalue() + b"".join(strips)


def _exif_directory(block: bytes | None) -> ImageFileDirectory_v2:
    """The tags of a TIFF file that hold an EXIF block."""
    directory = ImageFileDirectory_v2()
    if block:
        exif = Image.Exif()
        exif.load(block)
        for tag in exif:
            directory[tag] = _tag_value(exif, tag)
    return directory
