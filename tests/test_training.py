"""Training: deterministic, resumable to the bit, and stopped with a sentence where it cannot go on."""

import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from networks import one_thread  # noqa: F401 - applies itself
from PIL import Image
from safetensors.torch import load_file
from torch._dynamo.backends.common import aot_autograd
from torch._functorch.aot_autograd import make_boxed_func

from lbam_fast import LBAM, LBAMConfig, load_checkpoint
from lbam_fast.training import Settings, Trainer, TrainingError, log_squared_error, reconstruction_loss, relative_error
from lbam_fast.training.schedule import learning_rate

TINY = Settings(steps=6, batch_size=2, warmup=2, checkpoint_every=100, log_every=2, device="cpu")


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photographs")
    slope = np.linspace(0, 200, 160)
    for i in range(3):
        noise = np.random.default_rng(i).uniform(0, 40, (160, 160, 3))
        Image.fromarray((np.roll(slope, 50 * i)[:, None, None] + noise).astype(np.uint8)).save(folder / f"{i}.png")
    return folder


def trainer(photographs: Path, output: Path, preset: str = "official", width: int = 4, **settings: object) -> Trainer:
    torch.manual_seed(0)
    network = LBAM(LBAMConfig.preset(preset, base_width=width))
    return Trainer(network, dataclasses.replace(TINY, photographs=photographs, output=output, **settings))


def state(output: Path) -> dict:
    return torch.load(output / "training.pt", weights_only=True)


def rows(output: Path) -> list[dict]:
    return [json.loads(line) for line in (output / "log.jsonl").read_text("utf-8").splitlines()]


def assert_same(one: object, other: object) -> None:
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, other)
    elif isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            assert_same(one[key], other[key])
    elif isinstance(one, list):
        assert len(one) == len(other)
        for pair in zip(one, other, strict=True):
            assert_same(*pair)
    else:
        assert one == other


@pytest.mark.sampled
@pytest.mark.parametrize("preset", ["official", "harmonic"])
def test_a_compiled_network_learns_the_same(photographs, tmp_path, monkeypatch, preset):
    """Traced as for PyTorch's compiler, forward and backward; what that makes of it, in minutes on a CPU, is its own matter."""
    trainer(photographs, tmp_path / "plain", preset).run()
    compiled, graphs = torch.compile, []
    backend = aot_autograd(fw_compiler=lambda graph, _: graphs.append(graph) or make_boxed_func(graph.forward))

    def compiling(stages, **options):  # Fabric calls it again, with what it was called with
        return compiled(stages, **{"backend": backend, **options})

    monkeypatch.setattr(torch, "compile", compiling)
    trainer(photographs, tmp_path / "compiled", preset, compile=True).run()
    plain, traced = (load_file(tmp_path / name / "weights.safetensors") for name in ("plain", "compiled"))
    assert graphs and plain.keys() == traced.keys()
    for name, tensor in plain.items():
        torch.testing.assert_close(traced[name], tensor, rtol=1e-5, atol=1e-6)
    torch._dynamo.reset()


@pytest.mark.parametrize(
    ("preset", "amp", "workers"),
    [("official", "fp32", 1), ("paddle", "fp32", 0), ("official", "bf16", 0)],
    ids=["worker process", "BatchNorm and learned alpha", "bf16"],
)
def test_a_resumed_run_ends_in_the_same_bits(photographs, tmp_path, preset, amp, workers):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    trainer(photographs, whole, preset, amp=amp).run()

    first = trainer(photographs, parts, preset, amp=amp, log_every=1)
    first.run(lambda row: first.stop() if row["step"] == 3 else None)
    assert first.step == state(parts)["step"] == 3
    torch.manual_seed(99)
    resumed = Trainer.resume(parts, workers=workers, log_every=2)
    resumed.run()

    assert_same(load_file(parts / "weights.safetensors"), load_file(whole / "weights.safetensors"))
    mine, theirs = state(parts), state(whole)
    for part in ("step", "network", "model", "average", "optimizer", "scaler"):
        assert_same(mine[part], theirs[part])


