"""Small holes that are filled one by one: which they are, and with what."""

import itertools

import cv2
import numpy as np
import pytest

from lbam_fast.inference import biharmonic as solver
from lbam_fast.inference import specks
from lbam_fast.inference.detail import Detailer
from lbam_fast.inference.masks import Hole
from lbam_fast.inference.sheets import SHEET
from lbam_fast.inference.speck_filler import SpeckFiller
from lbam_fast.inference.specks import find_specks

SIDE = 24
SMOOTH = Detailer("off", 0)


@pytest.fixture
def mask():
    """Holes of all forms up to six pixels wide, at least four pixels apart."""
    rng, filled = np.random.default_rng(0), np.zeros((4 * SIDE, 5 * SIDE), bool)
    for y, x in itertools.product(range(0, filled.shape[0], SIDE), range(0, filled.shape[1], SIDE)):
        height, width = rng.integers(1, 7, 2)
        top, left = (rng.integers(2, SIDE - 2 - side) for side in (height, width))
        filled[y + top : y + top + height, x + left : x + left + width] = rng.random((height, width)) < 0.8
    return filled


@pytest.fixture
def picture():
    found = np.random.default_rng(1).random((4 * SIDE, 5 * SIDE, 3)).astype(np.float32) / 4 + 0.4
    found[0, 0], found[0, 1] = 0, 1  # scikit-image's bounds for what it fills
    return found


def fill(pixels, filled, soft=None, sheet=None, detailer=SMOOTH):
    """Every hole is a speck, in no window unless there is a sheet."""
    found = find_specks(filled)
    assert not found.others.any() and found.in_windows.any() == (sheet is not None)
    result = pixels.copy()
    SpeckFiller(sheet, detailer).into(result, pixels, Hole(filled, soft), found.specks)
    return result


# Which they are


