"""The published network against outputs and gradients that an independent implementation computed once, in float64."""

import copy
import gc
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from golden import recipe
from torch import Tensor

import lbam_fast
from lbam_fast import LBAM, LBAMConfig, LBAMModel, native
from lbam_fast.reference import network

FOLDER = Path(__file__).parent / "golden"


@dataclass(frozen=True)
class Case:
    name: str
    seed: int
    height: int
    width: int
    kinds: tuple[str, ...]
    batch_norm: bool = False

    def inputs(self) -> tuple[Tensor, Tensor]:
        """(images [N, 3, H, W], masks [N, 3, H, W])."""
        size, seeds = (self.height, self.width), range(self.seed, self.seed + len(self.kinds))
        images = np.stack([recipe.image(s, *size) for s in seeds])
        masks = np.stack([recipe.mask(s, *size, kind) for s, kind in zip(seeds, self.kinds, strict=True)])
        return torch.from_numpy(images), torch.from_numpy(masks)

    def network_input(self) -> tuple[Tensor, Tensor]:
        """(damaged images with the mask's first channel [N, 4, H, W], masks [N, 3, H, W])."""
        images, masks = self.inputs()
        both = zip(images.numpy(), masks.numpy(), strict=True)
        return torch.from_numpy(np.stack([recipe.network_input(*pair) for pair in both])), masks

    def model(self) -> LBAMModel:
        with torch.device("meta"):
            model = LBAMModel(4, 3, batch_norm=self.batch_norm).double()
        state = {
            name: torch.from_numpy(recipe.weight(self.seed, name, tuple(tensor.shape)))
            for name, tensor in model.state_dict().items()
        }
        model.load_state_dict(state, assign=True)
        return model.eval()

    def output(self) -> Tensor:
        return torch.from_numpy(np.load(FOLDER / f"{self.name}.npz")["output"]).double()


EVALUATED = (
    Case("official_irregular_256", 11, 256, 256, ("irregular", "box")),
    Case("official_edge_masks_128", 12, 128, 128, ("known", "hole", "pixel", "speckle", "soft", "per_channel")),
    Case("official_wide_256x384", 13, 256, 384, ("irregular",)),
    Case("paper_batchnorm_eval_256", 14, 256, 256, ("irregular", "speckle"), batch_norm=True),
)
TRAINED = (
    Case("official_grads_128", 15, 128, 128, ("irregular", "box")),
    Case("paper_batchnorm_train_grads_256", 16, 256, 256, ("irregular", "box", "speckle"), batch_norm=True),
)


def cases(sampled: Case, *others: Case) -> list:
    """What the first has alone, BatchNorm in training, ``test_benchmarks`` compares with the published form at a tenth of the
    time."""
    return [pytest.param(sampled, id=sampled.name, marks=pytest.mark.sampled), *(pytest.param(c, id=c.name) for c in others)]


@pytest.fixture(scope="module", params=cases(*EVALUATED))
def evaluated(request):
    yield request.param, request.param.model()
    gc.collect()


@dataclass(frozen=True)
class Step:
    """What one training step left behind."""

    case: Case
    output: Tensor
    grads: dict[str, Tensor]
    buffers: dict[str, Tensor]
    expected: dict


@pytest.fixture(scope="module", params=cases(*reversed(TRAINED)))
def step(request):
    case = request.param
    model = case.model().train()
    output = model(*case.network_input())
    cotangent = recipe.rng(case.seed, "cotangent").normal(0, 1, tuple(output.shape))
    (output * torch.from_numpy(cotangent)).sum().backward()
    grads = {name: parameter.grad for name, parameter in model.named_parameters()}
    expected = json.loads((FOLDER / f"{case.name}.json").read_text())
    yield Step(case, output.detach(), grads, dict(model.named_buffers()), expected)
    gc.collect()


def largest(difference: Tensor) -> float:
    return difference.abs().max().item()


def test_output_in_float64(evaluated):
    case, model = evaluated
    with torch.inference_mode():
        assert largest(model(*case.network_input()) - case.output()) < 1e-6


