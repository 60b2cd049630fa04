"""What reading pictures costs a training: steps with real data beside steps on a batch that stays in memory.

    python benchmarks/training_data.py PHOTOGRAPHS --recipe narrow

Rounds of both alternate; printed are the median seconds of a step of each and their ratio.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterator
from itertools import repeat
from pathlib import Path

import torch

from lbam_fast import LBAM, LBAMConfig
from lbam_fast.training import Trainer, recipe
from lbam_fast.training.learner import Part


def seconds(trainer: Trainer, steps: Iterator[list[Part]], count: int) -> float:
    """Of a step, the mean of ``count``."""
    started = time.perf_counter()
    for _ in range(count):
        trainer.learner.learn(next(steps))
    return (time.perf_counter() - started) / count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photographs", type=Path)
    parser.add_argument("--recipe", default="narrow")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--warm", type=int, default=5, help="steps before the first round, which fill the cache of pictures")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=5, help="of a round")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    with tempfile.TemporaryDirectory() as folder:
        settings = recipe(arguments.recipe, photographs=arguments.photographs, output=Path(folder), held_out=0)
        trainer = Trainer(LBAM(LBAMConfig.preset(settings.preset, base_width=settings.base_width)), settings)
        real = trainer._steps()
        memory = repeat(next(real))
        seconds(trainer, real, arguments.warm)
        pairs = [tuple(seconds(trainer, steps, arguments.steps) for steps in (real, memory)) for _ in range(arguments.rounds)]
        of_real, of_memory = (statistics.median(times) for times in zip(*pairs, strict=True))
        ratio = statistics.median(one / other for one, other in pairs)
        print(f"real {of_real:.3f} s, in memory {of_memory:.3f} s, ratio {ratio:.3f}")


if __name__ == "__main__":
    main()
