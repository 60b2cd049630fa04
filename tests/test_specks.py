"""Holes a few pixels wide, which the network does not see."""

import numpy as np
import pytest

from lbam_fast.inference import specks
from lbam_fast.inference.boxes import Box
from lbam_fast.inference.masks import Hole
from lbam_fast.inference.parts import fill_boxes
from lbam_fast.inference.specks import are_specks, fill_specks

SIDE = 24


@pytest.fixture
def mask():
    """A hole in each square, at least two pixels away from its edge."""
    rng, filled = np.random.default_rng(0), np.zeros((4 * SIDE, 5 * SIDE), bool)
    for y in range(0, filled.shape[0], SIDE):
        for x in range(0, filled.shape[1], SIDE):
            height, width = rng.integers(1, 9, 2)
            top, left = (rng.integers(2, SIDE - 2 - side) for side in (height, width))
            filled[y + top : y + top + height, x + left : x + left + width] = rng.random((height, width)) < 0.8
    return filled


@pytest.fixture
def picture():
    found = np.random.default_rng(1).random((4 * SIDE, 5 * SIDE, 3)).astype(np.float32) / 4 + 0.4
    found[0, 0], found[0, 1] = 0, 1  # scikit-image's bounds for what it fills
    return found


@pytest.mark.parametrize("at_once", [1, specks.MOST_ENTRIES])
def test_it_is_the_biharmonic_solution(mask, picture, monkeypatch, at_once):
    restoration = pytest.importorskip("skimage.restoration")
    monkeypatch.setattr(specks, "MOST_ENTRIES", at_once)
    expected = restoration.inpaint_biharmonic(picture.astype(np.float64), mask, channel_axis=-1)
    filled = fill_specks(picture, Hole(mask), SIDE)
    assert np.abs(filled - expected)[mask].max() < 1e-5
    assert np.array_equal(filled[~mask], picture[~mask])


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_a_slope_goes_on_up_to_the_edge_of_the_picture(dtype, channels):
    rows, columns = np.mgrid[:SIDE, : 2 * SIDE]
    mask = np.zeros((SIDE, 2 * SIDE), bool)
    mask[:6, 3:9], mask[10:13, :2], mask[-8:, -8:] = True, True, True
    top = 1 if dtype == np.float32 else np.iinfo(dtype).max
    given = np.repeat((0.2 + rows / 90 + columns / 180)[..., None], channels, axis=2) * top
    given = (np.rint(given) if top > 1 else given).astype(dtype)
    unknown = given.copy()
    unknown[mask] = np.nan if dtype == np.float32 else top
    filled = fill_specks(unknown, Hole(mask), SIDE)
    assert filled.dtype == dtype and np.array_equal(filled[~mask], given[~mask])
    tolerance = {np.uint8: 3, np.uint16: 3, np.float32: 1e-6}[dtype]  # whole numbers make a slope of up to 8 pixels uncertain
    assert np.abs(filled.astype(np.float64) - given)[mask].max() <= tolerance


def test_squares_know_nothing_of_each_other(mask, picture):
    """And a planted fault: with the neighbour's pixels beside it, a hole at a square's edge is filled otherwise."""
    mask[:, SIDE - 5 : SIDE] |= mask[:, 2:7]
    other = picture.copy()
    other[:, SIDE:] = 1 - other[:, SIDE:]
    first, second = (fill_specks(each, Hole(mask), SIDE)[:, :SIDE] for each in (picture, other))
    assert np.array_equal(first, second)
    square = slice(0, 4 * SIDE), slice(0, 4 * SIDE)
    as_one = [fill_specks(each[square], Hole(mask[square]), 4 * SIDE)[:, :SIDE] for each in (picture, other)]
    assert not np.array_equal(*as_one)


def test_an_edge_that_blends_is_blended(picture):
    filled = np.zeros(picture.shape[:2], bool)
    filled[5:9, 5:9] = True
    weight = filled.astype(np.float32)
    weight[5, 5:9] = 0.25
    full, soft = fill_specks(picture, Hole(filled), SIDE), fill_specks(picture, Hole(filled, weight), SIDE)
    assert np.allclose(soft[5, 5:9], 0.25 * full[5, 5:9] + 0.75 * picture[5, 5:9], atol=1e-6)
    assert np.array_equal(soft[6:9, 5:9], full[6:9, 5:9])


@pytest.mark.parametrize(
    ("height", "width", "expected"), [(1, 90, True), (8, 8, True), (8, 64, True), (9, 9, False), (9, 56, False)]
)
def test_what_counts_as_specks(height, width, expected):
    filled = np.zeros((100, 100), bool)
    filled[5 : 5 + height, 5 : 5 + width] = True
    assert are_specks(filled) == expected
    filled[50:] = np.arange(100) % 2  # thin, but many
    assert not are_specks(filled)


@pytest.mark.parametrize(("size", "by_network"), [(3, False), (8, False), (9, True)])
def test_the_network_gets_what_is_larger(size, by_network):
    asked = []

    def sheet(pixels, hole, side):
        asked.append(side)
        return pixels.copy()

    filled = np.zeros((64, 64), bool)
    filled[20 : 20 + size, 20 : 20 + size] = True
    box = Box((slice(10, 42), slice(10, 42)), (slice(20, 20 + size), slice(20, 20 + size)))
    pixels = np.full((64, 64, 3), 0.5, np.float32)
    result = np.where(filled[..., None], np.float32(0), pixels)
    fill_boxes(None, sheet, pixels, result, Hole(filled), [box])
    assert asked == ([32] if by_network else [])
    assert np.allclose(result, 0.5)
