"""Decode files to pictures and masks."""

import io
import os
import struct
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import ExifTags, Image, ImageCms, ImageFile
from PIL.AvifImagePlugin import AvifImageFile
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from lbam_fast.config import HoleColour
from lbam_fast.pictures import png, tiff
from lbam_fast.pictures.extras import extras_of
from lbam_fast.pictures.luminance import luminance, white_of
from lbam_fast.pictures.picture import PNG_COLOUR_TYPES, PROFILE_SPACES, Picture, PictureError, descriptive

MAX_PIXELS = 500_000_000
# Deflate packs at most 1032 bytes into one, LZW 4096 into 12 bits and Zstandard 128 kB into 4 bytes, each byte up to 8 pixels (of
# GIF one); a JPEG block of 64 pixels takes at least a bit.
_PIXELS_PER_BYTE = {"PNG": 8 * 1032, "JPEG": 512, "MPO": 512, "GIF": 2731}
_PIXELS_PER_BYTE_OF_TIFF = {
    **dict.fromkeys(("packbits", "jpeg", "tiff_jpeg"), 512),
    **dict.fromkeys(("tiff_adobe_deflate", "tiff_deflate"), 8 * 1032),
    **dict.fromkeys(("zstd", "lzma"), 8 * 32768),
    "tiff_lzw": 8 * 2731,
}

_PLAIN_MODES = {"L", "LA", "RGB", "RGBA"}
_WIDE_MODES = {"I;16", "I;16B", "RGB", "RGBA"}  # RGB and RGBA are how Pillow shows the upper 8 of 16 bits
_CONVERSIONS = {
    "1": ("1-bit", "L"),
    "P": ("palette", "RGB"),
    "PA": ("palette", "RGBA"),
    "CMYK": ("CMYK", "RGB"),
    "YCbCr": ("YCbCr", "RGB"),
}

# The errors that Pillow meets a damaged EXIF block with.
EXIF_DAMAGE = (ArithmeticError, AttributeError, LookupError, OSError, SyntaxError, TypeError, ValueError, struct.error)


class _LargeTiff(TiffImageFile):
    """A TIFF file that may have more pixels than Pillow's process-wide limit, which its parent checks on loading."""

    def _setup(self) -> None:
        try:
            super()._setup()
        except SyntaxError as error:
            raise PictureError(
                f"its pixels are of an unsupported kind ({tiff.in_words(self.tag_v2)}); expected 8-bit integers, or 16-bit grey "
                "or RGB: save it anew as an 8-bit or 16-bit PNG"
            ) from error

    def load_prepare(self) -> None:
        if self._im is None:
            self.im = Image.core.new(self.mode, self._tile_size)  # type: ignore[attr-defined]
        super().load_prepare()


# The plugins are used directly since Image.open applies Pillow's process-wide limit on the number of pixels.
_PLUGINS: dict[bytes, type[ImageFile.ImageFile]] = {
    b"\x89PNG\r\n\x1a\n": PngImageFile,
    b"\xff\xd8\xff": JpegImageFile,
    b"RIFF": WebPImageFile,
    b"II*\0": _LargeTiff,
    b"MM\0*": _LargeTiff,
    b"II+\0": _LargeTiff,
    b"BM": BmpImageFile,
    b"GIF8": GifImageFile,
}


def read_picture(path: str | os.PathLike[str], max_pixels: int | None = None) -> Picture:
    """Read a picture with its opacity, EXIF block, colour profile and resolution.

    Palette, YCbCr and CMYK pictures become RGB (CMYK through its colour profile to sRGB, where it has one) and 1-bit
    pictures become 8-bit grey; ``notes`` says so. A transparent colour becomes an alpha channel. 8 bits stay 8 bits
    and 16 bits stay 16 bits.

    Args:
        path: a PNG, JPEG, WebP, TIFF, BMP, GIF or AVIF file, or HEIF with the package pillow-heif, with any suffix.
        max_pixels: how many pixels it may have, ``MAX_PIXELS`` by default; its header tells.

    Returns:
        The picture, upright.

    Raises:
        PictureError: the file is missing, empty, truncated, damaged or no picture; it holds several pictures; or its
            pixels are neither 8-bit nor 16-bit integers.
    """
    return decode_picture(_file_bytes(Path(path)), path, max_pixels)


def decode_picture(data: bytes, name: str | os.PathLike[str], max_pixels: int | None = None) -> Picture:
    """As ``read_picture``, from the bytes of a file; ``name`` is what messages call it, and is not opened."""
    path = Path(name)
    if not data:
        raise PictureError(f"{path}: the file is empty; expected a picture")
    try:
        return _decode(path, data, max_pixels or MAX_PIXELS)
    except MemoryError:
        raise
    except PictureError as error:
        raise error if str(path) in str(error) else PictureError(f"{path}: {error}") from error
    except Exception as error:  # decoders meet damaged files with errors of many kinds
        raise PictureError(
            f"{path}: cannot be read as a picture ({error}); the file is damaged, truncated or of an "
            "unsupported kind: save it anew as an 8-bit or 16-bit PNG"
        ) from error


