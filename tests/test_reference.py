"""Each reference function against its formula, written out anew for one number at a time."""

import itertools
import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck

from lbam_fast import reference

DTYPES = (torch.bfloat16, torch.float16, torch.float32, torch.float64)
SCALARS = (1.7, 1.2, 0.6, 1.8)  # a, mu, gamma_l, gamma_r, all different
POINTS = (-2.0, -1e-3, -0.0, 0.0, 1e-30, 1e-3, 0.5, 1.2 - 1e-9, 1.2, 1.2 + 1e-9, 2.0, 7.0)


def scalars(*values: float, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    return [torch.tensor(value, dtype=dtype, requires_grad=True) for value in values]


def points(*values: float, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.tensor(values, dtype=dtype, requires_grad=True)


def noise(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape)).to(dtype)


def g_a(m: float, a: float, mu: float, gamma_l: float, gamma_r: float) -> float:
    if m < mu:
        return a * math.exp(-gamma_l * (m - mu) ** 2)
    return 1 + (a - 1) * math.exp(-gamma_r * (m - mu) ** 2)


FORMULAS = {
    "attention_map": (lambda m: reference.attention_map(m, *scalars(*SCALARS)), lambda m: g_a(m, *SCALARS)),
    "mask_update": (lambda m: reference.mask_update(m, 0.8), lambda m: max(m, 0.0) ** 0.8),
    "reciprocal_attention": (reference.reciprocal_attention, lambda m: 1 / m if m > 0 else 0.0),
    "step_update": (reference.step_update, lambda m: 1.0 if m > 0 else 0.0),
    "output tanh": (lambda y: reference.output_form(y, "tanh"), lambda y: (math.tanh(y) + 1) / 2),
    "output abs": (lambda y: reference.output_form(y, "abs"), lambda y: abs(math.tanh(y))),
    "activation": (reference.activation, lambda x: x if x > 0 else 0.2 * x),
}


@pytest.mark.parametrize("name", FORMULAS)
def test_formula(name):
    function, formula = FORMULAS[name]
    assert function(points(*POINTS)).tolist() == pytest.approx([formula(point) for point in POINTS], rel=1e-14, abs=1e-300)


@pytest.mark.parametrize("name", FORMULAS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_keeps_its_dtype(name, dtype):
    function, formula = FORMULAS[name]
    if name == "attention_map":
        values = scalars(*SCALARS, dtype=dtype)
        function = lambda m: reference.attention_map(m, *values)  # noqa: E731
    m = points(0.25, -0.5, 2.0, dtype=dtype)
    result = function(m)
    assert result.dtype == dtype
    expected = [formula(point) for point in m.tolist()]
    assert result.tolist() == pytest.approx(expected, rel=8 * torch.finfo(dtype).eps, abs=torch.finfo(dtype).tiny)


def test_attention_map_is_continuous_at_mu_and_flat_there():
    a, mu, *_ = SCALARS
    m = points(math.nextafter(mu, 0), mu, math.nextafter(mu, 9))
    values = scalars(*SCALARS)
    result = reference.attention_map(m, *values)
    assert result.tolist() == pytest.approx([a] * 3, rel=1e-15)
    result[1].backward()
    assert m.grad.tolist() == [0, 0, 0]
    assert [value.grad.item() for value in values[1:]] == [0, 0, 0]
    assert values[0].grad.item() == 1


@pytest.mark.parametrize("name", ["mask_update", "reciprocal_attention", "step_update"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_no_gradient_and_no_nan_without_mask(name, dtype):
    m = points(-1.0, -0.0, 0.0, -torch.finfo(dtype).tiny, dtype=dtype)
    alpha = scalars(0.8, dtype=dtype)[0]
    result = reference.mask_update(m, alpha) if name == "mask_update" else getattr(reference, name)(m)
    assert result.tolist() == [0] * 4
    (result + m * 0).sum().backward()  # so that functions without any gradient have one to look at
    assert m.grad.tolist() == [0] * 4
    if name == "mask_update":
        assert alpha.grad.item() == 0


def test_the_naive_attention_would_give_nan_without_mask():
    m = points(0.0)
    torch.where(m > 0, m.reciprocal(), 0).backward()
    assert m.grad.isnan().all()


@pytest.mark.parametrize(
    "function",
    [
        lambda m, *s: reference.attention_map(m, *s),
        lambda m, a, mu, left, right: reference.mask_update(m, a / 2),
        lambda m, *s: reference.reciprocal_attention(m),
        lambda m, *s: reference.output_form(m, "tanh"),
    ],
    ids=["attention_map", "mask_update", "reciprocal_attention", "output_form"],
)
def test_gradients_are_those_of_the_function(function):
    m = points(-1.5, -0.3, 0.4, 0.9, 1.1, 1.3, 2.5)
    assert gradcheck(function, (m, *scalars(*SCALARS)))


def loop_convolution(x: Tensor, weight: Tensor, stride: int) -> Tensor:
    x = torch.nn.functional.pad(x, (1, 1, 1, 1))
    k = weight.shape[-1]
    height, width = ((size - k) // stride + 1 for size in x.shape[-2:])
    result = x.new_zeros(len(x), len(weight), height, width)
    for i, j in itertools.product(range(height), range(width)):
        window = x[:, None, :, i * stride : i * stride + k, j * stride : j * stride + k]
        result[:, :, i, j] = (window * weight).sum(dim=(2, 3, 4))
    return result


def loop_deconvolution(y: Tensor, weight: Tensor) -> Tensor:
    n, _, height, width = y.shape
    result = y.new_zeros(n, weight.shape[1], 2 * height + 2, 2 * width + 2)
    for i, j in itertools.product(range(height), range(width)):
        result[:, :, 2 * i : 2 * i + 4, 2 * j : 2 * j + 4] += torch.einsum("nc,cdhw->ndhw", y[:, :, i, j], weight)
    return result[:, :, 1:-1, 1:-1]


@pytest.mark.parametrize("size", [3, 4])
def test_mask_convolution(size):
    u, weight = noise(2, 3, 6, 10), noise(5, 3, size, size, seed=1)
    result = reference.mask_convolution(u, weight)
    assert result.shape == (2, 5, 3, 5)
    torch.testing.assert_close(result, loop_convolution(u, weight, stride=2))


def test_convolution_and_deconvolution():
    x, weight = noise(2, 3, 6, 10), noise(5, 3, 4, 4, seed=1)
    torch.testing.assert_close(reference.convolution(x, weight), loop_convolution(x, weight, stride=2))
    weight = noise(3, 5, 4, 4, seed=2)
    torch.testing.assert_close(reference.deconvolution(x, weight), loop_deconvolution(x, weight))


def loop_partial_ratio(mask: Tensor, size: int, stride: int) -> tuple[Tensor, Tensor]:
    """For a mask [N, C, H, W] with every channel written out."""
    total = loop_convolution(mask, mask.new_ones(1, mask.shape[1], size, size), stride)
    window = mask.shape[1] * size * size
    ratio, new = torch.zeros_like(total), torch.zeros_like(total)
    for at in itertools.product(*map(range, total.shape)):
        known = total[at].item()
        new[at] = min(known, 1.0)
        ratio[at] = new[at] * window / (known + 1e-8)
    return ratio, new


@pytest.mark.parametrize(("size", "stride"), [(4, 2), (3, 1)])
@pytest.mark.parametrize("kind", ["binary", "soft"])
def test_partial_ratio(size, stride, kind):
    one, three = torch.rand(2, 1, 8, 6, dtype=torch.float64), torch.rand(2, 3, 8, 6, dtype=torch.float64)
    if kind == "binary":
        one, three = (one > 0.8).double(), (three > 0.8).double()
    one[:, :, :5], three[:, :, :5] = 0, 0  # windows without anything known
    result = reference.partial_ratio([(one, 5), (three, 6)], size, stride)
    everything = torch.cat([one.expand(-1, 5, -1, -1), three, three], dim=1)
    for got, expected in zip(result, loop_partial_ratio(everything, size, stride), strict=True):
        torch.testing.assert_close(got, expected)
    assert (result[1] == 0).any()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_partial_ratio_is_1_where_all_is_known(dtype):
    ratio, new = reference.partial_ratio([(torch.ones(1, 1, 8, 8, dtype=dtype), 3)], 4, 2)
    assert ratio.dtype == new.dtype == dtype
    torch.testing.assert_close(ratio[0, 0, 1:-1, 1:-1], torch.ones(2, 2, dtype=dtype))
    assert new.eq(1).all()
    assert ratio[0, 0, 0, 0].item() == pytest.approx(16 / 9, rel=0.01)


@pytest.mark.parametrize(
    "dtype",
    DTYPES,
    ids=str,
)
def test_partial_ratio_is_0_where_nothing_is_known(dtype):
    ratio, new = reference.partial_ratio([(torch.zeros(1, 1, 8, 8, dtype=dtype), 3)], 4, 2)
    assert ratio.eq(0).all() and new.eq(0).all()


@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("mask_channels", [1, 3])
@pytest.mark.parametrize("garbage", [math.nan, math.inf, -math.inf, 3e30])
@pytest.mark.parametrize("batch", [1, 2])
def test_damaged_input(channels, mask_channels, garbage, batch):
    image, mask = torch.rand(2, 3, 4, 6), torch.rand(batch, mask_channels, 4, 6)
    mask[mask < 0.4] = 0
    full = mask.expand(2, 3, -1, -1)
    expected = np.zeros((2, channels, 4, 6), np.float32)
    for n, c, i, j in itertools.product(range(2), range(3), range(4), range(6)):
        expected[n, c, i, j] = image[n, c, i, j] * full[n, c, i, j]
    if channels == 4:
        expected[:, 3] = full[:, 0]
    result = reference.damaged_input(torch.where(full == 0, garbage, image), mask, channels)
    np.testing.assert_array_equal(result.numpy(), expected)


def test_garbage_leaves_no_trace_in_the_gradient_of_the_image():
    image = torch.full((1, 3, 4, 4), math.nan, requires_grad=True)
    mask = torch.zeros(1, 1, 4, 4)
    reference.damaged_input(image, mask, 4).sum().backward()
    assert image.grad.eq(0).all()


@pytest.mark.parametrize(("value", "held"), [(0.5, 1.01), (1.5, 1.5), (9.0, 6.0)])
def test_clamped_is_straight_through(value, held):
    parameter = torch.tensor(value, requires_grad=True)
    result = reference.clamped(parameter, (1.01, 6.0))
    assert result.item() == pytest.approx(held)
    (3 * result).backward()
    assert parameter.grad.item() == 3
