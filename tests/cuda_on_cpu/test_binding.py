"""The CUDA kernels as ``torch.ops.lbam_native_cuda`` and as the backend ``cuda``, run on the CPU by the emulator."""

import emulated
import pytest
import torch
import torch.nn.functional as F
from golden import recipe
from networks import images, masks, network
from test_cuda_on_cpu import (
    FIRST,
    LAST,
    SANITIZED,
    double,
    encode,
    first_inputs,
    last_inputs,
    normal,
    pytestmark,  # noqa: F401 - applies itself
)
from test_kernels_pointwise import FUNCTIONS, excess, inputs

import lbam_fast
from lbam_fast.ops import Affine, dispatch
from lbam_fast.ops.arguments import flatten
from lbam_fast.ops.backends import cuda, eager

if SANITIZED:
    pytest.skip("PyTorch is not sanitized", allow_module_level=True)


@pytest.fixture(autouse=True, scope="module")
def kernels():
    torch.ops.load_library(emulated.built())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cuda, "_native", lambda: torch.ops.lbam_native_cuda)
        patch.setattr(dispatch, "unavailable", lambda name: "")
        yield torch.ops.lbam_native_cuda


class Flat:
    """The kernels, called with bundled arguments."""

    def __init__(self, kernels):
        self.kernels = kernels

    def __getattr__(self, name):
        return lambda *arguments: getattr(self.kernels, name)(*flatten(arguments))


POINTWISE = {
    "a batch in NCHW": {"shape": (3, 12, 5, 7), "layout": "nchw"},
    "half precision": {"shape": (1, 64, 6, 9), "dtype": torch.float16},
    "bfloat16, nothing but the product": {"shape": (3, 7, 4, 9), "dtype": torch.bfloat16, "affine": False, "update": False},
}


@pytest.mark.sampled("case", "function")
@pytest.mark.parametrize("function", [f for f in FUNCTIONS if f != "maps"])
@pytest.mark.parametrize("case", POINTWISE.values(), ids=POINTWISE.keys())
def test_pointwise(case, function):
    given = inputs(**case)
    compute = getattr(type(given), function)
    assert not excess(compute(given, cuda), compute(given, eager), compute(given.double(), eager))


@pytest.mark.parametrize("wanted", [(True, True), (True, False), (False, True)])
@pytest.mark.parametrize("dtype", emulated.TYPES)
def test_maps(dtype, wanted, kernels):
    given = inputs((3, 12, 4, 6), dtype)
    found = kernels.maps(given.m, given.scalars, given.alpha, *wanted)
    for there, result, plain, exact in zip(wanted, found, given.maps(eager), given.double().maps(eager), strict=True):
        assert result.shape == (plain.shape if there else (0,))
        assert not there or not excess((result,), (plain,), (exact,))


def test_a_mask_that_images_share(kernels):
    given = inputs((3, 12, 4, 6))
    shared = given._replace(m=given.m[:1], du=given.du[:1])
    whole = given._replace(m=shared.m.expand_as(given.m))
    y, u = shared.attend(Flat(kernels))
    expected, new = whole.double().attend(eager)
    assert torch.allclose(y.double(), expected, atol=1e-5) and torch.allclose(u.double(), new[:1], atol=1e-5)


@pytest.mark.parametrize("case", FIRST.values(), ids=FIRST.keys())
def test_first_layer(case):
    tensors, rest = first_inputs(case)
    found = cuda.encode(*tensors, *rest)
    assert not excess(found, encode(rest, *tensors), encode(rest, *double(tensors)))


@pytest.mark.parametrize("case", [case for case in LAST.values() if case["channels"][0]])
def test_last_layer(case):
    tensors, form = last_inputs(case)
    exact, plain = eager.reconstruct(*double(tensors), form), eager.reconstruct(*tensors, form)
    assert not excess((cuda.reconstruct(*tensors, form),), (plain,), (exact,))


@pytest.mark.parametrize("kind", ["binary", "hole", "soft"])
def test_regions(kind, kernels):
    mask = torch.from_numpy(recipe.rng(3, kind).uniform(0, 1, (3, 1, 32, 48))).float()
    mask = {"binary": (F.avg_pool2d(mask, 5, 1, 2) > 0.5).float(), "hole": torch.zeros_like(mask), "soft": mask}[kind]
    kinds = expected = eager.classify(mask)
    assert torch.equal(kernels.classify(mask), kinds)
    while kinds.shape[2] % 2 == kinds.shape[3] % 2 == 0:
        found, wanted = kernels.spread(kinds), eager.spread(expected)
        assert all(map(torch.equal, found, wanted))
        kinds, expected = found[0], wanted[0]


