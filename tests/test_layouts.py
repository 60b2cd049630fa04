"""What users bring to the API: batches of masks, masks of every depth, and PIL images with all that they carry."""

import copy
import functools
import io
import pickle
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from networks import network
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from lbam_fast import Inpainter, InpaintError
from lbam_fast.inference.batches import listed_masks
from lbam_fast.inference.layouts import tolerance
from lbam_fast.inference.mask_values import mask_values

HEIGHT, WIDTH = 40, 52
LARGE = 10**9


@pytest.fixture(scope="module")
def inpainter():
    return Inpainter(network("official", dtype=torch.float32), detail="off")


def photo(channels=3, dtype=np.uint8, seed=0):
    values = np.random.default_rng(seed).integers(0, np.iinfo(dtype).max, (HEIGHT, WIDTH, channels), dtype, endpoint=True)
    return values.squeeze(-1) if channels == 1 else values


def box(top=10, height=8):
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[top : top + height, 12:30] = 255
    return mask


def assert_filled(given, filled, hole):
    """Known pixels to the bit, and the hole changed."""
    given, filled = np.asarray(given), np.asarray(filled)
    assert np.array_equal(filled[~hole], given[~hole])
    assert (filled[hole] != given[hole]).any()


# Batches of masks


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("form", ["tensor", "array", "list", "tensor with channel", "array with channel"])
def test_n_masks_for_n_images(inpainter, count, form):
    images = np.stack([photo(seed=i) for i in range(count)])
    masks = np.stack([box(4 * i) for i in range(count)])
    given = torch.from_numpy(images).permute(0, 3, 1, 2) if "tensor" in form else images
    brought = {
        "tensor": torch.from_numpy(masks),
        "array": masks,
        "list": list(masks),
        "tensor with channel": torch.from_numpy(masks)[:, None],
        "array with channel": masks[..., None],
    }[form]
    filled = inpainter(given, brought)
    back = filled.permute(0, 2, 3, 1).numpy() if "tensor" in form else filled
    for image, result, mask in zip(images, back, masks, strict=True):
        assert_filled(image, result, mask > 0)


def test_one_mask_for_all_in_every_layout(inpainter):
    images = torch.from_numpy(np.stack([photo(seed=i) for i in range(3)])).permute(0, 3, 1, 2)
    mask = torch.from_numpy(box())
    expected = inpainter(images, mask)
    for brought in (mask[None], mask[None, None], mask[None, None].expand(1, 3, -1, -1), [mask], mask.numpy()):
        assert torch.equal(inpainter(images, brought), expected)


def test_a_single_image_takes_a_mask_with_channels_or_a_batch_of_one(inpainter):
    image, mask = photo(), box()
    expected = inpainter(image, mask)
    for brought in (np.repeat(mask[..., None], 3, 2), mask[None], torch.from_numpy(mask)[None].expand(3, -1, -1)):
        assert np.array_equal(inpainter(image, brought), expected)


@pytest.mark.parametrize("masks", [torch.zeros(3, HEIGHT, WIDTH), np.zeros((3, HEIGHT, WIDTH)), [np.zeros((HEIGHT, WIDTH))] * 3])
def test_too_few_masks_are_refused_with_the_shapes_that_are_taken(masks):
    with pytest.raises(InpaintError, match=r"3 masks for 4 images.*\[N, H, W\]"):
        listed_masks(masks, [(HEIGHT, WIDTH)] * 4)


# Masks of every depth


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.uint16, np.int16, np.uint32, np.int32, np.uint64, np.int64])
def test_integers_mean_their_own_range(dtype):
    full = np.iinfo(dtype).max
    mask = np.where(box() > 0, full, 0).astype(dtype)
    mask[0, 0] = full // 200  # half a percent of grey
    values = mask_values(mask, "white", LARGE)
    assert np.array_equal(values > 0.5, box() > 0)
    assert values.dtype == np.float32 and values.max() == 1 and values[0, 0] < 0.01
    swapped = mask.astype(mask.dtype.newbyteorder())
    assert np.array_equal(mask_values(swapped, "white", LARGE), values)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.dtype(">f4")])