def test_resuming_keeps_settings_and_takes_only_what_changes_no_result(photographs, tmp_path):
    trainer(photographs, tmp_path, clip=0.5).save()
    resumed = Trainer.resume(tmp_path, log_every=7)
    assert resumed.settings == dataclasses.replace(TINY, photographs=photographs, output=tmp_path, clip=0.5, log_every=7)
    with pytest.raises(TrainingError, match="a resumed run keeps its settings"):
        Trainer.resume(tmp_path, steps=12)


def test_nothing_to_resume(photographs, tmp_path):
    with pytest.raises(TrainingError, match=r"there is no training\.pt"):
        Trainer.resume(tmp_path)
    (tmp_path / "training.pt").write_text("damaged")
    with pytest.raises(TrainingError, match="cannot read"):
        Trainer.resume(tmp_path)


def test_a_finished_run_stays_as_it_is(photographs, tmp_path):
    trainer(photographs, tmp_path, steps=2).run()
    before = (tmp_path / "weights.safetensors").read_bytes()
    resumed = Trainer.resume(tmp_path)
    resumed.run()
    assert resumed.step == 2
    assert (tmp_path / "weights.safetensors").read_bytes() == before
    assert len(rows(tmp_path)) == 1


def test_the_loss_falls_and_the_weights_load(photographs, tmp_path, thorough):
    steps, rate = (60, 3e-3) if thorough else (30, 6e-3)
    run = trainer(photographs, tmp_path, width=8, steps=steps, learning_rate=rate, warmup=5, ema=0.9, log_every=10)
    run.run()
    holes = [row["hole"] for row in rows(tmp_path)]
    assert holes[-1] < 0.6 * holes[0]
    network = load_checkpoint(tmp_path / "weights.safetensors")
    assert network.config == run.model.config
    assert_same(dict(network.state_dict()), dict(run.average.state_dict()))


def test_rows_of_the_log(photographs, tmp_path):
    (tmp_path / "log.jsonl").write_text('{"step": 1, "of": "an earlier run"}\n')
    reported: list[dict] = []
    trainer(photographs, tmp_path, steps=5).run(reported.append)
    assert rows(tmp_path) == reported
    assert [row["step"] for row in reported] == [2, 4, 5]
    assert reported[0].keys() == {"step", "hole", "valid", "learning_rate", "seconds_per_step", "images_per_second"}
    assert all(value > 0 for row in reported for value in row.values())


def test_steps_done_again_after_a_resume_are_logged_once(photographs, tmp_path):
    run = trainer(photographs, tmp_path, log_every=1)
    run.run(lambda row: run.stop() if row["step"] == 2 else None)
    with (tmp_path / "log.jsonl").open("a") as log:
        log.write('{"step": 3}\n{"ste')  # done, but not saved before the end came
    Trainer.resume(tmp_path).run()
    assert [row["step"] for row in rows(tmp_path)] == [1, 2, 3, 4, 5, 6]
    assert "hole" in rows(tmp_path)[2]


def test_the_learning_rate_rises_and_falls_along_a_half_cosine():
    settings = dataclasses.replace(TINY, steps=110, warmup=10, learning_rate=1e-2, final_learning_rate=1e-4)
    for step, expected in {0: 1e-3, 4: 5e-3, 9: 1e-2, 10: 1e-2, 60: (1e-2 + 1e-4) / 2, 110: 1e-4}.items():
        assert learning_rate(settings, step, 1e-2) == pytest.approx(expected)
        assert learning_rate(settings, step, 1e-3) == pytest.approx(expected / 10), "the critic's follows"


