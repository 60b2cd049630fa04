"""A mask as people draw them, for timing: how much is skipped depends on it, and the first to come may be all hole or none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from lbam_fast.ops.arguments import Regions
from lbam_fast.ops.backends import eager

HOLES = 1 / 3
"""Share of a typical mask."""
_CELLS = 10  # of smooth noise along each side
_SAMPLE = 1 << 16
_DEEP = 2
"""Levels above one that is not the first: there the borders of holes have grown to about their final width."""


def typical(arguments: Sequence[Any]) -> Sequence[Any]:
    """The arguments with the regions, if there are any, of a typical mask of the same shape."""
    if not any(isinstance(each, Regions) for each in arguments):
        return arguments
    u = arguments[1] if isinstance(arguments[1], Tensor) and arguments[1].shape[2:] == arguments[0].shape[2:] else arguments[0]
    levels = 0 if u.shape[1] <= 3 else _DEEP
    return [regions_like(each, u, levels) if isinstance(each, Regions) else each for each in arguments]


def regions_like(regions: Regions, u: Tensor, levels: int = 0) -> Regions:
    """Of a typical mask, ``levels`` above the layer that reads ``u`` [N, C, H, W]; with the constant of ``regions``."""
    batch, _, height, width = u.shape
    kinds = eager.classify(mask_like(batch, height << levels, width << levels, u.device))
    for _ in range(levels + 1):
        kinds, order, in_order = eager.spread(kinds)
    return Regions(order, in_order, regions.constant)


def mask_like(batch: int, height: int, width: int, device: torch.device) -> Tensor:
    """Blobs of smooth noise: [batch, 1, height, width], 1 = known; the same at every call."""
    noise = torch.rand(batch, 1, _CELLS, _CELLS, generator=torch.Generator().manual_seed(0)).to(device)
    field = F.interpolate(noise, (height, width), mode="bicubic", align_corners=True)
    sample = field.flatten()[:: max(1, field.numel() // _SAMPLE)]
    return (field > sample.quantile(HOLES)).float()
