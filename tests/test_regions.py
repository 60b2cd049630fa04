"""Where mask chains are constant, and the ops that skip what is known: the same results, with what they leave out left unread."""

import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from golden import recipe
from interpreted import as_on_a_gpu  # noqa: F401 - applies itself
from networks import images, masks, network, one_thread  # noqa: F401 - applies itself
from torch import Tensor

import lbam_fast
from lbam_fast import reference
from lbam_fast.kernels import encoder
from lbam_fast.ops import Affine, Gate, Regions, Tracker, Wanted, dispatch
from lbam_fast.ops.backends import eager, triton
from lbam_fast.ops.backends.eager import KNOWN, MIXED, ZERO, classify, spread

ALPHA = torch.tensor(0.8, dtype=torch.float64)
KINDS = ("irregular", "box", "speckle", "known", "hole", "pixel", "soft", "per_channel")
WIDTHS = (3, 6, 12, 5)


def awkward(height: int = 64, width: int = 96) -> dict[str, Tensor]:
    """Masks [1, 3, H, W]: the recipe's, and boxes that touch the picture's border or straddle the blocks of every level."""
    found = {kind: masks(kind, height=height, width=width) for kind in KINDS}
    boxes = {
        "corner": (0, 17, 0, 33),
        "edge": (23, 41, width - 9, width),
        "strip": (31, 33, 0, width),
        "frame": (1, height - 1, 1, width - 1),
    }
    for name, (top, bottom, left, right) in boxes.items():
        found[name] = torch.ones(1, 3, height, width, dtype=torch.float64)
        found[name][:, :, top:bottom, left:right] = 0
    return found


def filters(seed: int = 0) -> list[Tensor]:
    shapes = [(c_out, c_in, 4, 4) for c_in, c_out in itertools.pairwise(WIDTHS)]
    return [torch.from_numpy(recipe.weight(seed + i, "maskConv", shape)) for i, shape in enumerate(shapes)]


@pytest.mark.parametrize("complement", [False, True])
@pytest.mark.parametrize("name", awkward())
def test_a_chain_is_what_its_regions_say(name, complement):
    u = 1 - awkward()[name] if complement else awkward()[name]
    tracker = Tracker(u, filters(), [ALPHA] * 3, torch.float64)
    for weight in filters():
        found = tracker.step()
        m = reference.mask_convolution(u, weight)
        flat = m.permute(0, 2, 3, 1).reshape(-1, m.shape[1])[found.order.long()]
        assert (flat[found.kinds == ZERO] == 0).all()
        assert torch.allclose(
            flat[found.kinds == KNOWN], found.constant.expand(int((found.kinds == KNOWN).sum()), -1), rtol=0, atol=1e-12
        )
        assert torch.equal(found.order.sort().values, torch.arange(len(flat), dtype=torch.int32))
        u = reference.mask_update(m, ALPHA)


@pytest.mark.parametrize("name", ["irregular", "box", "corner", "frame", "hole", "known"])
def test_only_what_sees_a_border_is_mixed(name):
    """In a binary mask: windows with holes and known pixels, and windows of known pixels that reach over the picture's edge."""
    mask = awkward()[name][:, :1]
    kinds, _, _ = spread(classify(mask))
    windows = F.unfold(F.pad(mask, (1, 1, 1, 1)), 4, stride=2)
    mixed = (windows.amin(dim=1) == 0) & (windows.amax(dim=1) == 1)
    assert torch.equal((kinds == MIXED).flatten(), mixed.flatten())


def remaining(mask: np.ndarray) -> float:
    """The share of the forward chain's arithmetic, after the first level, at positions that are mixed."""
    widths = (3, 64, 128, 256, 512, 512, 512, 512)
    kinds, done, whole = classify(torch.from_numpy(mask)[None]), 0.0, 0.0
    for c_in, c_out in itertools.pairwise(widths):
        kinds, _, _ = spread(kinds)
        done += float((kinds == MIXED).sum()) * c_in * c_out
        whole += kinds.numel() * c_in * c_out
    return done / whole


@pytest.mark.parametrize(("size", "irregular", "box"), [(512, 0.54, 0.19), (1024, 0.34, 0.10)])
def test_the_share_of_arithmetic_that_remains(size, irregular, box):
    """The figures known for single positions, holes of 41 % and one box of 8 %."""
    assert remaining(recipe.mask(5, size, size, "irregular")) == pytest.approx(irregular, abs=0.03)
    assert remaining(recipe.mask(5, size, size, "box")) == pytest.approx(box, abs=0.03)


