"""A result that is needed in part alone: the same bits there, and the rest is left out."""

import numpy as np
import pytest
import torch
from networks import images, masks, network, one_thread  # noqa: F401 - applies itself
from torch import Tensor

from lbam_fast import Inpainter, native
from lbam_fast.ops.backends import cpu

pytestmark = pytest.mark.skipif(bool(native.unavailable()), reason=f"the compiled kernels are missing: {native.unavailable()}")

SIZE = (256, 128)


def places(kind: str) -> Tensor:
    """Where a result may be needed: [1, 1, H, W]."""
    needed = torch.zeros(1, 1, *SIZE, dtype=torch.bool)
    if kind == "corners":
        needed[..., 0, 0] = needed[..., -1, -1] = True
    elif kind == "pixel":
        needed[..., 101, 66] = True
    elif kind == "all":
        needed[:] = True
    elif kind != "nothing":
        needed = masks(kind, height=SIZE[0], width=SIZE[1])[:, :1] == 0
    return needed


@pytest.mark.sampled("preset", "kind", "dtype")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", ["irregular", "box", "pixel", "corners", "nothing", "all"])
@pytest.mark.parametrize("preset", ["official", "paper", "harmonic"])
def test_the_same_bits_where_it_is_needed(preset, kind, dtype):
    """With a mask for each picture, one for all, and maps; at the third call as it was recorded in the second."""
    model = network(preset, width=8, dtype=torch.float32)
    image, mask = images(2, *SIZE, dtype=torch.float32), masks("box", "irregular", height=SIZE[0], width=SIZE[1]).float()
    needed = places(kind)
    with torch.inference_mode(), torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
        for given in ({"mask": mask}, {"mask": mask[:1]}, {"maps": model.attention_maps(mask)}):
            whole = model(image, **given)
            for _ in range(3):
                part = model(image, **given, needed=needed)
                assert torch.equal(part.where(needed, 0), whole.where(needed, 0))
                assert preset == "harmonic" or not part.where(~needed, 0).any()


def test_each_picture_has_its_own():
    model, needed = network(width=8, dtype=torch.float32), torch.cat([places("box"), places("pixel")])
    image, mask = images(2, *SIZE, dtype=torch.float32), masks("box", "irregular", height=SIZE[0], width=SIZE[1]).float()
    with torch.inference_mode():
        part = model(image, mask, needed=needed)
        assert torch.equal(part, model(image, mask).where(needed, 0))


def test_too_little_is_noticed(monkeypatch):
    right = cpu.needs

    def one_less(needed: Tensor) -> Tensor:
        inputs = right(needed)
        inputs.view(-1)[inputs.view(-1).nonzero()[:1]] = 0
        return inputs

    monkeypatch.setattr(cpu, "needs", one_less)
    with pytest.raises(AssertionError):
        test_the_same_bits_where_it_is_needed("official", "box", torch.float32)


@pytest.mark.parametrize("wrong", [torch.ones(1, 3, 128, 128), torch.ones(1, 1, 128, 256), torch.ones(3, 1, 128, 128)])
def test_what_does_not_fit_is_refused(wrong):
    with pytest.raises(ValueError, match="needed"):
        network(dtype=torch.float32)(torch.zeros(2, 3, 128, 128), torch.ones(2, 1, 128, 128), needed=wrong.bool())


@pytest.mark.parametrize("options", [{}, {"grow": 5, "feather": 4}, {"passes": 8}])
def test_pictures_are_filled_as_by_a_whole_result(options, monkeypatch):
    """Of sizes that are padded, each under its own mask, and all under one."""
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 256, (height, 150, 3), np.uint8) for height in (100, 128)]
    holes = [np.zeros((height, 150), np.uint8) for height in (100, 128)]
    for hole, at in zip(holes, ((20, 95), (0, 140)), strict=True):
        hole[at[0] : at[0] + 30, at[1] : at[1] + 50] = 255
    model = network("harmonic", width=8, dtype=torch.float32)
    inpainter, asked = Inpainter(model, **options), []
    forward = model.forward

    def whole(*given, needed, **options):
        asked.append(needed)
        return forward(*given, **options)

    parts = [*inpainter(pictures, holes), *inpainter(pictures[:1] * 2, holes[0])]
    monkeypatch.setattr(model, "forward", whole)
    for part, filled in zip(parts, [*inpainter(pictures, holes), *inpainter(pictures[:1] * 2, holes[0])], strict=True):
        assert np.array_equal(part, filled)
    assert all(needed.any() and not needed.all() for needed in asked)