def read_mask(path: str | os.PathLike[str], hole: HoleColour = "white", max_pixels: int | None = None) -> np.ndarray:
    """Read a mask as the luminance of a picture file.

    Lossless files that hold zeros and ones alone, as tools for segmentation write them, are read as black and white.

    What is not painted on a transparent layer is known, whatever colour lies hidden there: transparent parts count as
    black where holes are white, and as white where holes are black; partly transparent ones count in proportion.

    Args:
        path: any file that ``read_picture`` reads.
        hole: the colour of holes.
        max_pixels: as for ``read_picture``.

    Returns:
        ``[H, W]`` float32 in [0, 1], upright: 0 is black and 1 is the full range (255, 65535 or a set bit).

    Raises:
        PictureError: as ``read_picture`` does.
    """
    return mask_of(read_picture(path, max_pixels), hole)


def mask_of(picture: Picture, hole: HoleColour = "white") -> np.ndarray:
    """A picture that was read as the mask that ``read_mask`` makes of it."""
    white = white_of(int(picture.pixels.max()), picture.pixels.dtype, picture.lossless)
    return luminance(picture.pixels, picture.alpha, white, hole)


def _file_bytes(path: Path) -> bytes:
    if path.is_dir():
        raise PictureError(f"{path}: is a folder; name a picture file in it")
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise PictureError(f"{path}: there is no such file; check the path") from error
    except OSError as error:
        raise PictureError(f"{path}: cannot be read ({error.strerror}); check the path and its permissions") from error
    return data


def _decode(path: Path, data: bytes, max_pixels: int) -> Picture:
    source, damage = data, None
    if data.startswith(png.SIGNATURE):
        profile, damage = png.profile(source)
        data = png.essential(source)
    image = _open(path, data)
    if isinstance(image, PngImageFile) and profile:
        image.info["icc_profile"] = profile
    previews = _previews(path, image, data)
    _check_size(path, image, data, max_pixels)
    depth = _bits_per_sample(image, data)
    tags = image.tag_v2 if isinstance(image, TiffImageFile) else {}
    _check_kind(path, image.mode, depth, tags)
    if len(tags.get(ExifTags.Base.ExtraSamples, ())) > ("A" in image.getbands()):
        raise PictureError(
            f"{path}: has {tags[ExifTags.Base.SamplesPerPixel]} channels; expected grey or RGB, with or without opacity: "
            "save it without the others"
        )
    lossless = _is_lossless(image, data)
    stored = tiff.stored_size(image)
    extras, lost = extras_of(image, source)
    image.load()
    orientation, exif, notes = _exif(image)
    notes += [*lost, *([damage] if damage else [])]
    notes += [*_conversion_notes(image), *_loss_notes(image, tags)]
    if previews:
        notes.append("The previews that the file also holds are not kept.")

    profile = image.info.get("icc_profile")
    if image.mode == "CMYK":
        plain, note = _cmyk_to_rgb(image, profile)
        profile = None
        notes += [note] if note else []
    else:
        plain = image if depth == 16 else _plain(image)
    samples = np.asarray(plain)
    samples = samples.reshape(*samples.shape[:2], -1)
    if depth == 16:
        samples = _sixteen_bits(path, data, image, samples, tags)
    samples = _upright(samples, orientation)

    colours = samples.shape[2] - (samples.shape[2] % 2 == 0)
    if profile and profile[16:20] != PROFILE_SPACES[colours]:
        notes.append("The colour profile does not belong to such pixels and is not kept.")
        profile = None
    return Picture(
        pixels=np.array(samples[..., :colours], order="C"),
        alpha=np.array(samples[..., colours], order="C") if samples.shape[2] > colours else None,
        format="JPEG" if image.format == "MPO" else str(image.format),
        exif=exif,
        icc_profile=profile or None,
        notes=tuple(notes),
        lossless=lossless,
        dpi=_resolution(image, tags),
        extras=extras,
        turned=samples.shape[:2] != (stored[1], stored[0]),
        source=source,
    )


def _open(path: Path, data: bytes) -> ImageFile.ImageFile:
    if data.startswith(b"MM\0+"):
        raise PictureError(f"{path}: is a BigTIFF file of big-endian order, which is not read; save it anew as a TIFF or PNG")
    try:
        return _plugin(path, data)(io.BytesIO(data))
    except Image.DecompressionBombError as error:
        raise PictureError(
            f"{path}: has more pixels than a file of its format can be decoded with ({error}); scale it down, cut it into parts, "
            "or save it anew as a PNG"
        ) from error


