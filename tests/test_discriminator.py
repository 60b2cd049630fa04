"""The two-column discriminator of the supplement's Table 1."""

import math

import pytest
import torch
import torch.nn.functional as F
from networks import enliven, images, masks, one_thread  # noqa: F401

from lbam_fast import Discriminator

WIDTHS = (64, 128, 256, 512, 512, 512)


def small(*, sigmoid: bool = True, width: int = 2) -> Discriminator:
    torch.manual_seed(0)
    return enliven(Discriminator(sigmoid=sigmoid, base_width=width)).double().eval()


def test_table_1():
    with torch.device("meta"):
        model = Discriminator()
    for column in (model.known, model.hole):
        convolutions = [layer for layer in column if isinstance(layer, torch.nn.Conv2d)]
        assert [layer.out_channels for layer in convolutions] == list(WIDTHS)
        assert [layer.in_channels for layer in convolutions] == [3, *WIDTHS[:-1]]
        assert {(layer.kernel_size, layer.stride, layer.padding) for layer in convolutions} == {((4, 4), (2, 2), (1, 1))}
        assert [layer.num_features for layer in column if isinstance(layer, torch.nn.BatchNorm2d)] == list(WIDTHS[1:])
        assert [layer.negative_slope for layer in column if isinstance(layer, torch.nn.LeakyReLU)] == [0.2] * 6
    merge = model.merge
    assert (merge.in_channels, merge.out_channels, merge.kernel_size, merge.stride) == (1024, 1, (4, 4), (1, 1))


def literal(model, image, mask):
    """Table 1 written out, for eval mode; mask [N, 3, H, W]."""
    state, columns = model.state_dict(), []
    for name, x in (("known", image * mask), ("hole", image * (1 - mask))):
        entries = [key for key in state if key.startswith(f"{name}.") and state[key].dim() == 4]
        for i, key in enumerate(entries):
            bias = state.get(key.replace("weight", "bias"))
            x = F.conv2d(x, state[key], bias, stride=2, padding=1)
            if i > 0:
                layer = f"{name}.{int(key.split('.')[1]) + 1}"
                mean, var, weight, shift = (
                    state[f"{layer}.{part}"][:, None, None] for part in ("running_mean", "running_var", "weight", "bias")
                )
                x = (x - mean) / (var + 1e-5).sqrt() * weight + shift
            x = torch.where(x > 0, x, 0.2 * x)
        columns.append(x)
    return F.conv2d(torch.cat(columns, dim=1), state["merge.weight"], state["merge.bias"])


@pytest.mark.parametrize("kind", ["irregular", "soft", "per_channel", "known", "hole"])
@pytest.mark.parametrize("sigmoid", [True, False])
def test_equals_the_table_written_out(kind, sigmoid):
    model, image, mask = small(sigmoid=sigmoid), images(2, 256, 320), masks(kind, kind, height=256, width=320)
    with torch.no_grad():
        result, expected = model(image, mask), literal(model, image, mask)
        swapped = literal(model, image, 1 - mask)
    assert result.shape == (2, 1, 1, 2)
    torch.testing.assert_close(result, expected.sigmoid() if sigmoid else expected, rtol=1e-9, atol=1e-12)
    assert (swapped - expected).abs().max() > 1e-3


@pytest.mark.parametrize(("height", "width", "out"), [(256, 256, (1, 1)), (256, 320, (1, 2)), (448, 384, (4, 3))])
def test_output_size(height, width, out):
    with torch.no_grad():
        assert small()(images(1, height, width), masks("box", height=height, width=width)).shape == (1, 1, *out)


def test_the_sigmoid_is_on_by_default_and_gives_probabilities():
    assert Discriminator(base_width=1).sigmoid
    image, mask = images(2, 256, 256), masks("box", "irregular", height=256, width=256)
    with torch.no_grad():
        probability, raw = small()(image, mask), small(sigmoid=False)(image, mask)
    assert ((probability > 0) & (probability < 1)).all()
    torch.testing.assert_close(raw.sigmoid(), probability)


