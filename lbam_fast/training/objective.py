"""What a network and its critic minimise, from the settings."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lbam_fast.model import Discriminator
from lbam_fast.ops import correction_input
from lbam_fast.training.adversarial import Adversary
from lbam_fast.training.losses import NEED_BASE, NEED_FEATURES, load_vgg16, terms
from lbam_fast.training.settings import Settings

Terms = dict[str, Tensor]
"""Scalars by name, without their weights."""
SHOWN = ("hole", "valid")
"""Terms that the log has whatever their weights are."""


class Objective:
    """The weighted sum of a training's terms. Raises FeaturesError where VGG16's weights are needed and missing."""

    def __init__(self, settings: Settings, device: torch.device) -> None:
        self.weights = {name: weight for name, weight in settings.weights.items() if weight > 0}
        self.adversarial, self.penalty = settings.adversarial, settings.penalty
        self.names = tuple(dict.fromkeys((*SHOWN, *self.weights)))
        self.features = load_vgg16(settings.vgg).to(device) if any(name in NEED_FEATURES for name in self.weights) else None
        self._nothing = torch.zeros((), device=device)
        self.adversary = None if settings.critic == "none" else Adversary(settings.critic)

    def critic(self, settings: Settings) -> Discriminator | None:
        """A new critic, where the settings name one; the seed decides its weights."""
        if self.adversary is None:
            return None
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            return Discriminator(sigmoid=self.adversary.sigmoid, base_width=settings.critic_base_width)

    def of_network(
        self, stages: tuple[Tensor, ...], image: Tensor, mask: Tensor, judgement: Tensor | None
    ) -> tuple[Tensor, Terms]:
        """(loss, terms of the last stage). Stages before it are held to the pixels alone, with the same weights.

        stages: [N, 3, H, W] each, in [0, 1], not pasted; image alike; mask [N, 1, H, W], 1 = known; judgement: the critic's term.
        """
        base = correction_input(image, mask)[1] if any(name in self.weights for name in NEED_BASE) else None
        found = terms(self.names, stages[-1], image, mask, self.features, base)
        loss = self._weighted(found)
        pixelwise = tuple(name for name in self.weights if name not in NEED_FEATURES)
        for stage in stages[:-1]:
            loss = loss + self._weighted(terms(pixelwise, stage, image, mask, None, base))
        if judgement is not None:
            found["adversarial"] = judgement
            loss = loss + self.adversarial * judgement
        return loss, found

    def of_critic(self, critic: nn.Module, truth: Tensor, output: Tensor, mask: Tensor) -> tuple[Tensor, Terms]:
        """(loss, terms) of the critic, for pictures as above."""
        assert self.adversary is not None
        found = self.adversary.critic_terms(critic, truth, output, mask)
        loss = found["critic"]
        if "penalty" in found:
            loss = loss + self.penalty * found["penalty"]
        return loss, found

    def _weighted(self, found: Terms) -> Tensor:
        return sum((weight * found[name] for name, weight in self.weights.items() if name in found), self._nothing)
