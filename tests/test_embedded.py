"""The network that ships: what it is, what it achieves, and that it runs on photographs from the smallest to the largest."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lbam_fast import Inpainter, load_checkpoint
from lbam_fast.checkpoints import read_state
from lbam_fast.evaluation import BUCKETS, CLASSICAL, evaluation_pictures, markdown, psnr, quality_table
from lbam_fast.inference import embedded_weights
from lbam_fast.pictures import read_picture

EXAMPLE = Path(__file__).parent.parent / "docs" / "example"
LARGE = Path(__file__).parent / "pictures" / "seeding_5312x2988.jpg"
LEAST_GAIN = dict(zip(BUCKETS, (0.3, 0.7, 0.7, 0.7), strict=True))


@pytest.fixture(scope="module")
def inpainter():
    return Inpainter.from_pretrained()


def test_the_file_is_a_small_half_precision_network():
    path = embedded_weights()
    assert path.stat().st_size < 10_000_000
    state, config = read_state(path)
    assert {tensor.dtype for tensor in state.values()} == {torch.float16}
    assert config == load_checkpoint(path).config
    assert (config.preset_name, config.base_width) == ("official", 16)


def gains(method):
    rows = quality_table({"method": method}, list(evaluation_pictures().values()), masks_each=1)
    return {row.bucket: row.gain("method") for row in rows}, rows


def test_quality_is_above_the_classical_methods(inpainter):
    """A smaller version of ``make quality``: one mask for each picture and bucket."""
    found, rows = gains(inpainter)
    assert all(found[bucket] > least for bucket, least in LEAST_GAIN.items()), "\n" + markdown(rows, "method")


def test_the_quality_test_can_fail():
    """Planted fault: a filling with the mean colour must not pass."""

    def mean_colour(picture, mask):
        filled = picture.copy()
        filled[mask > 0] = picture[mask == 0].mean(axis=0)
        return filled

    found, _ = gains(mean_colour)
    assert not any(found[bucket] > least for bucket, least in LEAST_GAIN.items())


def test_evaluation_pictures_are_photographs_of_one_size():
    pictures = evaluation_pictures()
    assert len(pictures) == 8
    assert {picture.shape for picture in pictures.values()} == {(256, 256, 3)}
    assert min(picture.std() for picture in pictures.values()) > 20


def test_psnr():
    black, white = np.zeros((2, 2, 3), np.uint8), np.full((2, 2, 3), 255, np.uint8)
    assert psnr(black, white) == 0
    assert psnr(black, black) == float("inf")
    assert psnr(black, black + 1) == pytest.approx(48.13, abs=0.01)
    with pytest.raises(ValueError, match="expected two uint8 arrays of one shape"):
        psnr(black, black / 255)


def test_classical_methods_fill_the_hole_alone():
    picture = next(iter(evaluation_pictures().values()))
    mask = np.zeros((256, 256), np.uint8)
    mask[100:120, 100:120] = 255
    for method in CLASSICAL.values():
        filled = method(picture, mask)
        assert np.array_equal(filled[mask == 0], picture[mask == 0])
        assert not np.array_equal(filled, picture)


def test_the_example_is_filled_with_something_like_its_surroundings(inpainter):
    picture = read_picture(EXAMPLE / "china.jpg").pixels
    mask = np.asarray(Image.open(EXAMPLE / "china_mask.png"))
    filled = inpainter(picture, mask)
    assert np.array_equal(filled[mask == 0], picture[mask == 0])
    emptied = picture.copy()
    emptied[mask > 0] = picture[mask == 0].mean(axis=0)
    assert psnr(filled, picture) > psnr(emptied, picture) + 3


def test_a_large_photograph(inpainter):
    picture = read_picture(LARGE).pixels
    assert picture.shape == (2988, 5312, 3)
    mask = np.zeros(picture.shape[:2], np.uint8)
    mask[1000:1100, 2000:2300] = 255
    filled = inpainter(picture, mask)
    assert np.array_equal(filled[mask == 0], picture[mask == 0])
    assert abs(filled[mask > 0].astype(float) - picture[mask > 0]).mean() < 40
