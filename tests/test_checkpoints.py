"""Weights in files: what goes in comes out, foreign files are recognised, and bad ones are refused with a reason."""

import itertools
import os
import pickle
import random
import struct
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from networks import PRESET_NAMES, images, masks, network, one_thread  # noqa: F401
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from lbam_fast import LBAM, LBAMConfig, LBAMModel
from lbam_fast.checkpoints import CONFIG_KEY, CheckpointError, load_checkpoint, save_checkpoint

SUFFIXES = (".safetensors", ".pth")
SAME_KEYS = ("sigmoid", "leaky_relu", "relu")


def single(name: str = "official", seed: int = 0, **options: int) -> LBAM:
    return network(name, seed, dtype=torch.float32, **options)


def equal(model: LBAM, other: LBAM) -> bool:
    a, b = model.state_dict(), other.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def write(path: Path, state: dict[str, Tensor]) -> Path:
    """A file without a configuration, as other programs write it."""
    save_file(state, path) if path.suffix == ".safetensors" else torch.save(state, path)
    return path


@pytest.mark.sampled("name", "suffix")
@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("name", PRESET_NAMES)
def test_round_trip(tmp_path, name, suffix):
    model, path = single(name), tmp_path / f"weights{suffix}"
    save_checkpoint(model, path)
    loaded = load_checkpoint(path, preset=name if suffix == ".pth" and name in SAME_KEYS else None)
    assert loaded.config == model.config
    assert equal(loaded, model)
    assert not loaded.training
    assert {p.dtype for p in loaded.parameters()} == {torch.float32}
    image, mask = images(1, dtype=torch.float32), masks("irregular")
    assert torch.equal(loaded(image, mask), model(image, mask))


def test_the_path_may_be_a_string(tmp_path):
    model = single()
    save_checkpoint(model, str(tmp_path / "a.pth"))
    assert equal(load_checkpoint(str(tmp_path / "a.pth")), model)


def test_safetensors_carry_any_configuration(tmp_path):
    config = LBAMConfig(base_width=2, alpha=0.7, a_range=(1.02, 5.0), batch_norm=True)
    save_checkpoint(LBAM(config), tmp_path / "own.safetensors")
    assert load_checkpoint(tmp_path / "own.safetensors").config == config


def test_a_named_preset_wins_over_the_configuration_in_the_file(tmp_path):
    save_checkpoint(single("sigmoid"), tmp_path / "a.safetensors")
    assert load_checkpoint(tmp_path / "a.safetensors", preset="relu").config.attention == "relu"


@pytest.mark.sampled("name", "suffix")
@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("name", PRESET_NAMES)
def test_recognised_from_its_keys(tmp_path, name, suffix):
    path = write(tmp_path / f"bare{suffix}", single(name).state_dict())
    if name in SAME_KEYS:
        with pytest.raises(CheckpointError, match="fits several presets, sigmoid, leaky_relu, relu: name the one"):
            load_checkpoint(path)
    else:
        assert load_checkpoint(path).config == LBAMConfig.preset(name, base_width=4)
    assert load_checkpoint(path, preset=name).config == LBAMConfig.preset(name, base_width=4)


def test_recognising_a_file_does_not_import_the_compiler(tmp_path):
    """PyTorch draws numbers on its device without memory by means of it, which takes seconds to import."""
    path = write(tmp_path / "bare.pth", single().state_dict())
    code = f"import sys, lbam_fast; lbam_fast.load_checkpoint({str(path)!r}); print('torch._dynamo' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def prefixed(state):
    return {f"module.{name}": tensor for name, tensor in state.items()}


WRAPPINGS = {
    "bare": lambda state: state,
    "module.": prefixed,
    "state_dict": lambda state: {"state_dict": state, "epoch": 3},
    "both": lambda state: {"state_dict": prefixed(state), "epoch": 3},
}


@pytest.mark.sampled("wrapping", "zipped")
@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "old format"])
@pytest.mark.parametrize("wrapping", WRAPPINGS)
def test_foreign_files(tmp_path, wrapping, zipped):
    model, path = single(), tmp_path / "foreign.pth"
    torch.save(WRAPPINGS[wrapping](model.state_dict()), path, _use_new_zipfile_serialization=zipped)
    assert equal(load_checkpoint(path), model)


def test_the_published_class_and_ours_read_each_others_files(tmp_path):
    ours, theirs = single(), LBAMModel(4, 3, base_width=4)
    save_checkpoint(ours, tmp_path / "ours.pth")
    theirs.load_state_dict(torch.load(tmp_path / "ours.pth", weights_only=True), strict=True)
    assert equal(ours, theirs)
    torch.save(theirs.state_dict(), tmp_path / "theirs.pth")
    assert equal(load_checkpoint(tmp_path / "theirs.pth"), theirs)
    save_checkpoint(theirs, tmp_path / "theirs.safetensors")
    assert load_checkpoint(tmp_path / "theirs.safetensors").config == ours.config


