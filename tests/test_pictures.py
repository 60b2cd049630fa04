"""Pictures and masks come from files bit by bit, and go back whole or not at all."""

import dataclasses
import io
import os
import struct
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import ExifTags, Image, ImageCms

from lbam_fast.pictures import (
    Picture,
    PictureError,
    output_suffixes,
    read_mask,
    read_picture,
    readable_suffixes,
    write_picture,
)
from lbam_fast.pictures.png_writing import png

EXAMPLE = Path(__file__).parent.parent / "docs" / "example"
HEIGHT, WIDTH = 37, 53
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
ORIENTATION = ExifTags.Base.Orientation


def samples(channels: int, dtype: type = np.uint8) -> np.ndarray:
    """A gradient with noise, ``[HEIGHT, WIDTH, channels]``, using all bits."""
    full = np.iinfo(dtype).max
    rng = np.random.default_rng(channels)
    slope = np.add.outer(np.linspace(0, 0.7, HEIGHT), np.linspace(0, 0.2, WIDTH))[..., None]
    return ((slope + 0.1 * rng.random((HEIGHT, WIDTH, channels))) * full).astype(dtype)


def pillow(array: np.ndarray) -> Image.Image:
    return Image.fromarray(array[..., 0] if array.shape[2] == 1 else array)


def picture(channels: int = 3, dtype: type = np.uint8, alpha: bool = False, **changes: object) -> Picture:
    array = samples(channels + alpha, dtype)
    plain = Picture(
        pixels=array[..., :channels],
        alpha=array[..., channels] if alpha else None,
        format="PNG",
        exif=None,
        icc_profile=None,
        notes=(),
        lossless=True,
    )
    return dataclasses.replace(plain, **changes)


def together(read: Picture) -> np.ndarray:
    return read.pixels if read.alpha is None else np.dstack([read.pixels, read.alpha])


def exif_block(orientation: int = 1) -> bytes:
    exif = Image.Exif()
    exif[ExifTags.Base.Artist] = "Jane"
    exif[ORIENTATION] = orientation
    exif[ExifTags.IFD.Exif] = {ExifTags.Base.LensModel: "Lens 1", ExifTags.Base.ISOSpeedRatings: 200}
    exif[ExifTags.IFD.GPSInfo] = {ExifTags.GPS.GPSLatitudeRef: "N"}
    return exif.tobytes()


def read_exif(block: bytes) -> Image.Exif:
    exif = Image.Exif()
    exif.load(block)
    return exif


def png_chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def png16(array: np.ndarray, extra: bytes = b"") -> bytes:
    """A plain 16-bit PNG file, made without the code under test."""
    colour_type = {1: 0, 2: 4, 3: 2, 4: 6}[array.shape[2]]
    rows = array.astype(">u2").reshape(HEIGHT, -1).view(np.uint8)
    header = struct.pack(">IIBBBBB", WIDTH, HEIGHT, 16, colour_type, 0, 0, 0)
    content = zlib.compress(np.pad(rows, ((0, 0), (1, 0))).tobytes())
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + extra + png_chunk(b"IDAT", content) + png_chunk(b"IEND", b"")


def tiff(array: np.ndarray, order: str = "<", **tags: object) -> bytes:
    """A plain TIFF file of one strip, made without the code under test; tags are integers named ``tag_<number>``."""
    channels, bits = array.shape[2], 8 * array.itemsize
    entries = {
        256: WIDTH,
        257: HEIGHT,
        258: (bits,) * channels,
        259: 1,
        262: 2 if channels >= 3 else 1,
        273: 0,
        277: channels,
        278: HEIGHT,
        279: array.nbytes,
        284: 1,
    }
    entries |= {int(name[4:]): value for name, value in tags.items()}
    offset = 8 + 2 + 12 * len(entries) + 4
    entries[273], directory, beyond = offset + 8, struct.pack(order + "H", len(entries)), b""
    for tag, value in sorted(entries.items()):
        if isinstance(value, tuple) and len(value) > 2:
            beyond = struct.pack(f"{order}{len(value)}H", *value).ljust(8, b"\0")
            directory += struct.pack(order + "HHII", tag, 3, len(value), offset)
        elif isinstance(value, tuple):
            directory += struct.pack(order + "HHI", tag, 3, len(value))
            directory += struct.pack(f"{order}{len(value)}H", *value).ljust(4, b"\0")
        else:
            directory += struct.pack(order + "HHII", tag, 4, 1, value)
    magic = b"II*\0" if order == "<" else b"MM\0*"
    return (
        magic
        + struct.pack(order + "I", 8)
        + directory
        + bytes(4)
        + beyond.ljust(8, b"\0")
        + array.astype(array.dtype.newbyteorder(order)).tobytes()
    )


