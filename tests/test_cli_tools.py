"""The commands beside ``inpaint``, and what the command line does before any of them."""

import importlib.metadata
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from forked import Program
from PIL import Image
from safetensors.torch import load_file
from typer.testing import CliRunner, Result

import lbam_fast
from lbam_fast import LBAM, LBAMConfig, load_checkpoint, save_checkpoint
from lbam_fast.cli import app
from lbam_fast.ops import autotune
from lbam_fast.training.settings import FIELDS

COMMANDS = ("inpaint", "masks", "train", "evaluate", "convert", "export", "doctor")


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(each) for each in arguments])


def said(result: Result) -> str:
    return " ".join(result.stderr.split())


@pytest.fixture(autouse=True)
def one_thread():
    """Networks this small are done sooner by one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


# Help, version, start


def test_version():
    result = run("--version")
    assert (result.exit_code, result.stdout) == (0, f"lbam-fast {lbam_fast.__version__}\n")


def test_help_names_every_command():
    result = run("--help")
    assert result.exit_code == 0
    assert all(command in result.stdout for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_each_command(command):
    result = run(command, "--help")
    assert result.exit_code == 0
    assert f"lbam-fast {command}" in result.stdout or f"root {command}" in result.stdout


@pytest.mark.parametrize("command", ["inpaint", "masks"])
def test_help_says_which_colour_is_the_hole(command):
    assert "white is the hole, unless --hole black" in " ".join(run(command, "--help").stdout.lower().split())


@pytest.mark.parametrize("arguments", [("--version",), ("--help",), ("inpaint", "--help"), ("inpaint",)])
def test_starting_needs_no_pytorch(arguments):
    code = (
        "import sys\nfrom lbam_fast.cli import app\n"
        f"try: app({list(arguments)!r}, prog_name='lbam-fast')\n"
        "except SystemExit: print([name for name in ('torch', 'numpy', 'cv2', 'PIL') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=False)
    assert done.stdout.splitlines()[-1] == "[]"


def test_the_package_gives_its_names_on_first_use():
    assert set(lbam_fast.__all__) <= set(dir(lbam_fast))
    assert all(getattr(lbam_fast, name).__class__ for name in lbam_fast.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'Lbam'"):
        lbam_fast.Lbam  # noqa: B018


@pytest.mark.parametrize("arguments", [(), ("inpant",), ("inpaint",), ("masks", "--count", "0", "-o", "x")])
def test_wrong_usage_exits_with_2(arguments):
    assert run(*arguments).exit_code == 2


# masks


def drawn(folder: Path) -> np.ndarray:
    each = []
    for path in sorted(folder.iterdir()):
        with Image.open(path) as image:
            each.append(np.asarray(image))
    return np.stack(each)


def test_masks_are_white_where_the_hole_is(tmp_path):
    result = run("masks", "-o", tmp_path / "white", "--count", 3, "--size", "130x96", "--ratio", "0.1-0.2")
    assert result.exit_code == 0, result.output
    assert sorted(path.name for path in (tmp_path / "white").iterdir()) == [f"mask_0000{i}.png" for i in range(3)]
    white = drawn(tmp_path / "white")
    assert white.shape == (3, 96, 130)
    assert set(np.unique(white)) == {0, 255}
    shares = (white == 255).mean(axis=(1, 2))
    assert ((shares >= 0.1) & (shares <= 0.2)).all()
    assert f"white = hole, which takes {shares.min():.3f} to {shares.max():.3f}" in result.stdout

    assert (
        run(
            "masks", "-o", tmp_path / "black", "--count", 3, "--size", "130x96", "--ratio", "0.1-0.2", "--hole", "black"
        ).exit_code
        == 0
    )
    assert np.array_equal(drawn(tmp_path / "black"), 255 - white)


@pytest.mark.parametrize("kind", ["noise", "thin", "medium", "thick"])
def test_a_seed_gives_the_same_masks_however_many(tmp_path, kind):
    for folder, count, seed in (("a", 2, 5), ("b", 3, 5), ("c", 2, 6)):
        assert run("masks", "-o", tmp_path / folder, "--count", count, "--kind", kind, "--seed", seed).exit_code == 0
    a, b, c = (drawn(tmp_path / folder) for folder in "abc")
    assert np.array_equal(a, b[:2])
    assert not np.array_equal(a, c)


def test_masks_replace_nothing_unless_told_to(tmp_path):
    assert run("masks", "-o", tmp_path, "--count", 2).exit_code == 0
    before = drawn(tmp_path)
    result = run("masks", "-o", tmp_path, "--count", 3, "--seed", 1)
    assert result.exit_code == 2
    assert "exists already" in said(result)
    assert np.array_equal(drawn(tmp_path), before)
    assert run("masks", "-o", tmp_path, "--count", 2, "--seed", 1, "--overwrite").exit_code == 0
    assert not np.array_equal(drawn(tmp_path), before)


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--size", "256", "--size is '256', expected WIDTHxHEIGHT"),
        ("--size", "0x256", "expected WIDTHxHEIGHT"),
        ("--ratio", "0.5", "--ratio is '0.5', expected LOW-HIGH"),
        ("--ratio", "0.5-0.1", "hole ratio range is 0.5 to 0.1"),
        ("--cells", "0", "--cells is 0.0, expected a number above 0"),
        ("--cells", "nan", "--cells is nan, expected a number above 0"),
        ("--kind", "blots", "'blots' is not one of 'noise', 'thin'"),
        ("--seed", "-1", "Invalid value for '--seed'"),
    ],
)
def test_bad_arguments_of_masks(tmp_path, option, value, message):
    result = run("masks", "-o", tmp_path / "out", option, value)
    assert result.exit_code == 2
    assert message in said(result)
    assert not (tmp_path / "out").exists()


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").touch()
    result = run("masks", "-o", tmp_path / "file" / "out")
    assert result.exit_code == 2
    assert "this folder cannot be made" in said(result)


# convert


def saved(path: Path, preset: str = "official") -> LBAM:
    torch.manual_seed(0)
    model = LBAM(LBAMConfig.preset(preset, base_width=4))
    save_checkpoint(model, path)
    return model


def test_there_and_back(tmp_path):
    model = saved(tmp_path / "a.safetensors", "paddle")
    count = sum(parameter.numel() for parameter in model.parameters())
    for source, target in (("a.safetensors", "b.pth"), ("b.pth", "c.safetensors")):
        result = run("convert", tmp_path / source, tmp_path / target)
        assert result.exit_code == 0, result.output
        assert f"{target}: preset paddle, base width 4, {count:,} parameters in float32" in result.stdout
    before, after = load_file(tmp_path / "a.safetensors"), load_file(tmp_path / "c.safetensors")
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_preset_names_what_a_file_cannot_say(tmp_path):
    saved(tmp_path / "a.pth", "sigmoid")
    unclear = run("convert", tmp_path / "a.pth", tmp_path / "b.safetensors")
    assert unclear.exit_code == 2
    assert "fits several presets" in said(unclear)
    assert run("convert", tmp_path / "a.pth", tmp_path / "b.safetensors", "--preset", "relu").exit_code == 0
    assert load_checkpoint(tmp_path / "b.safetensors").config == LBAMConfig.preset("relu", base_width=4)


def test_half_precision_halves_the_file(tmp_path):
    saved(tmp_path / "a.safetensors")
    assert run("convert", tmp_path / "a.safetensors", tmp_path / "b.safetensors", "--dtype", "float16").exit_code == 0
    assert {tensor.dtype for tensor in load_file(tmp_path / "b.safetensors").values()} == {torch.float16}
    assert (tmp_path / "b.safetensors").stat().st_size < 0.6 * (tmp_path / "a.safetensors").stat().st_size


@pytest.mark.parametrize(
    ("source", "target", "message"),
    [
        ("missing.pth", "b.pth", "no weights file at"),
        ("text.pth", "b.pth", "text.pth"),
        ("text.safetensors", "b.pth", "cannot read"),
        ("a.safetensors", "b.onnx", "expected .safetensors or .pth"),
        ("a.safetensors", "no/b.pth", "there is no folder"),
        ("a.safetensors", "a.safetensors", "is the input and would be overwritten"),
        ("a.safetensors", "taken.pth", "cannot write"),
        ("a.safetensors", "taken.safetensors", "cannot write"),
    ],
)
def test_weights_that_cannot_be_converted(tmp_path, source, target, message):
    saved(tmp_path / "a.safetensors")
    for name in ("text.pth", "text.safetensors"):
        (tmp_path / name).write_text("no weights")
    for name in ("taken.pth", "taken.safetensors"):
        (tmp_path / name).mkdir()
    before = sorted(tmp_path.rglob("*"))
    result = run("convert", tmp_path / source, tmp_path / target)
    assert result.exit_code == 2, result.output
    assert message in said(result)
    assert sorted(tmp_path.rglob("*")) == before


# doctor


def test_doctor_tells_versions_devices_and_backend():
    result = run("doctor", "--json")
    assert result.exit_code == 0
    findings = json.loads(result.stdout)
    assert findings["PyTorch"] == torch.__version__
    assert findings["Pillow"] == importlib.metadata.version("pillow")
    assert findings["backend"].startswith("cpu") and findings["compiled kernels"].startswith("CPU usable")
    assert "GPU" in findings
    table = run("doctor")
    assert table.exit_code == 0
    assert all(name in table.stdout for name in findings)


def test_doctor_survives_what_is_absent_or_broken(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "triton", None)
    broken = tmp_path / "broken_library.py"
    broken.write_text("raise OSError('libGL.so is missing')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(doctor_libraries(), "OpenCV", "broken_library")
    findings = json.loads(run("doctor", "--json").stdout)
    assert findings["Triton"] == "absent"
    assert findings["OpenCV"] == "broken: OSError: libGL.so is missing"


def test_doctor_names_routes_that_were_refused(monkeypatch, tmp_path):
    table = autotune.Routes(tmp_path / "routes.json", {})
    table.choices["a call"], table.refused["a call, kernel"] = "library", "result 0 differs from float64 by 1"
    monkeypatch.setattr(autotune, "remembered", lambda: table)
    assert "library for 1" in doctor_finding("routes") and "a call, kernel: result 0 differs" in doctor_finding("routes")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU to warm")
def test_doctor_warms_no_cpu():
    result = run("doctor", "--warm", "--size", "256x256", "--batch", "16", "--dtype", "bf16")
    assert result.exit_code == 2 and "PyTorch finds no CUDA device" in said(result)


@pytest.mark.parametrize(
    ("options", "message"),
    [(("--size", "200x256"), "multiples of 128"), (("--dtype", "int8"), "fp32, bf16, fp16"), (("--batch", "0"), "at least 1")],
)
def test_doctor_says_what_it_can_warm_for(options, message):
    result = run("doctor", "--warm", *options)
    assert result.exit_code == 2 and message in said(result)


def doctor_finding(name: str) -> str:
    return json.loads(run("doctor", "--json").stdout)[name]


def doctor_libraries() -> dict[str, str]:
    return sys.modules["lbam_fast.cli.doctor"]._LIBRARIES


# train


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    folder = tmp_path / "photographs"
    folder.mkdir()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (140, 140, 3), dtype=np.uint8)).save(folder / "a.png")
    return folder


TINY = ("--base-width", 4, "--steps", 2, "--batch-size", 1, "--device", "cpu", "--threads", 1)


def test_training_from_the_start_and_from_weights(photographs, tmp_path):
    result = run("train", photographs, "-o", tmp_path / "a", *TINY, "--preset", "forward", "--log-every", 1)
    assert result.exit_code == 0, result.output
    assert "weights in" in result.stdout
    assert len((tmp_path / "a" / "log.jsonl").read_text().splitlines()) == 2
    assert load_checkpoint(tmp_path / "a" / "weights.safetensors").config == LBAMConfig.preset("forward", base_width=4)

    start = ("--start-from", tmp_path / "a" / "weights.safetensors")
    result = run("train", photographs, "-o", tmp_path / "b", *TINY[2:], *start)
    assert result.exit_code == 0, result.output
    assert load_checkpoint(tmp_path / "b" / "weights.safetensors").config == LBAMConfig.preset("forward", base_width=4)

    result = run("train", photographs, "-o", tmp_path / "b", "--resume")
    assert result.exit_code == 0, result.output
    assert "all 2 steps are done" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--preset", "offcial"), "unknown preset 'offcial'"),
        (("--base-width", 0), "base_width is 0"),
        (("--steps", 0), "must be at least 1"),
        (("--crop", 100), "the crop is 100"),
        (("--amp", "int8"), "'int8' is not one of 'fp32', 'bf16', 'fp16'"),
        (("--device", "tpu9"), "the device 'tpu9' cannot be used"),
        (("--device", "meta9"), "the device 'meta9' cannot be used"),
        (("--threads", 0), "--threads is 0"),
        (("--resume",), "nothing to resume"),
        (("--resume", "--steps", 9, "--seed", 3), "--steps, --seed cannot be given with --resume"),
        (("--start-from", "missing.pth"), "no weights file at missing.pth"),
        (("--start-from", "missing.pth", "--preset", "paper"), "--start-from brings its own network"),
        (("--start-from", "shipped", "--base-width", 32), "--start-from brings its own network"),
        (("--recipe", "papper"), "unknown recipe 'papper', did you mean 'paper'"),
        (("--config", "missing.yaml"), "missing.yaml: this configuration cannot be read"),
        (("--critic", "hinge"), "needs crops of 256"),
    ],
)
def test_trainings_that_cannot_start(photographs, tmp_path, arguments, message):
    result = run("train", photographs, "-o", tmp_path / "out", *arguments)
    assert result.exit_code == 2, result.output
    assert message in said(result)
    assert not (tmp_path / "out").exists()


def test_training_from_a_file_of_settings(photographs, tmp_path):
    """Flags come before the file, the file before its recipe; the run's own settings serve as such a file."""
    config = tmp_path / "run.yaml"
    config.write_text(
        f"recipe: narrow\nphotographs: {photographs}\noutput: {tmp_path / 'a'}\nsteps: 3\nbase_width: 2\nworkers: 0\n"
    )
    few = ("--batch-size", 1, "--crops-per-mask", 1, "--device", "cpu", "--threads", 1)
    result = run("train", "--config", config, "--steps", 2, *few)
    assert result.exit_code == 0, result.output
    assert load_checkpoint(tmp_path / "a" / "weights.safetensors").config == LBAMConfig.preset("harmonic", base_width=2)
    assert torch.load(tmp_path / "a" / "training.pt", weights_only=True)["settings"]["learning_rate"] == 2e-3

    again = run("train", "--config", tmp_path / "a" / "settings.yaml", "-o", tmp_path / "b", "--threads", 1)
    assert again.exit_code == 0, again.output
    first, second = (load_file(tmp_path / name / "weights.safetensors") for name in ("a", "b"))
    assert all(torch.equal(first[name], second[name]) for name in first)

    config.write_text(config.read_text().replace("steps: 3", "steps: 2") + "batch_size: 1\ncrops_per_mask: 1\n")
    assert "all 2 steps are done" in run("train", "--config", config, "--resume").stdout
    config.write_text(config.read_text().replace("steps: 2", "steps: 4"))
    refused = run("train", "--config", config, "--resume")
    assert refused.exit_code == 2
    assert "steps is 4, but the run was started with 2 and keeps to it" in said(refused)


