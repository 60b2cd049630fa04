"""Photographs in a folder as random crops with random masks."""

from __future__ import annotations

import math
from collections import OrderedDict
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from lbam_fast.data.masks import MASK_KINDS, random_mask
from lbam_fast.pictures import PictureError, read_picture, readable_suffixes


def picture_files(folder: Path) -> list[Path]:
    """Every picture below ``folder``, sorted. Raises PictureError where there is none."""
    files = sorted(p for p in folder.rglob("*") if p.suffix.lower() in readable_suffixes() and not p.name.startswith("."))
    if not files:
        raise PictureError(f"no pictures in {folder}: expected files ending in {', '.join(sorted(readable_suffixes()))}")
    return files


class PhotographCrops(Dataset[tuple[Tensor, Tensor]]):
    """Item ``i`` is a random crop and mask that depend on (seed, i) alone, so that a run can be resumed exactly.

    Gives (image [3, crop, crop] float32 in [0, 1], mask [1, crop, crop] float32 with 1 = known). A crop's window spans from
    ``crop`` pixels up to the whole shorter side, log-uniformly, and is flipped at random. Half of the masks are noise,
    half are strokes, with hole ratios from 0.05 to 0.6. Pictures stay decoded in memory up to ``cache_bytes``.
    """

    def __init__(self, folder: Path, crop: int, length: int, seed: int = 0, cache_bytes: int = 2 << 30) -> None:
        self.files = picture_files(folder)
        self.crop, self.length, self.seed, self.cache_bytes = crop, length, seed, cache_bytes
        self._cache: OrderedDict[Path, NDArray[np.uint8]] = OrderedDict()

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        rng = np.random.default_rng([self.seed, index])
        image = self._crop(rng, self._load(self.files[rng.integers(len(self.files))]))
        kind = "noise" if rng.random() < 0.5 else MASK_KINDS[rng.integers(1, len(MASK_KINDS))]
        cells = self.crop / 256 * math.exp(rng.uniform(math.log(6), math.log(20)))
        mask = random_mask(rng, self.crop, self.crop, kind, (0.05, 0.6), cells)
        return torch.from_numpy(image).permute(2, 0, 1).float() / 255, torch.from_numpy(mask)[None].float()

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
        return np.ascontiguousarray(square[:, ::-1] if rng.random() < 0.5 else square)
