"""The rivals' networks against results of the public code itself, in float64, and their state dicts against its keys."""

import json
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from golden import rivals_recipe as recipe
from torch import Tensor, nn

from lbam_fast.evaluation.rivals.attention import ContextualAttention
from lbam_fast.evaluation.rivals.contextual_attention import ATTENTION, ContextualAttentionNetwork
from lbam_fast.evaluation.rivals.global_local import CompletionNetwork
from lbam_fast.evaluation.rivals.pconv import MeanPartialConv2d, PartialConv2d, PartialUNet

FOLDER = Path(__file__).parent / "golden"
CASES = json.loads((FOLDER / "rivals.json").read_text())["cases"]
TOLERANCE = {"ca_daa233_sum": 1e-8}
"""Of the largest value: the public code of daa233 has a number in float32."""
DIALECT = {"ca_daa233": "ca_daa233_sum"}
"""The case was computed by today's code."""
NETWORKS = [name for name in CASES if not name.startswith("layer_")]


@cache
def stored() -> dict[str, np.ndarray]:
    with np.load(FOLDER / "rivals.npz") as file:
        return dict(file)


def network(dialect: str) -> nn.Module:
    kind = {"pconv": PartialUNet, "gl": CompletionNetwork, "ca": ContextualAttentionNetwork}[dialect.partition("_")[0]]
    with torch.device("meta"):
        return kind(dialect).double().eval()


def state(name: str) -> dict[str, Tensor]:
    return {key: torch.from_numpy(np.ascontiguousarray(value)) for key, value in recipe.state(CASES[name]).items()}


def inputs(name: str) -> list[Tensor]:
    return [torch.from_numpy(value) for value in recipe.inputs(name, CASES[name]).values()]


def departures(name: str, dialect: str) -> dict[str, float]:
    """How far each layer is from the case, in the order they run, then each output: relative to its norm or largest value."""
    case, found = CASES[name], {}
    model = network(dialect)
    model.load_state_dict(state(name), assign=True)

    def note(layer: str, value: Tensor) -> None:
        shape, *expected = case["layers"][layer]
        got = recipe.checksum(case["seed"], layer, value.numpy()) if list(value.shape) == shape else [np.inf, np.inf]
        found[layer] = max(abs(g - e) for g, e in zip(got, expected, strict=True)) / expected[0]

    for layer in case["layers"]:
        hook = lambda module, given, out, layer=layer: note(layer, out[0] if isinstance(out, tuple) else out)  # noqa: E731
        model.get_submodule(layer).register_forward_hook(hook)
    with torch.inference_mode():
        outputs = model(*inputs(name))
    for tensor, value in zip(case["tensors"], outputs if isinstance(outputs, tuple) else (outputs,), strict=True):
        found[tensor] = departure(name, tensor, value)
    return found


def departure(name: str, tensor: str, value: Tensor) -> float:
    """Largest difference of a tensor and its fingerprints from the case's, relative to the largest value and the norm."""
    case, expected = CASES[name], stored()[f"{name}/{tensor}"]
    listed = case["tensors"][tensor]
    if list(value.shape) != listed["shape"]:
        return np.inf
    got = value.numpy()
    norm, dot = recipe.checksum(case["seed"], tensor, got)
    taken = got if listed["whole"] else got.ravel()[recipe.probe_indices(case["seed"], tensor, got.size)]
    return max(
        np.abs(taken - expected).max() / np.abs(expected).max(),
        abs(norm - listed["norm"]) / listed["norm"],
        abs(dot - listed["dot"]) / listed["norm"],
    )


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_gives_what_the_public_code_gives(name):
    dialect = DIALECT.get(name, name)
    wrong = {layer: far for layer, far in departures(name, dialect).items() if not far < TOLERANCE.get(dialect, 1e-12)}
    assert not wrong, f"first wrong: {next(iter(wrong))}"


def first_wrong(name: str, dialect: str) -> str:
    return next(layer for layer, far in departures(name, dialect).items() if not far < TOLERANCE.get(dialect, 1e-12))


@pytest.mark.parametrize(
    ("name", "dialect", "layer"),
    [
        ("ca_daa233", "ca_authors_round", "coarse_generator.conv2_downsample"),  # padding
        ("ca_authors_floor", "ca_authors_round", "coarse_generator.conv13"),  # resampling
        ("ca_daa233", "ca_daa233", "fine_generator.contextul_attention"),  # the norm of keys
    ],
)
def test_a_wrong_dialect_is_caught_at_the_layer_where_it_departs(name, dialect, layer):
    """Planted faults: weights in the network of another dialect."""
    assert first_wrong(name, dialect) == layer


def test_order_of_norm_and_activation_is_caught():
    """Planted fault: the weights of one dialect of Global&Local in the order of another."""
    order = network("gl_authors")
    given = state("gl_otenim")
    order.load_state_dict(dict(zip(order.state_dict(), given.values(), strict=True)), assign=True)
    with torch.inference_mode():
        assert departure("gl_otenim", "output", order(*inputs("gl_otenim"))) > 0.01


@pytest.mark.parametrize("name", NETWORKS)
def test_a_state_dict_has_the_public_keys_and_shapes(name):
    listed = {key: tuple(shape) for key, (shape, _) in CASES[name]["keys"].items()}
    assert {key: tuple(tensor.shape) for key, tensor in network(name).state_dict().items()} == listed


@pytest.mark.parametrize("dialect", ["authors_floor", "authors_round", "daa233", "mmagic"])
def test_the_attention_layer_gives_what_the_public_code_gives(dialect):
    name = f"layer_attention_{dialect}"
    features, hole = inputs(name)
    dialect = DIALECT.get(f"ca_{dialect}", f"ca_{dialect}")
    layer = ContextualAttention(ATTENTION[dialect])
    tolerance = TOLERANCE.get(dialect, 1e-12)
    assert departure(name, "output", layer(features, hole)) < tolerance
    assert departure(name, "output_no_mask", layer(features)) < tolerance


def partial_convolutions() -> dict[str, Tensor]:
    """Every tensor of the layer's case."""
    name = "layer_partial_conv"
    given, (x, known) = state(name), inputs(name)
    without_bias = {"weight": given["weight"]}
    found = {}

    def run(tensor: str, layer: nn.Module, weights: dict[str, Tensor], *masks: Tensor) -> Tensor:
        layer.double().load_state_dict(weights)
        with torch.inference_mode():
            found[tensor], mask = layer(x, *masks)
        return mask

    found["nvidia_multi_mask"] = run("nvidia_multi", PartialConv2d(3, 8, 5, 2), given, known)
    single = PartialConv2d(3, 8, 5, 2, multi_channel=False)
    found["nvidia_single_mask"] = run("nvidia_single", single, given, known[:, :1])
    run("nvidia_multi_nobias", PartialConv2d(3, 8, 5, 2, bias=False), without_bias, known)
    run("nvidia_no_mask_padding", single, given)
    mean = {"input_conv.weight": 75 * given["weight"], "input_conv.bias": given["bias"]}
    found["naoto_mask"] = run("naoto_weight_x75", MeanPartialConv2d(3, 8, 5, 2), mean, known)
    return found


def test_the_partial_convolution_gives_what_the_public_code_gives():
    found = partial_convolutions()
    assert found.keys() == CASES["layer_partial_conv"]["tensors"].keys()
    far = {tensor: departure("layer_partial_conv", tensor, value) for tensor, value in found.items()}
    assert max(far.values()) < 1e-12, far
