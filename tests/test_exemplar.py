"""The texture stage: the compiled kernel against its specification, and what a user counts on."""

import numpy as np
import pytest
import torch
from networks import one_thread  # noqa: F401

from lbam_fast import LBAM, Inpainter, InpaintError, LBAMConfig, native, ops
from lbam_fast.inference import detail
from lbam_fast.inference.masks import Hole
from lbam_fast.reference import exemplar as specification

compiled = pytest.mark.skipif(bool(native.unavailable("cpu")), reason=f"no compiled kernels: {native.unavailable('cpu')}")


def photograph(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Noise that is smooth over a few pixels, of the values that 8 bits have: [height, width, 3] float32."""
    noise = np.random.default_rng(seed).uniform(0, 1, (height, width, 3))
    smooth = sum(np.roll(noise, shift, axis) for shift in (0, 1) for axis in (0, 1)) / 4
    return (np.round(255 * smooth) / 255).astype(np.float32)


def holes(height: int, width: int, *boxes: tuple[int, int, int, int]) -> np.ndarray:
    hole = np.zeros((height, width), bool)
    for top, bottom, left, right in boxes:
        hole[top:bottom, left:right] = True
    return hole


def run(picture: np.ndarray, hole: np.ndarray, seed: int = 0) -> np.ndarray:
    tensor = torch.from_numpy(picture).permute(2, 0, 1)[None]
    return ops.cpu.exemplar(tensor, torch.from_numpy(hole.astype(np.uint8))[None, None], seed)[0].permute(1, 2, 0).numpy()


def guided(picture: np.ndarray, hole: np.ndarray) -> np.ndarray:
    return np.where(hole[..., None], picture[~hole].mean(axis=0), picture).astype(np.float32)


CASES = {
    "odd sides, two levels": (33, 61, (10, 22, 20, 34)),
    "at the edge": (40, 48, (0, 9, 0, 12), (30, 40, 40, 48)),
    "one pixel": (20, 20, (9, 10, 9, 10)),
    "three levels": (70, 66, (20, 44, 18, 45)),
    "draws from afar": (20, 600, (5, 12, 290, 310)),
    "no patch inside": (4, 40, (1, 2, 5, 9)),
    "nothing known": (30, 30, (0, 30, 0, 30)),
    "no known patch": (12, 12, (0, 12, 3, 4), (0, 12, 8, 9)),
}


@compiled
@pytest.mark.parametrize("name", CASES)
def test_the_kernel_equals_its_specification(name):
    height, width, *boxes = CASES[name]
    for seed in (0, 5):
        hole = holes(height, width, *boxes)
        picture = guided(photograph(height, width, seed), hole) if not hole.all() else photograph(height, width)
        np.testing.assert_array_equal(run(picture, hole, seed), specification.exemplar(picture, hole, seed))


@compiled
@pytest.mark.parametrize("constant", ["TEXTURE", "KNOWN", "GUIDE", "TRUST"])
def test_another_constant_is_seen(constant, monkeypatch):
    """Planted faults."""
    hole = holes(70, 66, (20, 44, 18, 45))
    picture = guided(photograph(70, 66), hole)
    monkeypatch.setattr(specification, constant, 2 * getattr(specification, constant))
    assert (run(picture, hole) != specification.exemplar(picture, hole)).any()


@compiled
def test_threads_and_repetition_change_no_bit_but_the_seed_does():
    hole = holes(160, 200, (40, 90, 30, 120), (100, 104, 0, 200))
    picture = guided(photograph(160, 200), hole)
    one, threads = run(picture, hole), torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        assert np.array_equal(run(picture, hole), one)
    finally:
        torch.set_num_threads(threads)
    assert not np.array_equal(run(picture, hole, seed=1), one)
    assert np.array_equal(one[~hole], picture[~hole])


@pytest.mark.parametrize(
    ("work", "threads", "together", "beside"),
    [
        ([5, 5], 2, [], [0, 1]),
        ([1, 5, 3, 2], 2, [], [1, 2, 3, 0]),
        ([1, 9, 1, 1], 2, [1], [0, 2, 3]),  # the longest would have the other thread wait for it
        ([4, 9], 2, [1, 0], []),
        ([5, 5], 16, [0, 1], []),
        ([5, 5], 1, [0, 1], []),
        ([0, 0, 0], 2, [], [0, 1, 2]),
        ([], 2, [], []),
    ],
)
def test_work_is_shared_out_so_that_no_thread_waits_long(work, threads, together, beside):
    assert detail.shared_out(dict(enumerate(work)), threads) == (together, beside)


@compiled
def test_several_pictures_at_once_are_each_by_itself(monkeypatch):
    """On one thread each, but the largest, which has them all, and what gets no texture."""
    sizes = {(70, 80): (20, 44, 18, 45), (64, 64): (20, 50, 20, 44), (90, 40): (20, 50, 5, 30), (200, 150): (30, 150, 30, 110)}
    drawn = [holes(*size, box) for size, box in sizes.items()] + [holes(50, 50, (9, 10, 0, 50))]
    pictures = [np.round(255 * photograph(*hole.shape, i)).astype(np.uint8) for i, hole in enumerate(drawn)]
    outputs = [guided(picture / np.float32(255), hole) for picture, hole in zip(pictures, drawn, strict=True)]
    found, detailer, threads = [as_hole(hole) for hole in drawn], detail.Detailer("auto", 16), torch.get_num_threads()
    alone, exemplar = [], ops.cpu.exemplar
    monkeypatch.setattr(ops.cpu, "exemplar", lambda *a, **k: alone.append(k["alone"]) or exemplar(*a, **k))
    one_by_one = [detailer(*each) for each in zip(pictures, outputs, found, strict=True)]
    assert one_by_one[-1] is outputs[-1] and alone == 4 * [False]
    try:
        torch.set_num_threads(2)
        results = detailer.several(pictures, outputs, found)
    finally:
        torch.set_num_threads(threads)
    assert alone[4:] == [False, True, True, True]
    for result, expected in zip(results, one_by_one, strict=True):
        np.testing.assert_array_equal(result, expected)
    outputs[1][:] = np.nan  # which is no texture's business, but the network's
    assert np.isnan(detailer.several(pictures, outputs, found)[1]).all()


@compiled
def test_a_periodic_texture_comes_back():
    tile = np.random.default_rng(0).integers(0, 256, (8, 8, 3)) / 255
    picture = np.tile(tile, (12, 12, 1)).astype(np.float32)
    hole = holes(96, 96, (40, 49, 35, 47))
    found = run(guided(picture, hole), hole)
    assert np.abs(found - picture)[hole].mean() < 0.02 < np.abs(guided(picture, hole) - picture)[hole].mean()


@pytest.fixture(scope="module")
def model():
    """A new network of this kind gives the harmonic fill."""
    torch.manual_seed(0)
    return LBAM(LBAMConfig.preset("harmonic", base_width=4))


def eight_bits(height: int, width: int, channels: int = 3) -> np.ndarray:
    return np.rint(255 * photograph(height, width)[..., :channels]).astype(np.uint8)


@compiled
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("channels", [1, 3])
def test_known_pixels_stay_to_the_bit_and_the_hole_gets_texture(model, dtype, channels):
    image = eight_bits(60, 80, channels)
    image = image.astype(np.uint16) * 257 if dtype == np.uint16 else (image / np.float32(255) if dtype == np.float32 else image)
    mask = 255 * holes(60, 80, (10, 30, 20, 50), (0, 4, 0, 30)).astype(np.uint8)
    off, on = (Inpainter(model, detail=mode)(image, mask) for mode in ("off", "exemplar"))
    assert np.array_equal(on[mask == 0], image[mask == 0])
    assert on.dtype == image.dtype
    assert on[mask > 0].astype(float).std() > off[mask > 0].astype(float).std()
    assert np.array_equal(Inpainter(model, detail="exemplar")(image, mask), on)


@compiled
@pytest.mark.parametrize("slope", [(0, 0), (120, -60)], ids=["flat", "linear"])
def test_flat_and_linear_pictures_stay_so(model, slope):
    down, across = np.linspace(-0.5, 0.5, 50)[:, None], np.linspace(-0.5, 0.5, 70)
    image = np.round((slope[0] * down + slope[1] * across)[..., None] + np.array([128, 120, 100])).astype(np.uint8)
    mask = 255 * holes(50, 70, (12, 40, 20, 45)).astype(np.uint8)
    assert np.abs(Inpainter(model, detail="exemplar")(image, mask).astype(int) - image).max() <= 2


@compiled
def test_grey_stays_grey_with_texture(model):
    image = eight_bits(60, 80, 1).repeat(3, axis=2)
    filled = Inpainter(model, detail="exemplar")(image, 255 * holes(60, 80, (20, 40, 20, 50)).astype(np.uint8))
    assert (filled == filled[..., :1]).all()


@compiled
def test_what_lies_in_the_hole_does_not_count(model):
    image, hole = eight_bits(60, 80) / np.float32(255), holes(60, 80, (20, 40, 20, 50))
    mask = 255 * hole.astype(np.uint8)
    rubbish = np.where(hole[..., None], np.float32(np.nan), image)
    inpainter = Inpainter(model, detail="exemplar")
    assert np.array_equal(inpainter(rubbish, mask), inpainter(image, mask))


@compiled
@pytest.mark.filterwarnings("ignore:the whole picture is hole", "ignore:the mask has no hole")
@pytest.mark.parametrize("box", [(0, 1, 0, 1), (0, 60, 0, 80), (0, 60, 0, 40), (59, 60, 79, 80)])
def test_holes_of_all_sizes(model, box):
    image, mask = eight_bits(60, 80), 255 * holes(60, 80, box).astype(np.uint8)
    filled = Inpainter(model, detail="exemplar")(image, mask)
    assert np.array_equal(filled[mask == 0], image[mask == 0])
    one = Inpainter(model, detail="exemplar")(image[:1, :1], mask[:1, :1])
    assert one.shape == (1, 1, 3)


def as_hole(filled: np.ndarray) -> Hole:
    return Hole(filled)


@compiled
def test_auto_is_for_narrow_networks_and_thin_holes():
    thin, thick = as_hole(holes(100, 100, (10, 20, 0, 100))), as_hole(holes(100, 100, (10, 50, 10, 50)))
    assert [detail.Detailer("auto", 16).wanted(hole) for hole in (thin, thick)] == [True, True]
    assert [detail.Detailer("auto", 64).wanted(hole) for hole in (thin, thick)] == [True, False]
    assert [detail.Detailer("exemplar", 64).wanted(hole) for hole in (thin, thick)] == [True, True]
    assert [detail.Detailer("off", 16).wanted(hole) for hole in (thin, thick)] == [False, False]


def test_noise_and_fine_lines_get_no_texture():
    """Of their pixels one in a hundred may have no known neighbour, wherever that is."""
    rng = np.random.default_rng(0)
    noise, lines = rng.random((1200, 300)) < 0.2, holes(1200, 300, *((top, top + 2, 0, 300) for top in range(0, 1200, 9)))
    for filled in (noise, lines, holes(20, 20, (4, 5, 4, 5)), np.zeros((9, 9), bool)):
        assert as_hole(filled).fine
    line = holes(1200, 300, (0, 1200, 20, 22))
    for top in (0, 300, 510, 511, 512, 1190):  # around where strips of rows end
        few, more = line.copy(), line.copy()
        few[top : top + 5, 100:106] = more[top : top + 10, 100:106] = True
        assert as_hole(few).fine and not as_hole(more).fine
    picture = np.round(255 * photograph(1200, 300)).astype(np.uint8)
    model = LBAM(LBAMConfig(base_width=4))
    auto, off = (Inpainter(model, detail=choice, strategy="whole") for choice in ("auto", "off"))
    assert np.array_equal(auto(picture[:200], noise[:200]), off(picture[:200], noise[:200]))


def test_without_compiled_kernels_auto_says_so_once_and_exemplar_refuses(monkeypatch):
    monkeypatch.setattr(native, "unavailable", lambda device: "they were not built")
    detail._say_once.cache_clear()
    with pytest.warns(UserWarning, match="without texture .* they were not built"):
        first = detail.Detailer("auto", 16)
    assert not first.wanted(as_hole(holes(10, 10, (4, 5, 4, 5))))
    detail.Detailer("auto", 16)  # warnings are errors here: it is silent
    detail.Detailer("off", 16)
    with pytest.raises(InpaintError, match="needs the compiled kernels for the CPU: they were not built"):
        detail.Detailer("exemplar", 16)
    detail._say_once.cache_clear()


def test_an_unknown_detail(model):
    with pytest.raises(InpaintError, match="detail is 'much', expected one of auto, exemplar, off"):
        Inpainter(model, detail="much")
    assert LBAMConfig.preset("harmonic").base_width > detail.NARROW >= 16