def level(name: str, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor, Regions]:
    """The second level of a chain of two pictures: x, u, the filter and its regions."""
    mask = torch.cat([awkward()[name], awkward()["irregular"].flip(-1)])
    first, weight = filters()[:2]
    tracker = Tracker(mask, [first, weight], [ALPHA] * 2, dtype)
    tracker.step()
    u = reference.mask_update(reference.mask_convolution(mask, first), ALPHA).to(dtype)
    x = torch.from_numpy(recipe.rng(3, name).normal(size=u.shape)).to(dtype)
    return x, u, weight.to(dtype), tracker.step()


SCALARS = torch.tensor([1.5, 1.1, 1.2, 0.7])


def both(x: Tensor, u: Tensor, weight: Tensor, found: Regions | None = None, ops=encoder) -> tuple[Tensor, ...]:
    dtype = torch.promote_types(u.dtype, torch.float32)
    gate = Gate(SCALARS.to(dtype), ALPHA.to(dtype))
    layer = ops.encode(x, u, weight, weight, gate, Affine(slope=0.2), Wanted(True, True), found)
    return *layer, *ops.mask_step(u, weight, gate, Wanted(True, False), found)[:2]


def check(results: tuple[Tensor, ...], x: Tensor, u: Tensor, weight: Tensor) -> None:
    exact, plain = (both(x.to(d), u.to(d), weight.to(d), ops=eager) for d in (torch.float64, u.dtype))
    for result, right, rounded in zip(results, exact, plain, strict=True):
        assert (result - right).abs().max() <= 2 * (rounded - right).abs().max() + 2e-5 * right.abs().max()


@pytest.mark.sampled("dtype")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("name", ["irregular", "box", "corner", "edge", "strip", "frame", "known", "hole", "soft", "pixel"])
def test_kernels_that_skip_give_the_same(name, dtype):
    x, u, weight, found = level(name, dtype)
    check(both(x, u, weight, found), x, u, weight)


def test_what_is_known_is_not_read():
    """NaN where only whole blocks of one kind look, not the first nor the last: a program that did not leave would show it."""
    x, u, weight, found = level("known", torch.float32)
    spoilt = u.clone()
    spoilt[0, :, 12:-8, 8:-8] = torch.nan
    assert all(y.isfinite().all() for y in both(x, spoilt, weight, found))
    assert not both(x, spoilt, weight)[0].isfinite().all()


@pytest.mark.parametrize("wrong", ["kinds", "constant", "order"])
def test_wrong_regions_are_noticed(wrong):
    x, u, weight, found = level("box", torch.float32)
    changed = {
        "kinds": torch.full_like(found.kinds, KNOWN),
        "constant": found.constant * 1.01,
        "order": found.order.clamp(min=1),
    }
    with pytest.raises(AssertionError):
        check(both(x, u, weight, found._replace(**{wrong: changed[wrong]})), x, u, weight)


def test_the_kernels_know_the_same_kinds():
    assert (encoder.KNOWN.value, encoder.MIXED.value) == (KNOWN, MIXED)


@pytest.mark.parametrize("preset", ["official", "paper"])
@pytest.mark.parametrize("kind", ["irregular", "soft", "per_channel"])
def test_a_network_that_skips_gives_the_same(preset, kind, monkeypatch):
    """On kernels, of which the mask's ops are told what they may skip."""
    told = []

    def noting(name):
        right = getattr(eager, name)

        def call(*arguments):
            told.append(isinstance(arguments[-1], Regions))
            return right(*arguments)

        return call

    for name in ("encode", "mask_step"):
        monkeypatch.setattr(triton, name, noting(name))
    for name in ("encode_with_map", "decode_with_map", "reconstruct", "attend"):
        monkeypatch.setattr(triton, name, getattr(eager, name))
    model, exact = network(preset, dtype=torch.float32), network(preset)
    image, mask = images(1), masks(kind)
    expected = exact(image, mask)
    with torch.no_grad(), lbam_fast.backend("triton"):
        plain = model(image.float(), mask.float())
        assert not any(told)
        monkeypatch.setattr(dispatch, "SKIP_FROM", 0)
        result = model(image.float(), mask.float())
    assert sum(told) == 13
    assert (plain - expected).abs().max() < 2e-5 and (result - expected).abs().max() < 2e-5
