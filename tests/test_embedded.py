"""The network that ships: what it is, what it achieves, and that it runs on photographs from the smallest to the largest."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lbam_fast import Inpainter, load_checkpoint
from lbam_fast.checkpoints import read_state
from lbam_fast.evaluation import BUCKETS, PSNR, RIVALS, evaluation_pictures, markdown, psnr, quality_table
from lbam_fast.inference import embedded_weights
from lbam_fast.pictures import read_picture

EXAMPLE = Path(__file__).parent.parent / "docs" / "example"
LARGE = Path(__file__).parent / "pictures" / "seeding_5312x2988.jpg"
OPENCV = ("Telea", "Navier-Stokes")
JUDGED = BUCKETS[2:]
LEAST_GAIN = {
    OPENCV: (0.3, 0.7, 0.7, 0.7),
    ("harmonic",): (0.0, 0.0, 0.0, 0.0),
}
"""dB in each bucket over the best of these, at the least."""


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


def shortfalls(method):
    """Where ``method`` gains less than asked for, and the table: PSNR in four rows of ``make quality``."""
    methods = {name: RIVALS[name] for rivals in LEAST_GAIN for name in rivals} | {"method": method}
    rows = quality_table(methods, [PSNR], list(evaluation_pictures().values()), holes=JUDGED, masks_each=1)
    short = [
        (row.holes, rivals)
        for rivals, least in LEAST_GAIN.items()
        for row, gain in zip(rows, least, strict=True)
        if row.gain("method", rivals) <= gain
    ]
    return short, markdown(rows, PSNR)


def test_quality_is_above_methods_without_learning(inpainter):
    short, table = shortfalls(inpainter)
    assert not short, "\n" + table


def test_the_quality_test_can_fail():
    """Planted fault: a filling with the mean colour must not pass."""

    def mean_colour(picture, mask):
        filled = picture.copy()
        filled[mask > 0] = picture[mask == 0].mean(axis=0)
        return filled

    short, _ = shortfalls(mean_colour)
    assert len(short) == len(LEAST_GAIN) * len(JUDGED)


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
