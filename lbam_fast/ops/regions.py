"""Where a mask chain is constant, so that its convolutions need not run there.

In known areas of a binary mask every layer's ``m`` is one vector, in holes it is 0 (in the chain that begins with ``1 - M`` the
other way round); so it stays wherever a filter's whole window lies in one of them. Zero padding is as good as a hole there.
Nothing is assumed of a mask: where it is neither 0 nor 1, positions count as mixed.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from lbam_fast.ops.arguments import Regions
from lbam_fast.ops.backends.eager import widened
from lbam_fast.ops.dispatch import implementation
from lbam_fast.ops.runtime import session
from lbam_fast.reference import mask_update


class Tracker:
    """Follows a mask chain, level by level; never synchronises."""

    def __init__(self, u: Tensor, filters: Sequence[Tensor], alphas: Sequence[Tensor], dtype: torch.dtype) -> None:
        """u [N, C, H, W], the chain's input; of every level the filter [C_out, C_in, 4, 4] and alpha; the dtype it runs in."""
        self._backend = implementation(u.device, u.dtype)
        self._kinds = self._backend.classify(u)
        make = partial(_constants, dtype=dtype)
        given = *filters, *alphas
        together = session.current().prepared(f"constants in {dtype}", make, *given) if u.device.type == "cpu" else make(*given)
        self._constants = iter(torch.split(together, [weight.shape[0] for weight in filters]))

    def step(self) -> Regions:
        """The next level's regions."""
        self._kinds, order, kinds = self._backend.spread(self._kinds)
        return Regions(order, kinds, next(self._constants))


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
