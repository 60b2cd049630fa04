"""The table of the ablation, from made results."""

import ablation
import numpy as np
import pytest
import torch

PICTURES = 12


def result(variant: str, seed: int, gain: float) -> dict[str, object]:
    """Of a variant that is ``gain`` dB above a level that pictures and seeds share."""
    level = np.random.default_rng(seed).normal(25, 5, (PICTURES, len(ablation.BUCKETS)))
    values = {"PSNR": (level + gain).tolist(), "SSIM": (level / 50).tolist(), "L1": (level / 10).tolist()}
    settings = {"steps": 20, "batch_size": 4, "base_width": 8}
    return {"variant": variant, "seed": seed, "validation": {"10": 20 + gain, "20": 21 + gain}, "values": values, **settings}


@pytest.fixture
def found():
    return [result(name, seed, gain) for name, gain in (("full", 0), ("relu", -1.5), ("pconv", 0.25)) for seed in (0, 1)]


def test_differences_are_paired(found):
    """The spread over pictures, far wider than the differences, is not in their intervals."""
    page = ablation.page(found)
    assert "| full | 2 |" in page
    assert "-1.50 (-1.50 to -1.50)" in page
    assert "+0.25 (+0.25 to +0.25)" in page
    assert "| relu | 18.50 | 19.50 |" in page
    assert "by seed, lowest to highest: full" in page


def test_one_seed_is_said_to_be_one(found):
    assert "One seed each" in ablation.page(found[::2])


def test_runs_with_other_settings_are_refused(found):
    found[1]["steps"] = 30
    with pytest.raises(SystemExit, match="different settings"):
        ablation.page(found)


def test_every_variant_is_a_network_of_its_own():
    made = [variant.make(4) for variant in ablation.VARIANTS.values()]
    image, mask = torch.rand(1, 3, 128, 128), torch.ones(1, 1, 128, 128)
    mask[..., 30:70, 40:90] = 0
    outputs = [network.eval()(image, mask) for network in made]
    assert all(output.shape == image.shape for output in outputs)
    assert sum(not variant.critic for variant in ablation.VARIANTS.values()) == 1


def test_a_network_that_gives_the_picture_is_measured_as_perfect():
    picture = np.random.default_rng(0).integers(0, 256, (256, 256, 3)).astype(np.uint8)

    class Knowing(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.truth = torch.nn.Parameter(torch.from_numpy(picture).permute(2, 0, 1)[None] / 255)

        def forward(self, image, mask):
            assert not (image * (1 - mask)).any()
            return self.truth

    values = ablation.measured(Knowing(), [picture])
    assert np.isinf(values["PSNR"]).all()
    assert np.all(np.array(values["SSIM"]) == 1)
    assert not np.any(values["L1"])
