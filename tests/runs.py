"""Trainings in processes of their own, which a test kills; they are forked from one that has everything imported."""

import dataclasses
import multiprocessing
import sys
from multiprocessing.process import BaseProcess
from pathlib import Path

import torch

from lbam_fast import LBAM, LBAMConfig
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


def process(photographs: Path, output: Path, steps: int) -> BaseProcess:
    """``start`` in a process that waits to be started."""
    if sys.platform == "win32":
        return multiprocessing.get_context("spawn").Process(target=start, args=(photographs, output, steps))
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["runs"])
    return context.Process(target=start, args=(photographs, output, steps))