@pytest.mark.sampled("suffix", "dtype")
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64], ids=str)
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_saved_in_another_precision(tmp_path, suffix, dtype):
    model, path = single("official-2019"), tmp_path / f"other{suffix}"
    save_checkpoint(model, path, dtype=dtype)
    full = tmp_path / f"full{suffix}"
    save_checkpoint(model, full)
    assert (path.stat().st_size < full.stat().st_size) == (dtype.itemsize < 4)
    loaded = load_checkpoint(path).state_dict()
    for name, tensor in model.state_dict().items():
        assert loaded[name].dtype == tensor.dtype
        expected = tensor.to(dtype).to(tensor.dtype) if tensor.is_floating_point() else tensor
        assert torch.equal(loaded[name], expected), name


def test_saving_leaves_the_model_alone(tmp_path):
    model = single().to(memory_format=torch.channels_last)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    save_checkpoint(model, tmp_path / "half.safetensors", dtype=torch.float16)
    save_checkpoint(model, tmp_path / "full.safetensors")
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert equal(load_checkpoint(tmp_path / "full.safetensors"), model)


def test_scalars_are_projected_on_load(tmp_path):
    model = single("paddle")
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 0:
                parameter.fill_(99.0)
    save_checkpoint(model, tmp_path / "a.pth")
    loaded = load_checkpoint(tmp_path / "a.pth")
    model.project_()
    assert equal(loaded, model)
    assert all(parameter < 10 for parameter in loaded.parameters() if parameter.dim() == 0)


def without(state, name):
    return {key: tensor for key, tensor in state.items() if key != name}


MISFITS = {
    "missing": (lambda state: without(state, "dc3.conv.weight"), "missing: dc3.conv.weight"),
    "unexpected": (lambda state: state | {"dc3.conv.bias": torch.zeros(3)}, "unexpected: dc3.conv.bias"),
    "mis-shaped": (
        lambda state: state | {"dc7.weight": torch.zeros(8, 4, 4, 4)},
        r"mis-shaped: dc7.weight \[8, 4, 4, 4\] instead of \[8, 3, 4, 4\]",
    ),
}


@pytest.mark.parametrize("preset", ["official", None], ids=["named", "to be recognised"])
@pytest.mark.parametrize("misfit", MISFITS)
def test_misfits_name_the_keys(tmp_path, misfit, preset):
    change, message = MISFITS[misfit]
    path = write(tmp_path / "odd.pth", change(single().state_dict()))
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(path, preset=preset)


@pytest.mark.parametrize(("name", "asked"), [("paper", "official"), ("official", "paddle"), ("pconv", "unlearned")])
def test_misfits_name_the_preset_that_fits(tmp_path, name, asked):
    path = write(tmp_path / "other.pth", single(name).state_dict())
    with pytest.raises(CheckpointError, match=rf"does not fit the preset '{asked}' at base width 4.*It fits the preset '{name}'"):
        load_checkpoint(path, preset=asked)


def test_several_presets_that_fit_are_all_named(tmp_path):
    path = write(tmp_path / "other.pth", single("relu").state_dict())
    with pytest.raises(CheckpointError, match="'sigmoid' or 'leaky_relu' or 'relu'"):
        load_checkpoint(path, preset="official")


def test_weights_of_another_network(tmp_path):
    path = write(tmp_path / "vgg.pth", torch.nn.Linear(2, 2).state_dict())
    with pytest.raises(CheckpointError, match=r"no LBAM generator.*weight, bias"):
        load_checkpoint(path)