@pytest.mark.sampled
@pytest.mark.skipif(bool(native.unavailable()), reason="the compiled kernels are missing")
def test_the_cpu_backend(evaluated):
    """In float32 within 2e-5, in bfloat16 within 4e-2 and at least 53 dB; on one and on two threads to the bit."""
    case, exact = evaluated
    model, (image, mask) = copy.deepcopy(exact).float(), (x.float() for x in case.network_input())
    with torch.inference_mode(), lbam_fast.backend("cpu"):
        for threads in (1, 2):
            torch.set_num_threads(threads)
            output = model(image, mask)
            with torch.autocast("cpu", torch.bfloat16):
                rounded = model(image, mask)
            if threads == 1:
                alone = output, rounded
        assert torch.equal(output, alone[0]) and torch.equal(rounded, alone[1])
    assert largest(output - case.output()) < 2e-5
    error = rounded.double() - case.output()
    assert largest(error) < 4e-2 and -10 * error.square().mean().log10() >= 53


attention_map = network.attention_map
concatenate = torch.cat
FAULTS = {
    "gamma_l negated": (network, "attention_map", lambda m, a, mu, left, right: attention_map(m, a, mu, -left, right)),
    "gamma_l on both sides": (network, "attention_map", lambda m, a, mu, left, _: attention_map(m, a, mu, left, left)),
    "alpha 0.79": (network, "mask_update", lambda m, alpha: m.relu() ** 0.79),
    "slope 0.1": (network, "activation", lambda x: torch.nn.functional.leaky_relu(x, 0.1)),
    "|tanh|": (network, "output_form", lambda y, form: y.tanh().abs()),
    "halves swapped": (torch, "cat", lambda tensors, dim: concatenate(tensors[::-1], dim)),
}


@pytest.fixture(scope="module")
def smallest():
    """The model and one sample of its case, the cheapest in which every fault must show."""
    case = EVALUATED[1]
    yield case.model(), *(tensor[3:4] for tensor in case.network_input()), case.output()[3:4]
    gc.collect()


@pytest.mark.parametrize("fault", [None, *FAULTS])
def test_a_planted_fault_is_seen(monkeypatch, smallest, fault):
    model, x, mask, expected = smallest
    if fault:
        monkeypatch.setattr(*FAULTS[fault])
    with torch.inference_mode():
        difference = largest(model(x, mask) - expected)
    assert difference > 1e-3 if fault else difference < 1e-6


def test_lbam_equals_the_drop_in(smallest):
    published = smallest[0]
    with torch.device("meta"):
        model = LBAM(LBAMConfig.preset("official"))
    model.load_state_dict(published.state_dict(), assign=True)
    image, mask = (tensor[5:] for tensor in EVALUATED[1].inputs())
    x, mask = (tensor[5:] for tensor in EVALUATED[1].network_input())
    with torch.inference_mode():
        assert torch.equal(model.eval()(image, mask), published(x, mask))


@pytest.mark.sampled
def test_output_in_float32(evaluated):
    case, model = evaluated
    single = copy.deepcopy(model).float()
    with torch.inference_mode():
        output = single(*(tensor.float() for tensor in case.network_input()))
    assert output.dtype == torch.float32
    assert largest(output - case.output()) < 2e-5


def test_output_of_a_training_step(step):
    assert largest(step.output - step.case.output()) < 1e-6


def test_gradients(step):
    assert step.grads.keys() == step.expected["grads"].keys()
    for name, (norm, probed) in step.expected["grads"].items():
        grad = step.grads[name]
        if norm == 0:
            assert not grad.any(), name
            continue
        probe = torch.from_numpy(np.asarray(recipe.rng(step.case.seed, f"probe-{name}").normal(0, 1, tuple(grad.shape))))
        assert grad.norm().item() == pytest.approx(norm, rel=1e-6), name
        assert (grad * probe).sum().item() == pytest.approx(probed, abs=1e-6 * norm), name


def test_some_golden_gradients_are_zero():
    expected = json.loads((FOLDER / f"{TRAINED[0].name}.json").read_text())
    assert any(norm == 0 for norm, _ in expected["grads"].values())


def test_running_statistics(step):
    expected = step.expected.get("running", {})
    assert bool(expected) == step.case.batch_norm
    for name, (norm,) in expected.items():
        assert step.buffers[name].double().norm().item() == pytest.approx(norm, rel=1e-6), name
