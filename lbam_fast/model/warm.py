"""A GPU made ready for one kind of call: kernels compiled on all cores, the route of every op measured."""

from __future__ import annotations

import time
from typing import NamedTuple

import torch

from lbam_fast.config import LBAMConfig
from lbam_fast.errors import LBAMError
from lbam_fast.model.generator import LBAM
from lbam_fast.ops import ahead, autotune


class NoDeviceError(LBAMError, RuntimeError):
    """There is no GPU to make ready."""


class Warmed(NamedTuple):
    """What was done, and the seconds that it took."""

    launches: int
    compiling: float
    routes: int
    measuring: float


def warm(config: LBAMConfig, height: int, width: int, batch: int, dtype: torch.dtype) -> Warmed:
    """Compile and measure for images [batch, 3, height, width] with fresh masks and with maps, under autocast to ``dtype``.

    Raises NoDeviceError where PyTorch finds no CUDA device.
    """
    if not torch.cuda.is_available():
        raise NoDeviceError("there is nothing to make ready: PyTorch finds no CUDA device, and a CPU needs none of it")
    start = time.perf_counter()
    with autotune.route("kernel"), ahead.compiling_together() as kernels:
        _forward(config, height, width, batch, dtype)
    middle = time.perf_counter()
    _forward(config, height, width, batch, dtype)
    return Warmed(len(kernels), middle - start, len(autotune.remembered().choices), time.perf_counter() - middle)


@torch.no_grad()
def _forward(config: LBAMConfig, height: int, width: int, batch: int, dtype: torch.dtype) -> None:
    """By a network that is thrown away, with all that it keeps."""
    model = LBAM(config).cuda().eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    image, mask = torch.rand(batch, 3, height, width, device="cuda"), torch.ones(batch, 1, height, width, device="cuda")
    mask[:, :, height // 4 : height // 2, width // 4 : width // 2] = 0
    with torch.autocast("cuda", dtype, enabled=dtype != torch.float32):
        model(image, mask)
        model(image, maps=model.attention_maps(mask))
    torch.cuda.synchronize()
