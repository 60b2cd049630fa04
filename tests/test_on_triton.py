"""The whole narrow network on the Triton kernels, in Triton's interpreter: forward, backward, and what PyTorch sees of it."""

from functools import cache

import pytest
import torch
from interpreted import as_on_a_gpu  # noqa: F401 - applies itself
from networks import (
    images,
    masks,
    network,
    one_thread,  # noqa: F401 - applies itself
)
from torch.utils._python_dispatch import TorchDispatchMode

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


@cache
def loss(preset, backend, dtype, training):
    model = network(preset, dtype=dtype).train(training)
    image, mask = pictures(2, dtype)
    with lbam_fast.backend(backend):
        output = model(image, mask)
        output.square().mean().backward()
    return output.detach(), {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize(
    ("preset", "training"),
    [
        ("official", True),
        pytest.param("official-2019", True, marks=pytest.mark.sampled),
        pytest.param("paper", False, marks=pytest.mark.sampled),
    ],
)
def test_forward_and_backward_equal_the_reference(preset, training):
    exact, gradients = loss(preset, "reference", torch.float64, training)
    eager, eager_gradients = loss(preset, "reference", torch.float32, training)
    ours, our_gradients = loss(preset, "triton", torch.float32, training)
    assert (ours - exact).abs().max() <= 2 * (eager - exact).abs().max() + 2e-5
    assert our_gradients.keys() == gradients.keys()
    for name, gradient in gradients.items():
        # The four scalars of a layer are judged together: with two values per channel BatchNorm all but cancels one of them.
        block = name.rpartition(".")[0]
        size = max(g.abs().max() for other, g in gradients.items() if other.rpartition(".")[0] == block)
        allowed = 2 * (eager_gradients[name] - gradient).abs().max() + 2e-3 * size
        assert (our_gradients[name] - gradient).abs().max() <= allowed, name


@pytest.mark.sampled
@pytest.mark.parametrize("preset", ["official", "paddle"])
def test_inference_equals_the_reference(preset):
    model, exact = network(preset, dtype=torch.float32), network(preset)
    image, mask = pictures()
    with torch.no_grad():
        expected = exact(image.double(), mask.double())
        with lbam_fast.backend("triton"):
            assert (model(image, mask) - expected).abs().max() < 2e-5
            assert (model(image, maps=model.attention_maps(mask)) - expected).abs().max() < 2e-5


def test_a_wrong_kernel_is_seen(monkeypatch):
    right = triton.decode_with_map
    monkeypatch.setattr(triton, "decode_with_map", lambda *arguments: right(*arguments[:-1], Affine(slope=0.1)))
    model, exact = network(dtype=torch.float32), network()
    image, mask = pictures()
    with torch.no_grad(), lbam_fast.backend("triton"):
        assert (model(image, mask) - exact(image.double(), mask.double())).abs().max() > 1e-4


class Joins(TorchDispatchMode):
    """Counts concatenations of features."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func is torch.ops.aten.cat.default:
            self.count += any(x.dim() == 4 and x.shape[1] > 3 for x in args[0])
        return func(*args, **(kwargs or {}))


def seen(backend, training):
    """Names of the ops that the profiler sees in a forward pass, and the number of concatenations."""
    model = network(dtype=torch.float32).train(training)
    image, mask = pictures()
    with lbam_fast.backend(backend), torch.set_grad_enabled(training):
        with torch.profiler.profile() as profile:
            model(image, mask)
        with Joins() as joins:
            model(image, mask)
    return {event.name for event in profile.events()}, joins.count


@pytest.mark.sampled
@pytest.mark.filterwarnings("ignore")  # of the profiler
@pytest.mark.parametrize("training", [False, True])
def test_nothing_runs_beside_the_kernels(training):
    """No features joined, no separate exp, pow or LeakyReLU; the eager ops and the reference, which have them, are caught."""
    found, joins = seen("triton", training)
    assert not joins and not found & {"aten::exp", "aten::pow", "aten::leaky_relu"}
    assert "lbam::encode" in found
    assert {"aten::exp", "aten::pow", "aten::leaky_relu"} <= seen("eager", training)[0]
    assert seen("reference", training)[1] == 6


def test_no_map_is_stored():
    """Of all that a fused pass keeps, nothing has the values of a map; the reference keeps them."""
    model = network(dtype=torch.float32).train()
    image, mask = pictures()
    maps = [x.detach() for x in model.attention_maps(mask).forward]

    def stored():
        kept = []
        with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x) or x, lambda x: x):
            model(image, mask)
        return [x for x in kept for a in maps if x.shape == a.shape and torch.allclose(x.float(), a, atol=1e-4)]

    with lbam_fast.backend("reference"):
        assert stored()
    with lbam_fast.backend("triton"):
        assert not stored()


def test_two_backward_passes_agree_to_the_bit():
    first, second = (each("official", "triton", torch.float32, True)[1] for each in (loss, loss.__wrapped__))
    assert all(torch.equal(first[name], second[name]) for name in first)


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