def listed(filled):
    """Which speck each pixel belongs to, from 1 on, and the window of each."""
    owner, windows = np.zeros(filled.shape, np.int64), [-1]
    found = find_specks(filled)
    for each in found.specks:
        assert len(each.rows) == len(each.columns) == each.counts.sum() and len(each.windows) == len(each.counts)
        assert (np.diff(each.counts) <= 0).all() and each.counts[-1] > 0
        assert filled[each.rows, each.columns].all() and not owner[each.rows, each.columns].any()
        owner[each.rows, each.columns] = len(windows) + np.repeat(np.arange(len(each.counts)), each.counts)
        windows += each.windows.tolist()
    for cells, pixels in ((found.others, filled & (owner == 0)), (found.in_windows, np.array(windows)[owner] > 0)):
        expected = np.zeros_like(cells)
        expected[tuple(np.argwhere(pixels).T // specks.CELL)] = True
        assert np.array_equal(cells, expected)
    return owner, np.array(windows)


@pytest.mark.parametrize(
    ("height", "width", "window"),
    [
        (1, 40, 0),
        (6, 6, 0),
        (6, 40, 0),
        (7, 7, 32),
        (12, 12, 32),
        (9, 13, 48),
        (25, 25, 64),
        (40, 40, 96),
        (1, 41, -1),
        (50, 2, -1),
    ],
)
def test_the_window_that_a_hole_needs(height, width, window):
    filled = np.zeros((100, 100), bool)
    filled[5 : 5 + height, 5 : 5 + width] = True
    owner, windows = listed(filled)
    assert set(windows[owner[filled]]) == {window}


def test_many_thin_pixels_near_each_other_need_one():
    filled = np.zeros((100, 100), bool)
    filled[10:50, 10:50] = np.arange(40) % 3 == 0
    assert listed(filled)[1].tolist() == [-1, 96]
    filled[10:50, 10:50] = np.arange(40) % 4 == 0
    assert listed(filled)[1].tolist() == [-1] + 10 * [0]


def test_pixels_that_decide_on_each_other_are_one_speck():
    """Those that two steps along the axes join do; three make no difference."""
    filled = np.zeros((40, 40), bool)
    filled[10, 10] = filled[12, 10] = filled[13, 11] = True
    filled[10, 14] = filled[15, 13] = True
    owner, _ = listed(filled)
    assert owner[10, 10] == owner[12, 10] == owner[13, 11]
    assert len({owner[10, 10], owner[10, 14], owner[15, 13]}) == 3


@pytest.mark.parametrize("shape", [(1, 30), (30, 1), (3, 60), (12, 12)])
def test_what_goes_from_edge_to_edge_is_none(shape):
    """There may be nothing beside it that says how it goes on."""
    filled = np.ones(shape, bool)
    filled[0, 0] = False
    assert not listed(filled)[0].any()


@pytest.mark.parametrize("at_once", [8, 32, 1536])
def test_specks_are_found_once_wherever_pictures_are_cut(monkeypatch, at_once):
    rng = np.random.default_rng(2)
    filled = rng.random((150, 170)) < 0.03
    for y, x, radius in zip(*rng.integers(0, 150, (2, 30)), rng.integers(1, 10, 30), strict=True):
        cv2.circle(filled.view(np.uint8), (int(x), int(y)), int(radius), 1, -1)
    cv2.circle(filled.view(np.uint8), (110, 40), 25, 1, -1)
    whole, windows = listed(filled)
    monkeypatch.setattr(specks, "AT_ONCE", at_once)
    cut, windows_cut = listed(filled)
    assert {-1, 0, 32, 48} <= set(windows) and (filled & (whole == 0)).any()
    pairs = set(zip(whole.ravel().tolist(), cut.ravel().tolist(), strict=True))
    assert len(pairs) == len(windows) == len(windows_cut)
    assert np.array_equal(windows[whole], windows_cut[cut])


def test_a_few_holes_are_searched_by_themselves(monkeypatch):
    """With the same result; and where their rectangles meet, the picture is searched as a whole."""
    filled = np.zeros((300, 400), bool)
    cv2.circle(filled.view(np.uint8), (200, 150), 60, 1, 8)
    filled[10:16, 20:26] = filled[41:46, 77:101] = filled[290:, 5:9] = filled[60, 60] = filled[65, 67] = True
    for hole in (False, True):
        filled[140:150, 190:210] = hole
        found, windows = listed(filled)
        parts = next(specks._parts(filled))
        assert (len(parts) == 1) == hole
        with monkeypatch.context() as patch:
            patch.setattr(specks, "FEW", 0)
            again, windows_again = listed(filled)
        assert windows.tolist() == windows_again.tolist() and np.array_equal(found, again)


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
    mask[:3, 3:9], mask[10:13, :2], mask[-3:, -3:] = True, True, True
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


LAID = {
    "many": ((300, 400), [(top, 50 + 60 * i, 9, 8 + 9 * i) for top in range(5, 270, 50) for i in range(4)]),
    "a narrow picture": ((50, 20), [(20, 5, 9, 9)]),
    "at an edge": ((200, 200), [(100, 0, 8, 5), (0, 180, 9, 20), (190, 60, 10, 31), (80, 172, 8, 28)]),
    "a crowd": ((120, 120), [(top, left, 8, 8) for top in range(10, 110, 12) for left in range(10, 110, 13)]),
}


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", LAID)
def test_others_are_filled_in_windows_with_what_is_around_them(name, channels):
    shape, places = LAID[name]
    picture = np.random.default_rng(3).integers(1, 256, (*shape, channels)).astype(np.uint16)
    filled, deep = np.zeros(shape, bool), np.zeros(shape, bool)
    for top, left, height, width in places:
        deep[top : top + height, left : left + width] = True
    filled[2:4, 2:12] = True
    filled |= deep
    sheets = []

    def sheet(pixels, hole, side):
        sheets.append((pixels, hole.filled, side))
        assert pixels.shape[0] <= SHEET[0] and pixels.shape[1] <= SHEET[1] and hole.filled.shape == pixels.shape[:2]
        assert pixels.shape[0] % side == pixels.shape[1] % side == 0
        return np.where(hole.filled[..., None], pixels + 1000, pixels)

    result = fill(picture, filled, sheet=sheet)
    assert np.array_equal(result[~filled], picture[~filled])
    assert np.array_equal(result[deep], picture[deep] + 1000)
    smooth = filled & ~deep
    assert (result[smooth] < 256).all()
    if min(shape) > 96:
        for pixels, hole, side in sheets:
            windows = [
                (pixels[y : y + side, x : x + side], hole[y : y + side, x : x + side])
                for y in range(0, hole.shape[0], side)
                for x in range(0, hole.shape[1], side)
            ]
            assert all(is_part(*window, picture, filled) for window in windows if window[0].any())


def is_part(window, hole, picture, filled):
    """Whether that lies anywhere in the picture, as it is."""
    side = len(hole)
    rows, columns = np.nonzero((picture == window[0, 0]).all(axis=-1))
    return any(
        np.array_equal(picture[y : y + side, x : x + side], window) and np.array_equal(filled[y : y + side, x : x + side], hole)
        for y, x in zip(rows, columns, strict=True)
    )


@pytest.mark.parametrize(("side", "window"), [*zip(specks.SIDES, specks.WINDOWS, strict=True)])
def test_a_window_shows_as_much_on_all_sides_where_it_can(side, window):
    filled = np.zeros((300, 300), bool)
    filled[100 : 100 + side, 150 : 150 + side] = filled[:9, 290:] = True
    seen = []
    fill(np.zeros((300, 300, 1), np.uint8), filled, sheet=lambda pixels, hole, _: seen.append(hole.filled) or pixels)
    rows, columns = np.nonzero(next(hole for hole in seen if hole[:window, :window].sum() == side**2)[:window, :window])
    assert rows.min() == columns.min() == (window - side) // 2


def test_grey_stays_grey(mask):
    grey = np.repeat(np.random.default_rng(4).integers(0, 256, (*mask.shape, 1), np.uint8), 3, axis=2)
    result = fill(grey, mask)
    assert (result == result[..., :1]).all()
