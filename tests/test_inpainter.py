"""Images in, images out: known pixels to the bit, holes without influence, every form of picture, every refusal."""

import copy
import io
import threading
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import network
from PIL import Image, ImageCms

from lbam_fast import LBAM, ConfigError, Inpainter, InpaintError, LBAMConfig, load_checkpoint, ops
from lbam_fast.inference import embedded_weights
from lbam_fast.inference.inpainter import paste, turned, turned_back
from lbam_fast.inference.masks import Hole, MaskOptions, find_hole
from lbam_fast.inference.memory import memory_needed
from lbam_fast.inference.padding import padded

SRGB = ImageCms.createProfile("sRGB")
KNOWN_DTYPES = (np.uint8, np.uint16, np.float16, np.float32, np.float64)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return LBAM(LBAMConfig(base_width=4))


@pytest.fixture(scope="module")
def inpainter(model):
    return Inpainter(model)


def picture(height, width, channels=(3,), dtype=np.uint8, seed=0):
    rng = np.random.default_rng(seed)
    if np.issubdtype(dtype, np.integer):
        return rng.integers(0, np.iinfo(dtype).max, (height, width, *channels), dtype, endpoint=True)
    return rng.uniform(0, 1, (height, width, *channels)).astype(dtype)


def box_mask(height, width):
    mask = np.zeros((height, width), np.uint8)
    mask[height // 3 : height // 2 + 1, width // 3 : width // 2 + 1] = 255
    return mask


@pytest.mark.parametrize(
    ("height", "width"),
    [
        (1, 1),
        (1, 300),
        (37, 53),
        (128, 128),
        (427, 640),
    ],  # far below a multiple of 128, one row, prime sides, exact, a photograph's
)
def test_known_pixels_stay_and_the_hole_changes_at_any_size(inpainter, height, width):
    image, mask = picture(height, width), box_mask(height, width)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore" if height == width == 1 else "error")
        filled = inpainter(image, mask)
    assert filled.shape == image.shape
    assert filled.dtype == image.dtype
    assert np.array_equal(filled[mask == 0], image[mask == 0])
    assert not np.array_equal(filled[mask == 255], image[mask == 255])


@pytest.mark.parametrize("dtype", KNOWN_DTYPES)
@pytest.mark.parametrize("channels", [(), (1,), (2,), (3,), (4,)], ids=str)
def test_arrays_of_every_dtype_and_layout(inpainter, dtype, channels):
    image, mask = picture(40, 50, channels, dtype), box_mask(40, 50)
    before = image.copy()
    filled = inpainter(image, mask)
    assert (filled.shape, filled.dtype) == (image.shape, image.dtype)
    assert np.array_equal(filled[mask == 0], image[mask == 0])
    assert not np.array_equal(filled[mask == 255], image[mask == 255])
    assert np.array_equal(image, before)
    if channels in ((2,), (4,)):
        assert np.array_equal(filled[..., -1], image[..., -1])


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_tensors_come_back_as_tensors(inpainter, dtype, channels):
    values = torch.from_numpy(picture(40, 50, (channels,))).permute(2, 0, 1)
    image = values if dtype == torch.uint8 else (values.double() / 255).to(dtype)
    mask = torch.from_numpy(box_mask(40, 50)) > 0
    filled = inpainter(image, mask)
    assert (filled.shape, filled.dtype) == (image.shape, image.dtype)
    assert torch.equal(filled[:, ~mask], image[:, ~mask])
    assert not torch.equal(filled[:3, mask], image[:3, mask])


@pytest.mark.parametrize(
    ("mode", "result"),
    [("L", "L"), ("LA", "LA"), ("RGB", "RGB"), ("RGBA", "RGBA"), ("I;16", "I;16"), ("1", "L"), ("P", "RGB"), ("CMYK", "RGB")],
)
def test_pil_images_come_back_as_pil_images(inpainter, mode, result):
    image = Image.fromarray(picture(40, 50, (), np.uint16)) if mode == "I;16" else Image.fromarray(picture(40, 50)).convert(mode)
    mask = Image.fromarray(box_mask(40, 50))
    filled = inpainter(image, mask)
    assert (filled.mode, filled.size) == (result, image.size)
    known = np.asarray(mask) == 0
    expected = image if mode == result else image.convert(result)
    assert np.array_equal(np.asarray(filled)[known], np.asarray(expected)[known])


def test_float16_and_float64_inputs_agree_with_uint8(inpainter):
    image, mask = picture(64, 64), box_mask(64, 64)
    as_float = inpainter(image / 255.0, mask)
    assert np.abs(np.rint(as_float * 255) - inpainter(image, mask)).max() <= 1


def test_many_at_once_equal_each_alone(inpainter):
    images = [picture(40, 50, seed=i) for i in range(5)] + [picture(130, 20, seed=9)]
    masks = [np.roll(box_mask(*image.shape[:2]), i, axis=0) for i, image in enumerate(images)]
    together = inpainter(images, masks)
    assert isinstance(together, list)
    for image, mask, filled in zip(images, masks, together, strict=True):
        assert np.abs(filled.astype(int) - inpainter(image, mask)).max() <= 1
        assert np.array_equal(filled[mask == 0], image[mask == 0])


@pytest.mark.parametrize("kind", ["array", "tensor"])
def test_a_batch_under_one_mask(inpainter, kind):
    images, mask = np.stack([picture(40, 50, seed=i) for i in range(3)]), box_mask(40, 50)
    given_images = torch.from_numpy(images).permute(0, 3, 1, 2) if kind == "tensor" else images
    filled = inpainter(given_images, mask)
    assert type(filled) is type(given_images)
    assert filled.shape == given_images.shape
    back = filled.permute(0, 2, 3, 1).numpy() if kind == "tensor" else filled
    for image, result in zip(images, back, strict=True):
        assert np.abs(result.astype(int) - inpainter(image, mask)).max() <= 1


def test_one_mask_for_many_computes_its_maps_once(model, monkeypatch):
    calls = []
    forward = model.forward
    monkeypatch.setattr(model, "forward", lambda image, mask, **more: calls.append(len(mask)) or forward(image, mask, **more))
    Inpainter(model, batch_size=3)([picture(40, 50, seed=i) for i in range(3)], box_mask(40, 50))
    assert calls == [1]


HOLES = st.sampled_from([np.nan, np.inf, -np.inf, 1e30, -1.0, 0.0, 0.25])


@settings(max_examples=25, deadline=None)
@given(value=HOLES, seed=st.integers(0, 10), grow=st.integers(0, 4), feather=st.integers(0, 4))
def test_what_lies_in_the_hole_changes_no_bit(model, value, seed, grow, feather):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        inpainter = Inpainter(model, grow=grow, feather=feather)
    image, mask = picture(33, 41, dtype=np.float32, seed=seed), box_mask(33, 41)
    other = image.copy()
    other[mask == 255] = value
    assert np.array_equal(inpainter(image, mask), inpainter(other, mask))


def test_the_hole_test_can_fail(model, monkeypatch):
    """Planted fault: holes multiplied instead of selected let NaN through, as far as the last check of the output."""
    image, mask = picture(33, 41, dtype=np.float32), box_mask(33, 41)
    image[mask == 255] = np.nan
    inpainter = Inpainter(model)
    monkeypatch.setattr("lbam_fast.inference.inpainter.emptied", lambda pixels, hole: pixels * ~hole.filled[..., None])
    monkeypatch.setattr(ops, "damaged_input", lambda image, mask, channels: torch.cat([image * mask, mask], dim=1))
    with pytest.raises(InpaintError, match="values that are no numbers"):
        inpainter(image, mask)


@pytest.mark.parametrize("hole", ["white", "black"])
@pytest.mark.parametrize("form", ["uint8", "bool", "float32", "uint16", "zeros and ones", "rgb", "pil", "pil 1", "tensor"])
def test_masks_of_every_form_mean_the_same(model, inpainter, hole, form):
    image, white = picture(40, 50), box_mask(40, 50)
    mask = white if hole == "white" else 255 - white
    given_mask = {
        "uint8": mask,
        "bool": mask > 0,
        "float32": (mask / 255).astype(np.float32),
        "uint16": mask.astype(np.uint16) * 257,
        "zeros and ones": mask // 255,
        "rgb": np.repeat(mask[..., None], 3, axis=-1),
        "pil": Image.fromarray(mask),
        "pil 1": Image.fromarray(mask).convert("1"),
        "tensor": torch.from_numpy(mask)[None],
    }[form]
    assert np.array_equal(Inpainter(model, hole=hole)(image, given_mask), inpainter(image, white))


def test_threshold_decides_grey_masks(model):
    image, mask = picture(40, 50), (box_mask(40, 50) // 255 * 100).astype(np.uint8)
    with pytest.warns(UserWarning, match="its values reach 39% of the way"):
        assert np.array_equal(Inpainter(model, threshold=0.5)(image, mask), image)
    assert not np.array_equal(Inpainter(model, threshold=0.3)(image, mask), image)


def test_grow_and_feather_touch_the_grown_hole_alone(model):
    image, mask = picture(60, 60), box_mask(60, 60)
    hole = find_hole(mask / np.float32(255), MaskOptions(grow=5, feather=3))
    ring = hole.filled & (mask == 0)
    assert ring.sum() == 21 * 21 - 11 * 11
    assert np.all(hole.weight[mask == 255] == 1)
    assert np.all(hole.weight[~hole.filled] == 0)
    assert sorted(set(hole.weight[ring].tolist())) == [0.25, 0.5, 0.75, 1.0]
    filled = Inpainter(model, grow=5, feather=3)(image, mask)
    assert np.array_equal(filled[~hole.filled], image[~hole.filled])
    assert not np.array_equal(filled[ring], image[ring])


@pytest.mark.parametrize("options", [MaskOptions(grow=5), MaskOptions(feather=0), MaskOptions(grow=60, feather=3)])
def test_a_hole_without_a_blended_edge_is_one_array(options):
    hole = find_hole(box_mask(60, 60) / np.float32(255), options)
    assert hole.soft is None
    assert hole.weight.dtype == np.float32
    assert np.array_equal(hole.weight, hole.filled)


def test_paste_blends_by_weight():
    pixels = np.full((1, 3, 3), 100, np.uint8)
    hole = Hole(np.array([[True, True, False]]), np.array([[1, 0.5, 0]], np.float32))
    result = paste(pixels, np.full((1, 3, 3), 200 / 255, np.float32), hole)
    assert result[0, :, 0].tolist() == [200, 150, 100]


def test_feather_beyond_grow_warns_that_it_has_no_effect(model):
    with pytest.warns(UserWarning, match="grow"):
        Inpainter(model, grow=1, feather=3)


def test_padding_is_numpys_repeated_reflection():
    batch = picture(5, 3, (2,), np.float32).transpose(2, 0, 1)[None]
    expected = np.pad(batch, ((0, 0), (0, 0), (0, 123), (0, 125)), mode="reflect")
    assert np.array_equal(padded(torch.from_numpy(batch)).numpy(), expected)
    assert padded(torch.zeros(1, 1, 129, 128)).shape == (1, 1, 256, 128)


def test_eight_turns_and_back():
    x = torch.arange(12.0).reshape(1, 1, 3, 4)
    seen = {tuple(turned(x, turn).flatten().tolist()) + tuple(turned(x, turn).shape) for turn in range(8)}
    assert len(seen) == 8
    assert all(torch.equal(turned_back(turned(x, turn), turn), x) for turn in range(8))


def test_passes_are_the_mean_over_the_turned_pictures(model):
    image, mask = picture(40, 50, dtype=np.float32), box_mask(40, 50)
    each = []
    for turn in range(4):
        across, down = turn & 1, turn & 2
        flip = lambda a: a[:: -1 if down else 1, :: -1 if across else 1]  # noqa: B023, E731
        whole = np.pad(image, ((0, 88), (0, 78), (0, 0)), mode="reflect"), np.pad(mask, ((0, 88), (0, 78)), mode="reflect")
        filled = flip(Inpainter(model, detail="off")(*(np.ascontiguousarray(flip(a)) for a in whole)))
        each.append(filled[:40, :50])
    mean = Inpainter(model, passes=4, detail="off")(image, mask)
    np.testing.assert_allclose(mean, np.mean(each, axis=0), atol=1e-6)
    assert np.abs(mean - each[0]).max() > 1e-3
    with pytest.raises(InpaintError, match="passes is 3, expected one of 1, 2, 4, 8"):
        Inpainter(model, passes=3)


@pytest.fixture(scope="module", params=["new", "trained"])
def correcting(request):
    return LBAM(LBAMConfig.preset("harmonic", base_width=4)) if request.param == "new" else load_checkpoint(embedded_weights())


HALVES = {"left": np.s_[:, :35], "below": np.s_[25:, :], "inside": np.s_[5:40, 5:60], "speckles": np.s_[::2, ::2]}


@pytest.mark.parametrize("where", HALVES)
@pytest.mark.parametrize("slope", [(0, 0), (150, 0), (-60, 140)], ids=["flat", "down", "aslant"])
def test_flat_and_linear_pictures_are_filled_within_two_levels(correcting, slope, where):
    down, across = np.linspace(-0.5, 0.5, 50)[:, None], np.linspace(-0.5, 0.5, 70)
    colours = np.array([128, 120, 100])
    image = np.round(slope[0] * down[..., None] + slope[1] * across[:, None] + colours).astype(np.uint8)
    mask = np.zeros((50, 70), np.uint8)
    mask[HALVES[where]] = 255
    filled = Inpainter(correcting, detail="off")(image, mask)
    assert np.abs(filled.astype(int) - image).max() <= 2


@pytest.mark.parametrize("kind", ["official", "harmonic"])
def test_grey_stays_grey(kind):
    """Alone and among coloured pictures; a single coloured known pixel is no grey picture."""
    grey = np.repeat(picture(40, 50, (1,)), 3, axis=2)
    mask, coloured = box_mask(40, 50), picture(40, 50)
    inpainter = Inpainter(network(kind, dtype=torch.float32), detail="off")
    alone, among = inpainter(grey, mask), inpainter([coloured, grey], mask)[1]
    for filled in (alone, among):
        assert (filled == filled[..., :1]).all()
        assert (filled != grey)[mask > 0].any()
    grey[0, 0] = 1, 2, 3
    assert np.ptp(inpainter(grey, mask)[mask > 0], axis=-1).any()


@pytest.mark.parametrize("value", [np.nan, 1e9])
def test_feathering_refuses_what_it_cannot_blend(model, value):
    """The band that grows around the hole is blended, so its pixels count as known."""
    image, mask = picture(40, 50, dtype=np.float32), box_mask(40, 50)
    image[11, 20:24] = value  # two rows above the box
    assert np.isfinite(Inpainter(model, grow=4)(image, mask)).all()
    with pytest.raises(InpaintError, match="known pixels"):
        Inpainter(model, grow=4, feather=3)(image, mask)


def oriented(values, orientation):
    image = Image.fromarray(values)
    image.getexif()[0x0112] = orientation
    stored = io.BytesIO()
    image.save(stored, "PNG", exif=image.getexif(), dpi=(300, 300), icc_profile=ImageCms.ImageCmsProfile(SRGB).tobytes())
    return Image.open(stored)


def test_pil_images_are_turned_as_their_exif_says_and_keep_their_profile(inpainter):
    values, mask = picture(40, 50), box_mask(50, 40)
    filled = inpainter(oriented(values, 6), Image.fromarray(mask))
    upright = np.rot90(values, -1)
    assert filled.size == (40, 50)
    assert np.array_equal(np.asarray(filled)[mask == 0], upright[mask == 0])
    assert not np.array_equal(np.asarray(filled)[mask > 0], upright[mask > 0])
    assert filled.info["icc_profile"] == ImageCms.ImageCmsProfile(SRGB).tobytes()
    assert filled.info["dpi"] == pytest.approx((300, 300), abs=0.1)
    assert filled.getexif().get(0x0112, 1) == 1
    as_array = inpainter(np.ascontiguousarray(upright), oriented(np.ascontiguousarray(np.rot90(mask)), 6))
    assert np.array_equal(np.asarray(filled), as_array)


def test_large_pictures_run_one_by_one(model, monkeypatch):
    sizes = []
    inpainter = Inpainter(model, batch_size=4)
    monkeypatch.setattr(
        inpainter, "fill", lambda pictures, holes, fill=inpainter.fill: sizes.append(len(pictures)) or fill(pictures, holes)
    )
    monkeypatch.setattr("lbam_fast.inference.inpainter.PIXELS_AT_ONCE", 2 * 128 * 128)
    inpainter([picture(40, 50, seed=i) for i in range(5)] + [picture(130, 20)], [box_mask(40, 50)] * 5 + [box_mask(130, 20)])
    assert sizes == [2, 2, 1, 1]


def test_a_cpu_with_too_little_memory_is_not_asked(model, monkeypatch):
    monkeypatch.setattr("lbam_fast.inference.memory._available", lambda: 1e6)
    with pytest.raises(InpaintError, match=r"50x40 need about .* GiB are free"):
        Inpainter(model, device="cpu")(picture(40, 50), box_mask(40, 50))


def test_no_hole_copies_and_no_known_pixel_warns(inpainter):
    image = picture(40, 50)
    with pytest.warns(UserWarning, match="the mask has no hole"):
        copied = inpainter(image, np.zeros((40, 50), np.uint8))
    assert np.array_equal(copied, image)
    assert copied is not image
    with pytest.warns(UserWarning, match="whole picture is hole"):
        filled = inpainter(image, np.full((40, 50), 255, np.uint8))
    assert not np.array_equal(filled, image)


@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 0.01), ("bfloat16", 12)])
def test_other_dtypes_run_and_stay_close(model, dtype, tolerance):
    image, mask = picture(64, 64) / 255.0, box_mask(64, 64)
    expected, filled = (Inpainter(copy.deepcopy(model), dtype=name, detail="off")(image, mask) for name in ("float32", dtype))
    assert 0 < np.abs(filled - expected).max() * 255 < tolerance


