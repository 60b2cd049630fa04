"""The pointwise kernels in Triton's interpreter against ``ops.backends.eager`` in float64, and its backward against autograd."""

from typing import NamedTuple

import numpy as np
import pytest
import torch
from golden import recipe
from interpreted import as_on_a_gpu  # noqa: F401 - applies itself
from networks import one_thread  # noqa: F401
from torch import Tensor

from lbam_fast.kernels import pointwise
from lbam_fast.ops import Affine, Gate
from lbam_fast.ops.backends import eager

DTYPES = (torch.float32, torch.float16, torch.bfloat16)
CASES = {
    "one image": {"shape": (1, 12, 5, 7)},
    "a batch of three": {"shape": (3, 12, 4, 6)},
    "four channels": {"shape": (3, 4, 9, 5)},
    "wide": {"shape": (1, 64, 6, 8)},
    "wider than a block": {"shape": (3, 80, 3, 5)},
    "one position": {"shape": (1, 12, 1, 1)},
    "no activation": {"shape": (1, 12, 5, 7), "slope": 1.0},
    "no affine": {"shape": (3, 12, 5, 7), "affine": False},
    "no affine, no activation, no update": {"shape": (1, 12, 5, 7), "affine": False, "slope": 1.0, "update": False},
    "no update": {"shape": (1, 12, 5, 7), "update": False},
    "NCHW": {"shape": (3, 12, 5, 7), "layout": "nchw"},
    "every second position of a larger tensor": {"shape": (3, 12, 5, 7), "layout": "strided"},
}


class Inputs(NamedTuple):
    features: Tensor
    m: Tensor
    scalars: Tensor
    alpha: Tensor
    scale: Tensor | None
    shift: Tensor | None
    slope: float
    dy: Tensor
    du: Tensor | None
    dmean: Tensor
    dvariance: Tensor
    mean: Tensor

    def double(self) -> "Inputs":
        return Inputs(*(x.double() if isinstance(x, Tensor) else x for x in self))

    @property
    def gate(self) -> Gate:
        return Gate(self.scalars, self.alpha)

    @property
    def affine(self) -> Affine:
        return Affine(self.scale, self.shift, self.slope)

    def attend(self, op):
        return op.attend(self.features, self.m, self.gate, self.affine, self.du is not None)

    def attend_backward(self, op):
        return op.attend_backward(self.dy, self.du, self.features, self.m, self.gate, self.affine)

    def statistics(self, op):
        return op.statistics(*self[:3])

    def statistics_backward(self, op):
        return op.statistics_backward(self.dmean, self.dvariance, self.mean, *self[:3])

    def maps(self, op):
        if op is pointwise:
            return pointwise.maps(self.m, self.gate, True, self.du is not None)
        return op.attend(torch.ones_like(self.m), self.m, self.gate, Affine(), self.du is not None)


FUNCTIONS = ("attend", "maps", "attend_backward", "statistics", "statistics_backward")


def arrange(x: Tensor, layout: str) -> Tensor:
    if layout == "nchw":
        return x.contiguous()
    if layout == "strided":
        return x.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)[:, :, ::2, ::2]
    return x.contiguous(memory_format=torch.channels_last)


def inputs(shape, dtype=torch.float32, affine=True, slope=0.2, update=True, layout="nhwc", seed=0) -> Inputs:
    """Values about mu on both sides; m has exact zeros, negative values and some exactly at mu."""
    g = recipe.rng(seed, "pointwise")

    def normal(*size, mean=0.0, std=1.0, of=torch.float32):
        return torch.from_numpy(g.normal(mean, std, size)).to(of)

    mu = 1.375  # representable in every dtype
    m = normal(*shape, mean=1, std=1.2)
    pick = torch.from_numpy(g.uniform(0, 1, shape))
    m = torch.where(pick < 0.1, 0, torch.where(pick > 0.9, mu, m)).to(dtype)
    channels = shape[1]
    return Inputs(
        features=arrange(normal(*shape, of=dtype), layout),
        m=arrange(m, layout),
        scalars=torch.tensor([1.3, mu, 1.1, 0.7]),
        alpha=torch.tensor(0.73),
        scale=normal(channels, mean=1, std=0.4) if affine else None,
        shift=normal(channels, std=0.3) if affine else None,
        slope=slope,
        dy=arrange(normal(*shape, of=dtype), layout),
        du=arrange(normal(*shape, of=dtype), layout) if update else None,
        dmean=normal(channels),
        dvariance=normal(channels),
        mean=normal(channels),
    )


