"""Holes a few pixels wide, which are filled without the network: which they are, and with what."""

import itertools

import cv2
import numpy as np
import pytest

from lbam_fast.inference import biharmonic as solver
from lbam_fast.inference import dust
from lbam_fast.inference.detail import Detailer
from lbam_fast.inference.dust import find_dust
from lbam_fast.inference.masks import Hole
from lbam_fast.inference.sheets import SHEET
from lbam_fast.inference.specks import fill_specks

SIDE = 24
SMOOTH = Detailer("off", 32)


@pytest.fixture
def mask():
    """Holes of all forms, at least four pixels apart."""
    rng, filled = np.random.default_rng(0), np.zeros((4 * SIDE, 5 * SIDE), bool)
    for y, x in itertools.product(range(0, filled.shape[0], SIDE), range(0, filled.shape[1], SIDE)):
        height, width = rng.integers(1, 13, 2)
        top, left = (rng.integers(2, SIDE - 2 - side) for side in (height, width))
        filled[y + top : y + top + height, x + left : x + left + width] = rng.random((height, width)) < 0.8
    return filled


@pytest.fixture
def picture():
    found = np.random.default_rng(1).random((4 * SIDE, 5 * SIDE, 3)).astype(np.float32) / 4 + 0.4
    found[0, 0], found[0, 1] = 0, 1  # scikit-image's bounds for what it fills
    return found


def fill(pixels, filled, soft=None, detailer=SMOOTH):
    found, left = find_dust(filled)
    assert not left.any()
    result = pixels.copy()
    fill_specks(detailer, pixels, result, Hole(filled, soft), found, lambda: None)
    return result


# Which they are


