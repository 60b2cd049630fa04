"""The benchmarks themselves: what is refused a time, how rounds are taken and judged, what is reported."""

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise, permutations
from pathlib import Path

import end_to_end
import gate
import harness
import layers
import memory
import nvml
import peers
import pytest
import tables
import torch
import training_step
import workload
from networks import (
    PRESET_NAMES,
    images,
    masks,
    network,
    one_thread,  # noqa: F401 - applies itself
)
from published import Published
from rows import ABSENT, FAILED, OK, WRONG, Row, append_rows, read_rows
from timing import Quartiles, Schedule, interleave, ratios

from lbam_fast import PRESETS, reference
from lbam_fast.ops import dispatch

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"

CASE = workload.Case(128, 128, 2, base_width=4)
BRISK = Schedule(warmup=0.0, seconds=0.0, at_least=2, at_most=2)
_UNCOVERED = ("forward", "mask3x3", "harmonic")
PUBLISHED_PRESETS = [name for name in PRESET_NAMES if PRESETS[name].attention == "gaussian" and name not in _UNCOVERED]


def suite(methods, **changes):
    settings = {"truth": peers.truth, "yardstick": peers.yardstick, "schedule": BRISK, **changes}
    return harness.Suite("inference", (CASE,), (), lambda case: methods, **settings)


def eager(case=CASE):
    return [method for method in peers.inference_methods(case) if "compile" not in method.name and not method.absent(case)]


def only(*names, case=CASE):
    return [method for method in peers.inference_methods(case) if method.name in names]


def flip_the_sign(monkeypatch):
    """A planted fault: g_A grows where it should fall off."""
    right = reference.attention_map
    monkeypatch.setattr(
        "lbam_fast.reference.network.attention_map",
        lambda m, a, mu, gamma_l, gamma_r: right(m, a, mu, -gamma_l, gamma_r),
    )


@pytest.mark.parametrize("preset", PUBLISHED_PRESETS)
def test_the_published_form_computes_what_the_reference_does(preset):
    model = network(preset)
    published = Published(model.config).double().eval()
    published.load_state_dict(model.state_dict())
    image, mask = images(2), masks("irregular", "box")[:, :1]
    with torch.no_grad():
        assert torch.allclose(published(image, mask), model(image, mask), rtol=0, atol=1e-12)


@pytest.mark.parametrize("preset", PUBLISHED_PRESETS)
def test_the_published_form_trains_as_the_reference_does(preset):
    """Outputs, gradients and the statistics that BatchNorm keeps."""
    model = network(preset).train()
    published = Published(model.config).double().train()
    published.load_state_dict(model.state_dict())
    image, mask = images(3), masks("irregular", "box", "speckle")[:, :1]
    outputs = [each(image, mask) for each in (model, published)]
    torch.testing.assert_close(*outputs, rtol=0, atol=1e-10)
    for output in outputs:
        output.square().sum().backward()
    ours, theirs = (dict(each.named_parameters()) for each in (model, published))
    for name, parameter in ours.items():
        if parameter.grad is None:
            assert theirs[name].grad is None or not theirs[name].grad.any(), name
        else:
            scale = parameter.grad.abs().max().item()
            torch.testing.assert_close(theirs[name].grad, parameter.grad, rtol=0, atol=1e-7 * scale + 1e-12, msg=name)
    for name, buffer in model.named_buffers():
        torch.testing.assert_close(dict(published.named_buffers())[name], buffer, rtol=0, atol=1e-10)


def test_the_published_form_says_what_it_does_not_cover():
    with pytest.raises(ValueError, match="4x4"):
        Published(PRESETS["mask3x3"])
    with pytest.raises(ValueError, match="without a base"):
        Published(PRESETS["harmonic"])


