"""Files as users bring them: what they carry is kept or named, and what does not matter to the pixels does no harm."""

import dataclasses
import io
import struct
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2
from test_pictures import HEIGHT, SRGB, WIDTH, picture, pillow, png16, png_chunk, samples, saved, stored

from lbam_fast.pictures import PictureError, losses, read_mask, read_picture, write_picture

IPTC = b"\x1c\x02\x78\x00\x07caption"


def png_with(*extra: bytes) -> bytes:
    buffer = io.BytesIO()
    pillow(samples(3)).save(buffer, "PNG")
    return buffer.getvalue()[:33] + b"".join(extra) + buffer.getvalue()[33:]


def jpeg_with(*segments: tuple[int, bytes]) -> bytes:
    buffer = io.BytesIO()
    pillow(samples(3)).save(buffer, "JPEG")
    extra = b"".join(b"\xff" + bytes([marker]) + struct.pack(">H", len(content) + 2) + content for marker, content in segments)
    return buffer.getvalue()[:2] + extra + buffer.getvalue()[2:]


def photoshop(*resources: tuple[int, bytes]) -> bytes:
    blocks = [b"8BIM" + struct.pack(">HHI", key, 0, len(value)) + value + bytes(len(value) % 2) for key, value in resources]
    return b"Photoshop 3.0\0" + b"".join(blocks)


def tiff_with(types: dict[int, int] | None = None, **tags: object) -> bytes:
    """An 8-bit RGB file of one strip with tags of any type."""
    array, directory = samples(3), ImageFileDirectory_v2()
    for tag, value in {256: WIDTH, 257: HEIGHT, 258: (8,) * 3, 259: 1, 262: 2, 273: 0, 277: 3, 278: HEIGHT}.items():
        directory[tag] = value
    directory[279] = array.nbytes
    for name, value in tags.items():
        if types and int(name[4:]) in types:
            directory.tagtype[int(name[4:])] = types[int(name[4:])]
        directory[int(name[4:])] = value
    buffer = io.BytesIO()
    directory.save(buffer)
    return buffer.getvalue() + array.tobytes()


def again(path: Path, suffix: str) -> tuple[bytes, list[str]]:
    """The file written anew in that format, and what is said to be lost."""
    read = read_picture(path)
    target = path.with_name(f"again{suffix}")
    write_picture(target, read)
    formats = {".png": "PNG", ".jpg": "JPEG", ".tif": "TIFF", ".webp": "WEBP", ".bmp": "BMP"}
    return target.read_bytes(), [*read.notes, *losses(read, formats[suffix])]


# What files carry


PNG_COLOUR = {  # PNG specification, third edition, 11.3.2
    "cICP": (bytes([12, 13, 0, 1]), "colour space (cICP)"),
    "cHRM": (struct.pack(">8I", 31270, 32900, 64000, 33000, 21000, 71000, 15000, 6000), "colour space (cHRM)"),
    "gAMA": (struct.pack(">I", 100000), "PNG gamma value"),
    "mDCV": (struct.pack(">8H2I", *range(8), 10_000_000, 1), "PNG chunk mDCV"),
    "cLLI": (struct.pack(">2I", 10_000_000, 1_000_000), "PNG chunk cLLI"),
}


@pytest.mark.parametrize("sixteen", [False, True])
@pytest.mark.parametrize("name", PNG_COLOUR)
def test_colour_of_png_is_kept_in_png_and_named_elsewhere(tmp_path: Path, name: str, sixteen: bool) -> None:
    content, words = PNG_COLOUR[name]
    chunk = png_chunk(name.encode(), content)
    path = stored(tmp_path / "a.png", png16(samples(3, np.uint16), chunk) if sixteen else png_with(chunk))
    written, notes = again(path, ".png")
    assert chunk in written and written.index(chunk) < written.index(b"IDAT") and notes == []
    assert f"The {words} is not kept in TIFF." in again(path, ".tif")[1]


def test_colour_that_says_nothing_new_is_not_spoken_of(tmp_path: Path) -> None:
    chrm = struct.pack(">8I", 31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000)
    plain = (png_chunk(b"sRGB", b"\0"), png_chunk(b"gAMA", struct.pack(">I", 45455)), png_chunk(b"cHRM", chrm))
    assert again(stored(tmp_path / "a.png", png_with(*plain)), ".tif")[1] == []


