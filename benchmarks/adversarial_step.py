"""Time of a whole adversarial training step: python benchmarks/adversarial_step.py --size 256 --batch 2 --steps 5

Critic and generator by all terms of the paper that need no VGG16, once with the published form of the generator in plain
PyTorch, once with this package's. Both have the same critic and optimisers; they take turns, and the median of each is printed.
"""

# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from statistics import median

import torch
from published import Published
from torch import Tensor, nn

from lbam_fast import LBAM, Discriminator, LBAMConfig
from lbam_fast.training.adversarial import Adversary
from lbam_fast.training.losses import WEIGHTS, terms


def stepper(generator: nn.Module, width: int, image: Tensor, known: Tensor) -> Callable[[], None]:
    """A step of both networks, with the published learning rates."""
    torch.manual_seed(0)
    adversary = Adversary()
    critic = Discriminator(sigmoid=adversary.sigmoid, base_width=width)
    critic.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    learned = torch.optim.Adam(generator.parameters(), lr=1e-4, betas=(0.5, 0.9), fused=True)
    judged = torch.optim.Adam(critic.parameters(), lr=1e-5, betas=(0.0, 0.9), fused=True)
    draws = torch.Generator().manual_seed(0)

    def step() -> None:
        output = generator(image, known)
        found = adversary.critic_terms(critic, image, output, known, draws)
        judged.zero_grad()
        (found["critic"] + WEIGHTS["penalty"] * found["penalty"]).backward()
        judged.step()
        parts = terms(["hole", "valid"], output, image, known)
        loss = sum((WEIGHTS[name] * value for name, value in parts.items()), torch.zeros(()))
        learned.zero_grad()
        (loss + WEIGHTS["adversarial"] * adversary.generator_term(critic, output, known)).backward()
        learned.step()

    return step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--base-width", type=int, default=64)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    image = torch.rand(options.batch, 3, options.size, options.size).contiguous(memory_format=torch.channels_last)
    coarse = torch.rand(options.batch, 1, options.size // 16, options.size // 16)
    known = (nn.functional.interpolate(coarse, size=options.size, mode="bilinear") > 0.4).float()
    config = LBAMConfig.preset("official", base_width=options.base_width)
    ours = LBAM(config).train()
    published = Published(config).train()
    published.load_state_dict(ours.state_dict(), strict=False)
    ours.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    steps = {
        "published": stepper(published, options.base_width, image, known),
        "lbam_fast": stepper(ours, options.base_width, image, known),
    }
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in steps}
    for turn in range(options.steps + 1):
        for name, step in steps.items():
            start = time.perf_counter(), time.process_time()
            step()
            if turn:
                seconds[name].append((time.perf_counter() - start[0], time.process_time() - start[1]))
    print(f"{options.size}x{options.size}, batch {options.batch}, base width {options.base_width}, {options.threads} threads")
    for name, found in seconds.items():
        wall, cpu = (median(values) for values in zip(*found, strict=True))
        print(f"{name:10} {wall:7.2f} s a step, {cpu:7.2f} s of processor time")


if __name__ == "__main__":
    main()
