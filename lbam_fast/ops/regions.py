"""Where a mask chain is constant, so that its convolutions need not run there.

In known areas of a binary mask every layer's ``m`` is one vector, in holes it is 0 (in the chain that begins with ``1 - M`` the
other way round); so it stays wherever a filter's whole window lies in one of them. Zero padding is as good as a hole there.
Nothing is assumed of a mask: where it is neither 0 nor 1, positions count as mixed.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from lbam_fast import native
from lbam_fast.ops import on_cpu, on_cuda
from lbam_fast.ops.eager import widened
from lbam_fast.ops.prepared import prepared
from lbam_fast.reference import mask_update

ZERO, KNOWN, MIXED = 0, 1, 2
"""Kinds of positions: ``m`` is 0 there; it is the layer's constant there; it has to be computed there."""


_COMPILED = {"cpu": on_cpu, "cuda": on_cuda}
"""Where ``classified`` and ``spread_and_sorted`` have kernels."""


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
    """Follows a mask chain, level by level; never synchronises."""

    def __init__(self, u: Tensor, filters: Sequence[Tensor], alphas: Sequence[Tensor], dtype: torch.dtype) -> None:
        """u [N, C, H, W], the chain's input; of every level the filter [C_out, C_in, 4, 4] and alpha; the dtype it runs in."""
        device = u.device.type
        compiled = None if device not in native.NAMESPACES or native.unavailable(device) else _COMPILED[device]
        self.spread = compiled.regions if compiled else spread_and_sorted
        self.kinds = (compiled.classified if compiled else classified)(u)
        make = partial(_constants, dtype=dtype)
        given = *filters, *alphas
        together = prepared(f"constants in {dtype}", make, *given) if device == "cpu" else make(*given)
        self.constants = iter(torch.split(together, [weight.shape[0] for weight in filters]))

    def step(self) -> Regions:
        """The next level's regions."""
        self.kinds, order, kinds = self.spread(self.kinds)
        return Regions(order, kinds, next(self.constants))


def _constants(*given: Tensor, dtype: torch.dtype) -> Tensor:
    """What ``m`` is at KNOWN positions: of all levels one after the other; ``given`` are their filters, then their alphas."""
    filters, alphas = given[: len(given) // 2], given[len(given) // 2 :]
    value = torch.ones(filters[0].shape[1], dtype=torch.float32, device=filters[0].device)
    found = []
    for weight, alpha in zip(filters, alphas, strict=True):
        sums = widened(weight.to(dtype)).sum(dim=(2, 3))
        found.append((sums * value).sum(dim=1))  # not a product of matrices, which autocast would round
        value = mask_update(found[-1], alpha).to(dtype)
    return torch.cat(found)


def classified(u: Tensor) -> Tensor:
    """The kinds [N, 1, H, W], uint8, of a chain's input [N, C, H, W]."""
    zero, one = u == 0, u == 1
    if u.shape[1] > 1:
        zero, one = zero.all(dim=1, keepdim=True), one.all(dim=1, keepdim=True)
    return torch.where(zero, ZERO, torch.where(one, KNOWN, MIXED)).to(torch.uint8)


def spread(kinds: Tensor) -> Tensor:
    """The kinds of the results of a 4x4 convolution, stride 2, padding 1: [N, 1, H, W] -> [N, 1, H/2, W/2]."""
    not_zero = F.max_pool2d(F.pad((kinds != ZERO).float(), (1, 1, 1, 1), value=0), 4, 2)
    not_known = F.max_pool2d(F.pad((kinds != KNOWN).float(), (1, 1, 1, 1), value=1), 4, 2)
    return torch.where(not_zero == 0, ZERO, torch.where(not_known == 0, KNOWN, MIXED)).to(torch.uint8)


def spread_and_sorted(kinds: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """``spread``, the positions of its result sorted by kind, int32, and the kinds in that order."""
    kinds = spread(kinds)
    in_order, order = kinds.flatten().sort(stable=True)
    return kinds, order.int(), in_order