class Trap:
    """Unpickling it runs a command of the file's author."""

    def __reduce__(self):
        return os.mkdir, (self.target,)


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "old format"])
def test_objects_are_refused_and_not_run(tmp_path, zipped):
    trap = Trap()
    trap.target = str(tmp_path / "run")
    path = tmp_path / "trap.pth"
    torch.save({**single().state_dict(), "extra": trap}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(CheckpointError, match="holds more than tensors"):
        load_checkpoint(path)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("content", [{"a": 1}, [1, 2], torch.zeros(3), {"state_dict": {"a": "b"}}], ids=repr)
def test_a_file_without_a_state_dict(tmp_path, content):
    torch.save(content, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match="does not hold a state dict"):
        load_checkpoint(tmp_path / "a.pth")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_missing_file(tmp_path, suffix):
    with pytest.raises(CheckpointError, match=r"no weights file at .*absent"):
        load_checkpoint(tmp_path / f"absent{suffix}")
    with pytest.raises(CheckpointError, match="no weights file"):
        load_checkpoint(tmp_path)


def stored(folder: Path, form: str) -> Path:
    path = folder / ("cut.safetensors" if form == "safetensors" else "cut.pth")
    if form == "old format":
        torch.save(single(width=1).state_dict(), path, _use_new_zipfile_serialization=False)
    else:
        save_checkpoint(single(width=1), path)
    return path


@pytest.mark.parametrize("form", ["safetensors", "zip", "old format"])
def test_truncated_file(tmp_path, form):
    path = stored(tmp_path, form)
    whole = path.read_bytes()
    chance = random.Random(0)
    for length in (0, 1, 7, 8, 100, *(chance.randrange(len(whole)) for _ in range(15)), len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(CheckpointError):
            load_checkpoint(path)


NO_WEIGHTS = (
    b"",
    b"<!DOCTYPE html><html>",
    b"\x89PNG\r\n\x1a\n" + bytes(50),
    b"\x80\x02",
    pickle.dumps("text", protocol=2),
)
BROKEN_PICKLES = (b"aaaa", b"\x80\x02h\x05.")


@pytest.mark.parametrize(
    ("content", "suffix"),
    [
        *itertools.product(NO_WEIGHTS + BROKEN_PICKLES, [".safetensors"]),
        *itertools.product(NO_WEIGHTS, [".pth"]),
        *((content, ".pth") for content in BROKEN_PICKLES),
    ],
    ids=repr,
)
def test_not_a_weights_file(tmp_path, content, suffix):
    path = tmp_path / f"picture{suffix}"
    path.write_bytes(content)
    with pytest.raises(CheckpointError):
        load_checkpoint(path)


def test_a_file_under_the_wrong_suffix(tmp_path):
    save_checkpoint(single(), tmp_path / "a.pth")
    (tmp_path / "a.pth").rename(tmp_path / "a.safetensors")
    with pytest.raises(CheckpointError, match=r"a.safetensors"):
        load_checkpoint(tmp_path / "a.safetensors")


@pytest.mark.parametrize(
    "metadata",
    [
        "not json",
        '{"depth": 7}',
        '{"base_width": "4"}',
        '{"a_range": 5}',
        "[]",
        "3",
        '{"forward_start": [1]}',
        '{"name": 1}',
    ],
)
def test_a_broken_configuration(tmp_path, metadata):
    path = tmp_path / "a.safetensors"
    save_file(single().state_dict(), path, metadata={CONFIG_KEY: metadata})
    with pytest.raises(CheckpointError, match=r"a.safetensors"):
        load_checkpoint(path)


def test_a_configuration_that_contradicts_the_tensors(tmp_path):
    path = tmp_path / "a.safetensors"
    save_file(single().state_dict(), path, metadata={CONFIG_KEY: '{"base_width": 8}'})
    with pytest.raises(CheckpointError, match=r"mis-shaped: ec1.conv.conv.weight"):
        load_checkpoint(path)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_fault_while_saving_leaves_the_old_file(tmp_path, monkeypatch, suffix):
    path = tmp_path / f"weights{suffix}"
    save_checkpoint(single(seed=1), path)
    before = path.read_bytes()

    def failing(*arguments):
        target = next(Path(argument) for argument in arguments if isinstance(argument, Path))
        with target.open("wb") as file:
            file.write(b"half of the fi")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(*((Path, "write_bytes") if suffix == ".safetensors" else (torch, "save")), failing)
    with pytest.raises(CheckpointError, match=r"cannot write .*weights.*No space left"):
        save_checkpoint(single(seed=2), path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_saving_replaces_the_old_file_and_leaves_nothing_beside_it(tmp_path, suffix):
    path = tmp_path / f"weights{suffix}"
    save_checkpoint(single(seed=1), path)
    save_checkpoint(single(seed=2), path)
    assert equal(load_checkpoint(path), single(seed=2))
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_folder_that_does_not_exist(tmp_path, suffix):
    with pytest.raises(CheckpointError, match="cannot write"):
        save_checkpoint(single(), tmp_path / "absent" / f"weights{suffix}")


def test_an_unknown_suffix(tmp_path):
    with pytest.raises(CheckpointError, match=r"expected .safetensors or .pth"):
        save_checkpoint(single(), tmp_path / "weights.onnx")
    assert not list(tmp_path.iterdir())


def test_an_unknown_preset(tmp_path):
    save_checkpoint(single(), tmp_path / "a.pth")
    with pytest.raises(ValueError, match="unknown preset 'oficial'"):
        load_checkpoint(tmp_path / "a.pth", preset="oficial")


def test_safetensors_metadata_is_readable_by_others(tmp_path):
    save_checkpoint(single("paper"), tmp_path / "a.safetensors")
    raw = (tmp_path / "a.safetensors").read_bytes()
    assert CONFIG_KEY.encode() in raw[8 : 8 + struct.unpack("<Q", raw[:8])[0]]
    with safe_open(tmp_path / "a.safetensors", "pt") as file:
        assert file.metadata()["format"] == "pt"
