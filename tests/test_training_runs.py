"""Whole runs: killed at any moment, shared by processes, with a critic, on a full disk; pictures learned by heart."""

import dataclasses
import json
import math
import random
import socket
import sys
import time
from multiprocessing.process import BaseProcess
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from networks import one_thread  # noqa: F401 - applies itself
from PIL import Image
from runs import SMALL, launch, process, save_with_little_room, share, share_with_critic, start, take_part
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from test_training import assert_same, photographs, rows, state, trainer  # noqa: F401 - photographs is a fixture
from torch import nn

from lbam_fast import LBAM, LBAMConfig
from lbam_fast.data import picture_files, random_mask
from lbam_fast.training import Settings, Trainer, TrainingError, fit


def steps_done(output: Path) -> int:
    log = output / "log.jsonl"
    return len(log.read_text("utf-8").splitlines()) if log.exists() else 0


def test_a_run_killed_at_random_moments_ends_in_the_same_bits(photographs, tmp_path, thorough):  # noqa: F811
    """``kill -9`` while it computes and while it writes: most of its time is spent on checkpoints, one a step."""
    steps, kills = (60, 20) if thorough else (9, 2)
    whole = process(start, photographs, tmp_path / "whole", steps)
    whole.start()
    moments = random.Random(2019)
    for kill in range(1, kills + 1):
        killed = process(start, photographs, tmp_path / "killed", steps)
        killed.start()
        while killed.is_alive() and steps_done(tmp_path / "killed") < steps * kill // (kills + 1):
            time.sleep(0.005)
        time.sleep(moments.uniform(0, 0.1))
        killed.kill()
        killed.join()
        assert killed.exitcode == -9, "it ended before it was killed"
    last = process(start, photographs, tmp_path / "killed", steps)
    last.start()
    for run in (whole, last):
        run.join()
        assert run.exitcode == 0
    mine, theirs = state(tmp_path / "killed"), state(tmp_path / "whole")
    assert mine["step"] == theirs["step"] == steps
    for part in ("model", "critic", "average", "optimizer", "critic_optimizer", "scaler"):
        assert_same(mine[part], theirs[part])
    assert any(value.abs().sum() > 0 for value in mine["critic_optimizer"]["state"][0].values()), "the critic has learned"
    assert [row["step"] for row in rows(tmp_path / "killed")] == list(range(1, steps + 1))
    leftover = [path.name for path in (tmp_path / "killed").iterdir() if path.name.startswith(".")]
    assert not leftover


def test_a_critic_that_is_not_resumed_is_caught(photographs, tmp_path):  # noqa: F811
    """Planted fault: the critic's optimiser starts anew."""
    settings = dataclasses.replace(SMALL, photographs=photographs, steps=4, output=tmp_path / "whole")

    def network() -> LBAM:
        torch.manual_seed(0)
        return LBAM(LBAMConfig(base_width=2))

    fit(network(), settings)
    first = Trainer(network(), dataclasses.replace(settings, output=tmp_path / "parts"))
    first.run(lambda row: first.stop() if row["step"] == 2 else None)
    resumed = Trainer.resume(tmp_path / "parts")
    resumed.learner.critic_optimizer.state.clear()
    resumed.run()
    with pytest.raises(AssertionError):
        assert_same(state(tmp_path / "parts")["critic"], state(tmp_path / "whole")["critic"])


GLOO = pytest.mark.skipif(sys.platform == "win32", reason="gloo between processes is tried on Linux and macOS")


def complete(*processes: BaseProcess) -> None:
    for each in processes:
        each.start()
    for each in processes:
        each.join()
        assert each.exitcode == 0


@GLOO
def test_two_processes_compute_what_one_does(photographs, tmp_path, thorough):  # noqa: F811
    steps = 20 if thorough else 4
    complete(*(process(launch, share, photographs, tmp_path / str(devices), devices, steps) for devices in (1, 2)))
    one, two = rows(tmp_path / "1"), rows(tmp_path / "2")
    assert [row["step"] for row in two] == list(range(1, steps + 1))
    for name in ("hole", "valid"):
        assert [row[name] for row in two] == pytest.approx([row[name] for row in one], rel=0, abs=1e-5)
        assert len({row[name] for row in one}) == steps, "losses of different crops differ by more than this allows"