def test_floats_mean_zero_to_one(dtype):
    assert np.array_equal(mask_values((box() / 255).astype(dtype), "white", LARGE), box() / np.float32(255))


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.bfloat16, torch.float16, torch.float64])
def test_tensors_mean_what_arrays_do(dtype):
    mask = torch.from_numpy(box() > 0)
    brought = mask.to(dtype) * 255 if dtype == torch.uint8 else mask.to(dtype)
    assert np.array_equal(mask_values(brought, "white", LARGE) == 1, box() > 0)


COLOURED = ["RGBX", "CMYK", "YCbCr", "HSV", "LAB", "LA", "La", "RGBA", "RGBa", "PA"]


@pytest.mark.parametrize("mode", ["1", "L", "P", "I;16", "I;16B", "I;16L", "I", "F", *COLOURED])
def test_pil_masks_of_every_mode(mode):
    white = {"F": np.float32(1), "I": np.int32(65535)}.get(mode)
    if white is not None:
        image = Image.fromarray(np.where(box() > 0, white, white * 0))
    elif mode.startswith("I;16"):
        order = ">" if mode == "I;16B" else "<"
        image = Image.frombytes(mode, (WIDTH, HEIGHT), np.where(box() > 0, 65535, 300).astype(f"{order}u2").tobytes())
    else:
        steps = {"La": ["LA"], "LAB": [], "HSV": ["RGB"], "YCbCr": ["RGB"], "RGBa": ["RGBA"], "PA": ["RGBA"]}.get(mode, [])
        image = functools.reduce(Image.Image.convert, steps, Image.fromarray(box()))
        image = Image.merge("LAB", [image, *2 * [Image.new("L", image.size)]]) if mode == "LAB" else image.convert(mode)
    assert image.mode == mode
    assert np.array_equal(mask_values(image, "white", LARGE) > 0.5, box() > 0)


@pytest.mark.parametrize("dtype", [np.uint16, np.int16, np.int32, np.int64, np.uint32])
def test_eight_bits_in_a_wider_type_are_refused(dtype):
    for brought in (box().astype(dtype), torch.from_numpy(box().astype(dtype))):
        with pytest.raises(InpaintError, match=r"reaches 255: that could be white.*Pass bool, uint8"):
            mask_values(brought, "white", LARGE)
    with pytest.raises(InpaintError, match="reaches 255"):
        mask_values(Image.fromarray(box().astype(np.int32)), "white", LARGE)


@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.int64])
def test_zeros_and_ones_in_a_wider_type_are_read_with_a_warning(dtype):
    with pytest.warns(UserWarning, match="zeros and ones alone: they are read as black and white"):
        values = mask_values((box() > 0).astype(dtype), "white", LARGE)
    assert np.array_equal(values == 1, box() > 0)


@pytest.mark.parametrize("mask", [-box().astype(np.int32), box().astype(np.float32), np.full((HEIGHT, WIDTH), -1, np.int8)])
def test_values_outside_the_range_are_refused(mask):
    with pytest.raises(InpaintError, match="outside"):
        mask_values(mask, "white", LARGE)


@pytest.mark.parametrize("value", [0, 100])
def test_a_mask_without_a_hole_is_warned_of(inpainter, value):
    image, mask = photo(), np.full((HEIGHT, WIDTH), value, np.uint8)
    with pytest.warns(UserWarning, match=r"the mask has no hole \(white = hole\)" + (".* reach 39%" if value else "")):
        assert np.array_equal(inpainter(image, mask), image)


# Transparency of masks