@pytest.mark.parametrize("garbage", [math.nan, math.inf, 1e30])
def test_a_column_sees_nothing_of_the_others_pixels(garbage):
    model, image = small(), images(1, 256, 256)
    mask = masks("irregular", height=256, width=256)[:, :1]
    seen = {}
    for name in ("known", "hole"):
        getattr(model, name).register_forward_hook(lambda _, given, result, name=name: seen.__setitem__(name, result))
    model(image, mask)
    clean = dict(seen)
    for name, hidden in (("known", mask == 0), ("hole", mask == 1)):
        model(torch.where(hidden, garbage, image), mask)
        assert torch.equal(seen[name], clean[name])
        other = "hole" if name == "known" else "known"
        assert not torch.equal(seen[other], clean[other])


def test_mask_of_one_channel_or_one_batch_or_bool_equals_the_full_one():
    model, image, mask = small(), images(2, 256, 256), masks("box", height=256, width=256)
    expected = model(image, mask.expand(2, -1, -1, -1))
    for same in (mask, mask[:, :1], mask[:, :1].bool(), mask.expand(2, -1, -1, -1)[:, :1]):
        assert torch.equal(model(image, same), expected)


def test_the_start_keeps_the_signal_alive():
    torch.manual_seed(0)
    model = Discriminator(sigmoid=False, base_width=8)
    image, mask = (
        images(4, 256, 256, dtype=torch.float32),
        masks(*["irregular"] * 4, height=256, width=256, dtype=torch.float32),
    )
    assert all(not bias.any() for name, bias in model.named_parameters() if name.endswith("bias"))
    scales = []
    for column in (model.known, model.hole):
        column.register_forward_hook(lambda _, given, result: scales.append(result.std().item()))
    values = model.train()(image, mask)
    assert all(0.1 < scale < 10 for scale in scales)
    assert 0.05 < values.std().item() < 10


@pytest.mark.parametrize("sigmoid", [True, False])
def test_every_parameter_learns(sigmoid):
    model = small(sigmoid=sigmoid).train()
    image = images(2, 256, 256).requires_grad_()
    model(image, masks("irregular", "box", height=256, width=256)).square().sum().backward()
    assert all(parameter.grad.any() and parameter.grad.isfinite().all() for parameter in model.parameters())
    assert image.grad.any()


def test_gradient_penalty_can_be_differentiated():
    model, image = small(sigmoid=False, width=1), images(1, 256, 256).requires_grad_()
    value = model(image, masks("irregular", height=256, width=256)).sum()
    (gradient,) = torch.autograd.grad(value, image, create_graph=True)
    gradient.square().sum().backward()
    assert model.merge.weight.grad.any()


@pytest.mark.parametrize(
    ("image", "mask", "message"),
    [
        ((1, 3, 256, 250), (1, 1, 256, 250), "image is 256x250 .*multiples of 64 and at least 256"),
        ((1, 3, 192, 256), (1, 1, 192, 256), "image is 192x256 .*at least 256"),
        ((1, 4, 256, 256), (1, 1, 256, 256), r"image has the shape \[1, 4, 256, 256\], expected \[N, 3, H, W\]"),
        ((3, 256, 256), (1, 1, 256, 256), "image has the shape"),
        ((1, 3, 256, 256), (1, 2, 256, 256), r"mask has the shape .* expected \[N, 1 or 3, H, W\]"),
        ((1, 3, 256, 256), (1, 1, 256, 320), "does not go with the image"),
        ((3, 3, 256, 256), (2, 1, 256, 256), "does not go with the image"),
    ],
)
def test_shapes_that_do_not_fit(image, mask, message):
    with pytest.raises(ValueError, match=message):
        small()(torch.zeros(image, dtype=torch.float64), torch.zeros(mask))


def test_base_width_must_be_positive():
    with pytest.raises(ValueError, match="base_width is 0"):
        Discriminator(base_width=0)
