"""The network that ships: what it is, what it achieves, and that it runs on photographs from the smallest to the largest."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lbam_fast import Inpainter, load_checkpoint
from lbam_fast.checkpoints import read_state
from lbam_fast.evaluation import HOLES, PSNR, RIVALS, SSIM, evaluation_pictures, markdown, psnr, quality_table
from lbam_fast.inference import embedded_weights
from lbam_fast.pictures import read_picture

EXAMPLE = Path(__file__).parent.parent / "docs" / "example"
LARGE = Path(__file__).parent / "pictures" / "seeding_5312x2988.jpg"
JUDGED = HOLES
LEAST_GAIN = 0.5
"""dB of the network alone over the best of its rivals, in every row; its SSIM is above all of theirs."""
FAST_RIVALS = ("harmonic", "biharmonic", "Telea", "Navier-Stokes")
"""PatchMatch, which is never the best of them in PSNR, takes a minute."""


@pytest.fixture(scope="module")
def inpainter():
    return Inpainter.from_pretrained()


def test_the_file_is_a_small_half_precision_network():
    path = embedded_weights()
    assert path.stat().st_size < 10_000_000
    state, config = read_state(path)
    assert {tensor.dtype for tensor in state.values()} == {torch.float16}
    assert config == load_checkpoint(path).config
    assert (config.preset_name, config.base_width) == ("harmonic", 16)


def mean_colour(picture, mask):
    filled = picture.copy()
    filled[mask > 0] = picture[mask == 0].mean(axis=0)
    return filled


@pytest.fixture(scope="module")
def rows(thorough):
    """The rows of ``make quality``, PSNR and SSIM, one mask for each picture; sampled, of every other for three kinds."""
    alone = Inpainter.from_pretrained(detail="off")
    methods = {name: RIVALS[name] for name in FAST_RIVALS} | {"LBAM": alone, "mean colour": mean_colour}
    holes, pictures = JUDGED, list(evaluation_pictures().values())
    if not thorough:
        holes, pictures = holes[::3], pictures[::2]
    return quality_table(methods, [PSNR, SSIM], pictures, holes=holes, masks_each=1)


def shortfalls(rows, method):
    """Where ``method`` gains less than asked for."""
    in_psnr = [row.holes for row in rows if row.gain(method, FAST_RIVALS) <= LEAST_GAIN]
    in_ssim = [(row.holes, name) for row in rows for name in FAST_RIVALS if row.gain(method, [name], SSIM) <= 0]
    return in_psnr, in_ssim


def test_quality_beside_methods_without_learning(rows):
    assert shortfalls(rows, "LBAM") == ([], []), "\n".join(markdown(rows, metric) for metric in (PSNR, SSIM))


def test_the_quality_test_can_fail(rows):
    """Planted fault: a filling with the mean colour falls short everywhere."""
    in_psnr, in_ssim = shortfalls(rows, "mean colour")
    assert len(in_psnr) == len(rows)
    assert len(in_ssim) == len(rows) * len(FAST_RIVALS)


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
