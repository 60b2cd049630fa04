"""Strategies for large pictures: what is chosen and why, boxes and tiles, known pixels to the bit, and no seams."""

import dataclasses
import itertools
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from networks import one_thread  # noqa: F401 - applies itself
from PIL import Image
from typer.testing import CliRunner

from lbam_fast import LBAM, Inpainter, InpaintError, LBAMConfig
from lbam_fast.cli import app
from lbam_fast.inference import MaskOptions, boxes, find_hole, padding, parts, strategies, tiles
from lbam_fast.inference.boxes import Box
from lbam_fast.inference.detail import Detailer
from lbam_fast.inference.masks import Hole
from lbam_fast.inference.reduced import enlarged, reduced
from lbam_fast.inference.regions import extent
from lbam_fast.inference.speck_filler import SpeckFiller
from lbam_fast.inference.strategies import MOST_WHOLE, PlanOptions, plan
from lbam_fast.pictures import read_picture

DOCS = Path(__file__).parent.parent / "docs"
EXAMPLE, PAGE = DOCS / "example" / "china.jpg", DOCS / "large-pictures.md"
PARTIAL = ("resize", "crop", "tile")
SIDE = 384


def filled(height, width, *holes):
    """A mask of ellipses, each (row, column, half height, half width)."""
    mask = np.zeros((height, width), np.uint8)
    for y, x, down, across in holes:
        cv2.ellipse(mask, (x, y), (across, down), 0, 0, 360, 1, -1)
    return mask.astype(bool)


def speckled(height, width, count, side=6, seed=0):
    mask, rng = np.zeros((height, width), bool), np.random.default_rng(seed)
    for y, x in zip(rng.integers(0, height - side, count), rng.integers(0, width - side, count), strict=True):
        mask[y : y + side, x : x + side] = True
    return mask


# What is chosen


@pytest.mark.parametrize(
    ("mask", "strategy", "why"),
    [
        (filled(1024, 1024, (500, 500, 9, 9)), "whole", "1.0 megapixels are few"),
        (filled(1100, 1100, (500, 500, 9, 9)), "crop", "1 box around its holes is 2% of 1.2 megapixels"),
        (filled(1500, 1500, (500, 500, 9, 9), (900, 1300, 50, 20)), "crop", "2 boxes around its holes are 3% of 2.2 megapixels"),
        (filled(1500, 1500, (750, 750, 600, 600)), "whole", "which saves too little"),
        (speckled(1500, 1500, 3000), "whole", "which saves too little"),
        (filled(3000, 4000, (1500, 1500, 800, 90)), "tile", "has more than 1024 pixels on a side, of 12.0 megapixels"),
        (speckled(3000, 4000, 9000), "tile", "has more than 1024 pixels on a side"),
    ],
)
def test_auto_chooses_by_sizes_and_says_why(mask, strategy, why):
    chosen = plan(mask)
    assert (chosen.strategy, chosen.chosen) == (strategy, mask.size > boxes.STEP * 8192)
    assert why in str(chosen)


def test_auto_keeps_within_memory():
    mask = filled(1500, 1500, (750, 750, 600, 600))
    assert mask.size < MOST_WHOLE
    assert plan(mask, PlanOptions(bytes_per_pixel=100, memory=100 * mask.size)).strategy == "whole"
    assert plan(mask, PlanOptions(bytes_per_pixel=100, memory=100 * mask.size - 1)).strategy == "tile"


@pytest.mark.parametrize("strategy", ["whole", *PARTIAL])
def test_what_is_asked_for_is_done(strategy):
    mask = filled(500, 500, (250, 250, 20, 20))
    chosen = plan(mask, PlanOptions(strategy))
    assert (chosen.strategy, chosen.chosen) == (strategy, False)
    assert Inpainter(LBAM(LBAMConfig(base_width=2)), strategy=strategy).plan(Hole(mask)) == chosen


def test_a_picture_without_a_hole_has_no_boxes():
    assert not plan(np.zeros((1100, 1100), bool)).boxes


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"strategy": "best"}, "strategy is 'best', expected one of auto, whole, resize, crop, tile"),
        ({"side": 500}, "side is 500"),
    ],
)
def test_bad_options_say_what_was_expected(options, message):
    with pytest.raises(InpaintError, match=message):
        PlanOptions(**options)


def test_a_bad_strategy_is_told_of_by_the_inpainter():
    with pytest.raises(InpaintError, match="strategy is 'best'"):
        Inpainter(LBAM(LBAMConfig(base_width=2)), strategy="best")


