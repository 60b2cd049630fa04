"""Adam for networks in channels_last."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class Adam(torch.optim.Adam):
    """PyTorch's Adam, with filters in channels_last seen as dense ones.

    On a CPU PyTorch's fused one copies such gradients at every step, and (as of 2.13) takes a gradient that lies in another order
    than its parameter for one in the same.
    """

    def _init_group(self, group: dict[str, Any], parameters: list[Tensor], gradients: list[Tensor], *others: Any) -> Any:
        found = super()._init_group(group, parameters, gradients, *others)  # type: ignore[no-untyped-call]
        gradients[:] = [_as(gradient, parameter) for gradient, parameter in zip(gradients, parameters, strict=True)]
        for tensors in (parameters, gradients, *others):
            if isinstance(tensors, list):
                tensors[:] = map(_dense, tensors)
        return found


def _as(x: Tensor, like: Tensor) -> Tensor:
    return x if x.stride() == like.stride() else torch.empty_like(like).copy_(x)


def _dense(x: Tensor) -> Tensor:
    """A view without gaps in the order in which the tensor lies, if that is channels_last."""
    return x.permute(0, 2, 3, 1) if x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last) else x
