"""One way to call every network that is trained."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn


class Stages(nn.Module):
    """(image [N, 3, H, W], mask [N, 1, H, W]) -> outputs [N, 3, H, W] of all stages of a network, the last one being the result.

    Of each ``crops_per_mask`` masks, which are equal, a network with ``attention_maps`` computes the maps once.
    """

    def __init__(self, network: nn.Module, crops_per_mask: int) -> None:
        super().__init__()
        self.network, self.crops_per_mask = network, crops_per_mask

    def forward(self, image: Tensor, mask: Tensor) -> tuple[Tensor, ...]:
        network: Any = self.network
        if hasattr(network, "outputs"):
            return tuple(network.outputs(image, mask))
        if self.crops_per_mask > 1 and hasattr(network, "attention_maps"):
            maps = network.attention_maps(mask[:: self.crops_per_mask])
            return (network(image, maps=maps.repeated(self.crops_per_mask)),)
        return (network(image, mask),)