def listed(filled):
    """The pixels that are dust, each of them once, and of which speck."""
    owner, number = np.zeros(filled.shape, np.int64), 0
    found, left = find_dust(filled)
    for each in found:
        assert len(each.rows) == len(each.columns) == each.counts.sum() and len(each.textured) == len(each.counts)
        assert (np.diff(each.counts) <= 0).all() and each.counts[-1] > 0
        assert not owner[each.rows, each.columns].any()
        owner[each.rows, each.columns] = number + 1 + np.repeat(np.arange(len(each.counts)), each.counts)
        number += len(each.counts)
    others = filled & (owner == 0)
    for y, x in np.argwhere(others):
        assert left[y // dust.CELL, x // dust.CELL]
    assert left.sum() <= others.sum()
    return owner


@pytest.mark.parametrize(
    ("height", "width", "speck"),
    [(1, 40, True), (12, 12, True), (12, 40, True), (40, 12, True), (13, 13, False), (13, 30, False), (1, 41, False)],
)
def test_what_counts_as_a_speck(height, width, speck):
    filled = np.zeros((100, 100), bool)
    filled[5 : 5 + height, 5 : 5 + width] = True
    assert (listed(filled) > 0).any() == speck


def test_what_has_too_many_pixels_is_none():
    filled = np.zeros((100, 100), bool)
    filled[10:50, 10:50] = np.arange(40) % 3 == 0  # thin, but near each other
    assert not listed(filled).any()
    filled[10:50, 10:50] = np.arange(40) % 4 == 0
    assert listed(filled).max() == 10


def test_pixels_that_decide_on_each_other_are_one_speck():
    """Those that two steps along the axes join do; three make no difference."""
    filled = np.zeros((40, 40), bool)
    filled[10, 10] = filled[12, 10] = filled[13, 11] = True
    filled[10, 14] = filled[15, 13] = True
    owner = listed(filled)
    assert owner[10, 10] == owner[12, 10] == owner[13, 11]
    assert len({owner[10, 10], owner[10, 14], owner[15, 13]}) == 3


def test_texture_is_for_those_that_are_wide():
    filled = np.zeros((100, 100), bool)
    filled[10:16, 10:50], filled[30:37, 10:17] = True, True
    (found,), _ = find_dust(filled)
    assert found.counts.tolist() == [240, 49] and found.textured.tolist() == [False, True]


@pytest.mark.parametrize("shape", [(1, 30), (30, 1), (3, 60), (12, 12)])
def test_what_goes_from_edge_to_edge_is_none(shape):
    """There may be nothing beside it that says how it goes on."""
    filled = np.ones(shape, bool)
    filled[0, 0] = False
    assert not listed(filled).any()


@pytest.mark.parametrize("at_once", [8, 32, 1536])
def test_specks_are_found_once_wherever_pictures_are_cut(monkeypatch, at_once):
    rng = np.random.default_rng(2)
    filled = rng.random((150, 170)) < 0.03
    for y, x, radius in zip(*rng.integers(0, 150, (2, 30)), rng.integers(1, 10, 30), strict=True):
        cv2.circle(filled.view(np.uint8), (int(x), int(y)), int(radius), 1, -1)
    whole = listed(filled)
    monkeypatch.setattr(dust, "AT_ONCE", at_once)
    cut = listed(filled)
    assert whole.any() and (filled & (whole == 0)).any()
    pairs = set(zip(whole.ravel().tolist(), cut.ravel().tolist(), strict=True))
    assert len(pairs) == len(np.unique(whole)) == len(np.unique(cut))


# What they are filled with


@pytest.mark.parametrize("at_once", [1, solver.MOST_ENTRIES])
def test_it_is_the_biharmonic_solution(mask, picture, monkeypatch, at_once):
    restoration = pytest.importorskip("skimage.restoration")
    monkeypatch.setattr(solver, "MOST_ENTRIES", at_once)
    expected = restoration.inpaint_biharmonic(picture.astype(np.float64), mask, channel_axis=-1)
    filled = fill(picture, mask)
    assert np.abs(filled - expected)[mask].max() < 1e-5
    assert np.array_equal(filled[~mask], picture[~mask])


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_a_slope_goes_on_up_to_the_edge_of_the_picture(dtype, channels):
    rows, columns = np.mgrid[:SIDE, : 2 * SIDE]
    mask = np.zeros((SIDE, 2 * SIDE), bool)
    mask[:6, 3:9], mask[10:13, :2], mask[-5:, -5:] = True, True, True
    top = 1 if dtype == np.float32 else np.iinfo(dtype).max
    given = np.repeat((0.2 + rows / 90 + columns / 180)[..., None], channels, axis=2) * top
    given = (np.rint(given) if top > 1 else given).astype(dtype)
    unknown = given.copy()
    unknown[mask] = np.nan if dtype == np.float32 else top
    filled = fill(unknown, mask)
    assert filled.dtype == dtype and np.array_equal(filled[~mask], given[~mask])
    tolerance = {np.uint8: 3, np.uint16: 3, np.float32: 1e-6}[dtype]  # whole numbers make a slope of up to 8 pixels uncertain
    assert np.abs(filled.astype(np.float64) - given)[mask].max() <= tolerance


def test_others_have_no_say(mask, picture):
    """And a planted fault: what is two pixels away has."""
    filled = np.zeros_like(mask)
    filled[30:36, 30:36] = True
    other, near = picture.copy(), picture.copy()
    other[:27], near[28] = 1 - other[:27], 1 - near[28]
    first, second, third = (fill(each, filled)[filled] for each in (picture, other, near))
    assert np.array_equal(first, second) and not np.array_equal(first, third)


def test_an_edge_that_blends_is_blended(picture):
    filled = np.zeros(picture.shape[:2], bool)
    filled[5:9, 5:9] = True
    weight = filled.astype(np.float32)
    weight[5, 5:9] = 0.25
    full, soft = fill(picture, filled), fill(picture, filled, weight)
    assert np.allclose(soft[5, 5:9], 0.25 * full[5, 5:9] + 0.75 * picture[5, 5:9], atol=1e-6)
    assert np.array_equal(soft[6:9, 5:9], full[6:9, 5:9])


class Marker:
    """In place of texture: what it is asked for turns red."""

    def __init__(self):
        self.shapes = []

    def __call__(self, pixels, output, hole):
        self.shapes.append(pixels.shape)
        assert np.isfinite(output).all()
        return np.where(hole.filled[..., None], np.float32([1, 0, 0]), output)


SIZES = [(9, 9), (8, 20), (10, 35)]
LAID = {
    "many": ((300, 400), [(top, 50 + 60 * i, *size) for top in range(5, 280, 50) for i, size in enumerate(SIZES)]),
    "a narrow picture": ((50, 20), [(20, 5, 9, 9)]),
    "at an edge": ((200, 200), [(100, 0, 8, 5), (0, 190, 5, 8), (195, 60, 5, 20)]),
}


@pytest.mark.parametrize("name", LAID)
def test_wide_specks_get_their_texture_from_windows_around_them(name):
    shape, places = LAID[name]
    filled = np.zeros(shape, bool)
    for top, left, height, width in places:
        filled[top : top + height, left : left + width] = True
    wide = filled.copy()
    filled[15:17, 2:12] = filled[40, 2::6] = True
    picture, marker = np.random.default_rng(3).random((*shape, 3)).astype(np.float32), Marker()
    result = fill(np.where(filled[..., None], np.float32(np.nan), picture), filled, detailer=marker)
    assert np.array_equal(result[~filled], picture[~filled])
    assert np.array_equal((result == np.float32([1, 0, 0])).all(axis=-1), wide)
    assert all(height <= SHEET[0] and width <= SHEET[1] for height, width, _ in marker.shapes)


def test_texture_comes_from_around_a_speck():
    """Beside stripes it has stripes, which what is smooth does not."""
    detailer = Detailer("auto", 32)
    if detailer._mode == "off":
        pytest.skip("no compiled kernels")
    picture = np.repeat(np.tile(np.float32([[0.2], [0.8]]), (60, 140))[..., None], 3, axis=2)
    filled = np.zeros(picture.shape[:2], bool)
    filled[50:60, 50:60] = filled[20:30, 100:110] = True
    smooth, textured = (fill(picture, filled, detailer=each) for each in (SMOOTH, detailer))
    assert np.abs(textured - picture)[filled].mean() < 0.3 * np.abs(smooth - picture)[filled].mean()


def test_grey_stays_grey(mask):
    grey = np.repeat(np.random.default_rng(4).integers(0, 256, (*mask.shape, 1), np.uint8), 3, axis=2)
    result = fill(grey, mask, detailer=Detailer("auto", 32))
    assert (result == result[..., :1]).all()