@pytest.mark.parametrize("chunk", [b"sBIT", b"tIME", b"vpAg", b"bKGD"])
def test_other_chunks_are_named(tmp_path: Path, chunk: bytes) -> None:
    path = stored(tmp_path / "a.png", png_with(png_chunk(chunk, b"\5" * 7)))
    assert again(path, ".png")[1] == [f"The PNG chunks {chunk.decode()} are not kept."]


def test_pixels_that_are_not_square_stay_so(tmp_path: Path) -> None:
    chunk = png_chunk(b"pHYs", struct.pack(">IIB", 2, 1, 0))
    path = stored(tmp_path / "a.png", png_with(chunk))
    assert chunk in again(path, ".png")[0]
    assert again(path, ".jpg")[1] == ["The pixel aspect ratio is not kept in JPEG."]


@pytest.mark.parametrize(
    ("segment", "kept", "words"),
    [
        ((0xED, photoshop((0x0404, IPTC))), b"caption", "IPTC metadata"),
        ((0xFE, b"(c) me"), b"(c) me", "comment"),
        ((0xFE, b"\xff\xfe bytes \0 of any kind"), b"\xff\xfe bytes \0 of any kind", "comment"),
    ],
    ids=["iptc", "comment", "comment of bytes"],
)
def test_segments_of_jpeg_are_kept_in_jpeg_and_named_elsewhere(tmp_path: Path, segment, kept: bytes, words: str) -> None:  # type: ignore[no-untyped-def]
    path = stored(tmp_path / "a.jpg", jpeg_with(segment))
    written, notes = again(path, ".jpg")
    assert kept in written and notes == []
    assert again(path, ".png")[1] == [f"The {words} is not kept in PNG."]


def test_a_thumbnail_of_the_picture_as_it_was_goes_with_a_note(tmp_path: Path) -> None:
    path = stored(tmp_path / "a.jpg", jpeg_with((0xED, photoshop((0x0404, IPTC), (0x040C, b"thumbnail")))))
    written, notes = again(path, ".jpg")
    assert b"caption" in written and b"thumbnail" not in written and notes == ["The further Photoshop data is not kept."]


@pytest.mark.parametrize("marker", [0xEB, 0xEC])
def test_other_segments_are_named(tmp_path: Path, marker: int) -> None:
    path = stored(tmp_path / "a.jpg", jpeg_with((marker, b"JP something")))
    assert again(path, ".jpg")[1] == [f"The JPEG segments APP{marker - 0xE0} are not kept."]


TIFF_TAGS = {  # TIFF 6.0, GeoTIFF 1.1 (OGC 19-008r4), and the IPTC's own tag
    "pixel scale": ({33550: 12}, {"tag_33550": (0.5, 0.5, 0.0)}, "GeoTIFF data"),
    "tie points": ({33922: 12}, {"tag_33922": (0.0, 0.0, 0.0, 1e3, 2e3, 0.0)}, "GeoTIFF data"),
    "keys": ({34735: 3}, {"tag_34735": (1, 1, 0, 0)}, "GeoTIFF data"),
    "no data": ({42113: 2}, {"tag_42113": "-9999"}, "GeoTIFF data"),
    "iptc": ({33723: 7}, {"tag_33723": IPTC}, "IPTC metadata"),
    "pixel size": ({296: 3}, {"tag_282": 5.0, "tag_283": 7.0, "tag_296": 1}, "pixel size"),
}


@pytest.mark.parametrize("case", TIFF_TAGS)
def test_tags_of_tiff_are_kept_in_tiff_and_named_elsewhere(tmp_path: Path, case: str) -> None:
    types, tags, words = TIFF_TAGS[case]
    path = stored(tmp_path / "a.tif", tiff_with(types, **tags))
    assert again(path, ".tif")[1] == []
    with Image.open(path) as before, Image.open(tmp_path / "again.tif") as after:
        for tag in (int(name[4:]) for name in tags):
            assert after.tag_v2[tag] == before.tag_v2[tag]
    assert again(path, ".png")[1] == [f"The {words} is not kept in PNG."]


