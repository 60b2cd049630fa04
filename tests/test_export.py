"""The ONNX graph: it computes what the model does, at any size and batch, and one that doesn't is not written."""

import json
import sys
import warnings

import numpy as np
import pytest
import torch
from networks import PRESET_NAMES, images, masks, network
from networks import one_thread as one_thread
from torch import Tensor
from typer.testing import CliRunner

from lbam_fast import LBAMConfig, LBAMModel, backend, export, load_checkpoint, save_checkpoint
from lbam_fast.cli import app
from lbam_fast.export import ExportError, export_onnx, largest_difference

onnx = pytest.importorskip("onnx", reason="onnx is not installed")
onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")

KINDS = ("irregular", "soft", "pixel", "hole", "known")


def run_graph(path: object, image: Tensor, mask: Tensor) -> Tensor:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(None, {"image": image.numpy(), "mask": mask.numpy()})[0])


def pictures(kinds: tuple[str, ...], height: int, width: int) -> tuple[Tensor, Tensor]:
    size = {"height": height, "width": width, "dtype": torch.float32}
    return images(len(kinds), **size), masks(*kinds, **size)[:, :1].contiguous()


def cli(*arguments: object):
    return CliRunner().invoke(app, ["export", *map(str, arguments)])


@pytest.mark.parametrize("preset", ["official", "paddle"])
def test_three_sizes_and_two_batches(tmp_path, preset):
    model = network(preset, dtype=torch.float32)
    assert export_onnx(model, tmp_path / "x.onnx") <= 1e-4
    for kinds in (("irregular",), ("soft", "pixel", "irregular")):
        for size in ((128, 128), (256, 128), (128, 384)):
            image, mask = pictures(kinds, *size)
            with torch.no_grad():
                expected = model(image, mask)
            assert expected.std() > 0.01
            torch.testing.assert_close(run_graph(tmp_path / "x.onnx", image, mask), expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("preset", PRESET_NAMES)
def test_every_preset(tmp_path, preset):
    """``relu`` and ``leaky_relu`` are unbounded, so weights this wild amplify rounding in the model too."""
    model = network(preset, dtype=torch.float32)
    amplifies = preset in ("relu", "leaky_relu")
    assert export_onnx(model, tmp_path / "x.onnx") <= (4 * export._own_rounding(model) if amplifies else 1e-4)


@pytest.mark.sampled("preset", "rubbish")
@pytest.mark.parametrize("preset", ["official", "paddle", "pconv"])
@pytest.mark.parametrize("rubbish", [np.nan, np.inf, 1e30])
def test_what_lies_in_holes_changes_no_bit(tmp_path, preset, rubbish):
    export_onnx(network(preset, dtype=torch.float32), tmp_path / "x.onnx", check=False)
    image, mask = pictures(KINDS, 128, 128)
    damaged = torch.where(mask > 0, image, rubbish)
    assert torch.equal(run_graph(tmp_path / "x.onnx", damaged, mask), run_graph(tmp_path / "x.onnx", image, mask))


def test_inputs_outputs_and_metadata(tmp_path):
    export_onnx(network("paddle"), tmp_path / "x.onnx", opset=18)
    session = onnxruntime.InferenceSession(tmp_path / "x.onnx", providers=["CPUExecutionProvider"])
    found = {each.name: (each.shape, each.type) for each in [*session.get_inputs(), *session.get_outputs()]}
    expected = {"image": 3, "mask": 1, "output": 3}
    assert found == {name: (["N", channels, "H", "W"], "tensor(float)") for name, channels in expected.items()}
    metadata = session.get_modelmeta().custom_metadata_map
    assert LBAMConfig.from_dict(json.loads(metadata["lbam_config"])) == LBAMConfig.preset("paddle", base_width=4)
    assert onnx.load(tmp_path / "x.onnx").opset_import[0].version == 18


@pytest.mark.sampled("preset", "opset")
@pytest.mark.parametrize("opset", [export.LEAST_OPSET, export.OPSET, 21])
@pytest.mark.parametrize("preset", ["paddle", "unlearned", "pconv"])
def test_opsets(tmp_path, preset, opset):
    assert export_onnx(network(preset), tmp_path / "x.onnx", opset=opset) <= 1e-4


def test_the_model_is_left_as_it_was(tmp_path):
    """Training mode, double precision and scalars outside their ranges: the graph is that of eval(), clamped, in float32."""
    model = network("paddle").train()
    with torch.no_grad():
        model.ec1.conv.activationFuncG_A.a.fill_(9)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    assert export_onnx(model, tmp_path / "x.onnx") <= 1e-4
    assert model.training
    assert all(
        torch.equal(tensor, before[name]) and tensor.dtype == before[name].dtype for name, tensor in model.state_dict().items()
    )
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_the_published_class_exports_too(tmp_path):
    published = LBAMModel(base_width=4)
    published.load_state_dict(network("official").state_dict())
    export_onnx(published, tmp_path / "x.onnx")
    assert largest_difference(network("official", dtype=torch.float32), tmp_path / "x.onnx") <= 1e-4


@pytest.mark.parametrize(
    "name", ["ec3.conv.conv.weight", "ec1.conv.maskConv.weight", "reverseConv2.activationFuncG_A.mu", "dc7.weight"]
)
def test_a_changed_weight_is_noticed(tmp_path, monkeypatch, name):
    """Planted fault: the graph is written with another weight than the model's; no file appears."""
    written = export._written

    def faulty(onnx, model, opset):
        state = {key: tensor.clone() for key, tensor in model.state_dict().items()}
        other = export._plain(model)
        state[name] *= 1.1
        other.load_state_dict(state, assign=True)
        return written(onnx, other, opset)

    monkeypatch.setattr(export, "_written", faulty)
    (tmp_path / "x.onnx").write_text("the one before")
    with pytest.raises(ExportError, match="something else than the model"):
        export_onnx(network("official"), tmp_path / "x.onnx")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["the one before"]
    export_onnx(network("official"), tmp_path / "x.onnx", check=False)
    assert not largest_difference(network("official"), tmp_path / "x.onnx") <= 1e-4


def test_a_graph_that_lets_holes_through_is_noticed(tmp_path, monkeypatch):
    """Planted fault: the image is multiplied by the mask without selecting."""
    add = export._Network.add

    def faulty(self, operator, *inputs, **options):
        if operator == "Where" and len(self.nodes) < 4:
            return inputs[1]
        return add(self, operator, *inputs, **options)

    monkeypatch.setattr(export._Network, "add", faulty)
    with pytest.raises(ExportError, match="differs by nan"):
        export_onnx(network("official"), tmp_path / "x.onnx")


def test_without_onnx(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ExportError, match="needs the package onnx"):
        export_onnx(network(), tmp_path / "x.onnx")


def test_without_onnx_runtime_nothing_is_checked(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert export_onnx(network(), tmp_path / "x.onnx") is None
    onnx.checker.check_model(tmp_path / "x.onnx")


def test_errors(tmp_path):
    with pytest.raises(ExportError, match="there is no folder"):
        export_onnx(network(), tmp_path / "none" / "x.onnx")
    for opset in (12, 999):
        with pytest.raises(ExportError, match=f"opset is {opset}, expected one from 13 to"):
            export_onnx(network(), tmp_path / "x.onnx", opset=opset)
    (tmp_path / "x.onnx").mkdir()
    with pytest.raises(ExportError, match="cannot write"):
        export_onnx(network(), tmp_path / "x.onnx")
    with pytest.raises(ExportError, match="refuses the graph"):
        largest_difference(network(), b"no graph")


# The command


def test_the_command(tmp_path):
    weights = tmp_path / "w.safetensors"
    save_checkpoint(network("paddle", dtype=torch.float32), weights)
    for arguments in (("a.onnx",), ("a", "--onnx"), ("--onnx", "b.onnx", "--opset", "18")):
        places = [tmp_path / each if each[0] in "ab" else each for each in arguments]
        result = cli(*places, "--weights", weights)
        assert result.exit_code == 0, result.stderr
        assert "preset paddle, base width 4; checked in ONNX Runtime, differs from the model by" in result.stdout
    assert largest_difference(load_checkpoint(weights), tmp_path / "a.onnx") <= 1e-4
    result = cli(tmp_path / "c.onnx", "--weights", weights, "--no-check")
    assert result.stdout.strip().endswith("base width 4; not checked")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["a"], "end its name in .onnx, or give --onnx"),
        (["none/a.onnx"], "there is no folder"),
        (["a.onnx", "--opset", "3"], "opset is 3"),
        (["w.safetensors", "--onnx"], "would be overwritten"),
        (["a.onnx", "--preset", "paper"], "does not fit the preset 'paper'"),
    ],
)
def test_arguments_that_do_not_do(tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    save_checkpoint(network(dtype=torch.float32), "w.safetensors")
    result = cli(*arguments, "--weights", "w.safetensors")
    assert result.exit_code == 2
    assert message in " ".join(result.stderr.split())
    assert [path.name for path in tmp_path.iterdir()] == ["w.safetensors"]


@pytest.mark.sampled("way", "name")
@pytest.mark.parametrize("way", ["export", "trace"])
@pytest.mark.parametrize("name", ["auto", "reference"])
def test_pytorchs_own_tracers_leave_the_batch_free(way, name):
    """As docs/architecture.md says it."""
    model = network("official", dtype=torch.float32)
    image, mask = pictures(("irregular", "soft"), 128, 256)
    with backend(name), warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # PyTorch's own about tracing
        if way == "export":
            batch = torch.export.Dim("batch")
            traced = torch.export.export(model, (image, mask), dynamic_shapes=({0: batch}, {0: batch})).module()
        else:
            traced = torch.jit.trace(model, (image, mask), check_trace=False)
        for count in (1, 3):
            few, holes = image[:1].repeat(count, 1, 1, 1), mask[:1].repeat(count, 1, 1, 1)
            torch.testing.assert_close(traced(few, holes), model(few, holes), rtol=0, atol=1e-5)