@pytest.mark.parametrize("hole", ["white", "black"])
@pytest.mark.parametrize("form", ["RGBA", "LA", "P", "L with tRNS", "array", "tensor"])
def test_what_is_not_painted_is_known_for_either_colour(hole, form):
    painted, paint, hidden = box() > 0, 255 if hole == "white" else 0, 0 if hole == "white" else 255
    colour = np.where(painted, paint, hidden if form in ("P", "L with tRNS") else paint).astype(np.uint8)
    opacity = np.where(painted, 255, 0).astype(np.uint8)
    rgba = np.dstack([colour, colour, colour, opacity])
    mask = {
        "RGBA": lambda: Image.fromarray(rgba),
        "LA": lambda: Image.fromarray(np.dstack([colour, opacity])),
        "P": lambda: reopened(Image.fromarray(colour).convert("P"), transparency=hidden),
        "L with tRNS": lambda: reopened(Image.fromarray(colour), transparency=hidden),
        "array": lambda: rgba,
        "tensor": lambda: torch.from_numpy(rgba).permute(2, 0, 1),
    }[form]()
    values = mask_values(mask, hole, LARGE)
    assert np.array_equal(values > 0.5 if hole == "white" else values < 0.5, painted)


# Numbers at the edge


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("towards", [2, -1])
def test_a_rounding_step_beyond_the_range_is_no_error(inpainter, dtype, towards):
    edge = np.nextafter(dtype(min(max(towards, 0), 1)), dtype(towards))
    image = np.full((HEIGHT, WIDTH, 3), edge, dtype)
    filled = inpainter(image, box())
    assert filled.dtype == dtype and np.array_equal(filled[box() == 0], image[box() == 0])


def test_a_rounding_step_of_bfloat16(inpainter):
    image = torch.full((3, HEIGHT, WIDTH), 1 + 2**-7, dtype=torch.bfloat16)
    assert torch.equal(inpainter(image, box())[:, box() == 0], image[:, box() == 0])
    assert tolerance(torch.bfloat16) < 0.02


def test_beyond_rounding_the_message_shows_the_digits(inpainter):
    with pytest.raises(InpaintError, match=r"reach from 1.00001001 to 1.00001001"):
        inpainter(np.full((HEIGHT, WIDTH, 3), 1.00001, np.float32), box())


def test_arrays_in_the_other_byte_order_come_back_in_it(inpainter):
    image = photo(dtype=np.uint16).astype(">u2")
    filled = inpainter(image, box())
    assert filled.dtype == image.dtype
    assert_filled(image, filled, box() > 0)


# PIL images


def reopened(image, kind="PNG", **options):
    stored = io.BytesIO()
    image.save(stored, kind, **options)
    return Image.open(stored)


def phone_exif():
    exif = Image.Exif()
    exif[0x010F] = "Camera"
    exif.get_ifd(0x8769)[0x9003] = "2020:01:01 00:00:00"
    exif.get_ifd(0x8825)[1] = "N"
    return exif


USES = {
    "as it is": lambda image: image,
    "copy": lambda image: image.copy(),
    "copy module": copy.deepcopy,
    "pickle": lambda image: pickle.loads(pickle.dumps(image)),
}


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF"])
@pytest.mark.parametrize("use", USES)
def test_exif_of_a_result_is_as_pillows_own(inpainter, kind, use):
    given = reopened(Image.fromarray(photo()), kind, exif=phone_exif())
    directories = {tag: given.getexif().get_ifd(tag) for tag in (0x8769, 0x8825)}
    assert kind == "TIFF" or all(directories.values())  # Pillow writes none into TIFF files
    result = USES[use](inpainter(given, box()))
    for target in ("PNG", "JPEG", "WEBP"):
        exif = reopened(result, target, exif=result.getexif()).getexif()
        assert exif[0x010F] == "Camera"
        assert {tag: exif.get_ifd(tag) for tag in directories} == directories
        assert 273 not in exif  # where a TIFF file keeps its strips


def test_a_turned_image_comes_back_upright_with_its_exif(inpainter):
    exif = phone_exif()
    exif[0x0112] = 6
    result = inpainter(reopened(Image.fromarray(photo()), exif=exif), np.rot90(box(), -1))
    assert result.size == (HEIGHT, WIDTH) and result.getexif().get(0x0112, 1) == 1
    assert result.getexif().get_ifd(0x8825)[1] == "N"