def _check_size(path: Path, image: ImageFile.ImageFile, data: bytes, max_pixels: int) -> None:
    """Refuse, before memory is taken, what has too many pixels, or more than so small a file can hold."""
    if image.width * image.height > max_pixels:
        raise PictureError(
            f"{path}: has {image.width} x {image.height} pixels, more than {max_pixels:,}; scale it down, cut it into parts, "
            "or raise the limit (--max-pixels)"
        )
    most = _PIXELS_PER_BYTE.get(str(image.format))
    if isinstance(image, TiffImageFile):
        most = _PIXELS_PER_BYTE_OF_TIFF.get(image.info.get("compression", "raw"))
    if most is not None and image.width * image.height > most * len(data):
        raise PictureError(
            f"{path}: is truncated or damaged: {len(data):,} bytes cannot hold the {image.width} x {image.height} pixels that it "
            "claims; save it anew"
        )


def _plugin(path: Path, data: bytes) -> Callable[[io.BytesIO], ImageFile.ImageFile]:
    plugin = next((plugin for signature, plugin in _PLUGINS.items() if data.startswith(signature)), None)
    if plugin is None and data[4:8] == b"ftyp":
        plugin = AvifImageFile if data[8:12] in (b"avif", b"avis") else _heif_plugin(path)
    if plugin is None:
        raise PictureError(
            f"{path}: is not a picture that can be read; expected PNG, JPEG, WebP, TIFF or BMP (or GIF, AVIF, HEIC): "
            "convert it to one of them"
        )
    return plugin


def _heif_plugin(path: Path) -> type[ImageFile.ImageFile]:
    try:
        from pillow_heif import HeifImageFile
    except ImportError as error:
        raise PictureError(
            f"{path}: is an HEIC picture, which needs pillow-heif: pip install 'lbam-fast[heif]', or convert it to PNG"
        ) from error
    plugin: type[ImageFile.ImageFile] = HeifImageFile
    return plugin


def _previews(path: Path, image: ImageFile.ImageFile, data: bytes) -> int:
    """How many previews and masks a TIFF file holds besides its picture, which is turned to; several pictures are refused."""
    previews = 0
    if isinstance(image, TiffImageFile):
        pages, frames = tiff.main_pages(data)
        previews = frames - max(1, len(pages))
        if len(pages) == 1 and pages[0]:
            image.seek(pages[0])
    else:
        frames = getattr(image, "n_frames", 1)
    if frames - previews > 1:
        raise PictureError(
            f"{path}: holds {frames - previews} pictures (an animation or pages); expected one: save "
            "the one that is meant to a file of its own"
        )
    return previews


def _bits_per_sample(image: ImageFile.ImageFile, data: bytes) -> int:
    if isinstance(image, TiffImageFile):
        return int(max(image.tag_v2.get(ExifTags.Base.BitsPerSample, (1,))))
    return data[24] if isinstance(image, PngImageFile) else 8


def _check_kind(path: Path, mode: str, depth: int, tags: Any) -> None:
    wide = depth == 16 and mode in _WIDE_MODES
    signed = 2 in tags.get(ExifTags.Base.SampleFormat, ())
    if signed or (not wide and (depth > 8 or mode not in _PLAIN_MODES | _CONVERSIONS.keys())):
        raise PictureError(
            f"{path}: its pixels are of an unsupported kind ({depth}-bit{' signed' * signed}, mode {mode}); expected 8-bit "
            "integers, or 16-bit grey or RGB: convert it to a 16-bit PNG or TIFF"
        )


def _is_lossless(image: ImageFile.ImageFile, data: bytes) -> bool:
    if isinstance(image, WebPImageFile):
        return b"VP8L" in _webp_chunk_names(data)
    return image.format not in {"JPEG", "MPO", "AVIF", "HEIF"} and image.info.get("compression") not in {
        "jpeg",
        "tiff_jpeg",
        "webp",
    }


def _webp_chunk_names(data: bytes) -> Iterable[bytes]:
    position = 12
    while position + 8 <= len(data):
        name, size = struct.unpack_from("<4sI", data, position)
        yield name
        position += 8 + size + size % 2


def _exif(image: ImageFile.ImageFile) -> tuple[int, bytes | None, list[str]]:
    """Orientation that a loaded image still has, its EXIF block once upright, and a note if the block is damaged.

    Pillow turns TIFF files itself as it loads them and then drops their orientation.
    """
    try:
        exif = image.getexif()
        orientation = exif.get(ExifTags.Base.Orientation, 1)
        if isinstance(image, TiffImageFile):
            exif = descriptive(exif)
        if ExifTags.Base.Orientation in exif:
            exif[ExifTags.Base.Orientation] = 1
        return orientation, exif.tobytes() if len(exif) else None, []
    except EXIF_DAMAGE:
        return 1, None, ["The EXIF block is damaged and is not kept."]


