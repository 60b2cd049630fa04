"""How good a network is on photographs that it is not trained on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import default_collate

from lbam_fast.data import PhotographCrops
from lbam_fast.model import LBAM
from lbam_fast.ops import correction_input

CROPS, SEED, AT_ONCE = 64, 2019, 16


class Validation:
    """64 crops of those photographs under a mask each, the same ones in every run."""

    def __init__(self, files: Sequence[Path], crop: int) -> None:
        data = PhotographCrops(files, crop, CROPS, SEED)
        self.images, self.masks = default_collate([data[i] for i in range(CROPS)])

    @torch.no_grad()
    def gain(self, model: LBAM) -> float:
        """dB of mean PSNR, known pixels pasted, by which the network is above the harmonic fill of the same crops."""
        device, training = next(model.parameters()).device, model.training
        model.eval()
        gains = []
        for images, masks in zip(self.images.split(AT_ONCE), self.masks.split(AT_ONCE), strict=True):
            image, mask = images.to(device), masks.to(device)
            harmonic = correction_input(image, mask)[1]
            gains.append(_squared(harmonic, image, mask).log10() - _squared(model(image, mask), image, mask).log10())
        model.train(training)
        return float(10 * torch.cat(gains).mean())


def _squared(picture: Tensor, image: Tensor, mask: Tensor) -> Tensor:
    return ((picture.float() - image).square() * (1 - mask)).mean(dim=(1, 2, 3)).clamp(min=1e-10)