# Boxes


def apart(planned, mask):
    """Whether every hole pixel lies in one inner part, with all the hole pixels that touch it."""
    owner = np.zeros(mask.shape, np.int64)
    for number, box in enumerate(planned, 1):
        if (owner[box.inner] > 0).any():
            return False
        owner[box.inner] = number
    owners = np.where(mask, owner, -1)
    near = (cv2.dilate(owners.astype(np.float32), np.ones((3, 3))) == owners) | ~mask
    return bool((owner[mask] > 0).all() and near.all())


MASKS = {
    "one": filled(700, 900, (300, 300, 50, 50)),
    "at the edges": filled(700, 900, (0, 0, 30, 30), (699, 450, 30, 30)),
    "one in a ring": filled(700, 900, (350, 400, 200, 200)) & ~filled(700, 900, (350, 400, 150, 150))
    | filled(700, 900, (350, 400, 9, 9)),
    "few": speckled(1900, 2100, 30),
    "many": speckled(1900, 2100, 2000),
    "narrow": filled(20, 3000, (10, 500, 5, 5), (10, 2500, 5, 5)),
}


@pytest.mark.parametrize("name", MASKS)
def test_boxes_hold_whole_holes_with_context(name):
    mask = MASKS[name]
    planned = plan(mask, PlanOptions("crop")).boxes
    assert apart(planned, mask)
    for box in planned:
        for inner, outer, side in zip(box.inner, box.outer, mask.shape, strict=True):
            assert 0 <= outer.start <= inner.start < inner.stop <= outer.stop <= side
            length = outer.stop - outer.start
            assert length == side or (length % 128 == 0 and (length <= 512 or length % 256 == 0))
            for gap, room in ((inner.start - outer.start, inner.start), (outer.stop - inner.stop, side - inner.stop)):
                assert gap >= min(boxes.LEAST_CONTEXT, room)


def test_a_box_that_cuts_a_hole_is_caught():
    """Planted fault."""
    mask = MASKS["one"]
    (box,) = plan(mask, PlanOptions("crop")).boxes
    rows, columns = box.inner
    halves = slice(columns.start, 300), slice(300, columns.stop)
    assert not apart([Box(box.outer, (rows, half)) for half in halves], mask)
    assert not apart([], mask)


@pytest.mark.parametrize("count", [10, 100, 1000, 10000])
def test_speckles_cost_no_more_than_the_picture_and_come_in_few_sizes(count):
    mask = speckled(2048, 2048, count)
    planned = plan(mask, PlanOptions("crop")).boxes
    sizes = {extent(box.outer) for box in planned}
    assert sum(np.prod(extent(box.outer)) for box in planned) <= mask.size
    assert len(planned) <= 100 and len(sizes) <= 20


def test_near_holes_share_a_box_and_distant_ones_do_not():
    near, far = filled(900, 900, (400, 400, 9, 9), (400, 480, 9, 9)), filled(900, 900, (100, 100, 9, 9), (700, 700, 9, 9))
    assert [len(plan(mask, PlanOptions("crop")).boxes) for mask in (near, far)] == [1, 2]


SPECKLED = {
    "sparse": speckled(1500, 1600, 300),
    "of all sizes": speckled(1500, 1600, 60, 3) | speckled(1500, 1600, 60, 20, 1) | speckled(1500, 1600, 40, 45, 2),
    "beside a large hole": speckled(1500, 1600, 300) | filled(1500, 1600, (700, 700, 300, 200)),
    "dense": speckled(1100, 1200, 3000, 4),
    "at the edges": speckled(1100, 1200, 60, 3)[:, ::-1] | np.pad(np.zeros((1098, 1198), bool), 1, constant_values=True),
    "strokes": filled(1100, 1200, *((y, x, 2, 15) for y in range(40, 1100, 90) for x in range(60, 1200, 160))),
}


def without_specks(planned, mask):
    left = mask.copy()
    for some in planned.specks:
        assert left[some.rows, some.columns].all()
        left[some.rows, some.columns] = False
    return left


@pytest.mark.parametrize("name", SPECKLED)
def test_boxes_hold_what_is_no_speck(name):
    mask = SPECKLED[name]
    planned = plan(mask, PlanOptions("tile", specks=True))
    assert planned.specks and apart((*planned.boxes, *planned.tiled), without_specks(planned, mask))


