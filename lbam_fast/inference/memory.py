"""How much memory a forward pass takes, and what to say when there is not enough."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterator
from pathlib import Path

import torch

from lbam_fast.inference.errors import OutOfMemoryError
from lbam_fast.model import LBAM
from lbam_fast.reference import MULTIPLE

BYTES_PER_PIXEL_AND_CHANNEL, BYTES_PER_PIXEL = 13, 80


def padded_size(height: int, width: int) -> tuple[int, int]:
    """Height and width of a picture padded to the network's multiple of 128."""
    return height + -height % MULTIPLE, width + -width % MULTIPLE


def padded_pixels(height: int, width: int) -> int:
    return math.prod(padded_size(height, width))


def memory_needed(model: LBAM, weights: int, count: int, height: int, width: int) -> int:
    """Bytes that a forward pass takes at its highest, roughly, weights included.

    Fitted to the measured peak of the plain PyTorch path in float32; see docs/architecture.md.
    weights: the model's ``weight_bytes``, which take a while to add up.
    """
    return weights + count * padded_pixels(height, width) * bytes_per_pixel(model)


def weight_bytes(model: LBAM) -> int:
    return sum(p.numel() * p.element_size() for p in model.parameters())


def bytes_per_pixel(model: LBAM) -> int:
    """Bytes that a forward pass takes at its highest for each pixel, roughly, beside the weights."""
    return BYTES_PER_PIXEL_AND_CHANNEL * model.config.base_width + BYTES_PER_PIXEL


def usable_memory(device: torch.device) -> int | None:
    """Half of the bytes that a device has, taken or not, so that it is the same at any time; None where that is not known."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory) // 2
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    except (AttributeError, ValueError, OSError):
        return None


@contextlib.contextmanager
def explaining_lack_of_memory(
    model: LBAM, weights: int, device: torch.device, count: int, height: int, width: int
) -> Iterator[None]:
    """Raise OutOfMemoryError with the size needed and what to try: before a CPU would be asked for more than it has, or after.

    weights: as for ``memory_needed``.
    """
    needed = memory_needed(model, weights, count, height, width)
    message = (
        f"out of memory on {device}: {count} picture(s) of {width}x{height} need about {needed / 2**30:.1f} GiB. "
        "Try smaller pictures, fewer at a time, a narrower network, or a device with more memory"
    )
    if device.type == "cpu" and needed > _available():
        raise OutOfMemoryError(f"{message}; {_available() / 2**30:.1f} GiB are free")
    try:
        yield
    except (MemoryError, torch.OutOfMemoryError) as error:
        raise OutOfMemoryError(message) from error
    except RuntimeError as error:
        if "allocate" not in str(error):
            raise
        raise OutOfMemoryError(message) from error


def _available() -> float:
    """Bytes of free memory; infinite where the system does not say, as only Linux does without further libraries."""
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return 1024.0 * int(line.split()[1])
    except OSError:
        pass
    return float("inf")