def test_threads_share_an_inpainter(inpainter):
    images, mask = [picture(40, 50, seed=i) for i in range(6)], box_mask(40, 50)
    alone = [inpainter(image, mask) for image in images]
    results = [None] * len(images)

    def work(i):
        results[i] = inpainter(images[i], mask)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(len(images))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for expected, got in zip(alone, results, strict=True):
        assert np.array_equal(got, expected)


GOOD = np.zeros((40, 50, 3), np.float32)
BAD_CALLS = {
    "mask of another size": (GOOD, np.zeros((40, 60)), "the mask is 60x40 .* the image 50x40"),
    "zero-sized mask": (GOOD, np.zeros((0, 50)), "the mask is empty"),
    "zero-sized image": (np.zeros((0, 50, 3)), np.zeros((0, 50)), "the image is empty"),
    "NaN in known pixels": (np.full((40, 50, 3), np.nan), np.zeros((40, 50)), "known pixels hold NaN"),
    "known pixels beyond 1": (GOOD + 255, np.zeros((40, 50)), "divide 8-bit values by 255"),
    "five channels": (np.zeros((40, 50, 5)), np.zeros((40, 50)), r"1 to 4 channels"),
    "tensor with channels last": (torch.zeros(40, 50, 3), np.zeros((40, 50)), r"expected \[C, H, W\]"),
    "integers": (np.zeros((40, 50, 3), np.int64), np.zeros((40, 50)), "dtype int64"),
    "no picture": ("photo.png", np.zeros((40, 50)), "type str"),
    "no mask": (GOOD, None, "a mask of type NoneType"),
    "mask beyond 1": (GOOD, np.full((40, 50), 7.0), "outside"),
    "mask with NaN": (GOOD, np.full((40, 50), np.nan), "not numbers"),
    "fewer masks than images": ([GOOD] * 3, [np.zeros((40, 50))] * 2, "2 masks for 3 images"),
    "no images": ([], [], "no images"),
    "PIL float image": (Image.new("F", (50, 40)), np.zeros((40, 50)), "mode 'F'"),
}


