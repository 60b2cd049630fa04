"""Mean and variance by parts: each block has the mean of its values and the sum of their squares about that mean."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor


@triton.jit
def store_block_sums(sums, values, inside, count, block, blocks, channel, channels):
    """Into ``sums`` [2, blocks, channels]: of ``values`` [rows, columns], by column. Of the rows ``count`` are ``inside``, and
    the values elsewhere are 0."""
    mean = tl.sum(values, axis=0) / count
    centred = tl.where(inside, values - mean[None, :], 0.0)
    at = sums + block.to(tl.int64) * channels + channel
    tl.store(at, mean, mask=channel < channels)
    tl.store(at + blocks.to(tl.int64) * channels, tl.sum(centred * centred, axis=0), mask=channel < channels)


def blocks_of(values: int, block: int, device: torch.device) -> Tensor:
    """How many of ``values`` fall to each block of that size: [blocks], float32."""
    starts = torch.arange(0, values, block, device=device)
    return (values - starts).clamp(max=block).float()


def mean_and_variance(sums: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and biased variance [C] of all values from ``sums`` [2, blocks, C] and their ``counts``."""
    means, squares = sums
    share = (counts / counts.sum())[:, None]
    mean = (means * share).sum(dim=0)
    variance = (squares / counts[:, None] + (means - mean).square()) * share
    return mean, variance.sum(dim=0)
