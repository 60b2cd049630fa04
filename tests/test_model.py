"""What users do with the modules: copies, compilation, precision, masks of every kind, and calls that cannot work."""

import copy
import dataclasses
import io
import itertools
import math
import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import PRESET_NAMES, images, masks, network, one_thread  # noqa: F401
from torch import Tensor, nn

from lbam_fast import LBAM, AttentionMaps, LBAMConfig, LBAMModel, reference

WITH_BATCH_NORM = ("official-2019", "paddle", "paper")


def bits(module: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def drop_in(mask: Tensor, image: Tensor) -> tuple[Tensor, Tensor]:
    return torch.cat([image * mask, mask[:, :1]], dim=1), mask


def copied(model: LBAM) -> LBAM:
    return copy.deepcopy(model)


def pickled(model: LBAM) -> LBAM:
    return pickle.loads(pickle.dumps(model))


def reloaded(model: LBAM) -> LBAM:
    buffer = io.BytesIO()
    torch.save(model.state_dict(), buffer)
    buffer.seek(0)
    fresh = LBAM(model.config).to(model.dc7.weight.dtype)
    fresh.load_state_dict(torch.load(buffer, weights_only=True), strict=True)
    return fresh.eval()


@pytest.mark.sampled("name", "again")
@pytest.mark.parametrize("again", [copied, pickled, reloaded])
@pytest.mark.parametrize("name", PRESET_NAMES)
def test_a_copy_is_equal_and_apart(name, again):
    model, image, mask = network(name), images(1), masks("irregular")
    expected = model(image, mask)
    other = again(model)
    assert other.config == model.config
    assert torch.equal(other(image, mask), expected)
    with torch.no_grad():
        other.dc7.weight.zero_()
    assert torch.equal(model(image, mask), expected)


@pytest.mark.sampled
@pytest.mark.parametrize(("name", "training"), [("official", False), ("paddle", True), ("pconv", False)])
def test_compiles_whole(name, training):
    torch.compiler.reset()
    model = network(name).train(training)
    compiled = torch.compile(copy.deepcopy(model), fullgraph=True, backend="aot_eager")
    image, mask = images(2), masks("irregular", "box")[:, :1]
    eager, result = model(image, mask), compiled(image, mask)
    torch.testing.assert_close(result, eager)
    eager.square().sum().backward()
    result.square().sum().backward()
    for parameter, other in zip(model.parameters(), compiled.parameters(), strict=True):
        torch.testing.assert_close(other.grad, parameter.grad)
    for buffer, other in zip(model.buffers(), compiled.buffers(), strict=True):
        torch.testing.assert_close(other, buffer)


@pytest.mark.parametrize("name", ["official", "paper"])
def test_distributed_data_parallel(tmp_path, name):
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        model = network(name).train()
        wrapped = nn.parallel.DistributedDataParallel(copy.deepcopy(model))
        image, mask = images(2), masks("irregular", "box")
        for each in (model, wrapped):
            each(image, mask).square().sum().backward()
        for parameter, other in zip(model.parameters(), wrapped.parameters(), strict=True):
            torch.testing.assert_close(other.grad, parameter.grad)
    finally:
        torch.distributed.destroy_process_group()


def test_functional_call_sees_the_given_weights():
    model, image, mask = network(), images(1), masks("box")
    weights = {name: tensor * 1.1 for name, tensor in model.state_dict().items()}
    result = torch.func.functional_call(model, weights, (image, mask))
    model.load_state_dict(weights)
    assert torch.equal(result, model(image, mask))


@pytest.mark.parametrize("name", PRESET_NAMES)
def test_forward_writes_no_parameter_and_training_follows_inference(name):
    model, image, mask = network(name).train(), images(2), masks("irregular", "box")
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 0:
                parameter.fill_(9.0)  # out of every range
    before = bits(model)
    with torch.inference_mode():
        model(image, mask)
    model(image, mask).square().sum().backward()
    parameters = dict(model.named_parameters())
    assert all(torch.equal(parameter, before[key]) for key, parameter in parameters.items())
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in parameters.values())
    changed = any(not torch.equal(buffer, before[key]) for key, buffer in model.named_buffers())
    assert changed == (name in WITH_BATCH_NORM)
    torch.optim.SGD(model.parameters(), lr=1e-3).step()
    assert not torch.equal(model.dc7.weight, before["dc7.weight"])


@pytest.mark.parametrize("name", PRESET_NAMES)
def test_evaluation_writes_nothing(name):
    model = network(name)
    before = bits(model)
    model(images(1), masks("box"))
    assert all(torch.equal(tensor, before[key]) for key, tensor in model.state_dict().items())


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", ["official", "paddle", "unlearned", "pconv"])
def test_precision(name, dtype):
    image, mask = images(1), masks("irregular")
    with torch.inference_mode():
        expected = network(name)(image, mask)
        result = network(name, dtype=dtype)(image.to(dtype), mask)  # the mask is taken in the model's dtype
    assert result.dtype == dtype
    assert result.min() >= 0 and result.max() <= 1
    limit = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 0.03}[dtype]
    assert (result.double() - expected).abs().mean() < limit


