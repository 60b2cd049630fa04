"""Attention maps and learned curves, as arrays, as pictures, and from the command line."""

import numpy as np
import pytest
import torch
from networks import masks, network, one_thread  # noqa: F401 - one_thread applies itself
from PIL import Image
from typer.testing import CliRunner

from lbam_fast import reference, save_checkpoint
from lbam_fast.cli import app
from lbam_fast.inspection import InspectionError, attention_maps, attention_pictures, curve_picture, curves

NAMES = [*(f"forward {i}" for i in range(1, 8)), *(f"reverse {i}" for i in range(1, 7))]


def test_maps_are_the_means_of_the_networks_own():
    model, mask = network(), masks("irregular", height=128, width=256)
    found = attention_maps(model, mask)
    own = reference.attention_maps(model.state_dict(), model.config, mask)
    assert list(found) == NAMES
    for values, expected in zip(found.values(), (*own.forward, *own.reverse), strict=True):
        np.testing.assert_allclose(values, expected[0].mean(dim=0).detach().numpy(), rtol=1e-6)


def test_pictures_are_as_large_as_the_mask_and_dark_where_a_map_is_least():
    model, mask = network(dtype=torch.float32), masks("irregular", height=128, width=256, dtype=torch.float32)
    maps, pictures = attention_maps(model, mask), attention_pictures(model, mask)
    assert list(pictures) == NAMES
    for name, picture in pictures.items():
        assert picture.shape == (128, 256, 3)
        assert picture.dtype == np.uint8
        values = np.kron(maps[name], np.ones((picture.shape[0] // maps[name].shape[0],) * 2, np.float32))
        brightness = picture.astype(int).sum(axis=-1)
        least, largest = (np.unravel_index(pick(values), values.shape) for pick in (np.argmin, np.argmax))
        assert brightness[least] == brightness.min()
        assert values.max() == values.min() or brightness[largest] > brightness[least] + 200


def test_curves_are_the_learned_functions():
    model = network()
    m, found = curves(model, count=11)
    assert list(found) == NAMES
    state = model.state_dict()
    for name, prefix in (("forward 3", "ec3.conv."), ("reverse 6", "reverseConv6.")):
        scalars = (state[f"{prefix}activationFuncG_A.{leaf}"].item() for leaf in ("a", "mu", "sigma1", "sigma2"))
        a, mu, left, right = scalars
        square = (m - mu) ** 2
        expected = np.where(m < mu, a * np.exp(-left * square), 1 + (a - 1) * np.exp(-right * square))
        np.testing.assert_allclose(found[name], expected, rtol=1e-5)
    assert not np.allclose(found["forward 3"], found["forward 4"])


def test_curves_are_those_of_the_clamped_scalars():
    model = network()
    with torch.no_grad():
        model.get_parameter("ec1.conv.activationFuncG_A.a").fill_(99)
    _, found = curves(model)
    assert found["forward 1"].max() <= model.config.a_range[1] + 1e-5


def test_a_drawing_shows_the_curves():
    one, other = (curve_picture(network(seed=seed)) for seed in (0, 1))
    assert one.shape == other.shape
    assert one.dtype == np.uint8
    assert (one != other).any()


def test_a_network_without_curves_says_so():
    with pytest.raises(InspectionError, match="attention is 'relu', which has no learned curves"):
        curves(network("relu"))


def test_masks_of_a_batch_are_refused():
    with pytest.raises(ValueError, match=r"expected \[1, 1 or 3, H, W\]"):
        attention_maps(network(), masks("box", "box"))


@pytest.fixture
def inputs(tmp_path):
    """Arguments of the command: weights, a picture of an odd size, its mask with a hole on the left."""
    save_checkpoint(network(dtype=torch.float32, width=2), tmp_path / "weights.safetensors")
    g = np.random.default_rng(0)
    Image.fromarray(g.integers(0, 255, (90, 150, 3), np.uint8)).save(tmp_path / "picture.png")
    hole = np.zeros((90, 150), np.uint8)
    hole[20:60, 10:60] = 255
    Image.fromarray(hole).save(tmp_path / "mask.png")
    return [str(tmp_path / name) for name in ("weights.safetensors", "picture.png", "mask.png")]


def pixels(path):
    with Image.open(path) as image:
        return np.asarray(image)


def test_the_command_writes_pictures_of_the_pictures_size(inputs, tmp_path):
    result = CliRunner().invoke(app, ["inspect", *inputs, "-o", str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    written = {path.name for path in (tmp_path / "out").iterdir()}
    pictures = {"given.png", "filled.png", *(f"{name.replace(' ', '_')}.png" for name in NAMES)}
    assert written == {*pictures, "curves.png", "maps.tsv"}
    assert {pixels(tmp_path / "out" / name).shape for name in pictures} == {(90, 150, 3)}
    given = pixels(tmp_path / "out" / "given.png")
    assert (given[20:60, 10:60] == 128).all()
    assert np.array_equal(given[:, 60:], pixels(tmp_path / "picture.png")[:, 60:])
    assert len((tmp_path / "out" / "maps.tsv").read_text().splitlines()) == 1 + len(NAMES)


def test_the_command_replaces_nothing_unasked(inputs, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "reverse_6.png").write_bytes(b"mine")
    result = CliRunner().invoke(app, ["inspect", *inputs, "-o", str(tmp_path / "out")])
    assert result.exit_code == 2
    assert "exists already" in result.output
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["reverse_6.png"]
    assert CliRunner().invoke(app, ["inspect", *inputs, "-o", str(tmp_path / "out"), "--overwrite"]).exit_code == 0


def test_the_command_refuses_a_mask_of_another_size(inputs, tmp_path):
    Image.new("L", (90, 90), 255).save(inputs[2])
    result = CliRunner().invoke(app, ["inspect", *inputs, "-o", str(tmp_path / "out")])
    assert result.exit_code == 2
    assert not (tmp_path / "out").exists()
