"""The whole narrow network on the Triton kernels, in Triton's interpreter: forward, backward, and what PyTorch sees of it.

A pass takes its time there, so the tests share each.
"""

from collections.abc import Callable
from contextlib import contextmanager
from functools import cache
from typing import NamedTuple
from unittest import mock

import pytest
import torch
from interpreted import as_on_a_gpu  # noqa: F401 - applies itself
from networks import (
    images,
    masks,
    network,
    one_thread,  # noqa: F401 - applies itself
)

import lbam_fast
from lbam_fast.kernels import decoder, encoder
from lbam_fast.ops import Affine, Gate, Tracker, Wanted, autotune
from lbam_fast.ops.autotune import RouteError
from lbam_fast.ops.backends import triton


@pytest.fixture(autouse=True)
def few_programs(monkeypatch):
    """The interpreter takes its time by programs, so blocks are large here; the shipped ones have tests of their own."""
    monkeypatch.delenv("LBAM_ROUTES", raising=False)
    autotune.forget()
    monkeypatch.setattr(encoder, "choose_tile", lambda *_: encoder.Tile(1024, 32, 32, 4, 2))
    monkeypatch.setattr(decoder, "block_for", lambda *_: decoder.Block(1024, 32, 32, 4, 2))
    monkeypatch.setattr(decoder, "THIN_BLOCKS", dict.fromkeys(decoder.THIN_BLOCKS, decoder.Block(1024, 16, 32, 4, 2)))


def pictures(n=1, dtype=torch.float32):
    return images(n).to(dtype), masks(*["irregular", "box"][:n])[:, :1].to(dtype)


class Seen:
    """Names of the ops that the profiler sees, and the number of concatenations of features, once it is over."""

    names: set[str]
    joins: int


@contextmanager
def watched():
    """No mode of PyTorch's, under which ops go another way."""
    seen, joins, join = Seen(), [], torch.cat

    def cat(tensors, *arguments, **options):
        joins.append(any(x.dim() == 4 and x.shape[1] > 3 for x in tensors))
        return join(tensors, *arguments, **options)

    with mock.patch("torch.cat", cat), torch.profiler.profile() as profile:
        yield seen
    seen.names, seen.joins = {event.name for event in profile.events()}, sum(joins)


class Step(NamedTuple):
    """A forward pass, and the backward pass of its mean square, which can be run again; what was seen of the one and kept for
    the other."""

    output: torch.Tensor
    gradients: dict[str, torch.Tensor]
    seen: Seen
    kept: list[torch.Tensor]
    backward: Callable[[], dict[str, torch.Tensor]]


@cache
def step(preset, backend, dtype, training):
    model = network(preset, dtype=dtype).train(training)
    image, mask = pictures(2, dtype)
    kept = []
    hooks = torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x) or x, lambda x: x)
    with lbam_fast.backend(backend), hooks, watched() as seen:
        output = model(image, mask)
    loss, parameters = output.square().mean(), dict(model.named_parameters())

    def backward():
        with lbam_fast.backend(backend):
            found = torch.autograd.grad(loss, [*parameters.values()], retain_graph=True, allow_unused=True)
        return {name: gradient for name, gradient in zip(parameters, found, strict=True) if gradient is not None}

    return Step(output.detach(), backward(), seen, kept, backward)


@pytest.mark.parametrize(
    ("preset", "training"),
    [
        ("official", True),
        pytest.param("official-2019", True, marks=pytest.mark.sampled),
        pytest.param("paper", False, marks=pytest.mark.sampled),
    ],
)
def test_forward_and_backward_equal_the_reference(preset, training):
    exact, gradients, *_ = step(preset, "reference", torch.float64, training)
    eager, eager_gradients, *_ = step(preset, "reference", torch.float32, training)
    ours, our_gradients, *_ = step(preset, "triton", torch.float32, training)
    assert (ours - exact).abs().max() <= 2 * (eager - exact).abs().max() + 2e-5
    assert our_gradients.keys() == gradients.keys()
    for name, gradient in gradients.items():
        # The four scalars of a layer are judged together: with two values per channel BatchNorm all but cancels one of them.
        block = name.rpartition(".")[0]
        size = max(g.abs().max() for other, g in gradients.items() if other.rpartition(".")[0] == block)
        allowed = 2 * (eager_gradients[name] - gradient).abs().max() + 2e-3 * size
        assert (our_gradients[name] - gradient).abs().max() <= allowed, name


def fill(preset, backend, dtype=torch.float32):
    """Without gradients: output, output from maps, and what PyTorch saw of the first."""
    model = network(preset, dtype=dtype)
    image, mask = pictures(dtype=dtype)
    with torch.no_grad(), lbam_fast.backend(backend):
        with watched() as seen:
            output = model(image, mask)
        return output, model(image, maps=model.attention_maps(mask)), seen