def test_autocast_stays_close():
    model, image, mask = network(dtype=torch.float32), images(1, dtype=torch.float32), masks("irregular")
    expected = model(image, mask)
    with torch.autocast("cpu", torch.bfloat16):
        result = model(image, mask)
    assert (result.float() - expected).abs().max() < 0.1


@pytest.mark.sampled("name", "channels", "kinds")
@pytest.mark.parametrize("kinds", [("irregular",), ("irregular", "soft", "per_channel")], ids=["one mask", "a mask each"])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", PRESET_NAMES)
def test_maps_stand_in_for_their_mask(name, channels, kinds):
    model, image, mask = network(name), images(3), masks(*kinds)[:, :channels]
    maps = model.attention_maps(mask)
    expected = torch.cat([model(image[i : i + 1], mask[i % len(mask) :][:1]) for i in range(3)])
    torch.testing.assert_close(model(image, maps=maps), expected, rtol=0, atol=1e-6)
    torch.testing.assert_close(model(image, mask), expected, rtol=0, atol=1e-6)
    other = model.attention_maps(1 - mask)
    assert (model(image, maps=other) - expected).abs().max() > 1e-4


@pytest.mark.parametrize("name", PRESET_NAMES)
def test_maps_have_the_described_shapes(name):
    model = network(name)
    maps, config = model.attention_maps(masks("box", height=128, width=256)), model.config
    sizes = [(128 >> i, 256 >> i) for i in range(8)]
    assert maps.mask.shape == (1, 3, *sizes[0])
    assert [each.shape[-2:] for each in maps.forward] == sizes[1:]
    if config.attention == "partial":
        assert [each.shape[-2:] for each in maps.reverse] == sizes[6::-1]
        assert [each.shape[-2:] for each in maps.known] == sizes[1:] + sizes[6:0:-1]
        return
    assert [each.shape[-2:] for each in maps.reverse] == (sizes[1:7] if config.reverse else [])
    for each, channels in zip((*maps.forward, *maps.reverse), config.channels + config.channels, strict=False):
        assert each.shape[1] in (1, channels)
    assert maps.known == ()


@pytest.mark.sampled("name", "mask_channels")
@pytest.mark.parametrize("mask_channels", [1, 3])
@pytest.mark.parametrize("name", PRESET_NAMES)
@settings(max_examples=4, deadline=None)
@given(
    garbage=st.sampled_from([math.nan, math.inf, -math.inf, 3e38, -1.0]),
    kind=st.sampled_from(["irregular", "speckle", "per_channel", "hole", "soft"]),
    seed=st.integers(0, 1000),
)
def test_what_lies_in_a_hole_changes_no_bit(name, mask_channels, garbage, kind, seed):
    model = network(name, width=2, dtype=torch.float32)
    image, mask = (tensor.float() for tensor in (images(1, seed=seed), masks(kind, seed=seed)[:, :mask_channels]))
    mask[mask < 0.3] = 0
    spoilt = torch.where(mask == 0, garbage, image)
    with torch.inference_mode():
        expected = model(image, mask)
        assert expected.isfinite().all()
        assert torch.equal(model(spoilt, mask), expected)
        assert torch.equal(model(spoilt, maps=model.attention_maps(mask)), expected)


def test_a_multiplied_mask_would_let_garbage_through(monkeypatch):
    monkeypatch.setattr(reference, "damaged_input", lambda image, mask, _: torch.cat([image * mask, mask[:, :1]], dim=1))
    image, mask = images(1), masks("box")
    assert network()(torch.where(mask == 0, math.nan, image), mask).isnan().any()


@pytest.mark.parametrize("name", PRESET_NAMES)
def test_a_known_pixel_does_change_the_output(name):
    model, image, mask = network(name), images(1), masks("box")
    other = torch.where(mask == 1, 1 - image, image)
    assert (model(image, mask) - model(other, mask)).abs().max() > 1e-3


@pytest.mark.parametrize(
    "name",
    PRESET_NAMES,
)
def test_a_mask_of_almost_nothing_is_finite(name):
    model, image = network(name, dtype=torch.float32), images(1, dtype=torch.float32)
    with torch.inference_mode():
        assert model(image, torch.full((1, 1, 128, 128), 1e-40)).isfinite().all()


@pytest.mark.parametrize("name", PRESET_NAMES)
def test_one_mask_channel_means_three_equal_ones(name):
    model, image, mask = network(name), images(2), masks("irregular", "soft")
    torch.testing.assert_close(model(image, mask[:, :1]), model(image, mask))
    assert torch.equal(model(image, mask[:, :1] > 0.5), model(image, (mask[:, :1] > 0.5).double()))


