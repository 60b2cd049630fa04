"""LPIPS and FID, whose networks others publish: torchmetrics computes them where the weights are, and nothing is downloaded."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

Pixels = NDArray[np.uint8]
ALEXNET = "alexnet-owt-7be5be79.pth"
INCEPTION = "weights-inception-2015-12-05-6726825d.pth"


class LPIPS:
    """torchmetrics' LPIPS on AlexNet (Zhang et al., CVPR 2018) of two pictures [H, W, 3] uint8; 0 means equal."""

    def __init__(self) -> None:
        self._metric: Any = None

    @torch.inference_mode()
    def __call__(self, picture: Pixels, original: Pixels) -> float:
        from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity

        if self._metric is None:  # not before it is in the process that uses it
            self._metric = LearnedPerceptualImagePatchSimilarity("alex", normalize=True)
        value = float(self._metric(_batch(picture).float() / 255, _batch(original).float() / 255))
        self._metric.reset()
        return value


def lpips_needs() -> str | None:
    """What is missing for LPIPS, and how to get it; None if nothing is."""
    if find_spec("torchmetrics") is None or find_spec("torchvision") is None:
        return "it needs torchmetrics and torchvision: pip install 'lbam-fast[evaluation]' torchvision"
    if not _downloaded(ALEXNET):
        return f"{ALEXNET} is not in {_folder()}; torchvision.models.alexnet(weights='DEFAULT') downloads it"
    return None


def fid_needs() -> str | None:
    """What is missing for FID, and how to get it; None if nothing is."""
    if find_spec("torchmetrics") is None or find_spec("torch_fidelity") is None:
        return "it needs torchmetrics and torch-fidelity: pip install 'lbam-fast[evaluation]' torch-fidelity"
    if not _downloaded(INCEPTION):
        return (
            f"{INCEPTION} is not in {_folder()}; "
            "torchmetrics.image.fid.FrechetInceptionDistance() downloads it when it is first made"
        )
    return None


def frechet_distances(
    originals: Iterable[Pixels],
    filled: Mapping[str, Iterable[Pixels]],
    features: int | nn.Module = 2048,
) -> dict[str, float]:
    """torchmetrics' FID (Heusel et al., NIPS 2017) of each method's pictures to the originals, all [H, W, 3] uint8.

    features: of Inception v3, or a network of tensors [N, 3, H, W] uint8. With few pictures it is far from what many would give.
    """
    from torchmetrics.image.fid import FrechetInceptionDistance

    metric = FrechetInceptionDistance(features, reset_real_features=False).set_dtype(torch.float64)
    for picture in originals:
        metric.update(_batch(picture), real=True)
    distances = {}
    for name, pictures in filled.items():
        metric.reset()
        for picture in pictures:
            metric.update(_batch(picture), real=False)
        distances[name] = float(metric.compute())
    return distances


def _batch(picture: Pixels) -> Tensor:
    return torch.from_numpy(picture).permute(2, 0, 1)[None]


def _folder() -> Path:
    return Path(torch.hub.get_dir()) / "checkpoints"


def _downloaded(name: str) -> bool:
    return (_folder() / name).is_file()
