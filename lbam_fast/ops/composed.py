"""Fused ops as convolutions with one pass after them: the ops of ``lbam_fast.ops.eager``'s names and arguments."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from lbam_fast.ops import eager

Part = Callable[..., Any]


@dataclass(frozen=True)
class Composed:
    """The ops made of those parts: functions of ``lbam_fast.ops.eager``, and ``maps``.

    maps  (m, scalars, alpha, attention, update) -> (g_A(m), g_M(m)), those that the two flags ask for; else empty tensors
    """

    attend: Part
    statistics: Part
    maps: Part
    convolution: Part = eager.convolution
    deconvolution: Part = eager.deconvolution

    def forward_attention(
        self,
        x: Tensor,
        u: Tensor,
        weight: Tensor,
        mask_weight: Tensor,
        scalars: Tensor,
        alpha: Tensor,
        scale: Tensor | None,
        shift: Tensor | None,
        slope: float,
        update: bool,
        keep: bool,
        *regions: Tensor | None,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        features, m = self.convolution(x, weight), self.convolution(u, mask_weight)
        y, new = self.attend(features, m, scalars, alpha, scale, shift, slope, update)
        return (y, new, features, m) if keep else (y, new, x.new_empty(0), x.new_empty(0))

    def forward_statistics(
        self, x: Tensor, u: Tensor, weight: Tensor, mask_weight: Tensor, scalars: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        features, m = self.convolution(x, weight), self.convolution(u, mask_weight)
        return features, m, *self.statistics(features, m, scalars)

    def mask_attention(
        self, u: Tensor, weight: Tensor, scalars: Tensor, alpha: Tensor, update: bool, keep: bool, *regions: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        m = self.convolution(u, weight)
        attention, new = self.maps(m, scalars, alpha, not keep, update)
        return attention, new, m if keep else m.new_empty(0)

    def reverse_statistics(
        self, skip: Tensor | None, own: Tensor, skip_weight: Tensor | None, own_weight: Tensor, m: Tensor, scalars: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        features = self.deconvolution(skip, own, skip_weight, own_weight)
        return features, *self.statistics(features, m, scalars)
