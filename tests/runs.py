"""Trainings in processes of their own, which a test kills; they are forked from one that has everything imported."""

import dataclasses
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path

import forked
import torch

from lbam_fast import LBAM, LBAMConfig
from lbam_fast.errors import LBAMError
from lbam_fast.training import Settings, Trainer, fabric

assert fabric
SMALL = Settings(
    crop=256,
    batch_size=1,
    warmup=2,
    held_out=0,
    log_every=1,
    checkpoint_every=1,
    critic="wasserstein",
    critic_base_width=2,
    critic_learning_rate=1e-3,
    device="cpu",
)
"""A training with a critic that takes milliseconds a step, most of them to write its checkpoint."""


def start(photographs: Path, output: Path, steps: int) -> None:
    """Begin, or go on with, the run in ``output``."""
    torch.set_num_threads(1)
    if (output / "training.pt").exists():
        trainer = Trainer.resume(output)
    else:
        torch.manual_seed(0)
        settings = dataclasses.replace(SMALL, photographs=photographs, output=output, steps=steps)
        trainer = Trainer(LBAM(LBAMConfig(base_width=2)), settings)
    trainer.run(note=lambda sentence: None)


def save_with_little_room(photographs: Path, output: Path, said: Path) -> None:
    """Save the run in ``output`` once more where no file may grow beyond 20 kB, and write the error to ``said``."""
    import resource

    resumed = Trainer.resume(output)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
    try:
        resumed.save()
    except LBAMError as error:
        said.write_text(str(error), encoding="utf-8")


def process(target: Callable[..., None], *arguments: object) -> BaseProcess:
    """One of these in a process that waits to be started."""
    return forked.context("runs").Process(target=target, args=arguments)