@pytest.mark.parametrize("block", [b"Exif\0\0damaged", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0MM\0*\0\0\0\x08\xff\xff"])
def test_damaged_exif_is_left_out(inpainter, block):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's own about the block
        result = inpainter(reopened(Image.fromarray(photo()), exif=block), box())
    assert_filled(photo(), result, box() > 0)


@pytest.mark.parametrize("mode", ["L", "RGB", "P"])
def test_a_transparent_colour_becomes_an_opacity(inpainter, mode):
    image = Image.fromarray(photo()).convert(mode)
    key = image.getpixel((0, 0))
    given = reopened(image, transparency=key)
    result = inpainter(given, box())
    expected = np.asarray(given.convert("RGBA"))
    assert result.mode == ("LA" if mode == "L" else "RGBA") and "transparency" not in result.info
    assert_filled(expected, result.convert("RGBA"), box() > 0)


def test_16_bits_keep_their_transparent_colour_and_byte_order(inpainter):
    little = reopened(Image.fromarray(photo(1, np.uint16)), transparency=5)
    assert inpainter(little, box()).info["transparency"] == 5
    big = Image.fromarray(photo(1, np.uint16).astype(">u2"))
    result = inpainter(big, box())
    assert result.mode == "I;16B"
    assert_filled(big, result, box() > 0)


def test_side_information_is_kept(inpainter):
    text = PngInfo()
    text.add_text("Comment", "hello")
    given = reopened(Image.fromarray(photo()), pnginfo=text, dpi=(300, 300), icc_profile=b"profile")
    result = inpainter(given, box())
    assert result.info == given.info
    comment = inpainter(reopened(Image.fromarray(photo()), "JPEG", comment=b"(c) me"), box())
    assert reopened(comment, "JPEG", comment=comment.info["comment"]).info["comment"] == b"(c) me"


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF"])
def test_a_mask_in_the_stored_orientation_is_told_of(inpainter, kind, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    with pytest.raises(InpaintError, match="turned upright as its EXIF orientation says: turn the mask too"):
        inpainter(reopened(Image.fromarray(photo()), kind, exif=exif), box())


@pytest.mark.parametrize("large", ["image", "mask"])
def test_too_many_pixels_are_refused_before_decoding(tmp_path: Path, large):
    inpainter = Inpainter(network("official", dtype=torch.float32), max_pixels=HEIGHT * WIDTH)
    path = tmp_path / "large.png"
    Image.fromarray(np.zeros((HEIGHT, WIDTH + 1), np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:45])  # decoding it would fail
    with (
        Image.open(path) as image,
        pytest.raises(InpaintError, match=rf"the {large} has 53 x 40 pixels, more than max_pixels=2,080"),
    ):
        inpainter(*((image, box()) if large == "image" else (photo(), image)))
    with pytest.raises(InpaintError, match="max_pixels is 0"):
        Inpainter(network("official", dtype=torch.float32), max_pixels=0)


@pytest.mark.parametrize("broken", ["image", "mask"])
@pytest.mark.parametrize("how", ["cut off", "closed"])
def test_what_does_not_decode_is_told_of(inpainter, broken, how):
    stored = io.BytesIO()
    Image.fromarray(photo()).save(stored, "PNG")
    image = Image.open(io.BytesIO(stored.getvalue()[:2000] if how == "cut off" else stored.getvalue()))
    if how == "closed":
        image.close()
    with pytest.raises(InpaintError, match=rf"the {broken} cannot be decoded \(.*(truncated|closed).*open or save it anew"):
        inpainter(*((image, box()) if broken == "image" else (photo(), image)))


def test_a_path_is_no_picture(inpainter):
    for given in ((photo(), "mask.png"), ("a.png", box()), (photo(), b"mask")):
        with pytest.raises(InpaintError, match=r"of type (str|bytes): expected a PIL image, a NumPy array or a torch tensor"):
            inpainter(*given)