@pytest.mark.parametrize("case", BAD_CALLS)
def test_bad_input_says_what_was_expected(inpainter, case):
    image, mask, message = BAD_CALLS[case]
    with pytest.raises(InpaintError, match=message):
        inpainter([image] if case == "no picture" else image, mask)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hole": "grey"}, "'white' or 'black'"),
        ({"threshold": 1.5}, "threshold is 1.5"),
        ({"grow": -1}, "grow is -1"),
        ({"feather": 0.5}, "feather is 0.5"),
        ({"dtype": "int8"}, "dtype is 'int8'"),
        ({"batch_size": 0}, "batch_size is 0"),
    ],
)
def test_bad_options_say_what_was_expected(model, options, message):
    with pytest.raises(InpaintError, match=message):
        Inpainter(model, **options)


@pytest.mark.parametrize(
    "error",
    [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("DefaultCPUAllocator: can't allocate memory"), MemoryError()],
)
def test_out_of_memory_names_the_size_and_what_to_try(model, monkeypatch, error):
    def fail(*given, **more):
        raise error

    monkeypatch.setattr(model, "forward", fail)
    with pytest.raises(InpaintError, match=r"50x40 need about 0\.0 GiB. Try smaller pictures"):
        Inpainter(model)(picture(40, 50), box_mask(40, 50))


def test_an_unknown_device_says_what_to_use(model):
    with pytest.raises(ConfigError, match=r"'quantum' cannot be used: .*use auto, cpu or cuda"):
        Inpainter(model, device="quantum")


def test_other_runtime_errors_are_not_called_out_of_memory(model, monkeypatch):
    monkeypatch.setattr(model, "forward", lambda *given, **more: (_ for _ in ()).throw(RuntimeError("a bug")))
    with pytest.raises(RuntimeError, match="a bug"):
        Inpainter(model)(picture(40, 50), box_mask(40, 50))


def test_memory_needed_grows_with_pictures_and_width(model):
    assert memory_needed(model, 0, 2, 256, 256) == 2 * memory_needed(model, 0, 1, 200, 256)
    assert memory_needed(model, 10, 0, 256, 256) == 10
