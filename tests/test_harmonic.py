"""The harmonic fill and the network that corrects it: against the exact solution, and what must hold to the bit."""

import numpy as np
import pytest
import torch
from networks import images, masks, network, one_thread  # noqa: F401
from torch import Tensor
from torch.autograd import gradcheck

import lbam_fast
from lbam_fast import LBAM, LBAMConfig, native, ops, reference
from lbam_fast.reference import harmonic

compiled = pytest.mark.skipif(bool(native.unavailable("cpu")), reason=f"no compiled kernels: {native.unavailable('cpu')}")


def exact(image: np.ndarray, known: np.ndarray) -> np.ndarray:
    """[H, W] of float64: Laplace's equation in the hole as one dense system; at the edge a pixel has fewer neighbours."""
    height, width = known.shape
    number = {tuple(cell): i for i, cell in enumerate(np.argwhere(known == 0))}
    matrix, right = np.zeros((len(number), len(number))), np.zeros(len(number))
    for (y, x), i in number.items():
        for other in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)):
            if 0 <= other[0] < height and 0 <= other[1] < width:
                matrix[i, i] += 1
                if other in number:
                    matrix[i, number[other]] -= 1
                else:
                    right[i] += image[other]
    result = image.copy()
    result[known == 0] = np.linalg.solve(matrix, right)
    return result


def holes(*boxes: tuple[int, int, int, int], size: int = 128) -> Tensor:
    known = torch.ones(1, 1, size, size, dtype=torch.float64)
    for top, bottom, left, right in boxes:
        known[..., top:bottom, left:right] = 0
    return known


HOLES = {
    "a box": holes((40, 70, 30, 60)),
    "at the edge": holes((0, 20, 0, 40), (100, 128, 90, 128)),
    "one pixel": holes((64, 65, 64, 65)),
    "thin": holes((10, 13, 5, 120), (20, 110, 50, 53)),
}


@pytest.mark.parametrize("name", HOLES)
def test_the_fill_is_near_the_exact_one(name):
    image, known = images(1), HOLES[name]
    found = harmonic.harmonic_fill(image, known)
    for c in range(3):
        assert np.abs(found[0, c].numpy() - exact(image[0, c].numpy(), known[0, 0].numpy())).max() < 0.01
    assert torch.equal(torch.where(known > 0, found, 0), torch.where(known > 0, image, 0))


def test_a_wrong_neighbour_is_seen(monkeypatch):
    """Planted fault: one neighbour counted twice."""
    image, known = images(1), HOLES["a box"]
    right = harmonic._neighbours
    monkeypatch.setattr(harmonic, "_neighbours", lambda x: right(x) + x.roll(1, -1) - x.roll(1, -2))
    found = harmonic.harmonic_fill(image, known)
    assert np.abs(found[0, 0].numpy() - exact(image[0, 0].numpy(), known[0, 0].numpy())).max() > 0.01


@compiled
@pytest.mark.parametrize("given", [False, True], ids=["own trend", "trend given"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 1.0])
def test_compiled_kernels_equal_the_reference(channels, share, dtype, given):
    generator = torch.Generator().manual_seed(1)
    image = torch.rand(2, 3, 128, 384, generator=generator).to(dtype)
    trend = torch.rand(2, 3, 128, 384, generator=generator) if given else None
    rounding = 0 if dtype == torch.float32 else 2**-8
    for shared, order in ((1, torch.channels_last), (2, torch.contiguous_format)):
        coarse = torch.rand(shared, channels, 16, 48, generator=generator) >= share
        known = coarse.float().repeat_interleave(8, 2).repeat_interleave(8, 3)
        arguments = image.contiguous(memory_format=order), known, trend
        for found, expected in zip(ops.correction_input(*arguments), reference.correction_input(*arguments), strict=True):
            assert found.dtype == dtype
            torch.testing.assert_close(found, expected, rtol=rounding, atol=1e-5 * harmonic.CONTRAST + rounding)


@compiled
def test_a_wrong_contrast_is_seen(monkeypatch):
    """Planted fault."""
    image, known = images(1, dtype=torch.float32), HOLES["a box"].float()
    expected = reference.correction_input(image, known)[0]
    monkeypatch.setattr(harmonic, "CONTRAST", 4.001)
    assert (ops.correction_input(image, known)[0] - expected).abs().max() > 2e-5


@compiled
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
def test_correcting_equals_the_reference(dtype):
    base, y = images(2, dtype=torch.float32), images(2, seed=1, dtype=torch.float32).to(dtype)
    base = base.contiguous(memory_format=torch.channels_last)
    expected = reference.corrected(base, y.float())
    assert 0.1 < ((expected == 0) | (expected == 1)).double().mean() < 0.9
    with torch.no_grad():
        torch.testing.assert_close(ops.corrected(base, y), expected, rtol=0, atol=1e-6)


@compiled
def test_what_the_kernels_do_not_take_is_refused():
    x, base = torch.empty(1, 6, 128, 128), torch.empty(1, 3, 128, 128)
    x, base = (each.contiguous(memory_format=torch.channels_last) for each in (x, base))
    good = [base, base[:, :1], base, 4.0, 7, 2, 2, 2, 16, x, base.clone()]
    correction = ops.cpu.compiled().correction_input
    correction(*good)
    for position, bad in ((0, x), (1, base[:, :2]), (2, base[..., :64]), (4, 8), (9, base), (10, x), (10, base.double())):
        with pytest.raises(ValueError, match=r"expected|must be"):
            correction(*good[:position], bad, *good[position + 1 :])