def excess(found: tuple[Tensor, ...], plain: tuple[Tensor, ...], exact: tuple[Tensor, ...], spare: int = 4) -> list[str]:
    """Where a result is not finite or further from the exact one than twice what eager PyTorch loses in that dtype.

    On top come ``spare`` roundings of float32, of a sum as many times as chance adds up: the root of the number of its terms.
    """
    faults = []
    terms = max(x.numel() for x in exact)
    for i, (kernel, same, reference) in enumerate(zip(found, plain, exact, strict=True)):
        if kernel.shape != same.shape or kernel.dtype != same.dtype:
            faults.append(f"result {i} is {kernel.dtype} {tuple(kernel.shape)}: expected {same.dtype} {tuple(same.shape)}")
        elif reference.numel():
            size = reference.abs().max().item()
            lost = (same.double() - reference).abs().max().item()
            error = (kernel.double() - reference).abs().max().item()
            rounding = torch.finfo(torch.float32).eps * size * (terms / reference.numel()) ** 0.5
            if not error <= 2 * lost + spare * rounding:
                faults.append(f"result {i}: error {error:.2e}, eager PyTorch's {lost:.2e}, largest value {size:.2e}")
    return faults


def check(function: str, given: Inputs, spare: int = 4) -> list[str]:
    run = getattr(Inputs, function)
    return excess(run(given, pointwise), run(given, eager), run(given.double(), eager), spare)


@pytest.mark.sampled("function", "case", "dtype")
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("function", FUNCTIONS)
def test_equal_to_the_eager_op(function, case, dtype):
    assert not check(function, inputs(dtype=dtype, **CASES[case]))


@pytest.mark.parametrize("function", FUNCTIONS)
def test_programs_of_several_steps(function, monkeypatch):
    """Large tensors are summed by fewer programs than they have blocks: here 2 for 5 blocks, the last of them not whole."""
    monkeypatch.setattr(pointwise, "_PROGRAMS", 2)
    monkeypatch.setattr(pointwise, "_SUMMING_TILE", 128)
    given = inputs((3, 12, 3, 4))
    assert pointwise._share(given.features, 128, 2)[2:5] == (1, 2, 3)
    assert not check(function, given)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_one_mask_for_many(dtype):
    given = inputs((3, 12, 4, 6), dtype)
    given = given._replace(m=given.m[1:2])
    assert not check("attend", given)
    for function in ("attend_backward", "statistics", "statistics_backward"):
        with pytest.raises(ValueError, match=r"m is \(1, 12, 4, 6\), features \(3, 12, 4, 6\): expected one shape"):
            getattr(given, function)(pointwise)


def test_a_mask_of_another_shape_is_refused():
    given = inputs((3, 12, 4, 6))
    for m in (given.m[:2], given.m[:, :4], given.m[:, :, :, :1]):
        with pytest.raises(ValueError, match="expected the shape of features"):
            given._replace(m=m).attend(pointwise)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("factor", [1e-6, 1e4])
@pytest.mark.parametrize("function", FUNCTIONS)
def test_values_of_any_size(function, factor, dtype):
    """The mask down to the smallest and up to the largest that float16 holds. Far from 1 a power loses more than near it."""
    given = inputs((1, 12, 5, 7), dtype)
    assert not check(function, given._replace(m=given.m * factor), spare=16)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_values_whose_square_overflows(function):
    """Far from mu g_A and its derivatives are constant; an infinite square times 0 must not make them NaN."""
    given = inputs((1, 12, 5, 7))
    m = given.m.flatten()
    m[::3], m[1::3], m[2::3] = 1e30, -1e30, 1e-40
    with np.errstate(over="ignore", under="ignore"):
        results = getattr(given._replace(m=m.view_as(given.m)), function)(pointwise)
    assert all(result.isfinite().all() for result in results)


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("function", FUNCTIONS)
def test_memory_is_written_before_it_is_read(function, affine, monkeypatch):
    """Everything allocated holds NaN at first."""
    given = inputs((3, 12, 5, 7), affine=affine, update=affine)
    expected = getattr(given, function)(pointwise)
    for owner, name in ((torch, "empty"), (torch, "empty_like"), (Tensor, "new_empty")):
        monkeypatch.setattr(owner, name, poisoned(getattr(owner, name)))
    assert torch.empty_like(given.m).isnan().all()
    for found, clean in zip(getattr(given, function)(pointwise), expected, strict=True):
        assert torch.equal(found, clean)


