"""Fused ops as convolutions with one pass after them: the ops of ``eager``'s names and arguments."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from lbam_fast.ops.arguments import Affine, Gate, Wanted
from lbam_fast.ops.backends import eager

Part = Callable[..., Any]


@dataclass(frozen=True)
class Composed:
    """The ops made of those parts: functions of ``eager``, and ``maps``.

    maps  (m, gate, attention, update) -> (g_A(m), g_M(m)), those that the two flags ask for; else empty tensors
    """

    attend: Part
    statistics: Part
    maps: Part
    convolution: Part = eager.convolution
    deconvolution: Part = eager.deconvolution

    def encode(
        self, x: Tensor, u: Tensor, weight: Tensor, mask_weight: Tensor, gate: Gate, affine: Affine, wanted: Wanted, *_: object
    ) -> eager.Quadruple:
        features, m = self.convolution(x, weight), self.convolution(u, mask_weight)
        y, new = self.attend(features, m, gate, affine, wanted.update)
        return (y, new, features, m) if wanted.keep else (y, new, x.new_empty(0), x.new_empty(0))

    def encode_with_statistics(
        self, x: Tensor, u: Tensor, weight: Tensor, mask_weight: Tensor, scalars: Tensor
    ) -> eager.Quadruple:
        features, m = self.convolution(x, weight), self.convolution(u, mask_weight)
        return features, m, *self.statistics(features, m, scalars)

    def mask_step(self, u: Tensor, weight: Tensor, gate: Gate, wanted: Wanted, *_: object) -> eager.Triple:
        m = self.convolution(u, weight)
        attention, new = self.maps(m, gate, not wanted.keep, wanted.update)
        return attention, new, m if wanted.keep else m.new_empty(0)

    def decode_with_statistics(
        self, skip: Tensor | None, own: Tensor, skip_weight: Tensor | None, own_weight: Tensor, m: Tensor, scalars: Tensor
    ) -> eager.Triple:
        features = self.deconvolution(skip, own, skip_weight, own_weight)
        return features, *self.statistics(features, m, scalars)
