"""Photographs in a folder as random crops with masks."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from lbam_fast.data.framing import PREPARATIONS, Preprocessing, has_detail
from lbam_fast.data.mask_sources import FreeMasks, MaskSource, OwnMasks, drawn_masks
from lbam_fast.data.masks import Mask
from lbam_fast.pictures import PictureError, read_picture

DULL_KEPT, TRIES = 0.2, 8
"""The share of crops without detail that are taken, and how often another one is drawn at most."""
MOST_UNREADABLE = 1000
"""How many pictures that cannot be read are passed over for one crop."""
GOOD, UNREADABLE, SMALL, NAMED = range(4)


class PhotographCrops(Dataset[tuple[Tensor, Tensor]]):
    """Item ``i`` is a random crop and mask that depend on (seed, i) alone, so that a run can be resumed exactly.

    Gives (image [3, crop, crop] float32 in [0, 1], mask [1, crop, crop] float32 with 1 = known). With the preparation "zoom" a
    crop's window spans from ``crop`` pixels up to the whole shorter side, log-uniformly; it is mirrored and transposed at random,
    its colours may change places, and most crops of sky, fog and blur are passed over; ``lbam_fast.data.framing`` has the others.
    ``crops_per_mask`` items, one after the other, share a mask, unless each picture has its own. Pictures stay decoded in memory
    up to ``cache_bytes``. Those that cannot be read are passed over; ``complaints`` names each once, in the process that made the
    dataset. Raises PictureError where none can be read.
    """

    def __init__(
        self,
        files: Sequence[Path],
        crop: int,
        length: int,
        seed: int = 0,
        crops_per_mask: int = 1,
        cache_bytes: int = 2 << 30,
        masks: MaskSource = drawn_masks,
        preprocessing: Preprocessing = "zoom",
    ) -> None:
        self.files = files
        self.crop, self.length, self.seed, self.crops_per_mask = crop, length, seed, crops_per_mask
        self.cache_bytes, self._cached = cache_bytes, 0
        self.masks, self.preparation = masks, PREPARATIONS[preprocessing]
        self._mask: tuple[int, Mask] | None = None
        self._cache: OrderedDict[int, NDArray[np.uint8]] = OrderedDict()
        # What is wrong with each file, for this process and those that read for it.
        self._found = torch.zeros(len(files), dtype=torch.uint8).share_memory_()  # type: ignore[no-untyped-call]

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        image, mask = self.pixels(index)
        return torch.from_numpy(image).permute(2, 0, 1).float() / 255, torch.from_numpy(mask)[None].float()

    def pixels(self, index: int) -> tuple[NDArray[np.uint8], Mask]:
        """Item ``index`` in a quarter of the bytes: image [crop, crop, 3] uint8, mask [crop, crop] uint8, 1 = known."""
        return self._item(np.random.default_rng([self.seed, index]), index // self.crops_per_mask)

    def complaints(self) -> Iterator[str]:
        """What was wrong with pictures that were met since the last call, a sentence a picture."""
        for kind in (UNREADABLE, SMALL):
            for number in (self._found == kind).nonzero().flatten().tolist():
                self._found[number] = NAMED
                yield self._complaint(number, kind)

    def _complaint(self, number: int, kind: int) -> str:
        path = self.files[number]
        if kind == SMALL:
            return f"{path} is smaller than the crop of {self.crop} pixels: it is enlarged"
        try:
            read_picture(path)
        except PictureError as error:
            return f"{error}; it is skipped"
        return f"{path}: could not be read; it is skipped"

    def _item(self, rng: np.random.Generator, group: int) -> tuple[NDArray[np.uint8], Mask]:
        preparation = self.preparation
        for _ in range(TRIES):
            number, pixels = self._draw(rng)
            size = pixels.shape[0], pixels.shape[1]
            frame = preparation.frame(rng, size, self.crop)
            image = frame.cut(pixels)
            if not preparation.detailed or has_detail(image) or rng.random() < DULL_KEPT:
                break
        mirrored, transposed = rng.random() < preparation.mirrored, rng.random() < preparation.transposed
        frame = replace(frame, mirrored=mirrored, transposed=transposed)
        image = frame.turn(image)
        if isinstance(self.masks, OwnMasks):
            mask = self.masks.cut(self.files[number], size, frame)
        else:
            mask = self._shared_mask(self.masks, group)
        if rng.random() < preparation.recoloured:
            image = cv2.transform(image, np.eye(3)[rng.permutation(3)]).astype(np.uint8, copy=False)
        return np.ascontiguousarray(image), np.ascontiguousarray(mask)

    def _shared_mask(self, masks: FreeMasks, group: int) -> Mask:
        """Of all items of a group, kept for the next one."""
        if self._mask is None or self._mask[0] != group:
            self._mask = group, masks(np.random.default_rng([self.seed, group, 1]), self.crop)
        return self._mask[1].copy()

    def _draw(self, rng: np.random.Generator) -> tuple[int, NDArray[np.uint8]]:
        """The number and the pixels of a picture that can be read."""
        for _ in range(MOST_UNREADABLE):
            number = int(rng.integers(len(self.files)))
            try:
                return number, self._load(number)
            except PictureError as error:
                problem = error
                if self._found[number] != NAMED:
                    self._found[number] = UNREADABLE
        raise PictureError(f"none of {MOST_UNREADABLE:,} pictures drawn of {len(self.files):,} can be read: {problem}")

    def _load(self, number: int) -> NDArray[np.uint8]:
        if number in self._cache:
            self._cache.move_to_end(number)
            return self._cache[number]
        pixels = read_picture(self.files[number]).pixels
        if pixels.dtype == np.uint16:
            pixels = (pixels >> 8).astype(np.uint8)
        pixels = np.array(np.broadcast_to(pixels, (*pixels.shape[:2], 3)))
        if min(pixels.shape[:2]) < self.crop and self._found[number] != NAMED:
            self._found[number] = SMALL
        self._cache[number] = pixels
        self._cached += pixels.nbytes
        while len(self._cache) > 1 and self._cached > self.cache_bytes:
            self._cached -= self._cache.popitem(last=False)[1].nbytes
        return pixels
