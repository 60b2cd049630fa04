"""What a network costs: against the design's figures, PyTorch's own counter and the model's own parameters."""

import dataclasses
import itertools

import pytest
import torch
from accounting import GROUPS, Layer, floor_seconds, layers, totals
from networks import PRESET_NAMES
from torch.utils.flop_counter import FlopCounterMode

from lbam_fast import LBAM, LBAMConfig


def giga(config: LBAMConfig, *size: int) -> dict[str, float]:
    return {group: round(total.flop / 1e9, 1) for group, total in totals(layers(config, *size)).items()}


def counted_by_torch(config: LBAMConfig, height: int, width: int, batch: int) -> int:
    with torch.device("meta"):
        model = LBAM(config).eval()
        image, mask = torch.rand(batch, 3, height, width), torch.ones(batch, 1, height, width)
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        model(image, mask)
    return counter.get_total_flops()


def test_the_figures_of_the_design():
    whole = totals(layers(LBAMConfig(), 256, 256))["whole"]
    assert giga(LBAMConfig(), 256, 256) == {"encoder": 4.1, "forward": 4.0, "reverse": 4.0, "decoder": 8.0, "whole": 20.1}
    assert round(whole.parameters / 1e6, 1) == 68.3


@pytest.mark.sampled("preset", "width")
@pytest.mark.parametrize(("width", "size"), [(64, (256, 256, 1)), (4, (128, 384, 3))])
@pytest.mark.parametrize("preset", PRESET_NAMES)
def test_torch_counts_the_same(preset, width, size):
    config = LBAMConfig.preset(preset, base_width=width)
    assert totals(layers(config, *size))["whole"].flop == pytest.approx(counted_by_torch(config, *size), rel=0.01)


@pytest.mark.parametrize("preset", PRESET_NAMES)
def test_parameters_are_the_models(preset):
    config = LBAMConfig.preset(preset, base_width=8)
    with torch.device("meta"):
        model = LBAM(config)
    found = layers(config, 128, 128)
    assert totals(found)["whole"].parameters == sum(parameter.numel() for parameter in model.parameters())


def test_batch_and_size_scale_all_but_the_weights():
    one, four = (totals(layers(LBAMConfig(), 256, 256, batch))["whole"] for batch in (1, 4))
    large = totals(layers(LBAMConfig(), 512, 512))["whole"]
    assert four == large
    assert (four.flop, four.input_elements, four.output_elements) == (
        4 * one.flop,
        4 * one.input_elements,
        4 * one.output_elements,
    )
    assert (four.weight_elements, four.parameters) == (one.weight_elements, one.parameters)


def test_one_layer_by_hand():
    """ec2 at 256x256: 64 channels of 128x128 to 128 of 64x64; dc6 reads two halves of 64 channels."""
    found = {layer.name: layer for layer in layers(LBAMConfig(), 256, 256)}
    weight, inputs, outputs = 128 * 64 * 16, 64 * 128 * 128, 128 * 64 * 64
    assert found["ec2"] == Layer("ec2", "encoder", 2 * 64 * 64 * weight, inputs, weight, outputs, weight)
    assert found["ec2"].bytes(2) == 2 * (inputs + weight + outputs)
    assert found["dc6"].input_elements == 256 * 64 * 64
    assert found["dc7"].output_elements == 3 * 256 * 256


def test_each_layers_input_is_the_one_befores_output():
    found = layers(LBAMConfig(), 256, 128, 2)
    for group in ("encoder", "forward", "reverse"):
        chain = [layer for layer in found if layer.group == group]
        assert all(after.input_elements == before.output_elements for before, after in itertools.pairwise(chain))
    decoder = [layer for layer in found if layer.group == "decoder"]
    assert all(after.input_elements == 2 * before.output_elements for before, after in itertools.pairwise(decoder))


def test_groups_and_names():
    found = layers(LBAMConfig(), 128, 128)
    assert [sum(layer.group == group for layer in found) for group in GROUPS] == [7, 7, 6, 7]
    assert len({layer.name for layer in found}) == len(found)
    assert "reverse" not in totals(layers(LBAMConfig.preset("forward"), 128, 128))
    assert giga(LBAMConfig.preset("unlearned"), 256, 256)["forward"] == 0
    assert totals(layers(LBAMConfig.preset("unlearned"), 256, 256))["reverse"].parameters == 0


def test_the_floor_is_the_slower_of_arithmetic_and_memory():
    layer = Layer("x", "encoder", flop=100, input_elements=20, weight_elements=5, output_elements=25, parameters=5)
    assert floor_seconds(layer, flop_per_second=10, bytes_per_second=1e9, dtype_size=2) == 10
    assert floor_seconds(layer, flop_per_second=1e9, bytes_per_second=10, dtype_size=2) == 10
    assert floor_seconds(layer, flop_per_second=1e9, bytes_per_second=10, dtype_size=4) == 20


@pytest.mark.parametrize(("size", "name"), [((100, 128), "height"), ((128, 0), "width"), ((128, 128, 0), "batch")])
def test_impossible_sizes(size, name):
    with pytest.raises(ValueError, match=name):
        layers(LBAMConfig(), *size)


@pytest.mark.parametrize("name", ["ec3", "ec3.mask", "reverse3", "dc3"])
def test_a_miscounted_layer_is_noticed(name):
    """Planted fault: one layer counted once for each multiply-add."""
    found = layers(LBAMConfig(), 256, 256)
    wrong = [dataclasses.replace(x, flop=x.flop // 2) if x.name == name else x for x in found]
    expected = counted_by_torch(LBAMConfig(), 256, 256, 1)
    assert totals(found)["whole"].flop == pytest.approx(expected, rel=0.01)
    assert totals(wrong)["whole"].flop != pytest.approx(expected, rel=0.01)
