"""How good a network is on photographs that it is not trained on."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.utils.data import default_collate

from lbam_fast.data import PhotographCrops
from lbam_fast.ops import correction_input

CROPS, SEED, AT_ONCE, SHOWN = 64, 2019, 16, 8


class Validation:
    """Crops of those photographs under a mask each, the same ones in every run: 64 of them. ``complaints``: a sentence for each
    photograph that could not be read, or is smaller than the crop."""

    def __init__(self, crops: PhotographCrops) -> None:
        self.images, self.masks = default_collate([crops[i] for i in range(len(crops))])
        self.complaints = list(crops.complaints())

    @torch.no_grad()
    def measure(self, network: nn.Module) -> dict[str, float]:
        """{"gain": dB of mean PSNR above the harmonic fill of the same crops, "psnr": dB}, known pixels pasted."""
        device, training = next(network.parameters()).device, network.training
        network.eval()
        errors = []
        for images, masks in zip(self.images.split(AT_ONCE), self.masks.split(AT_ONCE), strict=True):
            image, mask = images.to(device), masks.to(device)
            harmonic = correction_input(image, mask)[1]
            errors.append(torch.stack([_squared(picture, image, mask) for picture in (harmonic, network(image, mask))]))
        network.train(training)
        rival, own = torch.cat(errors, dim=1).log10()
        return {"gain": float(10 * (rival - own).mean()), "psnr": float(-10 * own.mean())}

    def gain(self, network: nn.Module) -> float:
        """dB by which the network is above the harmonic fill."""
        return self.measure(network)["gain"]

    @torch.no_grad()
    def shown(self, network: nn.Module) -> Tensor:
        """[8, 3, 3, H, W] in [0, 1]: crops with their holes in grey, filled, and as they were; fewer where there are fewer."""
        device, training = next(network.parameters()).device, network.training
        network.eval()
        image, mask = self.images[:SHOWN].to(device), self.masks[:SHOWN].to(device)
        filled = torch.where(mask > 0.5, image, network(image, mask).float().clamp(0, 1))
        network.train(training)
        return torch.stack([torch.where(mask > 0.5, image, 0.5), filled, image], dim=1).cpu()


def _squared(picture: Tensor, image: Tensor, mask: Tensor) -> Tensor:
    return ((picture.float() - image).square() * (1 - mask)).mean(dim=(1, 2, 3)).clamp(min=1e-10)
