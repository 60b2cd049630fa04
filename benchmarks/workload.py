"""The work that is timed: weights that keep the signal alive, photographs with noise, irregular masks. Never zeros."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lbam_fast import LBAM, LBAMConfig
from lbam_fast.data import random_mask
from lbam_fast.evaluation import evaluation_pictures
from lbam_fast.pictures import PictureError, read_picture

ROOT = Path(__file__).resolve().parent.parent
EXAMPLE = ROOT / "docs" / "example" / "china.jpg"
NOISE = 0.02
HOLES = (0.1, 0.5)

Inputs = Sequence[tuple[Tensor, ...]]
"""What the rounds take in turn. For whole networks: images [N, 3, H, W] in [0, 1] and masks [N or 1, 1, H, W], 1 = known."""


@dataclass(frozen=True)
class Case:
    """One piece of work that several methods do.

    mask   "fresh": another mask for every image and call; "shared": one mask for all images of all calls; "": no such choice
    layer  the layer's name where one layer is timed, else "": the whole network
    """

    height: int
    width: int
    batch: int
    mask: str = "fresh"
    layer: str = ""
    device: str = "cpu"
    preset: str = "official"
    base_width: int = 64

    @property
    def name(self) -> str:
        """The case in words that are the same in every record."""
        mask = {"fresh": "fresh mask", "shared": "one mask", "": ""}[self.mask]
        preset = "" if self.preset == "official" else f"preset {self.preset}"
        width = "" if self.base_width == 64 else f"base width {self.base_width}"
        words = (self.layer, f"{self.height}x{self.width}", f"batch {self.batch}", mask, preset, width)
        return " ".join(word for word in words if word)

    @property
    def config(self) -> LBAMConfig:
        return LBAMConfig.preset(self.preset, base_width=self.base_width)


def golden_recipe() -> Any:
    """The module that draws the golden cases' weights: they keep the signal alive through all layers."""
    path = ROOT / "tests" / "golden" / "recipe.py"
    spec = importlib.util.spec_from_file_location("golden_recipe", path)
    assert spec is not None and spec.loader is not None
    recipe = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(recipe)
    return recipe


@lru_cache(maxsize=1)
def weights(config: LBAMConfig, seed: int = 0) -> dict[str, Tensor]:
    """A state dict in float32 under the published names; shared, so never to be written to."""
    recipe = golden_recipe()
    with torch.device("meta"):
        shapes = {name: tuple(tensor.shape) for name, tensor in LBAM(config).state_dict().items()}
    state = {}
    for name, shape in shapes.items():
        value = torch.from_numpy(np.asarray(recipe.weight(seed, name, shape)))
        state[name] = value if name.endswith("num_batches_tracked") else value.float()
    return state


@lru_cache(maxsize=1)
def photographs() -> tuple[NDArray[np.uint8], ...]:
    """The example photograph and, where scikit-image and scikit-learn are installed, the evaluation pictures."""
    try:
        others = tuple(evaluation_pictures().values())
    except PictureError:
        others = ()
    return (np.asarray(read_picture(EXAMPLE).pixels, np.uint8), *others)


def photograph(rng: np.random.Generator, height: int, width: int) -> NDArray[np.float32]:
    """[height, width, 3] in [0, 1]: a random window of a photograph, mirrored beyond its borders, plus a little noise."""
    pictures = photographs()
    picture = pictures[rng.integers(len(pictures))]
    top, left = (int(rng.integers(max(1, have - want + 1))) for have, want in zip(picture.shape, (height, width), strict=False))
    window = picture[top : top + height, left : left + width]
    padding = ((0, height - window.shape[0]), (0, width - window.shape[1]), (0, 0))
    values = np.pad(window, padding, mode="symmetric") / 255 + rng.normal(0, NOISE, (height, width, 3))
    return np.clip(values, 0, 1).astype(np.float32)


def inputs(case: Case, count: int = 4, seed: int = 0) -> Inputs:
    """``count`` calls' worth of images and masks on the case's device; the same ones in every run.

    The first image has the same mask, be it fresh or shared: for a single image both cases start with the same inputs.
    """
    photograph_rng, mask_rng = (np.random.default_rng([seed, case.height, case.width, case.batch, which]) for which in (0, 1))

    def masks(number: int) -> Tensor:
        drawn = [random_mask(mask_rng, case.height, case.width, "noise", HOLES)[None] for _ in range(number)]
        return torch.from_numpy(np.stack(drawn)).float().to(case.device)

    shared = masks(1) if case.mask == "shared" else None
    pool = []
    for _ in range(count):
        images = np.stack([photograph(photograph_rng, case.height, case.width).transpose(2, 0, 1) for _ in range(case.batch)])
        mask = masks(case.batch) if shared is None else shared
        pool.append((torch.from_numpy(images).to(case.device), mask))
    return pool