def poisoned(allocate):
    return lambda *args, **kwargs: allocate(*args, **kwargs).fill_(float("nan"))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_two_runs_agree_to_the_bit(dtype, monkeypatch):
    monkeypatch.setattr(pointwise, "_SUMMING_TILE", 256)
    given = inputs((3, 12, 3, 5), dtype)
    for function in FUNCTIONS:
        first, second = (getattr(given, function)(pointwise) for _ in range(2))
        assert all(map(torch.equal, first, second))


def test_results_share_no_memory():
    """An op's outputs may not be views of one another."""
    given = inputs((3, 12, 5, 7))
    for function in FUNCTIONS:
        results = [x for x in getattr(given, function)(pointwise) if x.numel()]
        assert len({x.untyped_storage().data_ptr() for x in results}) == len(results)


def test_no_derivative_where_the_mask_is_not_positive():
    """g_M' is unbounded towards 0+; at 0 and below it is 0. g_A' at mu is 0."""
    given = inputs((1, 12, 5, 7))._replace(dy=torch.zeros(1, 12, 5, 7))
    with_update = given.attend_backward(pointwise)[1]
    assert (with_update[given.m <= 0] == 0).all()
    assert (with_update[given.m > 0] != 0).all()
    given = inputs((1, 12, 5, 7), update=False)
    dm = given.attend_backward(pointwise)[1]
    assert (dm[given.m == given.scalars[1]] == 0).all()
    assert (dm[given.m != given.scalars[1]] != 0).any()


@pytest.mark.parametrize("fault", ["an exponent", "a sign", "a NaN", "a dtype"])
def test_the_comparison_catches_a_fault(fault):
    given = inputs((1, 12, 5, 7))
    plain, exact = given.attend_backward(eager), given.double().attend_backward(eager)
    wrong = {
        "an exponent": given._replace(alpha=given.alpha * (1 + 1e-5)),
        "a sign": given._replace(scale=-given.scale),
        "a NaN": given._replace(dy=given.dy.clone().index_fill_(3, torch.tensor(2), float("nan"))),
        "a dtype": given._replace(features=given.features.half()),
    }
    assert not excess(given.attend_backward(pointwise), plain, exact)
    assert excess(wrong[fault].attend_backward(pointwise), plain, exact)


@pytest.mark.parametrize("case", CASES)
def test_the_eager_backward_of_attend_equals_autograd(case):
    given = inputs(**CASES[case]).double()
    leaves = given[:6]
    for leaf in leaves:
        if leaf is not None:
            leaf.requires_grad_()
    y, u = given.attend(eager)
    loss = (y * given.dy).sum() + (0 if given.du is None else (u * given.du).sum())
    wanted = [leaf for leaf in leaves if leaf is not None]
    expected = torch.autograd.grad(loss, wanted, materialize_grads=True)
    with torch.no_grad():
        found = given.attend_backward(eager)
    for gradient, reference in zip(found, expected, strict=False):  # without a scale two empty ones are left over
        torch.testing.assert_close(gradient, reference, rtol=1e-10, atol=1e-10)
    assert all(left.numel() == 0 for left in found[len(expected) :])


@pytest.mark.parametrize("shape", [(1, 12, 5, 7), (3, 4, 9, 5)])
def test_the_eager_backward_of_statistics_equals_autograd(shape):
    given = inputs(shape).double()
    leaves = given[:3]
    for leaf in leaves:
        leaf.requires_grad_()
    mean, variance = given.statistics(eager)
    expected = torch.autograd.grad((mean * given.dmean).sum() + (variance * given.dvariance).sum(), leaves)
    with torch.no_grad():
        found = given._replace(mean=mean).statistics_backward(eager)
    for gradient, reference in zip(found, expected, strict=True):
        torch.testing.assert_close(gradient, reference, rtol=1e-10, atol=1e-10)