@pytest.mark.sampled
@pytest.mark.parametrize("preset", ["official", "paddle"])
def test_inference_equals_the_reference(preset):
    expected = fill(preset, "reference", torch.float64)[0]
    *outputs, seen = fill(preset, "triton")
    for output in outputs:
        assert (output - expected).abs().max() < 2e-5
    assert "lbam::encode" in seen.names
    check_nothing_runs_beside(seen)


def test_a_wrong_kernel_is_seen(monkeypatch):
    right = triton.decode_with_map
    monkeypatch.setattr(triton, "decode_with_map", lambda *arguments: right(*arguments[:-1], Affine(slope=0.1)))
    model, exact = network(dtype=torch.float32), network()
    image, mask = pictures()
    with torch.no_grad(), lbam_fast.backend("triton"):
        assert (model(image, mask) - exact(image.double(), mask.double())).abs().max() > 1e-4


APART = {"aten::exp", "aten::pow", "aten::leaky_relu"}


def check_nothing_runs_beside(seen):
    """No features joined, no separate exp, pow or LeakyReLU."""
    assert not seen.joins and not seen.names & APART


def test_nothing_runs_beside_the_kernels():
    """The eager ops and the reference, which have such, are caught."""
    seen = step("official", "triton", torch.float32, True).seen
    assert "lbam::encode" in seen.names
    check_nothing_runs_beside(seen)
    assert step("official", "eager", torch.float32, True).seen.names >= APART
    assert fill("official", "eager")[-1].names >= APART
    assert step("official", "reference", torch.float32, True).seen.joins == 6


def test_no_map_is_stored():
    """Of all that a fused pass keeps, nothing has the values of a map; the reference keeps them."""
    maps = [x.detach() for x in network(dtype=torch.float32).train().attention_maps(pictures(2)[1]).forward]

    def stored(backend):
        kept = step("official", backend, torch.float32, True).kept
        return [x for x in kept for a in maps if x.shape == a.shape and torch.allclose(x.float(), a, atol=1e-4)]

    assert stored("reference")
    assert not stored("triton")


def test_two_backward_passes_agree_to_the_bit():
    first = step("official", "triton", torch.float32, True)
    second = first.backward()
    assert first.gradients.keys() == second.keys()
    assert all(torch.equal(first.gradients[name], second[name]) for name in second)


def encoder_layer():
    generator = torch.Generator().manual_seed(0)
    shapes = ((1, 8, 4, 6), (1, 8, 4, 6), (8, 8, 4, 4), (8, 8, 4, 4))
    tensors = [torch.randn(*shape, generator=generator) for shape in shapes]
    return *tensors, Gate(torch.tensor([1.3, 0.4, 1.2, 0.8]), torch.tensor(0.75)), Affine(slope=0.2), Wanted(True, True), None


def calls():
    """Arguments for every op that has routes."""
    x, u, weight, mask_weight, gate, *rest = encoder_layer()
    regions = Tracker(torch.ones(1, 8, 8, 12), [torch.ones(8, 8, 4, 4)], [gate.alpha], x.dtype).step()
    own_m, inputs = torch.randn(1, 8, 8, 12, generator=torch.Generator().manual_seed(1)), (x, u, weight, mask_weight)
    thin = x, u, weight[:, :3], mask_weight[:, :3]
    yield "encode", (*inputs, gate, *rest)
    yield "encode", (*inputs, gate, rest[0], Wanted(True, False), None)
    yield "encode_with_statistics", (*inputs, gate.scalars)
    yield "encode_with_map", (x, weight, u[..., ::2, ::2].abs(), Affine(slope=0.2))
    for keep in (False, True):
        yield "mask_step", (u, weight, gate, Wanted(True, keep), None)
    yield "mask_step", (torch.ones_like(own_m), torch.ones(8, 8, 4, 4), gate, Wanted(True, False), regions)
    yield "decode_with_map", (*inputs, own_m, Affine(slope=0.2))
    yield "decode_with_statistics", (*inputs, own_m, gate.scalars)
    yield "reconstruct", (*thin, "tanh")
    yield "convolution", (x, weight)
    yield "deconvolution", inputs
    yield "deconvolution", (None, u, None, weight[:, :3])


@pytest.mark.parametrize(("name", "arguments"), [*calls()])
def test_the_routes_of_an_op_agree(name, arguments):
    found = []
    for route in ("kernel", "library"):
        with autotune.route(route):
            results = getattr(triton, name)(*arguments)
        found.append([results] if isinstance(results, torch.Tensor) else results)
    for kernel, library in zip(*found, strict=True):
        assert kernel.shape == library.shape and torch.allclose(kernel, library, rtol=1e-5, atol=1e-5)


def test_a_route_that_does_not_exist_is_refused(monkeypatch):
    monkeypatch.setenv("LBAM_ROUTES", "cudnn")
    autotune.forget()
    with pytest.raises(RouteError, match="LBAM_ROUTES names the route 'cudnn', expected measure, default, kernel, cuda, library"):
        triton.encode(*encoder_layer())
    autotune.forget()
    with pytest.raises(RouteError, match="route\\(\\) names"), autotune.route("cudnn"):
        pass