def test_other_tags_are_named(tmp_path: Path) -> None:
    path = stored(tmp_path / "a.tif", tiff_with({65000: 2, 269: 2}, tag_269="name", tag_65000="mine"))
    assert again(path, ".tif")[1] == ["The TIFF tags 269, 65000 are not kept."]


def test_what_a_format_has_no_place_for_is_named() -> None:
    grey = picture(1, icc_profile=SRGB[:16] + b"GRAY" + SRGB[20:])
    assert losses(grey, "WEBP") == ["The colour profile is not kept in WEBP."]
    full = picture(exif=b"Exif\0\0II", icc_profile=SRGB, dpi=(300.0, 300.0))
    assert losses(full, "BMP") == ["The EXIF block is not kept in BMP.", "The colour profile is not kept in BMP."]
    assert losses(full, "WEBP") == ["The resolution is not kept in WEBP."]
    assert losses(full, "PNG") == losses(full, "TIFF") == losses(full, "JPEG") == []


def test_an_exif_block_too_large_for_jpeg_is_left_out_and_named(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x010E] = "d" * 70_000
    large = picture(exif=exif.tobytes())
    write_picture(tmp_path / "a.jpg", large)
    assert read_picture(tmp_path / "a.jpg").exif is None
    assert "is not kept in JPEG. It holds at most 65,533" in losses(large, "JPEG")[0]


@pytest.mark.parametrize(("name", "width"), [("a.jpg", 65_501), ("a.webp", 16_384)])
def test_sides_that_a_format_cannot_hold_are_refused(tmp_path: Path, name: str, width: int) -> None:
    with pytest.raises(PictureError, match=rf"at most [\d,]+ pixels a side, the picture is {width}x1; choose .png"):
        write_picture(tmp_path / name, picture(pixels=np.zeros((1, width, 3), np.uint8)))


@pytest.mark.parametrize(
    ("suffix", "dtype", "channels"), [(".jpg", np.uint8, 3), (".jpg", np.uint8, 1), (".bmp", np.uint8, 3), (".tif", np.uint16, 1)]
)
def test_full_opacity_is_left_out_where_there_is_no_place(tmp_path: Path, suffix: str, dtype: type, channels: int) -> None:
    opaque = picture(channels, dtype, alpha=True)
    opaque.alpha[:] = np.iinfo(dtype).max
    write_picture(tmp_path / f"a{suffix}", opaque)
    assert read_picture(tmp_path / f"a{suffix}").alpha is None
    opaque.alpha[0, 0] -= 1
    with pytest.raises(PictureError, match="opacity"):
        write_picture(tmp_path / f"a{suffix}", opaque)


# Chunks of PNG that have no part in the pixels


HUGE_TEXT = zlib.compress(b"x" * 3_000_000)
HARMLESS = {
    "large compressed text": png_chunk(b"zTXt", b"workflow\0\0" + HUGE_TEXT),
    "large international text": png_chunk(b"iTXt", b"workflow\0\1\0\0\0" + HUGE_TEXT),
    "text of another checksum": png_chunk(b"tEXt", b"k\0v")[:-1] + b"?",
    "text without an end": png_chunk(b"zTXt", b"keyword"),
    "text that is not compressed": png_chunk(b"zTXt", b"k\0\0junk"),
    **{
        f"{name} of {size} bytes": png_chunk(name.encode(), bytes(size))
        for name in ("gAMA", "cHRM", "sRGB", "pHYs")
        for size in (0, 3)
    },
    "empty profile": png_chunk(b"iCCP", b""),
    "damaged profile": png_chunk(b"iCCP", b"name\0\0junk"),
    "short eXIf": png_chunk(b"eXIf", b"I"),
    "animation of one frame": png_chunk(b"acTL", struct.pack(">II", 1, 0)) + png_chunk(b"fcTL", bytes(26)),
    "short acTL": png_chunk(b"acTL", b"\1"),
    "palette as a suggestion": png_chunk(b"PLTE", b"\1\2\3" * 8),
}


@pytest.mark.parametrize("sixteen", [False, True])
@pytest.mark.parametrize("case", HARMLESS)
def test_chunks_beside_the_pixels_do_no_harm(tmp_path: Path, case: str, sixteen: bool) -> None:
    array = samples(3, np.uint16 if sixteen else np.uint8)
    content = png16(array, HARMLESS[case]) if sixteen else png_with(HARMLESS[case])
    np.testing.assert_array_equal(read_picture(stored(tmp_path / "a.png", content)).pixels, array)


