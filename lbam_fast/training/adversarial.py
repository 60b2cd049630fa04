"""The adversarial terms of a generator and its critic.

The gradient penalty is differentiated twice, through the critic alone: what it is shown there is cut off from the generator. So
the critic, ``lbam_fast.model.Discriminator``, is plain PyTorch, whose operators all have second derivatives; the generator's
fused ops have first ones and need no others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from lbam_fast.errors import LBAMError

Kind = Literal["wasserstein", "published", "hinge"]
Critic = Callable[[Tensor, Tensor], Tensor]
"""Takes pictures [N, 3, H, W] and ``known`` [N, 1, H, W], gives values [N, 1, H', W']."""


class AdversaryError(LBAMError, ValueError):
    """An adversary that does not exist, or a critic that does not go with it."""


class Adversary:
    """What critic and generator minimise against each other. ``D`` is the mean of the critic's raw values over a picture.

    "wasserstein"  critic ``mean D(output) - mean D(truth)``, generator ``-mean D(output)``, and the gradient penalty (Gulrajani
                   et al., NeurIPS 2017): the correct form of what the paper names
    "published"    as the published code has it, to compare with: the critic ends in a sigmoid, and the sign of its term for the
                   truth is reversed twice. Critic ``mean D(output) + mean D(truth)``, generator ``mean D(output)``, penalty
    "hinge"        critic ``mean relu(1 - D(truth)) + mean relu(1 + D(output))``, position by position, generator
                   ``-mean D(output)`` (Lim and Ye, 2017; Miyato et al., ICLR 2018); no penalty

    Raises AdversaryError for another kind.
    """

    def __init__(self, kind: Kind = "wasserstein") -> None:
        if kind not in get_args(Kind):
            raise AdversaryError(f"there is no adversary {kind!r}, expected one of {', '.join(get_args(Kind))}")
        self.kind = kind

    @property
    def sigmoid(self) -> bool:
        """Whether the critic's last layer is a sigmoid: ``Discriminator(sigmoid=adversary.sigmoid)``."""
        return self.kind == "published"

    def critic_terms(
        self, critic: nn.Module, truth: Tensor, output: Tensor, known: Tensor, generator: torch.Generator | None = None
    ) -> dict[str, Tensor]:
        """{"critic": ..., "penalty": ...}, scalars without their weights (1 and 10 in the paper); no "penalty" of a hinge.

        truth, output [N, 3, H, W] in [0, 1]; known [N, 1, H, W]. No gradient reaches ``output``. generator, on the CPU, draws
        where between truth and output the penalty is taken, so that a run can be repeated to the bit. The critic is given bare,
        not wrapped for distributed training: those wrappers know no second derivatives. Raises AdversaryError.
        """
        self._check(critic)
        output = output.detach().to(truth.dtype)
        real, filled = critic(truth, known), critic(output, known)
        match self.kind:
            case "hinge":
                return {"critic": (1 - real).relu().mean() + (1 + filled).relu().mean()}
            case "published":
                value = filled.mean() + real.mean()
            case _:
                value = filled.mean() - real.mean()
        return {"critic": value, "penalty": gradient_penalty(critic, truth, output, known, generator)}

    def generator_term(self, critic: nn.Module, output: Tensor, known: Tensor) -> Tensor:
        """The generator's term, a scalar without its weight (0.1 in the paper); the critic's parameters get no gradient.

        output [N, 3, H, W] in [0, 1], not pasted; known [N, 1, H, W]. Raises AdversaryError.
        """
        self._check(critic)
        with _held(critic):
            value: Tensor = critic(output.to(next(critic.parameters()).dtype), known).mean()
        return value if self.kind == "published" else -value

    def _check(self, critic: nn.Module) -> None:
        if getattr(critic, "sigmoid", self.sigmoid) != self.sigmoid:
            wanted = "with" if self.sigmoid else "without"
            raise AdversaryError(f"the adversary {self.kind!r} needs a critic {wanted} a sigmoid: sigmoid={self.sigmoid}")


def gradient_penalty(
    critic: Critic, truth: Tensor, output: Tensor, known: Tensor, generator: torch.Generator | None = None
) -> Tensor:
    """Mean over the pictures of ``(|gradient of D| - 1)^2`` at random points between truth and output (Gulrajani et al., Eqn. 3).

    One point for each picture, drawn by ``generator``; the norm is the Euclidean one over all pixels of a picture. Gradients flow
    to the critic's parameters alone. Without autocast: half precision would show in the norm.
    """
    share = torch.rand(len(truth), 1, 1, 1, generator=generator, dtype=truth.dtype).to(truth.device)
    between = torch.lerp(output.detach(), truth.detach(), share).requires_grad_()
    with torch.autocast(truth.device.type, enabled=False):
        values = critic(between, known).flatten(1).mean(dim=1).sum()
        (gradient,) = torch.autograd.grad(values, between, create_graph=True)
        penalty: Tensor = (gradient.flatten(1).norm(dim=1) - 1).square().mean()
    return penalty


@contextmanager
def _held(critic: nn.Module) -> Iterator[None]:
    """Inside, nothing of the critic is learned."""
    learned = [parameter for parameter in critic.parameters() if parameter.requires_grad]
    for parameter in learned:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in learned:
            parameter.requires_grad_(True)
