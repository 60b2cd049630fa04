"""The attention layer of Contextual Attention (Yu et al., CVPR 2018), and the resampling that goes with its dialects."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

TEMPERATURE = 10
SMALLEST_NORM = 1e-4
Resampling = Literal["scale", "floor", "round"]


@dataclass(frozen=True)
class AttentionDialect:
    """What the layers of the public versions do differently.

    resampling     nearest neighbour of output i: "scale" takes ``i * in / out``; "floor" and "round" align the corners,
                   ``i * (in - 1) / (out - 1)``, as TensorFlow did until early 2018, and later
    by_steps       the mask comes to an eighth by way of a quarter
    summed_norm    keys are divided by ``sqrt(sum(k^2 + 1e-4))``, not by ``max(norm, 1e-4)``
    excluded       patches that meet the hole are left out of the softmax, where they otherwise have the logit 0
    true_overlap   values are averaged over how many patches meet, not over the 4 of the inside
    """

    resampling: Resampling = "scale"
    by_steps: bool = False
    summed_norm: bool = False
    excluded: bool = False
    true_overlap: bool = False


class ContextualAttention(nn.Module):
    """Makes each patch of the features from known patches that resemble it and its neighbours."""

    def __init__(self, dialect: AttentionDialect) -> None:
        super().__init__()
        self.dialect = dialect

    def forward(self, features: Tensor, hole: Tensor | None = None) -> Tensor:
        """features [N, C, h, w], h and w even; hole [N, 1, 4h, 4w], 1 in the hole, or none. Gives [N, C, h, w].

        Memory: a few tensors of N (h w / 4)^2 numbers.
        """
        dialect, size = self.dialect, (features.shape[2], features.shape[3])
        grid = size[0] // 2, size[1] // 2
        values = F.unfold(features, 4, stride=2, padding=1)  # [N, 16 C, L]
        queries = F.unfold(resized(features, grid, dialect.resampling), 3, padding=1)  # [N, 9 C, L]
        keys = queries / self._norm(queries)
        scores = fused(keys.transpose(1, 2) @ queries, grid)  # [N, L of keys, L of queries]
        valid = self._valid(hole, grid) if hole is not None else scores.new_ones(1, 1, 1)
        if dialect.excluded:
            logits = torch.where(valid > 0, TEMPERATURE * scores, torch.finfo(scores.dtype).min)
        else:
            logits = TEMPERATURE * valid * scores
        mixed = values @ (valid * logits.softmax(1))
        return F.fold(mixed, size, 4, stride=2, padding=1) / self._overlap(features)

    def _norm(self, keys: Tensor) -> Tensor:
        if self.dialect.summed_norm:
            return (keys.square() + SMALLEST_NORM).sum(1, keepdim=True).sqrt()
        norm: Tensor = torch.linalg.vector_norm(keys, dim=1, keepdim=True)
        return norm.clamp(min=SMALLEST_NORM)

    def _valid(self, hole: Tensor, grid: tuple[int, int]) -> Tensor:
        """1 for the patches that are free of hole, [N, L, 1]."""
        rule = self.dialect.resampling
        if self.dialect.by_steps:
            hole = resized(hole, (2 * grid[0], 2 * grid[1]), rule)
        met = F.max_pool2d(resized(hole, grid, rule), 3, stride=1, padding=1)
        return (met == 0).to(hole.dtype).flatten(1).unsqueeze(2)

    def _overlap(self, features: Tensor) -> Tensor | int:
        """How many patches are summed up at each position."""
        if not self.dialect.true_overlap:
            return 4
        ones = torch.ones_like(features[:1, :1])
        return F.fold(F.unfold(ones, 4, stride=2, padding=1), ones.shape[2:], 4, stride=2, padding=1)


def fused(scores: Tensor, grid: tuple[int, int]) -> Tensor:
    """Scores [N, L, L] of a grid's positions, each with those of its neighbours one step on in keys and queries alike.

    First along rows, then along columns; outside 0. A step wraps over the end of a row: that is its definition.
    """
    n, length, _ = scores.shape
    rows = _with_neighbours(scores).view(n, *grid, *grid)
    columns = _with_neighbours(rows.permute(0, 2, 1, 4, 3).reshape(n, length, length))
    return columns.view(n, *reversed(grid), *reversed(grid)).permute(0, 2, 1, 4, 3).reshape(n, length, length)


def _with_neighbours(scores: Tensor) -> Tensor:
    padded = F.pad(scores, (1, 1, 1, 1))
    return padded[:, :-2, :-2] + scores + padded[:, 2:, 2:]


def resized(x: Tensor, size: tuple[int, int], rule: Resampling) -> Tensor:
    """Nearest neighbours of x [N, C, H, W] by the rule of a dialect; corners are aligned in float32, as TensorFlow does it."""
    for axis, length in zip((2, 3), size, strict=True):
        i, given = torch.arange(length, device=x.device), x.shape[axis]
        if rule == "scale":
            i = i * given // length
        else:
            place = i.float() * ((given - 1) / max(length - 1, 1))
            i = (place + (0.5 if rule == "round" else 0.0)).floor().long()
        x = x.index_select(axis, i)
    return x