def test_a_crowd_of_specks_is_not_compared_pair_by_pair(monkeypatch):
    """The time of which grows with the square of their number."""
    counts, merged = [], boxes._merged
    monkeypatch.setattr(boxes, "_merged", lambda found, *rest: counts.append(len(found)) or merged(found, *rest))
    mask = speckled(3000, 4000, 12000, 15)
    planned = plan(mask, PlanOptions("tile", specks=True))
    assert apart((*planned.boxes, *planned.tiled), without_specks(planned, mask))
    assert 1 < max(counts) <= boxes.MOST_GROUPS


@pytest.mark.parametrize("side", [6, 12, 20])
def test_sparse_specks_cost_a_fraction_of_the_picture(side):
    mask = speckled(2250, 3000, (2250 * 3000) // (12 * side) ** 2, side)
    planned, without = (plan(mask, PlanOptions("tile", specks=specks)) for specks in (True, False))
    assert pixels_read(planned) < 0.2 * mask.size < pixels_read(without)


def pixels_read(planned):
    windows = np.concatenate([some.windows.astype(int) for some in planned.specks] or [[]])
    return sum(int(np.prod(extent(box.outer))) for box in (*planned.boxes, *planned.tiled)) + int((windows**2).sum())


@pytest.mark.parametrize(("count", "in_windows"), [(strategies.FEW, False), (strategies.FEW + 1, True), (9000, False)])
def test_windows_are_for_many_that_are_not_too_many(count, in_windows):
    corners = np.mgrid[20:2900:30, 20:2900:30].reshape(2, -1)[:, :: 9216 // count][:, :count]
    mask = np.zeros((3000, 3000), bool)
    for y, x in corners.T:
        mask[y : y + 20, x : x + 20] = True
    planned = plan(mask, PlanOptions("tile", specks=True))
    assert bool(planned.specks) == in_windows
    if not in_windows:
        assert planned == plan(mask, PlanOptions("tile"))


def test_specks_alone_need_no_box():
    mask = speckled(1500, 1600, 40)
    planned = plan(mask, PlanOptions(specks=True))
    assert (planned.strategy, planned.boxes, planned.chosen) == ("crop", (), True)
    assert re.fullmatch(r"\d+ specks are 0% of 2.4 megapixels", planned.why) and not without_specks(planned, mask).any()
    beside = plan(mask | filled(1500, 1600, (700, 700, 90, 90)), PlanOptions(specks=True))
    assert beside.strategy == "crop"
    assert re.fullmatch(r"\d+ specks and 1 box around its other holes are \d+% of 2.4 megapixels", beside.why)


@pytest.mark.sampled("dtype", "size")
@pytest.mark.parametrize("size", [4, 8, 20])
@pytest.mark.parametrize(("dtype", "channels"), [(np.uint8, 3), (np.uint16, 1), (np.float32, 3)])
def test_small_holes_are_filled_as_in_the_whole_picture(shipped, dtype, channels, size):
    whole, crop = (Inpainter(shipped.model, detail="off", strategy=strategy, grow=1, feather=1) for strategy in ("whole", "crop"))
    scale = 1 if dtype == np.float32 else np.iinfo(dtype).max
    given = (smooth(640, 768, channels) * scale).astype(dtype)
    mask = speckled(640, 768, 40, size)
    hole = find_hole(mask.astype(np.float32), whole.options)
    windows = np.concatenate([some.windows for some in crop.plan(hole).specks])
    assert (windows == {4: 0, 8: 32, 20: 48}[size]).any()  # one pixel wider on each side
    picture = np.where(mask[..., None], np.nan, given) if dtype == np.float32 else np.where(mask[..., None], 0, given)
    one, other = (each.fill([picture.astype(dtype)], [hole])[0] for each in (whole, crop))
    assert other.dtype == dtype and np.array_equal(other[~hole.filled], given[~hole.filled])
    errors = [np.sqrt(np.mean((each[mask] / scale - given[mask] / scale) ** 2)) for each in (one, other)]
    assert errors[1] < 1.1 * errors[0] + 0.002


def smooth(height, width, channels):
    """Waves whose mean drifts: what is right for one place is wrong for another."""
    rows, columns = np.mgrid[:height, :width]
    waves = [
        0.5 + rows / height / 4 - columns / width / 4 + 0.1 * np.sin(rows / (15 + i) + columns / 19) for i in range(channels)
    ]
    return np.stack(waves, axis=-1).astype(np.float32)


def test_a_trend_that_windows_share_is_caught(shipped, monkeypatch):
    """Planted fault: the trend of the whole sheet in place of each window's; linear pictures are filled exactly by each's own."""
    rows, columns = np.mgrid[:640, :768]
    picture = np.stack([rows / 800 + columns / 9000] * 3, axis=-1).astype(np.float32)
    mask = speckled(640, 768, 40, 20)
    crop = Inpainter(shipped.model, detail="off", strategy="crop")

    def error():
        return np.abs(crop.fill([np.where(mask[..., None], 0, picture).astype(np.float32)], [Hole(mask)])[0] - picture)[
            mask
        ].max()

    assert error() < 1e-4
    monkeypatch.setattr(padding, "_windowed_plane", lambda image, known, _: padding.plane(image, known))
    assert error() > 3e-3


# Tiles


@pytest.mark.parametrize("length", [100, 384, 385, 500, 1000, 1024, 1999])
def test_shares_of_tiles_add_up_to_one(length):
    region = slice(7, 7 + length), slice(3, 300)
    total = np.zeros((length + 7, 300))
    for tile in itertools.chain(*tiles.tile_rows(region, SIDE)):
        assert extent(tile.region) == (len(tile.down), len(tile.across))
        assert max(extent(tile.region)) <= SIDE
        total[tile.region] += tile.down[:, None] * tile.across
    assert np.allclose(total[region], 1) and not total[:7].any()


def test_a_reduced_picture_has_the_means_of_known_pixels_and_lies_in_its_place():
    down, across = np.mgrid[:90, :130].astype(np.float32) / 200
    picture = np.stack([down, across, np.full_like(down, 0.5)], axis=-1)
    mask = filled(90, 130, (40, 60, 15, 20))
    region = slice(10, 83), slice(5, 130)
    small, known = reduced(np.where(mask[..., None], np.nan, picture), mask, region, 4)
    assert small.shape == (19, 32, 3) and known.min() == 0 and known.max() == 1
    back = enlarged(small, (slice(0, 73), slice(0, 125)), 4)
    inside = ~cv2.dilate(mask.astype(np.uint8), np.ones((25, 25))).astype(bool)[region]
    inside[:4], inside[-5:], inside[:, :4], inside[:, -5:] = False, False, False, False
    assert np.abs(back - picture[region])[inside].max() < 3e-3  # enlarged in steps of 1/32 of a pixel


# Results


@pytest.fixture(scope="module")
def inpainter():
    torch.manual_seed(0)
    return Inpainter(LBAM(LBAMConfig(base_width=2)), detail="off", strategy="whole")


@pytest.fixture(scope="module")
def shipped():
    return Inpainter.from_pretrained(detail="off", strategy="whole")


def in_parts(inpainter, pixels, hole, strategy, detail="off"):
    """The picture filled with a small ``side``; ``inpainter`` must do all pictures whole."""
    detailer = Detailer(detail, inpainter.model.config.base_width)
    filler = dataclasses.replace(inpainter._part_filler(), specks=SpeckFiller(None, detailer), detailer=detailer)
    return filler(pixels, hole, plan(hole.filled, PlanOptions(strategy, side=SIDE)))


HOLES = filled(450, 520, (40, 40, 9, 15), (250, 300, 30, 160))


@pytest.mark.parametrize("strategy", PARTIAL)
@pytest.mark.parametrize(
    ("dtype", "channels", "detail"), [(np.uint8, 3, "exemplar"), (np.uint16, 1, "off"), (np.float32, 3, "off")]
)
def test_known_pixels_stay_and_holes_have_no_say(inpainter, monkeypatch, strategy, dtype, channels, detail):
    monkeypatch.setattr(parts, "DEPTH", 24)
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 256, (*HOLES.shape, channels)).astype(dtype) / (1 if np.issubdtype(dtype, np.integer) else 255)
    picture = picture.astype(dtype)
    hole = find_hole(HOLES.astype(np.float32), MaskOptions(grow=4, feather=4))
    drawn, before = hole.weight == 1, picture.copy()
    result = in_parts(inpainter, picture, hole, strategy, detail)
    assert result.shape == picture.shape and result.dtype == dtype
    assert np.array_equal(result[~hole.filled], picture[~hole.filled]) and np.array_equal(picture, before)
    assert (result[hole.filled] != picture[hole.filled]).mean() > 0.8
    picture[drawn] = np.nan if np.issubdtype(dtype, np.floating) else 7
    assert np.array_equal(in_parts(inpainter, picture, hole, strategy, detail), result)


def test_a_hole_in_tiles_has_no_say_in_its_neighbour_s_texture(inpainter):
    mask = filled(600, 520, (180, 260, 4, 200), (400, 260, 4, 200))
    picture = np.random.default_rng(0).uniform(0, 1, (*mask.shape, 3)).astype(np.float32)
    planned = plan(mask, PlanOptions("tile", side=SIDE))
    assert len(planned.tiled) == 2
    results = [
        in_parts(inpainter, np.where(mask[..., None], held, picture), Hole(mask), "tile", "exemplar") for held in (0, np.nan)
    ]
    assert np.array_equal(*results)


@pytest.mark.parametrize("strategy", PARTIAL)
def test_a_picture_of_one_part_is_filled_as_a_whole(inpainter, strategy):
    picture = np.random.default_rng(0).integers(0, 256, (128, 128, 3), dtype=np.uint8)
    hole = Hole(filled(128, 128, (60, 60, 30, 25)))
    assert np.array_equal(in_parts(inpainter, picture, hole, strategy), inpainter.fill([picture], [hole])[0])


def test_boxes_of_one_size_go_through_the_network_together(monkeypatch):
    inpainter = Inpainter(LBAM(LBAMConfig(base_width=2)), detail="off")
    counts, forward = [], inpainter.model.forward
    monkeypatch.setattr(
        inpainter.model, "forward", lambda image, *more, **k: counts.append(len(image)) or forward(image, *more, **k)
    )
    mask = filled(1100, 1100, *((y, x, 8, 8) for y in (100, 500, 900) for x in (100, 500, 900)))
    picture = np.random.default_rng(0).integers(0, 256, (*mask.shape, 3), dtype=np.uint8)
    (result,) = inpainter.fill([picture], [Hole(mask)])
    assert counts == [9]
    assert np.array_equal(result[~mask], picture[~mask]) and (result[mask] != picture[mask]).mean() > 0.9


def test_boxes_of_several_sizes_get_their_texture_together(monkeypatch):
    inpainter = Inpainter(LBAM(LBAMConfig(base_width=2)), detail="exemplar", strategy="crop")
    counts, several = [], inpainter.detailer.several
    monkeypatch.setattr(inpainter.detailer, "several", lambda *each: counts.append(len(each[0])) or several(*each))
    mask = filled(1600, 1600, (100, 100, 60, 60), (500, 100, 90, 20), (800, 800, 150, 90))
    picture = np.random.default_rng(0).integers(0, 256, (*mask.shape, 3), dtype=np.uint8)
    hole = Hole(mask)
    cut = inpainter.plan(hole).boxes
    assert len({extent(box.outer) for box in cut}) == len(cut) == 3
    (result,) = inpainter.fill([picture], [hole])
    assert counts == [3]
    whole = Inpainter(inpainter.model, detail="exemplar", strategy="whole")
    for box in cut:
        (alone,) = whole.fill([picture[box.outer]], [Hole(mask[box.outer])])
        assert np.array_equal(result[box.outer], alone)
    assert [len(calls) for calls in parts._calls(cut)] == [3]
    monkeypatch.setattr(parts, "AT_ONCE", 1)
    assert [[len(call) for call in calls] for calls in parts._calls(cut)] == [[1], [1], [1]]


def test_pictures_with_different_plans_go_together():
    inpainter = Inpainter(LBAM(LBAMConfig(base_width=2)), detail="off")
    masks = filled(1100, 1000, (500, 500, 9, 9)), filled(1100, 1000, (550, 500, 400, 400))
    holes = [Hole(mask) for mask in masks]
    assert [inpainter.plan(hole).strategy for hole in holes] == ["crop", "whole"]
    pictures = [np.full((1100, 1000, 3), 99, np.uint8)] * 2
    together = inpainter.fill(pictures, holes)
    for picture, hole, result in zip(pictures, holes, together, strict=True):
        assert np.array_equal(result, inpainter.fill([picture], [hole])[0])


# Texture


@pytest.mark.parametrize(("around", "seam"), [(64, False), (0, True)])
def test_texture_goes_on_from_cell_to_cell(shipped, monkeypatch, around, seam):
    """Planted fault: cells that see nothing around them, so not what was laid before them either."""
    monkeypatch.setattr(parts, "TEXTURED", 96)
    monkeypatch.setattr(parts, "AROUND", around)
    picture = cv2.GaussianBlur(np.random.default_rng(0).uniform(0, 1, (300, 520, 3)).astype(np.float32), (0, 0), 1.5)
    picture = (picture - picture.min()) / np.ptp(picture)
    mask = filled(300, 520, (150, 260, 20, 180))
    result = in_parts(shipped, picture, Hole(mask), "tile", "exemplar")
    columns = [int(np.flatnonzero(mask.any(axis=0))[0]) + 96 * i for i in (1, 2, 3)]
    assert (jump(result, mask, columns) > 1.2) == seam


# Seams


def jump(result, mask, columns):
    """The mean step across these columns inside the hole, beside the mean of those from 4 to 12 pixels away."""
    steps = np.abs(np.diff(result, axis=1)).mean(axis=-1)
    inside = mask[:, 1:] & mask[:, :-1]

    def mean(chosen):
        chosen = np.unique(chosen) - 1
        return steps[:, chosen][inside[:, chosen]].mean()

    columns = np.asarray(columns)
    around = np.concatenate([columns + by for by in (*range(-12, -3), *range(4, 13))])
    return mean(columns) / mean(around)


def worst_jump(result, mask):
    """The largest of where tiles start, where they end, and where one gives way to the next."""
    (tiled,) = plan(mask, PlanOptions("tile", side=SIDE)).tiled
    spans = [tile.region[1] for tile in tiles.tile_rows(tiled.outer, SIDE)[0]]
    pairs = list(itertools.pairwise(spans))
    starts, stops = [after.start for _, after in pairs], [before.stop for before, _ in pairs]
    middles = [(start + stop) // 2 for start, stop in zip(starts, stops, strict=True)]
    return max(jump(result, mask, columns) for columns in (starts, stops, middles))


@pytest.fixture(scope="module")
def example():
    """A photograph, and a hole larger than a tile with a part deep in it."""
    picture = read_picture(EXAMPLE).pixels.astype(np.float32) / 255
    return picture, Hole(filled(*picture.shape[:2], (213, 320, 150, 290)))


@pytest.mark.parametrize(
    ("depth", "blended", "seam"), [(parts.DEPTH, tiles.BLENDED, False), (1000, tiles.BLENDED, False), (1000, 1e-6, True)]
)
def test_tiles_leave_no_seam(shipped, example, monkeypatch, depth, blended, seam):
    """With and without a reduced picture for them to agree on. Planted fault: tiles that are not blended."""
    monkeypatch.setattr(parts, "DEPTH", depth)
    monkeypatch.setattr(tiles, "BLENDED", blended)
    picture, hole = example
    assert (worst_jump(in_parts(shipped, picture, hole, "tile"), hole.filled) > 1.5) == seam


# The command line


@pytest.fixture
def large(tmp_path):
    """The files of a picture of more than a megapixel and of its mask, a small hole."""
    mask = filled(1040, 1100, (500, 500, 9, 9))
    picture = np.random.default_rng(0).integers(0, 256, (*mask.shape, 3), dtype=np.uint8)
    for name, pixels in (("picture", picture), ("mask", mask.astype(np.uint8) * 255)):
        Image.fromarray(pixels).save(tmp_path / f"{name}.png", compress_level=1)
    return tmp_path, picture, mask


@pytest.mark.parametrize("options", [(), ("--quiet",), ("--strategy", "crop")], ids=" ".join)
def test_the_command_says_what_was_chosen(large, options):
    folder, picture, mask = large
    paths = [str(folder / name) for name in ("picture.png", "mask.png", "out.png")]
    result = CliRunner().invoke(app, ["inpaint", *paths[:2], "-o", paths[2], "--detail", "off", *options])
    assert result.exit_code == 0, result.output
    said = "picture.png: strategy crop: 1 box around its holes is 2% of 1.1 megapixels" in result.output
    assert said == (not options)
    with Image.open(paths[2]) as image:
        assert np.array_equal(np.asarray(image)[~mask], picture[~mask])


def test_the_command_refuses_other_strategies(large):
    folder, *_ = large
    result = CliRunner().invoke(app, ["inpaint", str(folder), "-o", str(folder / "out"), "--strategy", "best"])
    assert result.exit_code == 2 and "auto" in result.output


def test_the_example_of_the_page_runs(capsys):
    (example,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)
    exec(example, {})
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("strategy crop: 2 boxes") and len(lines) == 3