def test_every_setting_is_a_flag_and_in_the_help():
    shown = run("train", "--help").stdout
    assert all(f"--{name.replace('_', '-')}" in shown for name in FIELDS)


def test_a_folder_without_photographs(tmp_path):
    result = run("train", tmp_path, "-o", tmp_path / "out", *TINY)
    assert result.exit_code == 2
    assert "no pictures in" in said(result)


def test_a_used_folder_is_left_alone(photographs, tmp_path):
    assert run("train", photographs, "-o", tmp_path / "out", *TINY).exit_code == 0
    before = (tmp_path / "out" / "training.pt").read_bytes()
    result = run("train", photographs, "-o", tmp_path / "out", *TINY)
    assert result.exit_code == 2
    assert "holds a training already: add --resume" in said(result)
    assert (tmp_path / "out" / "training.pt").read_bytes() == before


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT between processes")
def test_interrupting_saves_and_can_be_resumed(photographs, tmp_path):
    many = ("--base-width", 4, "--steps", 100000, "--batch-size", 1, "--threads", 1, "--log-every", 1, "--workers", 1)
    with Program("train", photographs, "-o", tmp_path / "out", *many) as process:
        log = tmp_path / "out" / "log.jsonl"
        while process.poll() is None and not (log.exists() and log.stat().st_size):
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        output, complaint = process.communicate(timeout=300)
    assert process.returncode == 130, complaint
    step = torch.load(tmp_path / "out" / "training.pt", weights_only=True)["step"]
    assert f"stopped at step {step}; --resume goes on from there" in output
    assert step == len(log.read_text().splitlines())
