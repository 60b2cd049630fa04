"""Photographs in a folder as random crops with random masks."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from lbam_fast.config import MaskKind
from lbam_fast.data.masks import random_mask
from lbam_fast.pictures import PictureError, output_suffixes, read_picture, visible_files


def picture_files(folder: Path) -> list[Path]:
    """Every picture below ``folder`` of the formats that are written too, sorted. Raises PictureError where there is none."""
    files = [path for path in visible_files(folder, recursive=True) if path.suffix.lower() in output_suffixes()]
    if not files:
        raise PictureError(f"no pictures in {folder}: expected files ending in {', '.join(sorted(output_suffixes()))}")
    return files


NOISE_RATIOS = ((0.01, 0.05), (0.05, 0.1), (0.1, 0.2), (0.2, 0.3), (0.3, 0.4), (0.4, 0.6))
"""Ranges that the hole ratio of a noise mask is drawn from, each as often: small holes are as many as large ones."""
STROKE_RATIOS = (0.01, 0.6)
DULL_KEPT, TRIES = 0.2, 8
"""The share of crops without detail that are taken, and how often another one is drawn at most."""


class PhotographCrops(Dataset[tuple[Tensor, Tensor]]):
    """Item ``i`` is a random crop and mask that depend on (seed, i) alone, so that a run can be resumed exactly.

    Gives (image [3, crop, crop] float32 in [0, 1], mask [1, crop, crop] float32 with 1 = known). A crop's window spans from
    ``crop`` pixels up to the whole shorter side, log-uniformly; it is mirrored and transposed at random, its colours may change
    places, and most crops of sky, fog and blur are passed over. ``crops_per_mask`` items, one after the other, share a mask:
    noise, strokes of all widths or scratches, with hole ratios from 0.01 to 0.6. Pictures stay decoded in memory up to
    ``cache_bytes``.
    """

    def __init__(
        self,
        files: Sequence[Path],
        crop: int,
        length: int,
        seed: int = 0,
        crops_per_mask: int = 1,
        cache_bytes: int = 2 << 30,
    ) -> None:
        self.files = files
        self.crop, self.length, self.seed, self.crops_per_mask = crop, length, seed, crops_per_mask
        self.cache_bytes = cache_bytes
        self._cache: OrderedDict[Path, NDArray[np.uint8]] = OrderedDict()

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        image = self._image(np.random.default_rng([self.seed, index]))
        mask = self._mask(np.random.default_rng([self.seed, index // self.crops_per_mask, 1]))
        return torch.from_numpy(image).permute(2, 0, 1).float() / 255, torch.from_numpy(mask)[None].float()

    def _image(self, rng: np.random.Generator) -> NDArray[np.uint8]:
        for _ in range(TRIES):
            image = self._crop(rng, self._load(self.files[int(rng.integers(len(self.files)))]))
            if has_detail(image) or rng.random() < DULL_KEPT:
                break
        if rng.random() < 0.5:
            image = image[:, ::-1]
        if rng.random() < 0.25:
            image = image.transpose(1, 0, 2)
        if rng.random() < 0.3:
            image = image[..., rng.permutation(3)]
        return np.ascontiguousarray(image)

    def _mask(self, rng: np.random.Generator) -> NDArray[np.uint8]:
        draw = rng.random()
        if draw < 0.6:
            ratio = NOISE_RATIOS[rng.integers(len(NOISE_RATIOS))]
            cells = self.crop / 256 * 10 * math.exp(rng.uniform(-0.5, 0.5))
            return random_mask(rng, self.crop, self.crop, "noise", ratio, cells)
        kind: MaskKind = "scratches" if draw < 0.85 else ("thin", "medium", "thick")[rng.integers(3)]
        return random_mask(rng, self.crop, self.crop, kind, STROKE_RATIOS)

    def _load(self, path: Path) -> NDArray[np.uint8]:
        if path in self._cache:
            self._cache.move_to_end(path)
            return self._cache[path]
        pixels = read_picture(path).pixels
        if pixels.dtype == np.uint16:
            pixels = (pixels >> 8).astype(np.uint8)
        pixels = np.ascontiguousarray(np.broadcast_to(pixels, (*pixels.shape[:2], 3)))
        self._cache[path] = pixels
        while len(self._cache) > 1 and sum(p.nbytes for p in self._cache.values()) > self.cache_bytes:
            self._cache.popitem(last=False)
        return pixels

    def _crop(self, rng: np.random.Generator, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        height, width = pixels.shape[:2]
        short = min(height, width)
        window = round(math.exp(rng.uniform(math.log(min(self.crop, short)), math.log(short))))
        top, left = rng.integers(height - window + 1), rng.integers(width - window + 1)
        square = pixels[top : top + window, left : left + window]
        if window != self.crop:
            shrinks = window > self.crop
            method = cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
            square = cv2.resize(square, (self.crop, self.crop), interpolation=method).astype(np.uint8, copy=False)
        return square


def has_detail(image: NDArray[np.uint8]) -> bool:
    """Whether [H, W, 3] shows more than sky, fog or blur: in grey, mean absolute Laplacian above 3, deviation above 8."""
    grey = cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2GRAY).astype(np.float32)
    return bool(grey.std() > 8 and np.abs(cv2.Laplacian(grey, cv2.CV_32F)).mean() > 3)
