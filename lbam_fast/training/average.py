"""A running average of a network's weights."""

from __future__ import annotations

import copy
from typing import TypeVar

import torch
from torch import nn

Network = TypeVar("Network", bound=nn.Module)


def average_of(network: Network) -> Network:
    """A copy that follows the network and is not trained."""
    return copy.deepcopy(network).requires_grad_(False)


@torch.no_grad()
def update_average(average: nn.Module, network: nn.Module, decay: float, step: int) -> None:
    """After ``step`` steps: the first ones forget the random start sooner than the decay would. Buffers are copied."""
    share = 1 - min(decay, step / (step + 10))
    torch._foreach_lerp_(list(average.parameters()), list(network.parameters()), share)
    for own, other in zip(average.buffers(), network.buffers(), strict=True):
        own.copy_(other)