class TestGate:
    def test_the_right_model_gets_a_time(self):
        methods = only("published form", "lbam_fast fp32", "lbam_fast bf16")
        figures = harness.measure(suite(methods), CASE, methods)
        assert {name: figure.row.status for name, figure in figures.items()} == dict.fromkeys(figures, OK)
        for figure in figures.values():
            assert figure.row.median > 0 and figure.row.rounds == len(figure.rounds) == 2
            assert figure.row.error["max"] < 0.1
        assert figures["lbam_fast fp32"].row.ratio["to"] == "published form"

    def test_a_broken_model_gets_none(self, monkeypatch):
        flip_the_sign(monkeypatch)
        monkeypatch.setenv("LBAM_BACKEND", "reference")
        methods = only("published form", "lbam_fast fp32", "lbam_fast bf16")
        figures = harness.measure(suite(methods), CASE, methods)
        assert figures["published form"].row.status == OK
        for name in ("lbam_fast fp32", "lbam_fast bf16"):
            row = figures[name].row
            assert row.status == WRONG and row.median is None and not figures[name].rounds
            assert "against float64" in row.note

    def test_a_broken_layer_gets_none(self, monkeypatch):
        monkeypatch.setattr(reference, "attention_map", lambda m, a, mu, gamma_l, gamma_r: a - (m - mu).square())
        case = replace(CASE, layer="ec2")
        layer_methods = layers.layer_methods(case)
        judged = suite(layer_methods, truth=layers.truth, yardstick=layers.yardstick, inputs=layers.layer_inputs)
        figures = harness.measure(judged, case, layer_methods)
        broken = {method.name: WRONG if method.name.startswith("reference") else OK for method in layer_methods}
        assert list(broken.values()).count(WRONG) == 2
        assert {name: figure.row.status for name, figure in figures.items()} == broken

    def test_a_broken_gradient_gets_none(self, monkeypatch):
        flip_the_sign(monkeypatch)
        monkeypatch.setenv("LBAM_BACKEND", "reference")
        steps = [m for m in training_step.training_methods(CASE) if m.name in ("published form", "lbam_fast fp32")]
        figures = harness.measure(
            suite(steps, truth=training_step.truth, yardstick=training_step.yardstick, slack=gate.GRADIENT_SLACK), CASE, steps
        )
        assert [figures[method.name].row.status for method in steps] == [OK, WRONG]

    @pytest.mark.parametrize("bad", [float("nan"), float("inf")])
    def test_what_is_not_finite_is_refused(self, bad):
        truth = torch.zeros(2, 3, dtype=torch.float64)
        output = torch.zeros(2, 3)
        output[0, 0] = bad
        error = gate.error_of(output, truth)
        assert gate.refusal(error, gate.Error(1e9, 1e9)) and error.row() is None

    def test_the_budget_is_twice_what_eager_loses(self):
        assert gate.budget(gate.Error(0.02, 0.005)) == gate.Error(0.04, 0.01)
        assert gate.budget(gate.Error(1e-6, 1e-7), gate.OUTPUT_SLACK) == gate.OUTPUT_SLACK
        assert not gate.refusal(gate.Error(0.04, 0.01), gate.Error(0.04, 0.01))
        assert "largest" in gate.refusal(gate.Error(0.041, 0.01), gate.Error(0.04, 0.01))
        assert "mean square" in gate.refusal(gate.Error(0.04, 0.011), gate.Error(0.04, 0.01))

    def test_nothing_passes_where_eager_is_not_finite(self):
        allowed = gate.budget(gate.NOT_FINITE)
        assert gate.refusal(gate.Error(0.0, 0.0), allowed)


class TestTiming:
    def test_quartiles(self):
        assert Quartiles.of([4.0, 1.0, 3.0, 2.0, 5.0]) == Quartiles(median=3.0, q1=2.0, q3=4.0)
        assert Quartiles.of([1.0, 2.0]) == Quartiles(median=1.5, q1=1.25, q3=1.75)

    def test_ratios_are_taken_round_by_round(self):
        """A machine that slows down for one round changes no ratio."""
        assert ratios([1.0, 10.0, 1.0], [2.0, 20.0, 2.0]) == Quartiles(2.0, 2.0, 2.0)

    def test_rounds_are_interleaved_and_share_their_inputs(self):
        log = []
        runs = {name: lambda i, name=name: log.append((name, i)) for name in "abc"}
        clock_calls = []

        def clock(work):
            work()
            clock_calls.append(1)
            return float(len(clock_calls))

        seconds = interleave(runs, clock, Schedule(warmup=0.0, seconds=0.0, at_least=12, at_most=12))
        rounds = [log[i : i + 3] for i in range(0, len(log), 3)]
        assert [sorted(one) for one in rounds] == [[(name, i) for name in "abc"] for i in range(12)]
        followers = {(before[0], after[0]) for one in rounds for before, after in pairwise(one)}
        assert followers == set(permutations("abc", 2)), "the same method always follows another"
        assert seconds == {name: [log.index((name, i)) + 1.0 for i in range(12)] for name in "abc"}

    def test_what_has_run_already_needs_less_warm_up(self):
        log = []
        runs = {name: lambda i, name=name: log.append(name) for name in "ab"}
        interleave(runs, lambda work: work() or 0.0, Schedule(0.05, 0.0, 1, 1), {"a": 0.05})
        assert log.count("a") == 1 < log.count("b")

    def test_the_number_of_rounds_is_bounded(self):
        runs = {"a": lambda i: None}
        assert len(interleave(runs, lambda work: 0.0, Schedule(0.0, 60.0, 2, 7))["a"]) == 7