@compiled
def test_the_number_of_threads_changes_no_bit():
    image, known = images(1, 512, 512, dtype=torch.float32), masks("irregular", height=512, width=512, dtype=torch.float32)
    one = ops.correction_input(image, known[:, :1])
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        assert all(map(torch.equal, ops.correction_input(image, known[:, :1]), one))
    finally:
        torch.set_num_threads(threads)


def ramp(down: float, across: float, size: int = 128) -> Tensor:
    y, x = torch.linspace(-1, 1, size, dtype=torch.float64)[:, None], torch.linspace(-1, 1, size, dtype=torch.float64)
    return (0.5 + 0.2 * (down * y + across * x)).expand(1, 3, size, size)


@pytest.mark.parametrize("image", [ramp(0, 0), ramp(1, 0), ramp(0.7, -0.9)], ids=["flat", "down", "aslant"])
@pytest.mark.parametrize("box", [(0, 128, 0, 64), (64, 128, 0, 128), (20, 100, 20, 110)], ids=["half", "other half", "inside"])
def test_a_linear_picture_is_filled_as_it_was_by_any_weights(image, box):
    model, known = network("harmonic"), holes(box)
    with torch.no_grad():
        torch.testing.assert_close(model(image, known), image, rtol=0, atol=1e-9)


def test_twice_the_contrast_is_twice_the_input():
    image, known = images(1), HOLES["a box"]
    x, base = reference.correction_input(image, known)
    twice, _ = reference.correction_input(0.3 + 0.25 * image, known)
    torch.testing.assert_close(twice, 0.25 * x)
    assert x.shape == (1, 6, 128, 128)
    assert not (x[:, :3] * (1 - known)).any()
    assert not (x[:, 3:] * known).any()
    torch.testing.assert_close(base * known, image * known)


def test_a_trend_may_be_given():
    image, known = images(1), HOLES["a box"]
    model = network("harmonic")
    with torch.no_grad():
        own = model(image, known)
        torch.testing.assert_close(model(image, known, trend=reference.plane(image, known)), own)
        assert (model(image, known, trend=torch.full_like(image, 0.2)) - own).abs().max() > 1e-3
    with pytest.raises(ValueError, match="a trend for a network without a base"):
        network()(image, known, trend=image)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
def test_a_trend_and_masks_of_other_dtypes(dtype):
    image, known = images(1, dtype=torch.float32), HOLES["a box"]
    trend = reference.plane(image, known.float()).to(dtype)
    found, expected = (ops.correction_input(image, known.to(dtype), x) for x in (trend, trend.float()))
    assert all(map(torch.equal, found, expected))


def test_under_autocast_to_float16():
    model, image, known = network("harmonic", dtype=torch.float32), images(1, dtype=torch.float32), HOLES["a box"].float()
    with torch.no_grad():
        expected = model(image, known)
        with torch.autocast("cpu", torch.float16):
            found = model(image, known)
    assert found.dtype == torch.float32 and (found - expected).abs().max() < 0.01


def test_a_trend_gets_its_gradient():
    gradients = []
    for dtype, correction_input in ((torch.float32, ops.correction_input), (torch.float64, reference.correction_input)):
        image, known = images(1, dtype=dtype), HOLES["a box"].to(dtype)
        trend = torch.zeros_like(image, requires_grad=True)
        correction_input(image, known, trend)[1].sum().backward()
        gradients.append(trend.grad.double())
    assert gradients[1].abs().max() > 0.5
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-4)


def test_nothing_known():
    model = network("harmonic")
    with torch.no_grad():
        result = model(images(1), torch.zeros(1, 1, 128, 128, dtype=torch.float64))
    assert torch.equal(result, torch.full_like(result, 0.5))


@pytest.mark.parametrize("backend", ["reference", "eager", "cpu"])
@pytest.mark.parametrize("rubbish", [torch.nan, torch.inf, -1e30])
def test_what_lies_in_holes_changes_no_bit(backend, rubbish):
    if backend == "cpu" and native.unavailable("cpu"):
        pytest.skip(native.unavailable("cpu"))
    model = network("harmonic", dtype=torch.float32)
    image, known = images(2, dtype=torch.float32), masks("irregular", "pixel", dtype=torch.float32)[:, :1]
    with torch.no_grad(), lbam_fast.backend(backend):
        clean = model(image, known)
        assert torch.equal(model(torch.where(known > 0, image, rubbish), known), clean)
        torch.testing.assert_close(model(image, maps=model.attention_maps(known)), clean, rtol=0, atol=1e-6)
    with torch.no_grad(), lbam_fast.backend("reference"):
        torch.testing.assert_close(model(image, known), clean, rtol=0, atol=2e-5)


def test_gradients(thorough):
    image, known = images(1)[:, :, :, :], HOLES["one pixel"]
    model = network("harmonic", width=1)
    assert gradcheck(
        lambda w: torch.func.functional_call(model, {"dc7.weight": w}, (image, known))[..., 60:68, 60:68].sum(),
        model.dc7.weight.detach()[:, :1].expand(-1, 3, -1, -1).clone().requires_grad_(),
        fast_mode=not thorough,
    )
    image.requires_grad_()
    reference.correction_input(image, known)[1].sum().backward()
    assert image.grad[..., 64, 64].abs().max() == 0
    assert image.grad[..., 63, 64].min() > 1


def test_a_new_network_gives_the_harmonic_fill():
    torch.manual_seed(0)
    model = LBAM(LBAMConfig.preset("harmonic", base_width=2)).double()
    image, known = images(1), HOLES["a box"]
    with torch.no_grad():
        torch.testing.assert_close(model(image, known), reference.correction_input(image, known)[1])
