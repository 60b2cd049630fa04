"""The pictures and masks of a training, from its settings, in the order in which its processes take them."""

from __future__ import annotations

import hashlib
import re
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from lbam_fast.data import (
    AnyMask,
    MaskSource,
    OwnMasks,
    PhotographCrops,
    Split,
    drawn_masks,
    masks_by_name,
    nvidia_masks,
    paris,
    picture_files,
    places,
)
from lbam_fast.errors import LBAMError
from lbam_fast.training.settings import Settings, TrainingError

CACHE_BYTES = 2 << 30
"""Of decoded pictures, over all processes that read for one."""


@dataclass(frozen=True)
class TrainingPictures:
    """What a training reads: its pictures, below ``root``, those that it validates with, and where masks come from."""

    root: Path
    split: Split
    masks: MaskSource
    held_masks: MaskSource

    @classmethod
    def of(cls, settings: Settings) -> TrainingPictures:
        """Raises LBAMError where pictures or masks are missing."""
        if settings.photographs is None:
            raise TrainingError("there is nothing to train on: name a folder of photographs")
        root = settings.photographs
        split = _split(root, settings)
        held_root = settings.validation or root
        masks = _masks(split.train, root, settings)
        return cls(root, split, masks, _masks(split.validation, held_root, settings) if split.validation else masks)

    def crops(self, settings: Settings) -> PhotographCrops:
        """Crops and masks of every step, one after the other."""
        return PhotographCrops(
            self.split.train,
            settings.crop,
            settings.steps * settings.batch_size,
            settings.seed,
            settings.crops_per_mask,
            CACHE_BYTES // max(1, settings.workers),
            self.masks,
            settings.preprocessing,
        )

    @property
    def fingerprint(self) -> str:
        """Of the names of the pictures that are trained on, wherever they lie."""
        names = "\n".join(path.relative_to(self.root).as_posix() for path in self.split.train)
        return hashlib.sha256(names.encode()).hexdigest()


class Share(Sampler[int]):
    """The items of one of ``processes`` processes from a step on, each step's in ``settings.accumulate`` parts."""

    def __init__(self, settings: Settings, step: int, process: int, processes: int) -> None:
        self.settings, self.step, self.process, self.processes = settings, step, process, processes
        self.part = settings.batch_size // (settings.accumulate * processes)

    def __len__(self) -> int:
        return (self.settings.steps - self.step) * self.settings.accumulate * self.part

    def __iter__(self) -> Iterator[int]:
        first = self.step * self.settings.batch_size + self.process * self.part
        for _ in range((self.settings.steps - self.step) * self.settings.accumulate):
            yield from range(first, first + self.part)
            first += self.processes * self.part


class _Pixels(Dataset[tuple[NDArray[np.uint8], NDArray[np.uint8]]]):
    """Items as bytes, which processes pass on in a quarter of the time."""

    def __init__(self, crops: PhotographCrops) -> None:
        self.crops = crops

    def __len__(self) -> int:
        return len(self.crops)

    def __getitem__(self, index: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        return self.crops.pixels(index)


def batches(crops: PhotographCrops, share: Share, device: torch.device) -> Iterator[tuple[Tensor, Tensor]]:
    """(image [N, 3, H, W] in [0, 1], channels last, mask [N, 1, H, W] with 1 = known) on the device, part by part.

    Raises LBAMError, of whatever a process that reads met.
    """
    loader = DataLoader(
        _Pixels(crops),
        batch_size=share.part,
        sampler=share,
        num_workers=share.settings.workers,
        pin_memory=device.type == "cuda",
        worker_init_fn=_leave_interrupts,
    )
    white = torch.full((), 255.0, device=device)  # a number would be turned over on a GPU, which rounds twice
    try:
        for image, mask in loader:
            image, mask = (pixels.to(device, non_blocking=True) for pixels in (image, mask))
            yield image.permute(0, 3, 1, 2).float() / white, mask[:, None].float()
    except LBAMError as error:  # of another process it comes with a traceback in its text, the sentence last
        raise type(error)(str(error).strip().splitlines()[-1].partition("Error: ")[2] or str(error)) from error


def _split(root: Path, settings: Settings) -> Split:
    match settings.dataset:
        case "paris":
            split = paris(root)
        case "places":
            split = places(root)
        case _:
            files = picture_files(root)
            every = settings.held_out if settings.validation is None else 0
            held = set(files[every - 1 :: every]) if every else set()
            split = Split(tuple(file for file in files if file not in held), tuple(sorted(held)))
    if settings.validation is not None:
        split = Split(split.train, tuple(picture_files(settings.validation)))
    return split


def _masks(pictures: tuple[Path, ...], root: Path, settings: Settings) -> MaskSource:
    if settings.masks is None:
        return drawn_masks
    if settings.mask_pairs == "name":
        return OwnMasks(masks_by_name(pictures, root, settings.masks), settings.hole)
    if not settings.mask_ratio:
        return AnyMask(picture_files(settings.masks), settings.hole)
    wanted = re.fullmatch(r"(\d*\.?\d+)-(\d*\.?\d+)", settings.mask_ratio)
    low, high = (float(wanted[1]), float(wanted[2])) if wanted else (1.0, 0.0)
    if not 0 <= low < high <= 1:
        raise TrainingError(f"mask_ratio is {settings.mask_ratio!r}, expected two shares of a picture such as 0.1-0.3")
    found = nvidia_masks(settings.masks)
    files = [file for (least, most), files in found.items() if low <= least and most <= high for file in files]
    if not files:
        ranges = ", ".join(f"{least:g}-{most:g}" for least, most in found)
        raise TrainingError(f"{settings.masks} has no masks of {settings.mask_ratio}; it has {ranges}")
    return AnyMask(files, settings.hole)


def _leave_interrupts(worker: int) -> None:
    """Ctrl-C reaches workers too; they must go on until the training process has finished its step."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