def loss(preset, backend, dtype, training):
    model = network(preset, dtype=dtype).train(training)
    image, mask = images(2).to(dtype), masks("irregular", "box")[:, :1].to(dtype)
    with lbam_fast.backend(backend):
        output = model(image, mask)
        output.square().mean().backward()
        with torch.no_grad():
            without = model.eval()(image, mask)
    return (output.detach(), without), {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.sampled("training")
@pytest.mark.parametrize(("preset", "training"), [("official", True), ("official-2019", True), ("paper", False)])
def test_the_network_equals_the_reference(preset, training):
    exact, gradients = loss(preset, "reference", torch.float64, training)
    eager_outputs, eager_gradients = loss(preset, "reference", torch.float32, training)
    ours, our_gradients = loss(preset, "cuda", torch.float32, training)
    for found, plain, expected in zip(ours, eager_outputs, exact, strict=True):
        assert (found - expected).abs().max() <= 2 * (plain - expected).abs().max() + 2e-5
    assert our_gradients.keys() == gradients.keys()
    for name, gradient in gradients.items():
        block = name.rpartition(".")[0]
        size = max(g.abs().max() for other, g in gradients.items() if other.rpartition(".")[0] == block)
        allowed = 2 * (eager_gradients[name] - gradient).abs().max() + 2e-3 * size
        assert (our_gradients[name] - gradient).abs().max() <= allowed, name


def test_a_wrong_kernel_is_seen(monkeypatch):
    right = cuda.attend_backward
    monkeypatch.setattr(cuda, "attend_backward", lambda *arguments: right(*arguments[:-1], Affine(slope=0.1)))
    with pytest.raises(AssertionError):
        test_the_network_equals_the_reference("official", True)


def channels_last(x):
    return x.contiguous(memory_format=torch.channels_last)


REFUSED = {
    "float32, float16 or bfloat16": lambda x: {"features": x.features.double(), "m": x.m.double()},
    "one dtype": lambda x: {"m": x.m.half()},
    "features: expected a dense channels_last": lambda x: {"features": x.features.contiguous()},
    "m: expected the shape": lambda x: {"m": channels_last(x.m[:, :4])},
    "scalars: expected": lambda x: {"scalars": x.scalars[:3]},
    "alpha: expected": lambda x: {"alpha": x.scalars},
    "scale, shift: expected": lambda x: {"scale": x.scale[:5]},
}


@pytest.mark.parametrize("function", ["attend", "attend_backward"])
@pytest.mark.parametrize(("message", "change"), REFUSED.items(), ids=REFUSED.keys())
def test_what_does_not_fit_is_refused(function, message, change, kernels):
    given = inputs((3, 12, 4, 6))
    if function == "attend_backward" and message.startswith("float32"):
        given = given.double()
    given = given._replace(**change(given))
    with pytest.raises(ValueError, match=message):
        getattr(type(given), function)(given, Flat(kernels))


def test_layers_refuse_what_does_not_fit(kernels):
    tensors, rest = first_inputs(FIRST["plain"])
    tensors = [channels_last(x) if isinstance(x, torch.Tensor) and x.dim() == 4 else x for x in flatten(tensors)]
    last, _ = last_inputs(LAST["a tile and more"])
    last = [channels_last(x) for x in last[:2]] + [*last[2:]]
    rest = rest[0]
    kernels.encode(*tensors, *rest)
    kernels.reconstruct(*last, False)
    picture = channels_last(normal(1, 3, 36, 68))
    wrong = {
        "image, mask: expected .N, 3 or 4": [(kernels.encode, (tensors[0][:, :2], *tensors[1:], *rest))],
        "H and W even": [
            (kernels.encode, (channels_last(tensors[0][:, :, :5]), channels_last(tensors[1][:, :, :5]), *tensors[2:], *rest))
        ],
        "weight, mask_weight: expected": [(kernels.encode, (*tensors[:2], tensors[3], tensors[2], *tensors[4:], *rest))],
        "skip, own: expected": [
            (kernels.reconstruct, (last[0][:, :, 1:], *last[1:], False)),
            (kernels.reconstruct, (None, *last[1:], False)),
        ],
        "skip_weight, own_weight: expected": [(kernels.reconstruct, (*last[:2], last[3], last[2], False))],
        "kinds: expected": [(kernels.spread, (picture,)), (kernels.spread, (torch.zeros(1, 1, 3, 4, dtype=torch.uint8),))],
    }
    for message, calls in wrong.items():
        for function, arguments in calls:
            with pytest.raises(ValueError, match=message):
                function(*arguments)