@pytest.mark.parametrize("end", ["missing", "followed"])
def test_the_end_of_png_decides_nothing(tmp_path: Path, end: str) -> None:
    content = png_with()
    content = content[:-12] if end == "missing" else content + b"trailing" * 9
    np.testing.assert_array_equal(read_picture(stored(tmp_path / "a.png", content)).pixels, samples(3))


def test_a_damaged_pixel_chunk_is_still_refused(tmp_path: Path) -> None:
    content = bytearray(png_with())
    content[content.index(b"IDAT") + 30] ^= 1
    with pytest.raises(PictureError, match="damaged"):
        read_picture(stored(tmp_path / "a.png", bytes(content)))


def test_a_large_profile_is_kept(tmp_path: Path) -> None:
    profile = SRGB + bytes(5_000_000)
    path = stored(tmp_path / "a.png", png_with(png_chunk(b"iCCP", b"x\0\0" + zlib.compress(profile))))
    assert read_picture(path).icc_profile == profile


# Layouts of TIFF


tifffile = pytest.importorskip("tifffile")  # comes with scikit-image

LAYOUTS = {
    "planes": {"planarconfig": "separate"},
    "tiles": {"tile": (16, 16)},
    "one row a strip": {"rowsperstrip": 1},
    "big": {"bigtiff": True},
    "big-endian": {"byteorder": ">"},
    "deflate": {"compression": "zlib", "predictor": True},
    "big-endian deflate": {"compression": "zlib", "byteorder": ">"},
    "no unit of resolution": {"resolution": (5.0, 7.0), "resolutionunit": 1},
}


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_of_tiff(tmp_path: Path, layout: str, dtype: type) -> None:
    array, options = samples(3, dtype), LAYOUTS[layout]
    stored_array = np.moveaxis(array, -1, 0) if layout == "planes" else array
    tifffile.imwrite(tmp_path / "a.tif", stored_array, photometric="rgb", **options)
    if layout == "planes" and dtype == np.uint16:
        with pytest.raises(PictureError, match="in a plane for each channel"):
            read_picture(tmp_path / "a.tif")
    else:
        np.testing.assert_array_equal(read_picture(tmp_path / "a.tif").pixels, array)


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("second", ["preview", "mask"])
def test_previews_and_masks_of_a_tiff_are_no_pages(tmp_path: Path, first: bool, second: str) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        pages = [
            lambda: writer.write(samples(3), photometric="rgb"),
            lambda: (
                writer.write(samples(3)[::2, ::2], photometric="rgb", subfiletype=1)
                if second == "preview"
                else writer.write(samples(1)[..., 0] > 99, subfiletype=4, photometric=4)
            ),
        ]
        if second == "mask" and not first:
            pytest.skip("a mask stands behind its picture")
        for page in pages if first else reversed(pages):
            page()
    read = read_picture(tmp_path / "a.tif")
    np.testing.assert_array_equal(read.pixels, samples(3))
    assert "previews" in read.notes[0]


@pytest.mark.parametrize(
    ("dtype", "channels", "words"),
    [
        (np.float32, 3, "32-bit floating RGB, 3 channels"),
        (np.float16, 1, "16-bit floating grey, 1 channel"),
        (np.float64, 1, "64-bit floating grey"),
        (np.uint32, 3, "32-bit unsigned RGB"),
    ],
)
def test_kinds_that_are_not_read_are_named(tmp_path: Path, dtype: type, channels: int, words: str) -> None:
    tifffile.imwrite(tmp_path / "a.tif", samples(channels).astype(dtype).squeeze(), photometric="rgb" if channels == 3 else None)
    with pytest.raises(PictureError, match=rf"a\.tif: its pixels are of an unsupported kind \({words}.*8-bit or 16-bit PNG"):
        read_picture(tmp_path / "a.tif")


# Formats that are read alone, and limits


@pytest.mark.parametrize("dtype", [np.int8, np.int16])
def test_signed_numbers_are_not_read_as_unsigned_ones(tmp_path: Path, dtype: type) -> None:
    path = tmp_path / "a.tif"
    pillow(samples(1).astype(dtype).view(f"u{np.dtype(dtype).itemsize}")).save(path, tiffinfo={339: 2})
    with pytest.raises(PictureError, match=r"unsupported kind \((8|16)-bit signed"):
        read_picture(path)