class FirstLayer(torch.nn.Module):
    """Compiles in a tenth of the time that the published form takes."""

    def __init__(self, published):
        super().__init__()
        self.ec1 = published.ec1

    def forward(self, image, mask):
        return self.ec1(torch.cat([image * mask, mask], dim=1), mask.expand(-1, 3, -1, -1))[0]


class TestReport:
    def test_a_harness_run_reports_every_method(self):
        """End to end: each peer has a time or a reason."""
        methods = eager()
        for figure in harness.measure(suite(methods), CASE, methods).values():
            assert figure.row.status in (OK, FAILED, WRONG)
            assert (figure.row.median is None) == (figure.row.status != OK) == bool(figure.row.note)
            assert figure.row.status == OK or not figure.ours

    @pytest.mark.filterwarnings("ignore")  # of the compiler
    def test_the_compiled_peer_runs_on_packed_weights(self, monkeypatch):
        """Without them it would be a slower peer than people can have, and every ratio to it too good."""
        [method] = only("torch.compile fp32")
        if reason := method.absent(CASE):
            pytest.skip(reason)
        whole = peers.published_module
        monkeypatch.setattr(peers, "published_module", lambda case: FirstLayer(whole(case)))
        candidate = method.build(CASE, workload.inputs(CASE, 1))
        with torch.profiler.profile() as profile:
            candidate.output()
        names = {event.key for event in profile.key_averages()}
        assert "mkldnn::_convolution_pointwise" in names and "aten::mkldnn_convolution" not in names

    def test_absent_peers_are_reported(self, monkeypatch):
        monkeypatch.setattr("exported.find_spec", lambda name: None)
        names = ("published form", "ONNX Runtime fp32", "OpenVINO fp32", "OpenVINO bf16")
        methods = only(*names)
        assert len(methods) == len(names)
        figures = harness.measure(suite(methods), CASE, methods)
        for name in names[1:]:
            assert figures[name].row.status == ABSENT and "not installed" in figures[name].row.note

    def test_a_peer_that_fails_is_reported(self):
        def build(case, pool):
            raise RuntimeError("no such instruction\nand more")

        methods = [*only("published form"), harness.Method("odd", "fp32", build)]
        row = harness.measure(suite(methods), CASE, methods)["odd"].row
        assert row.status == FAILED and row.note == "RuntimeError: no such instruction"

    def test_a_run_is_recorded_and_compared(self, tmp_path):
        """The suites themselves, as people start them; the limits in one round of small products."""
        record = tmp_path / "record.jsonl"
        (tmp_path / "one_round.py").write_text("import limits\n\nlimits.ROUNDS = 1\nlimits.SIDES['cpu'] = 256\n")
        command = [sys.executable, "-m", "pytest", str(BENCHMARKS / "test_layers.py"), "-k", "dc7", "--base-width", "4"]
        result = subprocess.run(
            [
                *command,
                "--device",
                "cpu",
                "--dtype",
                "fp32",
                "--record",
                str(record),
                "-p",
                "no:cacheprovider",
                "-p",
                "one_round",
            ],
            cwd=BENCHMARKS.parent,
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(BENCHMARKS)])},
            capture_output=True,
            text=True,
        )
        assert result.returncode == 0, result.stdout + result.stderr
        rows = read_rows(record)
        assert {row.suite for row in rows} == {"limits", "layers"}
        timed = [row for row in rows if row.suite == "layers"]
        assert [row.method for row in timed] == ["published form", "reference channels_last fp32", "lbam_fast cpu fp32"]
        for row in (row for row in timed if row.status != ABSENT):
            assert row.median and row.date and row.machine["processor"] and row.versions["torch"]
            assert row.method in result.stdout