def test_the_average_follows_the_weights(photographs, tmp_path):
    run = trainer(photographs, tmp_path, preset="paddle", steps=1, ema=0.999)
    before = [parameter.clone() for parameter in run.average.parameters()]
    run.run()
    share = 1 - 1 / 11  # the first steps forget the random start sooner than the decay would
    for old, new, average in zip(before, run.model.parameters(), run.average.parameters(), strict=True):
        torch.testing.assert_close(average, old + share * (new - old))
    for own, other in zip(run.average.buffers(), run.model.buffers(), strict=True):
        assert torch.equal(own, other)


def test_without_averaging_the_last_weights_are_saved(photographs, tmp_path):
    run = trainer(photographs, tmp_path, ema=0.0)
    run.run()
    assert_same(dict(run.average.state_dict()), dict(run.model.state_dict()))


def test_scalars_stay_in_their_ranges(photographs, tmp_path):
    run = trainer(photographs, tmp_path, preset="paddle", learning_rate=0.5, warmup=0)
    run.run()
    bounded = list(run.model._bounded())
    assert len(bounded) == 4 * 13 + 11
    assert all(low - 1e-6 <= value.item() <= high + 1e-6 for value, (low, high) in bounded)


@pytest.mark.parametrize("amp", ["bf16", "fp16"])
def test_low_precision_trains(photographs, tmp_path, amp):
    run = trainer(photographs, tmp_path, amp=amp)
    before = [parameter.clone() for parameter in run.model.parameters()]
    run.run()
    assert all(parameter.dtype == torch.float32 and parameter.isfinite().all() for parameter in run.model.parameters())
    assert any(not torch.equal(old, new) for old, new in zip(before, run.model.parameters(), strict=True))


def test_a_loss_that_is_not_finite_stops_and_keeps_the_checkpoint(photographs, tmp_path):
    run = trainer(photographs, tmp_path, checkpoint_every=1, log_every=100)

    def poison(*_: object) -> None:
        if run.step == 3:
            run.model.dc7.weight.data.fill_(float("nan"))

    run.model.register_forward_pre_hook(poison)
    with pytest.raises(TrainingError, match=r"not finite at step 4; a checkpoint in .* is intact"):
        run.run()
    assert state(tmp_path)["step"] == 3
    assert all(tensor.isfinite().all() for tensor in load_file(tmp_path / "weights.safetensors").values())


def test_the_log_row_of_a_loss_that_is_not_finite_is_an_error(photographs, tmp_path):
    run = trainer(photographs, tmp_path)

    def spoil(*_):
        run.model.dc7.weight.data.fill_(float("nan"))

    run.model.register_forward_pre_hook(spoil)
    with pytest.raises(TrainingError, match="the term 'hole' is not finite at step 1"):
        run.run()
    fresh = trainer(photographs, tmp_path / "fresh")
    fresh.model.dc7.weight.data.fill_(float("nan"))
    with pytest.raises(TrainingError, match="the weights to start from are not finite"):
        fresh.run()


def test_log_squared_error_falls_by_a_tenth_of_ln_10_per_db():
    torch.manual_seed(0)
    image, mask = torch.rand(3, 3, 8, 8), (torch.rand(3, 1, 8, 8) > 0.5).float()
    mask[2] = 1  # no hole: counts nothing
    error = torch.randn(3, 3, 8, 8)
    far, near = (log_squared_error(image + scale * error, image, mask) for scale in (0.1, 0.1 * 10 ** (-1 / 20)))
    assert (far - near).item() == pytest.approx(2 / 3 * math.log(10) / 10, abs=1e-4)
    holes = [(error[i] * 0.1)[:, mask[i, 0] == 0].square().mean().log() for i in range(2)]
    assert far.item() == pytest.approx(sum(holes).item() / 3, abs=1e-4)