def cmyk_profile() -> bytes:
    """A CMYK colour profile that shows each ink mixture as the same saturated red."""
    red = bytes([int(54 * 2.55), 128 + 80, 128 + 67])
    ramp = bytes(range(256))
    identity = struct.pack(">9i", *(np.eye(3, dtype=int) * 65536).flat)
    table = b"mft1" + bytes(4) + bytes([4, 3, 2, 0]) + identity + ramp * 4 + red * 16 + ramp * 3
    text = b"text" + bytes(4) + b"red\0"
    tags = [(b"cprt", text), (b"A2B0", table)]
    offset = 128 + 4 + 12 * len(tags)
    index, body = struct.pack(">I", len(tags)), b""
    for name, content in tags:
        index += struct.pack(">4sII", name, offset + len(body), len(content))
        body += content.ljust(-(-len(content) // 4) * 4, b"\0")
    header = (
        struct.pack(">I4sI4s4s4s", offset + len(body), b"lcms", 0x02400000, b"prtr", b"CMYK", b"Lab ")
        + struct.pack(">6H", 2024, 1, 1, 0, 0, 0)
        + b"acsp"
        + bytes(28)
        + struct.pack(">3I", 0x0000F6D6, 0x00010000, 0x0000D32D)
    )
    return header.ljust(128, b"\0") + index + body


def saved(path: Path, image: Image.Image, **options: object) -> Path:
    image.save(path, **options)
    return path


def stored(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


# ---- Reading


@pytest.mark.parametrize(
    ("suffix", "channels"),
    [
        *((suffix, channels) for suffix in (".png", ".tif") for channels in (1, 2, 3, 4)),
        (".webp", 3),
        (".webp", 4),
        (".bmp", 1),
        (".bmp", 3),
    ],
)
def test_reads_8_bits_exactly(tmp_path: Path, suffix: str, channels: int) -> None:
    array = samples(channels)
    options = {".webp": {"lossless": True, "exact": True}, ".tif": {"compression": "tiff_lzw"}}.get(suffix, {})
    read = read_picture(saved(tmp_path / f"a{suffix}", pillow(array), **options))
    np.testing.assert_array_equal(together(read), array)
    assert read.pixels.dtype == np.uint8 and read.lossless and read.notes == ()
    assert read.format == {".png": "PNG", ".tif": "TIFF", ".webp": "WEBP", ".bmp": "BMP"}[suffix]


@pytest.mark.parametrize("channels", [1, 3])
def test_reads_jpeg(tmp_path: Path, channels: int) -> None:
    array = samples(channels)
    read = read_picture(saved(tmp_path / "a.jpg", pillow(array), quality=95, subsampling=0))
    assert read.pixels.shape == array.shape and read.alpha is None
    assert np.abs(read.pixels.astype(int) - array).mean() < 4
    assert read.format == "JPEG" and not read.lossless


def test_lossy_files_are_known(tmp_path: Path) -> None:
    image = pillow(samples(3))
    assert not read_picture(saved(tmp_path / "a.webp", image, quality=80)).lossless
    assert not read_picture(saved(tmp_path / "a.tif", image, compression="jpeg")).lossless
    assert read_picture(saved(tmp_path / "b.webp", image, lossless=True, exif=exif_block())).lossless


def encoded(suffix: str, array: np.ndarray) -> bytes:
    swapped = array[..., [2, 1, 0, 3][: array.shape[2]]] if array.shape[2] >= 3 else array
    return bytes(cv2.imencode(suffix, swapped)[1])


@pytest.mark.parametrize(
    "make",
    [
        png16,
        tiff,
        lambda array: tiff(array, ">"),
        lambda array: encoded(".png", array),
        lambda array: encoded(".tif", array),
    ],
    ids=["png", "tiff-little", "tiff-big", "opencv-png", "opencv-tiff"],
)
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_reads_16_bits_exactly(tmp_path: Path, make, channels: int) -> None:  # type: ignore[no-untyped-def]
    array = samples(channels, np.uint16)
    read = read_picture(stored(tmp_path / "a", make(array)))
    assert read.pixels.dtype == np.uint16
    np.testing.assert_array_equal(together(read), array)


def test_reads_16_bit_grey_with_alpha(tmp_path: Path) -> None:
    array = samples(2, np.uint16)
    read = read_picture(stored(tmp_path / "a.png", png16(array)))
    assert read.pixels.shape == (HEIGHT, WIDTH, 1)
    np.testing.assert_array_equal(together(read), array)


@pytest.mark.parametrize("channels", [1, 3])
def test_transparent_colour_of_16_bits(tmp_path: Path, channels: int) -> None:
    array = samples(channels, np.uint16)
    key = png_chunk(b"tRNS", array[2, 3].astype(">u2").tobytes())
    read = read_picture(stored(tmp_path / "a.png", png16(array, key)))
    np.testing.assert_array_equal(read.pixels, array)
    np.testing.assert_array_equal(read.alpha, np.where((array == array[2, 3]).all(2), 0, 65535))


@pytest.mark.parametrize("channels", [1, 3])
def test_transparent_colour_of_8_bits(tmp_path: Path, channels: int) -> None:
    array = samples(channels)
    key = tuple(map(int, array[2, 3]))
    read = read_picture(saved(tmp_path / "a.png", pillow(array), transparency=key if channels == 3 else key[0]))
    np.testing.assert_array_equal(read.pixels, array)
    np.testing.assert_array_equal(read.alpha, np.where((array == array[2, 3]).all(2), 0, 255))


def test_white_is_zero_tiff(tmp_path: Path) -> None:
    for dtype in (np.uint8, np.uint16):
        array = samples(1, dtype)
        read = read_picture(stored(tmp_path / "a.tif", tiff(np.invert(array), tag_262=0)))
        np.testing.assert_array_equal(read.pixels, array)


@pytest.mark.parametrize("suffix", [".png", ".tif", ".bmp"])
def test_palette(tmp_path: Path, suffix: str) -> None:
    image = pillow(samples(3)).quantize(32)
    read = read_picture(saved(tmp_path / f"a{suffix}", image))
    np.testing.assert_array_equal(read.pixels, np.asarray(image.convert("RGB")))
    assert read.alpha is None and read.notes == ("palette picture: written back as RGB.",)


@pytest.mark.parametrize("transparency", [5, bytes(range(0, 160, 5))], ids=["one-index", "table"])
def test_palette_with_transparency(tmp_path: Path, transparency: int | bytes) -> None:
    image = pillow(samples(3)).quantize(32)
    index = np.asarray(image)
    read = read_picture(saved(tmp_path / "a.png", image, transparency=transparency))
    np.testing.assert_array_equal(read.pixels, np.asarray(image.convert("RGB")))
    expected = np.where(index == 5, 0, 255) if transparency == 5 else 5 * index
    np.testing.assert_array_equal(read.alpha, expected)


@pytest.mark.parametrize("suffix", [".png", ".tif", ".bmp"])
def test_one_bit(tmp_path: Path, suffix: str) -> None:
    bits = samples(1)[..., 0] > 110
    read = read_picture(saved(tmp_path / f"a{suffix}", Image.fromarray(bits)))
    np.testing.assert_array_equal(read.pixels[..., 0], np.where(bits, 255, 0))
    assert read.notes == ("1-bit picture: written back as 8-bit grey.",)
    np.testing.assert_array_equal(read_mask(tmp_path / f"a{suffix}"), bits.astype(np.float32))


@pytest.mark.parametrize("suffix", [".jpg", ".tif"])
def test_cmyk_without_profile(tmp_path: Path, suffix: str) -> None:
    flat = np.full((HEIGHT, WIDTH, 4), (0, 200, 40, 30), np.uint8)
    read = read_picture(saved(tmp_path / f"a{suffix}", Image.fromarray(flat, "CMYK")))
    expected = np.asarray(Image.fromarray(flat, "CMYK").convert("RGB"))
    assert expected[0, 0, 0] > 200
    assert expected[0, 0, 1] < 100
    assert np.abs(read.pixels.astype(int) - expected).max() <= 3
    assert read.notes == ("CMYK picture: written back as RGB.",)


@pytest.mark.parametrize("suffix", [".jpg", ".tif"])
def test_cmyk_with_profile(tmp_path: Path, suffix: str) -> None:
    image = Image.fromarray(np.full((HEIGHT, WIDTH, 4), (200, 10, 40, 30), np.uint8), "CMYK")
    read = read_picture(saved(tmp_path / f"a{suffix}", image, icc_profile=cmyk_profile()))
    assert np.abs(read.pixels.astype(int) - (255, 0, 0)).max() < 30
    assert read.icc_profile is None and read.notes == ("CMYK picture: written back as RGB.",)


def test_cmyk_with_broken_profile(tmp_path: Path) -> None:
    image = pillow(samples(3)).convert("CMYK")
    read = read_picture(saved(tmp_path / "a.tif", image, icc_profile=b"broken"))
    np.testing.assert_array_equal(read.pixels, np.asarray(image.convert("RGB")))
    assert read.icc_profile is None and "could not be used" in read.notes[1]


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation(tmp_path: Path, suffix: str, orientation: int) -> None:
    block = exif_block(orientation)
    options = {".webp": {"lossless": True}, ".jpg": {"quality": 100, "subsampling": 0}}.get(suffix, {})
    read = read_picture(saved(tmp_path / f"a{suffix}", pillow(samples(3)), exif=block, **options))
    assert np.abs(read.pixels.astype(int) - turned(samples(3), orientation)).max() <= (4 if suffix == ".jpg" else 0)
    assert read_exif(read.exif or b"").get(ORIENTATION, 1) == 1
    assert read.pixels.flags.c_contiguous and read.pixels.flags.writeable


def turned(array: np.ndarray, orientation: int) -> np.ndarray:
    """The array upright, by the words of the EXIF standard: where row 0 and column 0 of the file lie."""
    return {
        1: lambda a: a,
        2: np.fliplr,
        3: lambda a: np.rot90(a, 2),
        4: np.flipud,
        5: lambda a: np.flipud(np.rot90(a)),
        6: lambda a: np.rot90(a, -1),
        7: lambda a: np.fliplr(np.rot90(a)),
        8: np.rot90,
    }[orientation](array)


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["png", "tiff"])
def test_orientation_of_16_bits(tmp_path: Path, kind: str, channels: int, orientation: int) -> None:
    array = samples(channels, np.uint16)
    content = (
        tiff(array, tag_274=orientation) if kind == "tiff" else png16(array, png_chunk(b"eXIf", exif_block(orientation)[6:]))
    )
    read = read_picture(stored(tmp_path / "a", content))
    np.testing.assert_array_equal(together(read), turned(array, orientation))


def test_preview_of_a_tiff_is_not_a_page(tmp_path: Path) -> None:
    preview = pillow(samples(3)).resize((8, 8))
    preview.encoderinfo = {"tiffinfo": {254: 1}}
    path = saved(tmp_path / "a.tif", pillow(samples(3)), save_all=True, append_images=[preview])
    read = read_picture(path)
    np.testing.assert_array_equal(read.pixels, samples(3))
    assert "previews" in read.notes[0]


def test_multiplied_opacity_is_told(tmp_path: Path) -> None:
    array = samples(4)
    read = read_picture(stored(tmp_path / "a.tif", tiff(array, tag_338=1)))
    np.testing.assert_array_equal(read.alpha, array[..., 3])
    assert "multiplied" in read.notes[0]


def test_lost_metadata_is_told(tmp_path: Path) -> None:
    from PIL.PngImagePlugin import PngInfo

    text = PngInfo()
    text.add_text("Comment", "hello")
    text.add_itxt("XML:com.adobe.xmp", "<x/>")
    read = read_picture(saved(tmp_path / "a.png", pillow(samples(3)), pnginfo=text))
    assert read.notes == ("The XMP metadata is not kept.", "The PNG text entries are not kept.")


def test_pixel_limit_is_our_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    paths = [saved(tmp_path / name, pillow(samples(3))) for name in ("a.png", "a.jpg", "a.tif", "a.bmp")]
    paths.append(saved(tmp_path / "lzw.tif", pillow(samples(3)), compression="tiff_lzw"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for path in paths:
            assert read_picture(path).pixels.shape == (HEIGHT, WIDTH, 3)
    monkeypatch.setattr("lbam_fast.pictures.reading.MAX_PIXELS", 100)
    with pytest.raises(PictureError, match="53 x 37 pixels, more than 100"):
        read_picture(paths[0])


def test_non_ascii_path_and_wrong_suffix(tmp_path: Path) -> None:
    path = stored(tmp_path / "Bücher 写真.jpg", png16(samples(3, np.uint16)))
    read = read_picture(path)
    assert read.format == "PNG"
    write_picture(tmp_path / "結果.png", read)
    np.testing.assert_array_equal(read_picture(str(tmp_path / "結果.png")).pixels, samples(3, np.uint16))


def test_threads(tmp_path: Path) -> None:
    paths = [tmp_path / f"{i}{suffix}" for i in range(4) for suffix in (".png", ".tif")]

    def there_and_back(path: Path) -> bool:
        write_picture(path, picture(3, np.uint16, alpha=True))
        return np.array_equal(together(read_picture(path)), samples(4, np.uint16))

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(there_and_back, paths))


# ---- Masks


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_mask_is_the_grey_value(tmp_path: Path, dtype: type) -> None:
    array = samples(1, dtype)
    array[0, 0], array[0, 1] = 0, np.iinfo(dtype).max
    write_picture(tmp_path / "grey.png", picture(1, dtype, pixels=array))
    write_picture(tmp_path / "rgb.png", picture(3, dtype, pixels=np.repeat(array, 3, axis=2)))
    for name in ("grey.png", "rgb.png"):
        mask = read_mask(tmp_path / name)
        assert mask.dtype == np.float32 and mask.shape == (HEIGHT, WIDTH)
        np.testing.assert_allclose(mask, array[..., 0] / np.iinfo(dtype).max, atol=1e-7)
        assert mask[0, 0] == 0 and mask[0, 1] == 1


def test_mask_of_colours_is_their_luminance(tmp_path: Path) -> None:
    mask = read_mask(saved(tmp_path / "a.png", pillow(samples(3))))
    np.testing.assert_allclose(mask, samples(3) @ [0.299, 0.587, 0.114] / 255, atol=1e-6)


def test_transparent_parts_of_a_mask_are_black(tmp_path: Path) -> None:
    array = np.full((HEIGHT, WIDTH, 4), 255, np.uint8)
    array[:10, :, 3] = 0
    array[10:20, :, 3] = 51
    mask = read_mask(saved(tmp_path / "a.png", pillow(array)))
    assert (mask[:10] == 0).all() and (mask[20:] == 1).all()
    np.testing.assert_allclose(mask[10:20], 0.2)


def test_mask_is_turned_upright(tmp_path: Path) -> None:
    mask = read_mask(saved(tmp_path / "a.png", pillow(samples(1)), exif=exif_block(6)))
    np.testing.assert_allclose(mask, np.rot90(samples(1)[..., 0], -1) / 255, atol=1e-7)


# ---- Writing


@pytest.mark.parametrize(
    ("suffix", "channels", "alpha", "dtype"),
    [
        *(
            (suffix, channels, alpha, np.uint8)
            for suffix in (".png", ".tif", ".TIFF")
            for channels in (1, 3)
            for alpha in (False, True)
        ),
        *((".png", channels, alpha, np.uint16) for channels in (1, 3) for alpha in (False, True)),
        (".tif", 1, False, np.uint16),
        (".tif", 3, False, np.uint16),
        (".tif", 3, True, np.uint16),
        (".bmp", 1, False, np.uint8),
        (".bmp", 3, False, np.uint8),
        (".webp", 3, False, np.uint8),
        (".webp", 3, True, np.uint8),
    ],
)
def test_round_trip_keeps_every_bit(tmp_path: Path, suffix: str, channels: int, alpha: bool, dtype: type) -> None:
    written = picture(channels, dtype, alpha)
    if written.alpha is not None:
        written.alpha[:5] = 0  # the colours under transparent pixels must stay
    write_picture(tmp_path / f"a{suffix}", written)
    read = read_picture(tmp_path / f"a{suffix}")
    np.testing.assert_array_equal(together(read), together(written))
    assert read.pixels.dtype == dtype and read.lossless and read.notes == ()
    assert os.listdir(tmp_path) == [f"a{suffix}"]


@pytest.mark.parametrize(
    ("suffix", "dtype", "alpha"),
    [
        (".png", np.uint16, False),
        (".png", np.uint16, True),
        (".tif", np.uint16, False),
        (".tif", np.uint16, True),
        (".tif", np.uint8, False),
    ],
)
def test_other_readers_see_the_same(tmp_path: Path, suffix: str, dtype: type, alpha: bool) -> None:
    written = picture(3, dtype, alpha, exif=exif_block(), icc_profile=SRGB, dpi=(300, 300))
    write_picture(tmp_path / f"a{suffix}", written)
    decoded = cv2.imdecode(np.fromfile(tmp_path / f"a{suffix}", np.uint8), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(decoded[..., [2, 1, 0, 3][: 3 + alpha]], together(written))
    with Image.open(tmp_path / f"a{suffix}") as image:
        shift = 8 if dtype == np.uint16 else 0
        np.testing.assert_array_equal(np.asarray(image), together(written) >> shift)


def test_a_png_takes_few_bytes_in_little_time(tmp_path: Path) -> None:
    """Photographs are deflated the fast way, as their filter tells; text, of which that leaves twice as much, is not."""
    page = np.full((600, 800), 255, np.uint8)
    for row in range(20, 600, 20):
        line = f"{row} quick brown foxes jump over {row**5} lazy dogs"
        cv2.putText(page, line, (5 + row % 7, row), cv2.FONT_HERSHEY_SIMPLEX, 0.6, 0)
    photograph = np.asarray(Image.open(EXAMPLE / "china.jpg"))
    page[:200] = 255
    tiles = np.tile(samples(3)[:16, :16], (40, 20, 1))
    tiles[:12] = 0
    mean, up = 3, 2
    for pixels, expected in (
        (photograph, mean),
        (photograph[:, :, :1], mean),
        (page[..., None], up),
        (page[100:300, :, None], up),
        (tiles, up),
    ):
        assert zlib.decompressobj().decompress(png(pixels, [])[41:])[0] == expected
        write_picture(tmp_path / "ours.png", picture(pixels=pixels))
        Image.fromarray(pixels.squeeze()).save(tmp_path / "pillow.png")
        assert (tmp_path / "ours.png").stat().st_size < 1.2 * (tmp_path / "pillow.png").stat().st_size
        assert np.array_equal(read_picture(tmp_path / "ours.png").pixels.squeeze(), pixels.squeeze())


@pytest.mark.parametrize("dense", [True, False])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("shape", [(1, 1), (3, 2), (31, 7), (32, 5), (33, 9), (97, 64)])
def test_other_decoders_read_our_pngs(dtype: type, channels: int, shape: tuple[int, int], dense: bool) -> None:
    """Noise, which is dense, and columns, which are not; parts of 32 rows and what is left of them."""
    array = np.random.default_rng(0).integers(0, np.iinfo(dtype).max + 1, (*shape, channels), dtype)
    array = array if dense else np.broadcast_to(array[:1], array.shape)
    decoded = cv2.imdecode(np.frombuffer(png(array, []), np.uint8), cv2.IMREAD_UNCHANGED)
    if channels == 2:  # OpenCV has no grey with opacity
        decoded = decoded[..., [2, 3]]
    elif channels > 2:
        decoded = decoded[..., [2, 1, 0, 3][:channels]]
    np.testing.assert_array_equal(decoded.reshape(array.shape), array)


def test_even_pictures_of_16_bits_take_few_bytes() -> None:
    """In which two bytes follow each other that have little in common."""
    down, right = np.mgrid[:700, :900]
    slope = np.stack([right * 60, down * 80, (down + right) * 40], axis=-1).astype(np.uint16)
    assert len(png(slope, [])) < 0.01 * slope.nbytes


def test_tiff_of_many_strips(tmp_path: Path) -> None:
    array = np.random.default_rng(0).integers(0, 65536, (900, 700, 3), np.uint16)
    write_picture(tmp_path / "a.tif", picture(pixels=array))
    np.testing.assert_array_equal(read_picture(tmp_path / "a.tif").pixels, array)


def test_bmp_with_alpha_goes_back_to_bmp(tmp_path: Path) -> None:
    read = read_picture(stored(tmp_path / "a.bmp", encoded(".bmp", samples(4))))
    write_picture(tmp_path / "b.bmp", read)
    np.testing.assert_array_equal(together(read_picture(tmp_path / "b.bmp")), samples(4))


@pytest.mark.parametrize("suffix", [".jpg", ".webp"])
def test_lossy_formats_stay_close(tmp_path: Path, suffix: str) -> None:
    smooth = np.add.outer(np.arange(64), np.arange(64)).astype(np.uint8)[..., None] + np.array([0, 60, 120], np.uint8)
    write_picture(tmp_path / f"a{suffix}", picture(pixels=smooth, lossless=False))
    read = read_picture(tmp_path / f"a{suffix}")
    assert np.abs(read.pixels.astype(int) - smooth).mean() < 2 and not read.lossless


def test_jpeg_keeps_the_full_colour_resolution(tmp_path: Path) -> None:
    write_picture(tmp_path / "a.jpg", picture())
    with Image.open(tmp_path / "a.jpg") as image:
        assert image.layer[1][1:3] == (1, 1) == image.layer[0][1:3]
    write_picture(tmp_path / "low.jpg", picture(), quality=30)
    assert (tmp_path / "low.jpg").stat().st_size < (tmp_path / "a.jpg").stat().st_size / 2


def test_grey_jpeg_and_webp(tmp_path: Path) -> None:
    grey = picture(1, icc_profile=SRGB[:16] + b"GRAY" + SRGB[20:])
    write_picture(tmp_path / "a.jpg", grey)
    assert read_picture(tmp_path / "a.jpg").pixels.shape == (HEIGHT, WIDTH, 1)
    write_picture(tmp_path / "a.webp", grey)
    read = read_picture(tmp_path / "a.webp")
    np.testing.assert_array_equal(read.pixels, np.repeat(grey.pixels, 3, axis=2))
    assert read.icc_profile is None and read.notes == ()


# ---- Metadata


@pytest.mark.parametrize(
    ("suffix", "dtype"),
    [
        (".png", np.uint8),
        (".jpg", np.uint8),
        (".webp", np.uint8),
        (".tif", np.uint8),
        (".png", np.uint16),
        (".tif", np.uint16),
    ],
)
def test_metadata_survives(tmp_path: Path, suffix: str, dtype: type) -> None:
    write_picture(tmp_path / f"a{suffix}", picture(3, dtype, exif=exif_block(), icc_profile=SRGB, dpi=(300.0, 150.0)))
    write_picture(tmp_path / f"b{suffix}", read_picture(tmp_path / f"a{suffix}"))
    read = read_picture(tmp_path / f"b{suffix}")
    exif = read_exif(read.exif or b"")
    assert exif[ExifTags.Base.Artist] == "Jane" and exif.get(ORIENTATION, 1) == 1
    assert exif.get_ifd(ExifTags.IFD.Exif) == {ExifTags.Base.LensModel: "Lens 1", ExifTags.Base.ISOSpeedRatings: 200}
    assert exif.get_ifd(ExifTags.IFD.GPSInfo) == {ExifTags.GPS.GPSLatitudeRef: "N"}
    assert read.icc_profile == SRGB
    if suffix != ".webp":
        assert read.dpi == pytest.approx((300, 150), abs=0.1)


def test_exif_of_a_tiff_goes_to_jpeg_without_its_layout(tmp_path: Path) -> None:
    write_picture(tmp_path / "a.tif", picture(exif=exif_block()))
    write_picture(tmp_path / "a.jpg", read_picture(tmp_path / "a.tif"))
    exif = read_exif(read_picture(tmp_path / "a.jpg").exif or b"")
    assert exif[ExifTags.Base.Artist] == "Jane" and ExifTags.Base.StripOffsets not in exif


def test_orientation_is_reset_when_written_back(tmp_path: Path) -> None:
    read = read_picture(saved(tmp_path / "a.jpg", pillow(samples(3)), exif=exif_block(6)))
    write_picture(tmp_path / "b.jpg", read)
    again = read_picture(tmp_path / "b.jpg")
    assert again.pixels.shape == (WIDTH, HEIGHT, 3) and read_exif(again.exif or b"")[ORIENTATION] == 1


def test_damaged_exif_is_dropped(tmp_path: Path) -> None:
    read = read_picture(saved(tmp_path / "a.png", pillow(samples(3)), exif=b"Exif\0\0damaged"))
    np.testing.assert_array_equal(read.pixels, samples(3))
    assert read.exif is None and read.notes == ("The EXIF block is damaged and is not kept.",)


def test_profile_of_another_colour_space_is_dropped(tmp_path: Path) -> None:
    read = read_picture(saved(tmp_path / "a.png", pillow(samples(1)), icc_profile=SRGB))
    assert read.icc_profile is None and "profile does not belong" in read.notes[0]


# ---- Errors


def cut(path: Path, share: float = 0.6) -> Path:
    return stored(path, path.read_bytes()[: int(path.stat().st_size * share)])


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif", ".bmp"])
def test_truncated_file(tmp_path: Path, suffix: str) -> None:
    path = cut(saved(tmp_path / f"a{suffix}", pillow(samples(3))))
    with pytest.raises(PictureError, match="damaged, truncated"):
        read_picture(path)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("share", [0.3, 0.9])
def test_truncated_16_bits(tmp_path: Path, suffix: str, channels: int, share: float) -> None:
    path = tmp_path / f"a{suffix}"
    path.write_bytes((png16 if suffix == ".png" else tiff)(samples(channels, np.uint16)))
    with pytest.raises(PictureError, match="truncated"):
        read_picture(cut(path, share))
    write_picture(path, picture(channels, np.uint16))
    with pytest.raises(PictureError):
        read_picture(cut(path, share))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "file is empty"),
        (b"not a picture at all", "expected PNG, JPEG, WebP, TIFF or BMP"),
        (b"\x89PNG\r\n\x1a\nrubbish", "cannot be read as a picture"),
        (b"RIFF....WAVE", "cannot be read as a picture"),
    ],
    ids=["empty", "text", "png", "riff"],
)
def test_no_picture(tmp_path: Path, content: bytes, message: str) -> None:
    for read in (read_picture, read_mask):
        with pytest.raises(PictureError, match=message):
            read(stored(tmp_path / "a.png", content))


def test_missing_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(PictureError, match="no such file"):
        read_picture(tmp_path / "missing.png")
    with pytest.raises(PictureError, match="is a folder"):
        read_picture(tmp_path)


@pytest.mark.parametrize(
    ("array", "tags", "message"),
    [
        (samples(1).astype(np.float32), {"tag_339": 3}, "mode F.*16-bit PNG or TIFF"),
        (samples(3).astype(np.float32), {"tag_339": 3}, "8-bit or 16-bit PNG"),
        (samples(1).astype(np.uint32), {}, "mode I"),
        (samples(4, np.uint16), {"tag_262": 5}, "16-bit, mode CMYK"),
        (samples(4, np.uint16), {"tag_338": 1}, "multiplied by the opacity"),
    ],
    ids=["float-grey", "float-rgb", "32-bit", "cmyk-16", "premultiplied-16"],
)
def test_unsupported_pixels(tmp_path: Path, array: np.ndarray, tags: dict[str, int], message: str) -> None:
    with pytest.raises(PictureError, match=message):
        read_picture(stored(tmp_path / "a.tif", tiff(array, **tags)))


@pytest.mark.parametrize("suffix", [".png", ".webp", ".tif"])
def test_several_pictures_in_a_file(tmp_path: Path, suffix: str) -> None:
    path = saved(tmp_path / f"a{suffix}", pillow(samples(3)), save_all=True, append_images=[pillow(255 - samples(3))])
    with pytest.raises(PictureError, match="holds 2 pictures"):
        read_picture(path)


@pytest.mark.parametrize(
    ("name", "written", "message"),
    [
        ("a.gif", picture(), "suffix '.gif'; choose one of .bmp"),
        ("a", picture(), "suffix ''"),
        ("a.jpg", picture(alpha=True), "opacity.*choose .png"),
        ("a.bmp", picture(alpha=True), "opacity.*choose .png"),
        ("a.jpg", picture(dtype=np.uint16), "16 bits.*choose .png"),
        ("a.webp", picture(dtype=np.uint16), "16 bits.*choose .png"),
        ("a.bmp", picture(dtype=np.uint16), "16 bits.*choose .png"),
        ("a.tif", picture(1, np.uint16, alpha=True), "not supported in TIFF; choose .png"),
        ("missing/a.png", picture(), "no folder.*create it"),
        ("a.webp", picture(pixels=np.zeros((2, 17000, 3), np.uint8)), "cannot be written"),
        ("a.png", picture(pixels=samples(3).astype(np.float32)), "expected .H, W, 3."),
        ("a.png", picture(alpha=True, pixels=samples(3, np.uint16)), "expected .37, 53. uint16"),
    ],
)
def test_refusals_leave_nothing_behind(tmp_path: Path, name: str, written: Picture, message: str) -> None:
    with pytest.raises(PictureError, match=message):
        write_picture(tmp_path / name, written)
    assert os.listdir(tmp_path) == []


def test_quality_out_of_range(tmp_path: Path) -> None:
    with pytest.raises(PictureError, match="quality is 101; choose 1 to 100"):
        write_picture(tmp_path / "a.jpg", picture(), quality=101)


def test_destination_that_is_a_folder(tmp_path: Path) -> None:
    (tmp_path / "a.png").mkdir()
    with pytest.raises(PictureError, match="cannot be written"):
        write_picture(tmp_path / "a.png", picture())
    assert os.listdir(tmp_path) == ["a.png"]


class FullDisk(io.FileIO):
    def write(self, content: object) -> int:
        super().write(b"partial")
        raise OSError(28, "No space left on device")


@pytest.mark.parametrize("fault", ["encode", "write", "replace"])
@pytest.mark.parametrize("existing", [True, False])
def test_failure_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str, existing: bool) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    if existing:
        (tmp_path / "a.png").write_bytes(b"old")
    if fault == "encode":
        monkeypatch.setattr("lbam_fast.pictures.writing.png", fail)
    elif fault == "write":
        monkeypatch.setattr("lbam_fast.files.open", lambda path, mode: FullDisk(path, "x"), raising=False)
    else:
        monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(PictureError, match=r"cannot be written.*No space left"):
        write_picture(tmp_path / "a.png", picture())
    monkeypatch.undo()
    assert os.listdir(tmp_path) == (["a.png"] if existing else [])
    assert not existing or (tmp_path / "a.png").read_bytes() == b"old"


def test_replacing_a_file_keeps_its_permissions(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    write_picture(path, picture())
    fresh = stored(tmp_path / "fresh", b"")
    assert path.stat().st_mode == fresh.stat().st_mode
    path.chmod(0o600)
    mode = path.stat().st_mode
    write_picture(path, picture(1))
    assert path.stat().st_mode == mode and read_picture(path).pixels.shape[2] == 1


def test_suffixes() -> None:
    written = {".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".tif", ".tiff", ".bmp"}
    assert output_suffixes() == written
    assert readable_suffixes() == written | {".apng", ".avif", ".gif", ".heic", ".heif", ".hif", ".mpo"}