def _conversion_notes(image: ImageFile.ImageFile) -> Iterable[str]:
    if image.mode in _CONVERSIONS:
        name, mode = _CONVERSIONS[image.mode]
        yield f"{name} picture: written back as {'8-bit grey' if mode == 'L' else 'RGB'}."


def _loss_notes(image: ImageFile.ImageFile, tags: Any) -> Iterable[str]:
    info = image.info
    if "xmp" in info:
        yield "The XMP metadata is not kept."
    if "mpoffset" in info:
        yield "The further pictures in the file (such as a gain map or a second view) are not kept."
    extra = tags.get(ExifTags.Base.ExtraSamples, ())
    if 1 in extra:
        yield "The colours were stored multiplied by the opacity; written back unmultiplied."


def _plain(image: Image.Image) -> Image.Image:
    """The 8-bit image in the mode L, LA, RGB or RGBA that holds all it has."""
    mode = image.mode if image.mode in _PLAIN_MODES else _CONVERSIONS[image.mode][1]
    if "transparency" in image.info:
        mode = {"L": "LA", "RGB": "RGBA"}.get(mode, mode)
    return image if image.mode == mode else image.convert(mode)


def _cmyk_to_rgb(image: Image.Image, profile: bytes | None) -> tuple[Image.Image, str | None]:
    """The image as sRGB, and a note if it has a colour profile that could not be used."""
    if not profile:
        return image.convert("RGB"), None
    try:
        converted = ImageCms.profileToProfile(
            image,
            io.BytesIO(profile),
            ImageCms.createProfile("sRGB"),
            outputMode="RGB",
            renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
            flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
    except (ImageCms.PyCMSError, OSError, ValueError):
        return image.convert("RGB"), "The CMYK colour profile could not be used: colours may have shifted."
    assert converted is not None  # only a conversion in place returns nothing
    return converted, None


def _sixteen_bits(path: Path, data: bytes, image: ImageFile.ImageFile, shown: np.ndarray, tags: Any) -> np.ndarray:
    """All 16 bits, ``[H, W, C]``, of a picture that Pillow shows as ``shown``: in full if grey, else in 8 bits."""
    if image.mode.startswith("I;16"):
        samples = shown.astype(np.uint16)  # in the machine's byte order
        if tags.get(ExifTags.Base.PhotometricInterpretation) == 0:  # 0 is white
            samples = np.invert(samples)
    else:
        samples = _sixteen_bit_colour(path, data, shown, tags)
    if "transparency" in image.info:
        opaque = (samples != image.info["transparency"]).any(axis=2)
        samples = np.dstack([samples, np.where(opaque, 65535, 0).astype(np.uint16)])
    grey_with_alpha = isinstance(image, PngImageFile) and data[25] == PNG_COLOUR_TYPES[2]
    return samples[..., [0, 3]] if grey_with_alpha else samples


def _sixteen_bit_colour(path: Path, data: bytes, shown: np.ndarray, tags: Any) -> np.ndarray:
    """OpenCV's 16-bit samples, ``[H, W, C]``, checked against ``shown``, the upper 8 bits of the same by Pillow."""
    decoded: np.ndarray | None = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    channels = shown.shape[2]
    if decoded is not None and decoded.dtype == np.uint16 and decoded.ndim == 3 and decoded.shape[2] >= channels:
        samples = decoded[..., [2, 1, 0, 3][:channels]]
        if np.array_equal(np.right_shift(samples, 8), shown):
            return samples
    raise PictureError(
        f"{path}: its 16-bit pixels are stored in an unusual way ({tiff.layout_in_words(tags)}) "
        "that cannot be decoded safely; save it anew as a 16-bit PNG"
    )


def _upright(array: np.ndarray, orientation: int) -> np.ndarray:
    """Turn and mirror ``[H, W, ...]`` as an EXIF orientation asks for; other values than 2 to 8 leave it as it is."""
    if orientation in {5, 6, 7, 8}:
        array = array.swapaxes(0, 1)
    if orientation in {2, 3, 6, 7}:
        array = array[:, ::-1]
    if orientation in {3, 4, 7, 8}:
        array = array[::-1]
    return array


def _resolution(image: ImageFile.ImageFile, tags: Any) -> tuple[float, float] | None:
    dpi = image.info.get("dpi")
    made_up = isinstance(image, TiffImageFile) and ExifTags.Base.XResolution not in tags  # 1 by Pillow
    if dpi is None or made_up or not all(0 < value < 65536 for value in dpi):
        return None
    return float(dpi[0]), float(dpi[1])
