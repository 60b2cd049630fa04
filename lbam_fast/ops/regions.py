"""Where a mask chain is constant, so that its convolutions need not run there.

In known areas of a binary mask every layer's ``m`` is one vector, in holes it is 0 (in the chain that begins with ``1 - M`` the
other way round); so it stays wherever a filter's whole window lies in one of them. Zero padding is as good as a hole there.
Nothing is assumed of a mask: where it is neither 0 nor 1, positions count as mixed.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from lbam_fast.ops.eager import widened
from lbam_fast.reference import mask_update

ZERO, KNOWN, MIXED = 0, 1, 2
"""Kinds of positions: ``m`` is 0 there; it is the layer's constant there; it has to be computed there."""


class Regions(NamedTuple):
    """One level's positions by kind, for the ops that can skip what is known.

    order     [N * H * W] int32, all positions, those of one kind together
    kinds     [N * H * W] uint8, the kind of each, in that order
    constant  [C] at least float32, ``m`` at positions that are KNOWN
    """

    order: Tensor
    kinds: Tensor
    constant: Tensor


class Tracker:
    """Follows a mask chain from its input ``u`` [N, C, H, W], level by level; never synchronises."""

    def __init__(self, u: Tensor) -> None:
        self.kinds = classified(u)
        self.value = torch.ones(u.shape[1], device=u.device)

    def step(self, weight: Tensor, alpha: Tensor, dtype: torch.dtype) -> Regions:
        """The next level's regions, of a mask convolution with that weight [C_out, C_in, 4, 4] and alpha, in that dtype."""
        self.kinds = spread(self.kinds)
        sums = widened(weight.to(dtype)).sum(dim=(2, 3))
        constant = sums @ self.value.to(sums.dtype)
        self.value = mask_update(constant, alpha).to(dtype)
        kinds, order = self.kinds.flatten().sort(stable=True)
        return Regions(order.int(), kinds, constant)


def classified(u: Tensor) -> Tensor:
    """The kinds [N, 1, H, W], uint8, of a chain's input [N, C, H, W]."""
    zero, one = (u == 0).all(dim=1, keepdim=True), (u == 1).all(dim=1, keepdim=True)
    return torch.where(zero, ZERO, torch.where(one, KNOWN, MIXED)).to(torch.uint8)


def spread(kinds: Tensor) -> Tensor:
    """The kinds of the results of a 4x4 convolution, stride 2, padding 1: [N, 1, H, W] -> [N, 1, H/2, W/2]."""
    not_zero = F.max_pool2d(F.pad((kinds != ZERO).float(), (1, 1, 1, 1), value=0), 4, 2)
    not_known = F.max_pool2d(F.pad((kinds != KNOWN).float(), (1, 1, 1, 1), value=1), 4, 2)
    return torch.where(not_zero == 0, ZERO, torch.where(not_known == 0, KNOWN, MIXED)).to(torch.uint8)