class TestComparison:
    row = Row("inference", "256x256 batch 1 fresh mask", "lbam_fast fp32", "seconds", median=0.1, q1=0.09, q3=0.11, rounds=9)

    def test_records_come_back_as_they_were(self, tmp_path):
        append_rows(tmp_path / "a.jsonl", [self.row])
        append_rows(tmp_path / "a.jsonl", [replace(self.row, status=WRONG, median=None, q1=None, q3=None)])
        assert read_rows(tmp_path / "a.jsonl")[0] == self.row
        assert json.loads((tmp_path / "a.jsonl").read_text().splitlines()[1])["status"] == WRONG

    @pytest.mark.parametrize(
        ("factor", "words"),
        [(1.0, "within the spread"), (1.1, "within the spread"), (1.5, "slower"), (0.5, "faster")],
    )
    def test_only_what_lies_beyond_the_spread_is_called_slower_or_faster(self, factor, words):
        now = replace(self.row, median=0.1 * factor, q1=0.09 * factor, q3=0.11 * factor)
        (change,) = tables.compare([self.row], [now])
        assert change.words == words and change.factor == pytest.approx(factor)

    def test_more_bandwidth_is_better(self):
        then = replace(self.row, suite="limits", metric="bytes_per_second")
        now = replace(then, median=0.2, q1=0.19, q3=0.21)
        assert tables.compare([then], [now])[0].words == "faster"

    def test_figures_without_a_counterpart_are_left_out(self):
        assert not tables.compare([self.row], [replace(self.row, case="other")])
        assert not tables.compare([self.row], [replace(self.row, machine={"threads": 8})])
        assert not tables.compare([replace(self.row, status=WRONG, median=None)], [self.row])

    def test_the_newest_counts(self):
        newer = replace(self.row, median=0.2, q1=0.19, q3=0.21)
        assert tables.compare([self.row, newer], [newer])[0].factor == 1.0


class TestWorkload:
    def test_masks_are_fresh_or_shared(self):
        fresh = workload.inputs(CASE)
        assert not any(torch.equal(fresh[0][1], mask) for _, mask in fresh[1:])
        assert not torch.equal(fresh[0][1][0], fresh[0][1][1])
        shared = workload.inputs(replace(CASE, mask="shared"))
        assert all(mask is shared[0][1] and len(mask) == 1 for _, mask in shared)

    def test_inputs_are_photographs_and_holes_and_come_again(self):
        for (image, mask), (image_again, mask_again) in zip(workload.inputs(CASE), workload.inputs(CASE), strict=True):
            assert torch.equal(image, image_again) and torch.equal(mask, mask_again)
            assert image.std() > 0.05 and image.min() >= 0 and image.max() <= 1
            assert 0.1 <= 1 - mask.mean() <= 0.5

    def test_cases_have_names_that_tell_them_apart(self):
        assert workload.Case(256, 384, 4, "shared", preset="paper").name == "256x384 batch 4 one mask preset paper"


def test_latency_goes_from_picture_to_picture():
    case = replace(CASE, batch=1)
    names = ("published form", "lbam_fast fp32", "lbam_fast bf16")
    methods = [method for method in end_to_end.latency_methods(case) if method.name in names]
    assert [method.name for method in methods] == list(names)
    judged = suite(methods, truth=end_to_end.pasted_truth, yardstick=end_to_end.pasted_yardstick)
    assert {figure.row.status for figure in harness.measure(judged, case, methods).values()} == {OK}


def test_one_mask_for_many_images_needs_its_maps_once(monkeypatch):
    case = replace(CASE, mask="shared")
    methods = only("published form", "lbam_fast with maps fp32", case=case)
    monkeypatch.setenv("LBAM_BACKEND", "reference")
    computed = []
    right = reference.attention_maps
    monkeypatch.setattr("lbam_fast.model.generator.reference.attention_maps", lambda *a: computed.append(1) or right(*a))
    figures = harness.measure(suite(methods), case, methods)
    assert figures["lbam_fast with maps fp32"].row.status == OK and len(computed) == 1