@GLOO
@pytest.mark.sampled
@pytest.mark.parametrize("critic", ["wasserstein", "hinge"])
def test_two_processes_share_a_critic(photographs, tmp_path, critic):  # noqa: F811
    """To the bit, though each has seen other crops: it starts alike in both, and its gradients are shared."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    shared = (share_with_critic, photographs, tmp_path / "out", critic)
    complete(*(process(take_part, rank, port, *shared) for rank in (0, 1)))
    (first, one), (other_first, other) = (torch.load(tmp_path / "out" / f"critic{rank}.pt") for rank in (0, 1))
    assert_same(first, other_first)
    assert_same(one, other)
    assert not any(torch.equal(one[name], first[name]) for name in one if name.endswith("weight"))
    assert [row["step"] for row in rows(tmp_path / "out")] == [1, 2, 3]
    assert all(math.isfinite(value) for row in rows(tmp_path / "out") for value in row.values())


@pytest.mark.parametrize("critic", ["wasserstein", "published", "hinge"])
def test_both_networks_learn(photographs, tmp_path, critic):  # noqa: F811
    run = trainer(photographs, tmp_path, **settings_of(SMALL, critic=critic, steps=2))
    filters = [weight for network in (run.model, run.learner.critic) for weight in network.parameters() if weight.dim() == 4]
    before = [weight.clone() for weight in filters]
    run.run()
    assert not any(map(torch.equal, before, filters))
    wanted = {"adversarial", "critic", "critic_learning_rate"} | ({"penalty"} if critic != "hinge" else set())
    assert wanted <= rows(tmp_path)[-1].keys()
    assert ("penalty" in rows(tmp_path)[-1]) == (critic != "hinge")


def settings_of(settings: Settings, **changes: object) -> dict:
    """What differs from the defaults."""
    values = {name: value for name, value in vars(settings).items() if value != getattr(Settings(), name)}
    return {**values, **changes}


def test_parts_of_a_step_add_up(photographs, tmp_path):  # noqa: F811
    """Without BatchNorm, a step in two parts is the step in one."""
    trainer(photographs, tmp_path / "one", batch_size=4, crops_per_mask=2, steps=3).run()
    trainer(photographs, tmp_path / "two", batch_size=4, crops_per_mask=2, steps=3, accumulate=2).run()
    for one, two in zip(rows(tmp_path / "one"), rows(tmp_path / "two"), strict=True):
        assert two["hole"] == pytest.approx(one["hole"], abs=1e-6)
    one, two = state(tmp_path / "one")["model"], state(tmp_path / "two")["model"]
    for name in one:
        torch.testing.assert_close(two[name], one[name], rtol=1e-3, atol=1e-4)


class Coarse(nn.Module):
    """A network of another kind: two stages, no configuration, its own way to keep within bounds."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(4, 3, 3, padding=1), nn.Conv2d(3, 3, 3, padding=1)
        self.dropout = nn.Dropout(0.2)
        self.projected = 0

    def outputs(self, image: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        coarse = self.first(torch.cat([image * mask, mask], dim=1)).sigmoid()
        return coarse, self.second(self.dropout(coarse)).sigmoid()

    def forward(self, image: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return self.outputs(image, mask)[-1]

    def project_(self) -> None:
        self.projected += 1


def test_any_network_trains_and_resumes(photographs, tmp_path):  # noqa: F811
    """Dropout included: what is random in a step is the same in a resumed run."""
    settings = Settings(
        photographs=photographs, output=tmp_path / "whole", steps=6, batch_size=2, held_out=0, device="cpu", ema=0.0
    )

    def network() -> Coarse:
        torch.manual_seed(0)
        return Coarse()

    model = network()
    before = [parameter.clone() for parameter in model.parameters()]
    trained = fit(model, settings)
    assert not trained.training
    assert model.projected == 6
    assert not any(map(torch.equal, before, model.parameters())), "both stages learn"

    parts = dataclasses.replace(settings, output=tmp_path / "parts", log_every=1)
    first = Trainer(network(), parts)
    first.run(lambda row: first.stop() if row["step"] == 3 else None)
    with pytest.raises(TrainingError, match="none of this project's: give it"):
        Trainer.resume(tmp_path / "parts")
    with pytest.raises(TrainingError, match="is that of another network"):
        fit(LBAM(LBAMConfig(base_width=2)), parts, resume=True)
    with pytest.raises(TrainingError, match=r"learning_rate is 0.5, but the run was started with 0.001"):
        fit(network(), dataclasses.replace(parts, learning_rate=0.5), resume=True)
    with pytest.raises(TrainingError, match="holds a training already"):
        fit(network(), parts)
    fit(network(), parts, resume=True)
    assert_same(state(tmp_path / "parts")["model"], state(tmp_path / "whole")["model"])


def test_weights_of_another_width_are_refused(photographs, tmp_path):  # noqa: F811
    run = trainer(photographs, tmp_path, steps=2)
    run.run()
    with pytest.raises(TrainingError, match=r"(?s)is that of another network: .*size mismatch for ec1\.conv\.conv\.weight"):
        Trainer.resume(tmp_path, LBAM(LBAMConfig(base_width=2)))


@pytest.fixture(scope="module")
def validated(photographs, tmp_path_factory) -> Trainer:  # noqa: F811
    """A finished run that validated twice."""
    run = trainer(photographs, tmp_path_factory.mktemp("validated"), held_out=2, validate_every=3)
    run.run(note=lambda sentence: pytest.fail(sentence))
    return run


def test_a_run_folder_says_what_ran_in_it(validated):
    folder = validated.folder.path
    assert Settings(**yaml.safe_load((folder / "settings.yaml").read_text("utf-8"))) == validated.settings
    assert {"torch", "lightning-fabric", "lbam-fast"} <= json.loads((folder / "versions.json").read_text("utf-8")).keys()
    parts = [line.split("\t")[0] for line in (folder / "split.tsv").read_text("utf-8").splitlines()]
    assert parts == ["train", "train", "validation"]
    psnr = {row["step"]: row["psnr"] for row in rows(folder) if "psnr" in row}
    assert list(psnr) == [3, 6]
    assert state(folder)["best"] == max(psnr.values())
    assert (folder / "best.safetensors").is_file()
    with Image.open(folder / "grid.png") as image:
        assert image.size == (3 * 128 + 2 * 4, 8 * 128 + 7 * 4)


def test_what_tensorboard_shows(validated):
    found = EventAccumulator(str(validated.folder.path / "tensorboard"))
    found.Reload()
    assert {"hole", "valid", "learning_rate", "images_per_second", "psnr"} <= set(found.Tags()["scalars"])
    assert [event.step for event in found.Scalars("hole")] == [2, 3, 4, 6]
    pictures = set(found.Tags()["images"])
    assert {"given, filled, original", "attention/forward 1", "attention/forward 4", "attention/reverse 1"} <= pictures
    assert sum(name.startswith("g_A/") for name in pictures) == 13


def test_without_tensorboard_there_is_one_notice(photographs, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    notices: list[str] = []
    trainer(photographs, tmp_path, steps=2).run(note=notices.append)
    assert [notice.partition(",")[0] for notice in notices] == ["TensorBoard is not installed"]
    assert not (tmp_path / "tensorboard").exists()


def test_without_fabric_the_error_says_what_to_install(photographs, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.delitem(sys.modules, "lbam_fast.training.fabric", raising=False)
    monkeypatch.setitem(sys.modules, "lightning_fabric", None)
    with pytest.raises(TrainingError, match=r"training needs lightning_fabric: pip install 'lbam-fast\[train\]'"):
        trainer(photographs, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="limits on the size of files are Unix's")
def test_a_full_disk_leaves_the_last_checkpoint(photographs, tmp_path):  # noqa: F811
    """The system refuses to write on in the middle of the file."""
    trainer(photographs, tmp_path / "out", steps=2).run()
    full = process(save_with_little_room, photographs, tmp_path / "out", tmp_path / "said")
    full.start()
    full.join()
    assert "free some space, then resume" in (tmp_path / "said").read_text("utf-8")
    assert state(tmp_path / "out")["step"] == 2
    assert not [path for path in (tmp_path / "out").iterdir() if path.name.startswith(".")]


def test_other_photographs_are_refused(photographs, tmp_path):  # noqa: F811
    trainer(photographs, tmp_path / "out", steps=2).run()
    moved = tmp_path / "moved"
    moved.mkdir()
    for path in picture_files(photographs):
        (moved / path.name).symlink_to(path)
    assert Trainer.resume(tmp_path / "out", photographs=moved).step == 2
    (moved / "more.png").symlink_to(picture_files(photographs)[0])
    with pytest.raises(TrainingError, match="are not those that the run was started with"):
        Trainer.resume(tmp_path / "out", photographs=moved)


def test_pictures_are_learned_by_heart(tmp_path, thorough):
    """Fixed pictures under fixed masks, from 10 dB inside holes: to 32 in the long form."""
    count, steps, width, rate, enough = (8, 800, 12, 4e-3, 32.0) if thorough else (1, 80, 4, 2e-2, 22.0)
    (tmp_path / "p").mkdir()
    (tmp_path / "m").mkdir()
    for i in range(count):
        y, x = np.mgrid[:128, :128] / 128
        waves = [0.5 + 0.4 * np.sin((3 + i) * x + (c + 1) * 4 * y * x + i) for c in range(3)]
        Image.fromarray((255 * np.stack(waves, axis=-1)).astype(np.uint8)).save(tmp_path / "p" / f"{i}.png")
        hole = 1 - random_mask(np.random.default_rng(i), 128, 128, "noise", (0.2, 0.4))
        Image.fromarray(255 * hole).save(tmp_path / "m" / f"{i}.png")
    torch.manual_seed(0)
    settings = Settings(
        photographs=tmp_path / "p",
        masks=tmp_path / "m",
        mask_pairs="name",
        preprocessing="centre",
        output=tmp_path / "out",
        held_out=0,
        batch_size=count,
        steps=steps,
        learning_rate=rate,
        beta2=0.99,
        warmup=5,
        ema=0.9,
        device="cpu",
    )
    run = Trainer(LBAM(LBAMConfig(base_width=width)), settings)
    run.run()
    images, masks = torch.utils.data.default_collate([run.data[i] for i in range(6 * count)])
    assert len(set(images.sum(dim=(1, 2, 3)).tolist())) == count, "all pictures are among them"
    with torch.no_grad():
        output = run.average.eval()(images, masks)
    hole = 1 - masks
    errors = ((output - images).square() * hole).sum(dim=(1, 2, 3)) / (3 * hole.sum(dim=(1, 2, 3)))
    assert min(-10 * math.log10(error) for error in errors.tolist()) > enough