@pytest.mark.parametrize("name", PRESET_NAMES)
def test_channels_of_a_mask_may_differ(name):
    model, image, mask = network(name), images(1), masks("per_channel")
    results = [model(image, each) for each in (mask, *(mask[:, c : c + 1] for c in range(3)))]
    assert all((a - b).abs().max() > 1e-4 for a, b in itertools.combinations(results, 2))


def strided(tensor: Tensor) -> Tensor:
    return tensor.repeat_interleave(2, dim=3)[..., ::2]


def transposed(tensor: Tensor) -> Tensor:
    return tensor.mT.contiguous().mT


def channels_last(tensor: Tensor) -> Tensor:
    return tensor.contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("layout", [strided, transposed, channels_last])
@pytest.mark.parametrize("name", ["official", "paper", "unlearned", "pconv"])
def test_memory_layout_does_not_matter(name, layout):
    model, image, mask = network(name), images(3), masks("irregular", "soft", "per_channel")
    assert not layout(image).is_contiguous()
    torch.testing.assert_close(model(layout(image), layout(mask)), model(image, mask))


def test_channels_last_model():
    model, image, mask = network(), images(2), masks("irregular", "box")
    expected = model(image, mask)
    torch.testing.assert_close(model.to(memory_format=torch.channels_last)(image, mask), expected)


@pytest.mark.parametrize("kind", ["known", "hole", "pixel", "speckle", "soft", "per_channel"])
def test_the_drop_in_equals_lbam(kind):
    model, image, mask = network(), images(1), masks(kind)
    published = LBAMModel(4, 3, base_width=4).double().eval()
    published.load_state_dict(model.state_dict(), strict=True)
    assert torch.equal(published(*drop_in(mask, image)), model(image, mask))


GOOD_IMAGE, GOOD_MASK = (2, 3, 128, 128), (2, 1, 128, 128)


@pytest.mark.parametrize(
    ("image", "mask", "message"),
    [
        ((2, 4, 128, 128), GOOD_MASK, r"image has the shape \[2, 4, 128, 128\], expected \[N, 3, H, W\]"),
        ((3, 128, 128), GOOD_MASK, "image has the shape"),
        (GOOD_IMAGE, (2, 2, 128, 128), r"mask has the shape .*expected \[N, 1 or 3, H, W\]"),
        (GOOD_IMAGE, (128, 128), "mask has the shape"),
        ((2, 3, 128, 200), (2, 1, 128, 200), r"image is 128x200 \(height x width\), expected multiples of 128"),
        ((2, 3, 0, 128), (2, 1, 0, 128), "image is 0x128"),
        (GOOD_IMAGE, (2, 1, 64, 128), "mask is 64x128"),
        (GOOD_IMAGE, (2, 1, 128, 256), "does not go with the image"),
        (GOOD_IMAGE, (3, 1, 128, 128), "does not go with the image.*1 or its batch size"),
        ((1, 3, 128, 128), GOOD_MASK, "does not go with the image"),
    ],
)
def test_shapes_that_do_not_fit(image, mask, message):
    with pytest.raises(ValueError, match=message):
        network()(torch.zeros(image).double(), torch.zeros(mask))


def test_exactly_one_of_mask_and_maps():
    model, image, mask = network(), images(1), masks("box")
    with pytest.raises(ValueError, match="neither"):
        model(image)
    with pytest.raises(ValueError, match="both"):
        model(image, mask, maps=model.attention_maps(mask))


@pytest.mark.parametrize(("n", "size"), [(2, 128), (1, 256)])
def test_maps_that_do_not_fit(n, size):
    model = network()
    maps = model.attention_maps(masks(*["box"] * n, height=size, width=size))
    with pytest.raises(ValueError, match="does not go with the image"):
        model(images(3), maps=maps)


@pytest.mark.parametrize(
    ("x", "mask", "message"),
    [
        ((1, 3, 128, 128), (1, 3, 128, 128), r"input_images has the shape .*expected \[N, 4, H, W\]"),
        ((1, 4, 128, 128), (1, 1, 128, 128), r"masks has the shape .*expected \[N, 3, H, W\]"),
        ((1, 4, 100, 128), (1, 3, 100, 128), "input_images is 100x128"),
        ((2, 4, 128, 128), (3, 3, 128, 128), "does not go with the image"),
    ],
)
def test_shapes_that_do_not_fit_the_drop_in(x, mask, message):
    with pytest.raises(ValueError, match=message):
        LBAMModel(4, 3, base_width=2)(torch.zeros(x), torch.zeros(mask))


@pytest.mark.parametrize("name", PRESET_NAMES)
def test_the_start_keeps_the_signal_alive(name):
    torch.manual_seed(0)
    model = LBAM(LBAMConfig.preset(name, base_width=16)).train()
    with torch.no_grad():
        output = model(images(4, dtype=torch.float32), masks("irregular", "box", "speckle", "irregular"))
    assert output.std() > 0.02


def test_maps_are_an_immutable_record():
    maps = network().attention_maps(masks("box"))
    assert isinstance(maps, AttentionMaps)
    with pytest.raises(dataclasses.FrozenInstanceError):
        maps.mask = None
