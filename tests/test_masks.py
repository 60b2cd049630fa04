"""Random masks, and photographs as crops under them."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from lbam_fast.data import MASK_KINDS, PhotographCrops, noise_mask, picture_files, random_mask, scratch_mask, stroke_mask
from lbam_fast.data.framing import has_detail
from lbam_fast.data.masks import STROKES, Strokes, _lowest
from lbam_fast.pictures import PictureError


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize("kind", MASK_KINDS)
@pytest.mark.parametrize("ratio", [(0.1, 0.2), (0.3, 0.5)])
@pytest.mark.parametrize("size", [(128, 128), (97, 151)], ids=["square", "prime sides"])
def test_masks_hold_zeros_and_ones_with_the_ratio_asked_for(kind, ratio, size):
    for seed in range(3):
        mask = random_mask(rng(seed), *size, kind, ratio)
        assert (mask.shape, mask.dtype) == (size, np.uint8)
        assert set(np.unique(mask)) == {0, 1}
        assert ratio[0] <= (mask == 0).mean() <= ratio[1] + 1e-9


@pytest.mark.parametrize("kind", MASK_KINDS)
def test_a_seed_decides_the_mask(kind):
    first, again, other = (random_mask(rng(seed), 128, 128, kind) for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("ratio", [0, 0.001, 0.25, 1])
def test_noise_meets_its_ratio_to_the_pixel(ratio):
    mask = noise_mask(rng(), 100, 130, ratio)
    assert (mask == 0).sum() == round(ratio * 100 * 130)


@pytest.mark.parametrize("count", [0, 1, 333, 999, 1000])
def test_of_equal_values_the_first_are_the_lowest(count):
    values = rng().integers(0, 7, 1000)
    expected = np.zeros(1000, bool)
    expected[np.argsort(values, kind="stable")[:count]] = True
    assert np.array_equal(_lowest(values, count), expected)


def border(mask: np.ndarray) -> int:
    """Pixels of the hole that touch known ones."""
    hole = (mask == 0).astype(np.uint8)
    return int((hole - cv2.erode(hole, np.ones((3, 3), np.uint8))).sum())


def test_more_cells_make_smaller_blobs():
    coarse, fine = (np.mean([border(noise_mask(rng(s), 128, 128, 0.3, cells)) for s in range(5)]) for cells in (4, 20))
    assert fine > 2 * coarse


def test_kinds_differ_in_the_width_of_their_strokes():
    """At an equal share of hole, thinner strokes have a longer border."""
    lengths = [
        np.mean([border(random_mask(rng(s), 256, 256, kind, (0.28, 0.32))) for s in range(5)])
        for kind in ("thin", "medium", "thick")
    ]
    assert lengths == sorted(lengths, reverse=True)
    assert lengths[0] > 1.5 * lengths[2]


@pytest.mark.parametrize("kind", STROKES)
def test_strokes_scale_with_the_size(kind):
    small, large = (np.mean([(stroke_mask(rng(s), n, n, STROKES[kind]) == 0).mean() for s in range(20)]) for n in (128, 512))
    assert large == pytest.approx(small, rel=0.35)


def test_boxes_stay_within_the_margin():
    only_boxes = Strokes((1, 1), 1, 1, box_probability=1, boxes=(3, 3), box_side=(30, 60), box_margin=40)
    for seed in range(5):
        hole = stroke_mask(rng(seed), 256, 256, only_boxes) == 0
        boxes = cv2.morphologyEx(hole.astype(np.uint8), cv2.MORPH_OPEN, np.ones((25, 25), np.uint8))
        rows, columns = np.nonzero(boxes)
        assert min(rows.min(), columns.min()) >= 40
        assert max(rows.max(), columns.max()) < 256 - 40


@pytest.mark.parametrize(
    ("kind", "strokes"),
    [
        ("thin", Strokes((4, 50), 10, 40)),
        ("medium", Strokes((4, 5), 50, 100, 0.3, (1, 5), (10, 50), 0)),
        ("thick", Strokes((1, 5), 100, 200, 0.3, (1, 3), (30, 150), 10)),
    ],
)
def test_strokes_are_those_of_lamas_published_configurations(kind, strokes):
    """configs/data_gen/random_{thin,medium,thick}_256.yaml"""
    assert STROKES[kind] == strokes


@pytest.mark.parametrize(
    ("kind", "ratio", "message"),
    [
        ("noise", (0.5, 0.1), "hole ratio range is 0.5 to 0.1"),
        ("noise", (-0.1, 0.1), "expected 0 <= low <= high <= 1"),
        ("thin", (0.5, 1.5), "expected 0 <= low <= high <= 1"),
        ("blots", (0.1, 0.5), "unknown mask kind 'blots'; the kinds are noise, thin, medium, thick"),
        ("thick", (0.2, 0.2000001), "widen the range or choose another kind"),
    ],
)
def test_bad_arguments(kind, ratio, message):
    with pytest.raises(ValueError, match=message):
        random_mask(rng(), 32, 32, kind, ratio)


# Photographs


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    (tmp_path / "sub").mkdir()
    deep = rng(0).integers(0, 65536, (70, 90), dtype=np.uint16)
    Image.fromarray(deep).save(tmp_path / "deep_grey_smaller_than_the_crop.png")
    for name, size in (("a.png", (200, 150, 3)), ("sub/b.JPG", (140, 300, 3)), ("sub/alpha.png", (160, 160, 4))):
        Image.fromarray(rng(1).integers(0, 256, size, dtype=np.uint8)).save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("no picture")
    return tmp_path


def test_pictures_are_found_in_subfolders_in_order(photographs):
    names = [path.relative_to(photographs).as_posix() for path in picture_files(photographs)]
    assert names == ["a.png", "deep_grey_smaller_than_the_crop.png", "sub/alpha.png", "sub/b.JPG"]


def test_a_folder_without_pictures(tmp_path):
    with pytest.raises(PictureError, match=r"no pictures in .*expected files ending in \.bmp"):
        picture_files(tmp_path)


def test_items_are_crops_with_masks(photographs):
    crops = PhotographCrops(picture_files(photographs), 128, length=24)
    assert len(crops) == 24
    for i in range(len(crops)):
        image, mask = crops[i]
        assert (image.shape, image.dtype) == ((3, 128, 128), torch.float32)
        assert (mask.shape, mask.dtype) == ((1, 128, 128), torch.float32)
        assert image.min() >= 0
        assert image.max() <= 1
        assert set(mask.unique().tolist()) == {0, 1}
        assert 0.01 <= 1 - mask.mean() <= 0.6


def test_crops_that_share_a_mask_are_different_crops(photographs):
    crops = PhotographCrops(picture_files(photographs), 128, length=8, seed=3, crops_per_mask=4)
    items = [crops[i] for i in range(8)]
    assert all(torch.equal(items[i][1], items[i // 4 * 4][1]) for i in range(8))
    assert not torch.equal(items[0][1], items[4][1])
    assert len({image.sum().item() for image, _ in items}) == 8


def test_smooth_crops_have_no_detail():
    assert not has_detail(np.full((128, 128, 3), 90, np.uint8))
    assert not has_detail(np.repeat(np.linspace(0, 255, 128).astype(np.uint8)[:, None, None], 128, axis=1).repeat(3, axis=2))
    assert has_detail(rng(0).integers(0, 255, (128, 128, 3), dtype=np.uint8))


def test_scratches_are_thin_whatever_the_size():
    for size in (128, 256, 512):
        mask = scratch_mask(rng(size), size, size)
        depth = cv2.distanceTransform(1 - mask, cv2.DIST_C, 3)
        assert 0.01 < 1 - mask.mean() < 0.3
        assert depth.max() <= 20


def test_an_item_depends_on_seed_and_index_alone(photographs):
    crops = PhotographCrops(picture_files(photographs), 128, length=8, seed=3)
    forward = [crops[i] for i in range(8)]
    tight = PhotographCrops(picture_files(photographs), 128, length=100, seed=3, cache_bytes=1)
    for i in reversed(range(8)):
        assert all(map(torch.equal, tight[i], forward[i]))
    other = PhotographCrops(picture_files(photographs), 128, length=8, seed=4)
    assert not any(torch.equal(other[i][1], forward[i][1]) for i in range(8))


def test_the_cache_keeps_to_its_bytes(photographs):
    crops = PhotographCrops(picture_files(photographs), 128, length=40, cache_bytes=200 * 150 * 3 + 70 * 90 * 3)
    for i in range(40):
        crops[i]
    assert sum(pixels.nbytes for pixels in crops._cache.values()) <= crops.cache_bytes
