"""What belongs together among the arguments of ops, backends and kernels."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class Gate(NamedTuple):
    """The learned functions of ``m``, the result of a mask convolution.

    scalars  [4], at least float32: (a, mu, gamma_l, gamma_r) of the attention map g_A
    alpha    [], at least float32: the exponent of the mask update g_M
    """

    scalars: Tensor
    alpha: Tensor


class Affine(NamedTuple):
    """What follows a convolution and its map: ``leaky(scale * product + shift)``.

    scale, shift  [C], a folded BatchNorm, or both None
    slope         of LeakyReLU below 0; 1 leaves it out
    """

    scale: Tensor | None = None
    shift: Tensor | None = None
    slope: float = 1.0


class Wanted(NamedTuple):
    """Which results an op gives beside its first.

    update  g_M(m), the next layer's mask
    keep    what gradients and BatchNorm's statistics need: ``m``, and the bare convolution
    """

    update: bool
    keep: bool


class Regions(NamedTuple):
    """Positions of a mask convolution's result by kind, for kernels that leave out what is known; no result depends on them.

    order     [N * H * W] int32, all positions, those of one kind together
    kinds     [N * H * W] uint8, the kind of each, in that order: ZERO, KNOWN or MIXED of ``lbam_fast.ops.regions``
    constant  [C] at least float32, ``m`` at positions that are KNOWN
    """

    order: Tensor
    kinds: Tensor
    constant: Tensor