@pytest.mark.parametrize("suffix", [".tif", ".png", ".jpg", ".webp"])
def test_no_resolution_is_made_up(tmp_path: Path, suffix: str) -> None:
    path = stored(tmp_path / "a.tif", tiff_with())
    assert read_picture(path).dpi is None
    content, notes = again(path, suffix)
    assert read_picture(stored(tmp_path / f"b{suffix}", content)).dpi is None and not notes


def test_gif_avif_and_every_name_of_jpeg_are_read(tmp_path: Path) -> None:
    image = pillow(samples(3))
    gif = read_picture(saved(tmp_path / "a.gif", image))
    np.testing.assert_array_equal(gif.pixels, np.asarray(image.convert("P", palette=Image.Palette.ADAPTIVE).convert("RGB")))
    assert gif.format == "GIF" and gif.lossless
    avif = read_picture(saved(tmp_path / "a.avif", image, quality=95))
    assert np.abs(avif.pixels.astype(int) - samples(3)).mean() < 6 and not avif.lossless
    for suffix in (".jfif", ".jpe"):
        write_picture(tmp_path / f"a{suffix}", picture())
        assert read_picture(tmp_path / f"a{suffix}").format == "JPEG"


def test_a_gif_with_a_transparent_colour_and_an_animated_one(tmp_path: Path) -> None:
    image = pillow(samples(3)).quantize(16)
    read = read_picture(saved(tmp_path / "a.gif", image, transparency=3))
    assert read.alpha is not None and {0, 255} == set(np.unique(read.alpha))
    with pytest.raises(PictureError, match="holds 2 pictures"):
        read_picture(saved(tmp_path / "b.gif", image, save_all=True, append_images=[image.rotate(180)]))


def test_heic_by_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    heif = pytest.importorskip("pillow_heif")
    heif.from_pillow(pillow(samples(3))).save(tmp_path / "a.heic", quality=95)
    read = read_picture(tmp_path / "a.heic")
    assert np.abs(read.pixels.astype(int) - samples(3)).mean() < 6 and read.format == "HEIF" and not read.lossless
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(PictureError, match=r"pip install 'lbam-fast\[heif\]'"):
        read_picture(tmp_path / "a.heic")


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_a_small_file_that_claims_many_pixels_is_refused_by_its_header(tmp_path: Path, suffix: str) -> None:
    content = bytearray(saved(tmp_path / f"a{suffix}", pillow(samples(3))).read_bytes())
    if suffix == ".png":
        content[16:24] = struct.pack(">II", 20_000, 20_000)
        content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    else:
        place = content.index(b"\xff\xc0") + 5
        content[place : place + 4] = struct.pack(">HH", 20_000, 20_000)
    with pytest.raises(PictureError, match=r"bytes cannot hold the 20000 x 20000 pixels"):
        read_picture(stored(tmp_path / f"b{suffix}", bytes(content)))


@pytest.mark.parametrize("compression", [5, 7, 8, 32773, 32946, 34925, 50000])
def test_a_small_tiff_file_that_claims_many_pixels_is_refused_by_its_header(tmp_path: Path, compression: int) -> None:
    content = tiff_with(tag_256=20_000, tag_257=20_000, tag_278=20_000, tag_259=compression)[:800]
    with pytest.raises(PictureError, match=r"bytes cannot hold the 20000 x 20000 pixels"):
        read_picture(stored(tmp_path / "a.tif", content))


def test_a_large_canvas_around_a_small_frame_of_gif_is_refused_by_its_header(tmp_path: Path) -> None:
    content = bytearray(saved(tmp_path / "a.gif", pillow(samples(3))).read_bytes())
    content[6:10] = struct.pack("<HH", 20_000, 20_000)  # the frame keeps its own size
    with pytest.raises(PictureError, match=r"bytes cannot hold the 20000 x 20000 pixels"):
        read_picture(stored(tmp_path / "b.gif", bytes(content)))