@pytest.mark.parametrize("layer", ["ec1", "ec4", "reverseConv2", "dc1", "dc6", "dc7"])
def test_layers_agree_with_the_published_ones(layer):
    case = replace(CASE, layer=layer)
    methods = layers.layer_methods(case)
    judged = suite(methods, truth=layers.truth, yardstick=layers.yardstick, inputs=layers.layer_inputs)
    assert {figure.row.status for figure in harness.measure(judged, case, methods).values()} == {OK}


@pytest.mark.parametrize(("layer", "routes"), [("ec2", 3), ("reverseConv2", 3), ("dc2", 2), ("dc7", 3)])
def test_a_row_of_layers_names_what_ran(layer, routes, monkeypatch):
    """On a GPU one row for every route, which is forced; without, the kernels of the CPU."""
    names = [method.name for method in layers.layer_methods(replace(CASE, layer=layer)) if method.name.startswith("lbam_fast")]
    assert names == ["lbam_fast cpu fp32", "lbam_fast cpu bf16"]
    on_gpu = [m for m in layers.layer_methods(replace(CASE, layer=layer, device="cuda")) if m.name.startswith("lbam_fast")]
    assert len(on_gpu) == routes * 4 and "lbam_fast gpu kernel bf16" in [method.name for method in on_gpu]
    seen = []
    case = replace(CASE, layer=layer)
    spy = lambda module, case: lambda *_: seen.append(dispatch.choices()) or (torch.zeros(1),)  # noqa: E731
    layers._ready(case, layers.layer_inputs(case), layer=spy, dtype="fp32", backend="eager", route="library").output()
    assert set(seen) == {("eager", "library")}


@pytest.mark.parametrize("layer", layers.LAYERS)
def test_layers_of_fused_ops_give_what_the_published_ones_do(layer):
    case = replace(CASE, layer=layer)
    pool = layers.layer_inputs(case)
    output = layers._ready(case, pool, layer=layers._fused, dtype="fp32", channels_last=True, backend="eager").output()
    assert gate.error_of(output, layers.truth(case, pool)).maximum < 2e-5


def test_training_steps_are_judged_by_their_gradients():
    methods = [method for method in training_step.training_methods(CASE) if "compile" not in method.name]
    judged = suite(methods, truth=training_step.truth, yardstick=training_step.yardstick, slack=gate.GRADIENT_SLACK)
    figures = harness.measure(judged, CASE, methods)
    assert {name: figure.row.note for name, figure in figures.items()} == dict.fromkeys(figures, "")


def test_the_shared_weights_are_never_written_to():
    before = {name: tensor.clone() for name, tensor in workload.weights(CASE.config).items()}
    methods = [method for method in training_step.training_methods(CASE) if "compile" not in method.name]
    harness.measure(
        suite(methods, truth=training_step.truth, yardstick=training_step.yardstick, slack=gate.GRADIENT_SLACK), CASE, methods
    )
    assert all(torch.equal(tensor, before[name]) for name, tensor in workload.weights(CASE.config).items())


def test_memory_is_measured_in_a_process_of_its_own():
    methods = only("published form")
    figures = memory.measure_memory(suite(methods), CASE, methods)
    row = figures["published form"].row
    assert row.status == OK, row.note
    assert row.metric == "bytes" and row.median >= row.extra["before"] > 1 << 20 and row.ratio["median"] == 1


@pytest.mark.skipif(sys.platform != "linux", reason="no other system tells how much is in memory now")
def test_memory_stays_flat(thorough):
    """Where every case runs, over enough pictures to tell; else that the program does."""
    count, first, limit = (600, 200, 1.1) if thorough else (24, 8, 2)
    command = [sys.executable, BENCHMARKS / "flat_memory.py", f"--count={count}", f"--first={first}"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = re.match(rf"{count} pictures; MiB in memory: (\d+) after {first}, (\d+) at the end: ([\d.]+) times\n", said)
    assert found, said
    before, after, ratio = map(float, found.groups())
    assert before > 100 and ratio == pytest.approx(after / before, abs=0.005)
    assert ratio < limit


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU to sample")
def test_a_machine_without_a_gpu_says_so():
    with nvml.Sampler() as sampler:
        pass
    assert list(sampler.summary()) == ["nvml"] and sampler.summary()["nvml"]
