"""Trainings in processes of their own, killed by a test or sharing the work; they are forked from one that has all imported.

Of those that share it Lightning Fabric starts the second: this file with the function and its arguments.
"""

import dataclasses
import os
import sys
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path

import forked
import torch

from lbam_fast import LBAM, LBAMConfig
from lbam_fast.errors import LBAMError
from lbam_fast.training import Settings, Trainer, fabric, fit

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


def share(photographs: Path, output: Path, devices: int, steps: int) -> None:
    """Train in so many processes."""
    torch.manual_seed(0)
    fit(
        LBAM(LBAMConfig(base_width=4)),
        Settings(
            photographs=photographs,
            output=output,
            devices=devices,
            steps=steps,
            batch_size=4,
            warmup=2,
            log_every=1,
            held_out=0,
            ema=0.9,
            checkpoint_every=100,
            device="cpu",
            crops_per_mask=2,
        ),
    )


def share_with_critic(photographs: Path, output: Path, critic: str) -> None:
    """Train in two processes, and save the critic that each has at first and in the end."""
    trainer = Trainer(
        LBAM(LBAMConfig(base_width=2)),
        dataclasses.replace(
            SMALL, photographs=photographs, output=output, devices=2, steps=3, batch_size=2, critic=critic, checkpoint_every=100
        ),
    )
    first = {name: value.clone() for name, value in trainer.learner.critic.named_parameters()}
    trainer.run()
    torch.save([first, dict(trainer.learner.critic.named_parameters())], output / f"critic{trainer.fabric.global_rank}.pt")


def launch(shared: Callable[..., None], *arguments: object) -> None:
    """Let Fabric start the second process."""
    torch.set_num_threads(1)
    sys.argv = [__file__, shared.__name__, *map(str, arguments)]
    shared(*arguments)


def take_part(rank: int, port: int, shared: Callable[..., None], *arguments: object) -> None:
    """Be one of two processes, as those are that another program starts."""
    torch.set_num_threads(1)
    os.environ |= {"LOCAL_RANK": str(rank), "MASTER_PORT": str(port)}
    shared(*arguments)


def process(target: Callable[..., None], *arguments: object) -> BaseProcess:
    """One of these in a process that waits to be started."""
    return forked.context("runs").Process(target=target, args=arguments)


if __name__ == "__main__":
    torch.set_num_threads(1)
    share(Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4]), int(sys.argv[5]))