def test_the_picture_behind_a_preview_is_held_to_the_limit(tmp_path: Path) -> None:
    preview, main = ImageFileDirectory_v2(), pillow(samples(3))
    preview[254] = 1
    path = tmp_path / "a.tif"
    main.resize((5, 4)).save(path, save_all=True, append_images=[main], tiffinfo=preview)
    content = bytearray(path.read_bytes())
    second = struct.unpack_from("<I", content, 4)[0]
    second = struct.unpack_from("<I", content, second + 2 + 12 * struct.unpack_from("<H", content, second)[0])[0]
    for index in range(struct.unpack_from("<H", content, second)[0]):  # Pillow gives both pages the tag
        if struct.unpack_from("<H", content, second + 2 + 12 * index)[0] == 254:
            struct.pack_into("<I", content, second + 2 + 12 * index + 8, 0)
    assert np.array_equal(read_picture(stored(path, bytes(content))).pixels, samples(3))
    with pytest.raises(PictureError, match="53 x 37 pixels, more than 100"):
        read_picture(path, max_pixels=100)


def test_a_webp_file_of_more_pixels_than_its_decoder_takes_is_refused_for_that(tmp_path: Path) -> None:
    header = b"\x2f" + struct.pack("<I", 16_382 | 16_382 << 14) + bytes(21)
    content = b"WEBPVP8L" + struct.pack("<I", len(header)) + header
    with pytest.raises(PictureError, match=r"more pixels than a file of its format.*save it anew as a PNG"):
        read_picture(stored(tmp_path / "a.webp", b"RIFF" + struct.pack("<I", len(content)) + content))


def test_a_blank_picture_is_not_taken_for_a_damaged_one(tmp_path: Path) -> None:
    for suffix in (".png", ".jpg", ".webp", ".tif", ".gif"):
        blank = pillow(np.zeros((2000, 3000, 1), np.uint8))
        options = {"optimize": True, "progressive": True} if suffix == ".jpg" else {}
        assert read_picture(saved(tmp_path / f"a{suffix}", blank, **options)).pixels.max() == 0


BLANK_BY = ("group3", "group4", "packbits", "tiff_lzw", "tiff_adobe_deflate", "lzma", "zstd", "jpeg")


@pytest.mark.parametrize("compression", BLANK_BY)
def test_a_blank_tiff_file_is_not_taken_for_a_damaged_one(tmp_path: Path, compression: str) -> None:
    mode = "L" if compression == "jpeg" else "1"
    blank = Image.new(mode, (6000, 2000))
    assert read_picture(saved(tmp_path / "a.tif", blank, compression=compression)).pixels.max() == 0


def test_the_limit_on_pixels_is_a_setting(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.png", pillow(samples(3)))
    for read in (read_picture, read_mask):
        with pytest.raises(PictureError, match=r"53 x 37 pixels, more than 1,960.*--max-pixels"):
            read(path, max_pixels=1960)
        read(path, max_pixels=1961)


@pytest.mark.parametrize("hole", ["white", "black"])
@pytest.mark.parametrize("form", ["RGBA", "LA", "tRNS"])
def test_what_is_not_painted_in_a_mask_is_known(tmp_path: Path, hole: str, form: str) -> None:
    painted = np.zeros((HEIGHT, WIDTH), bool)
    painted[5:20, 9:30] = True
    grey = np.where(painted, 255 if hole == "white" else 0, 0 if hole == "white" else 255).astype(np.uint8)
    opacity = np.where(painted, 255, 0).astype(np.uint8)
    if form == "tRNS":
        path = saved(tmp_path / "m.png", Image.fromarray(grey), transparency=int(grey[0, 0]))
    else:
        colours = [grey] if form == "LA" else [grey] * 3
        path = saved(
            tmp_path / "m.png", Image.fromarray(np.dstack([255 - grey, opacity] if form == "LA" else [*colours, opacity]))
        )
        if form == "LA":  # hidden under full transparency lies the hole's own colour
            path = saved(tmp_path / "m.png", Image.fromarray(np.dstack([np.full_like(grey, grey[5, 9]), opacity])))
    mask = read_mask(path, hole)  # type: ignore[arg-type]
    np.testing.assert_array_equal(mask > 0.5 if hole == "white" else mask < 0.5, painted)


def test_the_file_itself_stays_with_the_picture(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.png", pillow(samples(3)))
    read = read_picture(path)
    assert read.source == path.read_bytes() and not read.turned
    assert dataclasses.replace(read, pixels=255 - read.pixels).source == read.source
