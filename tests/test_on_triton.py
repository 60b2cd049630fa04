"""The whole narrow network on the Triton kernels, in Triton's interpreter: forward, backward, and what PyTorch sees of it."""

import pytest
import torch
from interpreted import as_on_a_gpu  # noqa: F401 - applies itself; before the kernels
from networks import (
    images,
    masks,
    network,
    one_thread,  # noqa: F401 - applies itself
)

import lbam_fast
from lbam_fast.ops import on_triton

SEPARATE = ("aten::cat", "aten::exp", "aten::pow", "aten::leaky_relu", "aten::leaky_relu_", "aten::where")


@pytest.fixture(autouse=True)
def plain_threads_stay(monkeypatch):
    monkeypatch.delenv("LBAM_ROUTES", raising=False)


def pictures(n=1, dtype=torch.float32):
    return images(n).to(dtype), masks(*["irregular", "box"][:n])[:, :1].to(dtype)


def loss(preset, backend, dtype, training):
    model = network(preset, dtype=dtype).train(training)
    image, mask = pictures(2, dtype)
    with lbam_fast.backend(backend):
        output = model(image, mask)
        output.square().mean().backward()
    return output.detach(), {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize(("preset", "training"), [("official", True), ("official-2019", True), ("paper", False)])
def test_forward_and_backward_equal_the_reference(preset, training):
    exact, gradients = loss(preset, "reference", torch.float64, training)
    eager, eager_gradients = loss(preset, "reference", torch.float32, training)
    ours, our_gradients = loss(preset, "triton", torch.float32, training)
    assert (ours - exact).abs().max() <= 2 * (eager - exact).abs().max() + 2e-5
    assert our_gradients.keys() == gradients.keys()
    for name, gradient in gradients.items():
        size = gradient.abs().max()
        allowed = 2 * (eager_gradients[name] - gradient).abs().max() + 2e-3 * size
        assert (our_gradients[name] - gradient).abs().max() <= allowed, name


@pytest.mark.parametrize("preset", ["official", "paddle"])
def test_inference_equals_the_reference(preset):
    model, exact = network(preset, dtype=torch.float32), network(preset)
    image, mask = pictures(2)
    with torch.no_grad():
        expected = exact(image.double(), mask.double())
        shared = exact(image.double(), mask[:1].double())
        with lbam_fast.backend("triton"):
            assert (model(image, mask) - expected).abs().max() < 2e-5
            assert (model(image, maps=model.attention_maps(mask)) - expected).abs().max() < 2e-5
            assert (model(image, mask[:1]) - shared).abs().max() < 2e-5


def test_a_wrong_kernel_is_seen(monkeypatch):
    right = on_triton.reverse_attention
    monkeypatch.setattr(on_triton, "reverse_attention", lambda *arguments: right(*arguments[:-1], 0.1))
    model, exact = network(dtype=torch.float32), network()
    image, mask = pictures()
    with torch.no_grad(), lbam_fast.backend("triton"):
        assert (model(image, mask) - exact(image.double(), mask.double())).abs().max() > 1e-4


def seen(backend, training):
    """What the profiler sees of a forward pass."""
    model = network(dtype=torch.float32).train(training)
    image, mask = pictures()
    with lbam_fast.backend(backend), torch.set_grad_enabled(training), torch.profiler.profile() as profile:
        model(image, mask)
    return {event.key for event in profile.key_averages()}


@pytest.mark.filterwarnings("ignore")  # of the profiler
@pytest.mark.parametrize("training", [False, True])
def test_nothing_runs_beside_the_kernels(training):
    """No concatenation, no separate exp, pow or LeakyReLU; the eager ops, which have them, would be caught."""
    found = seen("triton", training)
    assert not found & set(SEPARATE[:5])
    assert "lbam::forward_attention" in found
    assert {"aten::exp", "aten::pow", "aten::leaky_relu"} <= seen("eager", training)
    assert "aten::cat" in seen("reference", training)


def test_no_map_is_stored():
    """Of all that a fused pass writes for the encoder, nothing has the values of a map."""
    model = network(dtype=torch.float32).train()
    image, mask = pictures()
    maps = [x.detach() for x in model.attention_maps(mask).forward]
    kept = []

    def keep(x):
        kept.append(x)
        return x

    def stored():
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
            model(image, mask)
        found = [x for x in kept for a in maps if x.shape == a.shape and torch.allclose(x.float(), a, atol=1e-4)]
        kept.clear()
        return found

    with lbam_fast.backend("triton"):
        assert not stored()
    assert stored()


def test_two_backward_passes_agree_to_the_bit():
    first, second = (loss("official-2019", "triton", torch.float32, True)[1] for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)