def test_loss_counts_holes_and_known_pixels_apart():
    image, output = torch.zeros(1, 3, 2, 2), torch.tensor([[0.5, 1.0], [0.0, 0.25]]).expand(1, 3, 2, 2)
    mask = torch.tensor([[0.0, 1.0], [1.0, 1.0]])[None, None]
    hole, valid = reconstruction_loss(output, image, mask)
    assert (hole.item(), valid.item()) == (0.5 / 4, 1.25 / 4)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"crop": 100}, "the crop is 100, expected a multiple of 128"),
        ({"amp": "int8"}, "amp is 'int8', expected fp32, bf16 or fp16"),
        ({"steps": 0}, "must be at least 1"),
        ({"batch_size": 0}, "must be at least 1"),
        ({"learning_rate": 0}, "learning_rate and clip must be above 0"),
        ({"clip": float("nan")}, "learning_rate and clip must be above 0"),
        ({"ema": 1.0}, r"ema in \[0, 1\)"),
        ({"workers": -1}, "warmup, workers and seed must be at least 0"),
    ],
)
def test_settings_that_cannot_be(settings, message):
    with pytest.raises(TrainingError, match=message):
        Settings(**settings)


def test_relative_error_is_one_for_the_rival_and_counts_pictures_alike():
    image, mask = torch.rand(2, 3, 8, 8), torch.ones(2, 1, 8, 8)
    mask[0, :, :4], mask[1, :, :2] = 0, 0
    rival = image + 0.1 * torch.rand(2, 3, 8, 8)
    assert relative_error(rival, image, mask, rival).item() == pytest.approx(1, abs=0.01)
    half = image + (rival - image) / 2
    assert relative_error(half, image, mask, rival).item() == pytest.approx(0.5, abs=0.01)
    mixed = torch.stack([half[0], rival[1]])
    assert relative_error(mixed, image, mask, rival).item() == pytest.approx(0.75, abs=0.01)
    assert relative_error(rival, image, torch.ones_like(mask), rival).item() == 0


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("many")
    for i in range(9):
        y, x = np.mgrid[:140, :140]
        waves = 100 + 80 * np.sin((x + i * y) / (3 + i))[..., None] * [1, 0.9, 0.8]
        Image.fromarray(waves.astype(np.uint8)).save(folder / f"{i}.png")
    return folder


def test_held_out_photographs_judge_and_are_not_trained_on(many, tmp_path):
    run = trainer(many, tmp_path, "harmonic", steps=4, held_out=3, validate_every=2, hole_loss="relative", crops_per_mask=2)
    assert [path.stem for path in run.data.files] == ["0", "1", "3", "4", "6", "7"]
    assert run.validation.gain(run.average) == pytest.approx(0, abs=1e-3), "a new network of this kind is the harmonic fill"
    run.run()
    assert ["gain" in row for row in rows(tmp_path)] == [True, True]
    assert trainer(many, tmp_path, held_out=0).validation is None
    assert trainer(many, tmp_path).validation is None, "of less than twenty photographs none is held out"


def test_a_network_that_corrects_learns_to_beat_the_harmonic_fill(many, tmp_path, thorough):
    steps, batch, width, rate = (80, 4, 8, 4e-3) if thorough else (24, 2, 4, 8e-3)
    settings = {"steps": steps, "batch_size": batch, "held_out": 3, "validate_every": steps}
    settings |= {"hole_loss": "relative", "hole_weight": 1.0}
    run = trainer(many, tmp_path, "harmonic", width, valid_weight=0.0, learning_rate=rate, warmup=5, ema=0.9, **settings)
    run.run()
    assert rows(tmp_path)[-1]["gain"] > 0.2


def test_sharing_masks_changes_only_which_masks_there_are(photographs):
    """The same crops under masks that are given per four, and per one: the same loss."""
    torch.manual_seed(0)
    model = LBAM(LBAMConfig.preset("harmonic", base_width=2))
    torch.nn.init.normal_(model.dc7.weight, std=0.1)
    image, mask = torch.rand(4, 3, 128, 128), (torch.rand(2, 1, 128, 128) > 0.3).float()
    shared = model(image, maps=model.attention_maps(mask).repeated(2))
    torch.testing.assert_close(shared, model(image, mask.repeat_interleave(2, 0)), rtol=0, atol=1e-5)
