"""A network and its critic as they learn: one optimiser step, and the state between two of them."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from lbam_fast.training.average import average_of, update_average
from lbam_fast.training.objective import Objective, Terms
from lbam_fast.training.optimizer import Adam
from lbam_fast.training.schedule import learning_rate
from lbam_fast.training.settings import Settings
from lbam_fast.training.stages import Stages

if TYPE_CHECKING:
    from lightning_fabric import Fabric

CRITIC_BETAS = (0.0, 0.9)
"""Adam's, of the critic, as published."""
Part = tuple[Tensor, Tensor]
"""(image [N, 3, H, W] in [0, 1], mask [N, 1, H, W] with 1 = known)."""


class Learner:
    """``model``, its ``average``, its critic where the settings have one, and their optimisers, after ``step`` steps.

    Whatever is random in a step is drawn from generators seeded by (seed, step, process), so that no random state is kept.
    """

    def __init__(self, network: nn.Module, settings: Settings, fabric: Fabric) -> None:
        self.settings, self.fabric, self.step = settings, fabric, 0
        self.objective = Objective(settings, fabric.device)
        self.model = network.to(fabric.device).train()
        self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average = average_of(self.model)
        self.critic = self.objective.critic(settings)
        fused = settings.amp != "fp16"  # a fused Adam takes the scale off gradients by itself, too late for clipping
        stages: Any = Stages(self.model, settings.crops_per_mask)
        self._stages, self.optimizer = fabric.setup(
            torch.compile(stages) if settings.compile else stages,
            Adam(self.model.parameters(), betas=(settings.beta1, settings.beta2), fused=fused),
        )
        self._rates: list[tuple[Any, float]] = [(self.optimizer, settings.learning_rate)]
        if self.critic is not None:
            parameters = self.critic.to(fabric.device).parameters()
            self.critic_optimizer = fabric.setup_optimizers(Adam(parameters, betas=CRITIC_BETAS, fused=fused))
            self._rates.append((self.critic_optimizer, settings.critic_learning_rate))

    def learn(self, parts: list[Part]) -> Terms:
        """One step of both from the parts of its crops; gives the means of the terms, on the device."""
        self._prepare()
        found, outputs = [], []
        for number, (image, mask) in enumerate(parts, start=1):
            with self.fabric.no_backward_sync(self._stages, enabled=number < len(parts)):
                stages = self._stages(image, mask)
                judgement = None if self.critic is None else self._judged(stages[-1], mask)
                loss, terms = self.objective.of_network(stages, image, mask, judgement)
                self.fabric.backward(loss / len(parts))
            found.append(terms)
            outputs.append(stages[-1].detach())
        self.fabric.clip_gradients(self._stages, self.optimizer, max_norm=self.settings.clip, error_if_nonfinite=False)
        self.optimizer.step()
        if project := getattr(self.model, "project_", None):
            project()
        if self.critic is not None:
            for terms, (image, mask), output in zip(found, parts, outputs, strict=True):
                terms |= self._criticise(image, output, mask, len(parts))
            self._share_gradients()
            self.critic_optimizer.step()
        self.step += 1
        update_average(self.average, self.model, self.settings.ema, self.step)
        return {name: torch.stack([terms[name].detach() for terms in found]).mean() for name in found[0]}

    @property
    def learning_rates(self) -> dict[str, float]:
        """Those of the next step."""
        names = ("learning_rate", "critic_learning_rate")
        return {
            name: learning_rate(self.settings, self.step, highest) for name, (_, highest) in zip(names, self._rates, strict=False)
        }

    def is_finite(self) -> bool:
        """Whether all weights are."""
        return all(bool(parameter.isfinite().all()) for parameter in self.model.parameters())

    def state(self) -> dict[str, Any]:
        """All that the steps to come depend on."""
        state = {
            "step": self.step,
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.fabric.strategy.precision.state_dict(),
        }
        if self.critic is not None:
            state |= {"critic": self.critic.state_dict(), "critic_optimizer": self.critic_optimizer.state_dict()}
        return state

    def load_state(self, state: dict[str, Any]) -> None:
        """The inverse of ``state``. Raises RuntimeError for that of another network."""
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.fabric.strategy.precision.load_state_dict(state["scaler"])
        if self.critic is not None:
            self.critic.load_state_dict(state["critic"])
            self.critic_optimizer.load_state_dict(state["critic_optimizer"])
        self.step = state["step"]

    def _prepare(self) -> None:
        seeds = np.random.SeedSequence([self.settings.seed, self.step, self.fabric.global_rank])
        seed = int(seeds.generate_state(1)[0])
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)
        for optimizer, highest in self._rates:
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(self.settings, self.step, highest)
            optimizer.zero_grad()

    def _judged(self, output: Tensor, mask: Tensor) -> Tensor:
        assert self.objective.adversary is not None
        assert self.critic is not None
        with self.fabric.autocast():
            return self.objective.adversary.generator_term(self.critic, output, mask)

    def _criticise(self, image: Tensor, output: Tensor, mask: Tensor, parts: int) -> Terms:
        """Add to the critic's gradients."""
        assert self.critic is not None
        with self.fabric.autocast():
            loss, terms = self.objective.of_critic(self.critic, image, output, mask)
        self.fabric.backward(loss / parts)
        return terms

    def _share_gradients(self) -> None:
        """The critic's, over all processes: second derivatives do not pass the wrapper that does so for the network."""
        if self.fabric.world_size > 1 and self.critic is not None:
            for parameter in self.critic.parameters():
                if parameter.grad is not None:
                    parameter.grad = self.fabric.all_reduce(parameter.grad, reduce_op="mean")
