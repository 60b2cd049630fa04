"""The fused ops in plain PyTorch: what every other backend must equal, on any device and in any floating dtype.

Half precision is computed in float32, float64 in float64. Tensors are [N, C, H, W]. Absent results are empty tensors.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from lbam_fast.ops.arguments import Affine, Gate, Regions, Wanted
from lbam_fast.reference import attention_map, mask_update, output_form

Pair = tuple[Tensor, Tensor]
Triple = tuple[Tensor, Tensor, Tensor]
Quadruple = tuple[Tensor, Tensor, Tensor, Tensor]
Sextuple = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]

GEOMETRY = ([2, 2], [1, 1], [1, 1])
"""Stride, padding and dilation of every convolution."""
ZERO, KNOWN, MIXED = 0, 1, 2
"""Kinds of positions: ``m`` is 0 there; it is the layer's constant there; it has to be computed there."""


def attend(features: Tensor, m: Tensor, gate: Gate, affine: Affine, update: bool) -> Pair:
    """``y = leaky(scale * features * g_A(m) + shift)`` and, with ``update``, ``g_M(m)``."""
    wide, wide_m = widened(features), widened(m)
    y = _finish(wide * attention_map(wide_m, *gate.scalars), affine).to(features.dtype)
    return y, mask_update(wide_m, gate.alpha).to(m.dtype) if update else m.new_empty(0)


def attend_backward(dy: Tensor, du: Tensor | None, features: Tensor, m: Tensor, gate: Gate, affine: Affine) -> Sextuple:
    """Gradients of features, m, scalars [4], alpha [], scale and shift [C], the last two empty without a scale."""
    (scalars, alpha), scale, slope = gate, affine.scale, affine.slope
    wide, wide_m, dy = widened(features), widened(m), widened(dy)
    attention, slope_of_map, by_scalar = _map_derivatives(wide_m, scalars)
    product = wide * attention
    if slope != 1:
        dy = torch.where(_scale(product, affine) > 0, dy, slope * dy)
    dscale, dshift = (dy * product, dy) if scale is not None else (None, None)
    dproduct = dy if scale is None else dy * scale.view(-1, 1, 1)
    dmap = dproduct * wide
    dm = dmap * slope_of_map
    dalpha = alpha.new_zeros(())
    if du is not None:
        du = widened(du)
        positive = wide_m > 0
        base = torch.where(positive, wide_m, 1)
        power = base.pow(alpha)
        dm = dm + torch.where(positive, du * alpha * power / base, 0)
        dalpha = torch.where(positive, du * power * base.log(), 0).sum().to(alpha.dtype)
    dscalars = torch.stack([(dmap * part).sum() for part in by_scalar]).to(scalars.dtype)
    return (
        (dproduct * attention).to(features.dtype),
        dm.to(m.dtype),
        dscalars,
        dalpha,
        scalars.new_empty(0) if dscale is None else dscale.sum(dim=(0, 2, 3)).to(scalars.dtype),
        scalars.new_empty(0) if dshift is None else dshift.sum(dim=(0, 2, 3)).to(scalars.dtype),
    )


def statistics(features: Tensor, m: Tensor, scalars: Tensor) -> Pair:
    """Mean and biased variance of ``features * g_A(m)`` over batch and positions: [C] each."""
    product = widened(features) * attention_map(widened(m), *scalars)
    variance, mean = torch.var_mean(product, dim=(0, 2, 3), correction=0)
    return mean, variance


def statistics_backward(dmean: Tensor, dvariance: Tensor, mean: Tensor, features: Tensor, m: Tensor, scalars: Tensor) -> Triple:
    """Gradients of features, m and scalars [4]."""
    count = features.numel() // features.shape[1]
    wide, wide_m = widened(features), widened(m)
    attention, slope_of_map, by_scalar = _map_derivatives(wide_m, scalars)
    centred = wide * attention - mean.view(-1, 1, 1)
    dproduct = (dmean.view(-1, 1, 1) + 2 * centred * dvariance.view(-1, 1, 1)) / count
    dmap = dproduct * wide
    dscalars = torch.stack([(dmap * part).sum() for part in by_scalar]).to(scalars.dtype)
    return (dproduct * attention).to(features.dtype), (dmap * slope_of_map).to(m.dtype), dscalars


def encode(
    x: Tensor, u: Tensor, weight: Tensor, mask_weight: Tensor, gate: Gate, affine: Affine, wanted: Wanted, regions: Regions | None
) -> Quadruple:
    """Both convolutions of an encoder layer and ``attend``: (y, g_M(m), F, m), those that are ``wanted``."""
    features, m = convolution(x, weight), convolution(u, mask_weight)
    y, new = attend(features, m, gate, affine, wanted.update)
    return (y, new, features, m) if wanted.keep else (y, new, x.new_empty(0), x.new_empty(0))


def encode_with_map(x: Tensor, weight: Tensor, attention: Tensor, affine: Affine) -> Tensor:
    """The feature half of ``encode`` with a map that is known: ``leaky(scale * convolution * attention + shift)``."""
    return _finish(widened(convolution(x, weight)) * widened(attention), affine).to(x.dtype)


def encode_with_statistics(x: Tensor, u: Tensor, weight: Tensor, mask_weight: Tensor, scalars: Tensor) -> Quadruple:
    """Both convolutions of an encoder layer and ``statistics``: (F, m, mean, variance)."""
    features, m = convolution(x, weight), convolution(u, mask_weight)
    return features, m, *statistics(features, m, scalars)


def mask_step(u: Tensor, weight: Tensor, gate: Gate, wanted: Wanted, regions: Regions | None) -> Triple:
    """A mask convolution: (g_A(m), g_M(m), m); if ``wanted.keep``, m in place of the map."""
    m = convolution(u, weight)
    wide = widened(m)
    new = mask_update(wide, gate.alpha).to(m.dtype) if wanted.update else m.new_empty(0)
    if wanted.keep:
        return m.new_empty(0), new, m
    return attention_map(wide, *gate.scalars).to(m.dtype), new, m.new_empty(0)


def decode_with_map(
    skip: Tensor | None, own: Tensor, skip_weight: Tensor | None, own_weight: Tensor, attention: Tensor, affine: Affine
) -> Tensor:
    """``leaky(scale * deconvolution * attention + shift)`` of two inputs that are never joined."""
    features = deconvolution(skip, own, skip_weight, own_weight)
    return _finish(widened(features) * widened(attention), affine).to(own.dtype)


def decode_with_statistics(
    skip: Tensor | None, own: Tensor, skip_weight: Tensor | None, own_weight: Tensor, m: Tensor, scalars: Tensor
) -> Triple:
    """A transposed convolution of one or two inputs and ``statistics``: (F, mean, variance)."""
    features = deconvolution(skip, own, skip_weight, own_weight)
    return features, *statistics(features, m, scalars)


def reconstruct(skip: Tensor, own: Tensor, skip_weight: Tensor, own_weight: Tensor, form: str) -> Tensor:
    """The last transposed convolution in [0, 1]. form: "tanh", ``(tanh(x) + 1) / 2``, or "abs", ``|tanh(x)|``."""
    return output_form(widened(deconvolution(skip, own, skip_weight, own_weight)), form).to(own.dtype)


def convolution(x: Tensor, weight: Tensor) -> Tensor:
    """4x4 or 3x3, stride 2, padding 1."""
    return F.conv2d(x, weight, stride=2, padding=1)


def deconvolution(skip: Tensor | None, own: Tensor, skip_weight: Tensor | None, own_weight: Tensor) -> Tensor:
    """Transposed, 4x4, stride 2, padding 1, of one or two inputs: each has its rows of the filter."""
    result = F.conv_transpose2d(own, own_weight, stride=2, padding=1)
    if skip is None or skip_weight is None:
        return result
    return result + F.conv_transpose2d(skip, skip_weight, stride=2, padding=1)


def filter_gradient(small: Tensor, large: Tensor, weight: Tensor, transposed: bool) -> Tensor:
    """The gradient of a filter [C_small, C_large, 4, 4], in its own memory format on a CPU.

    small [N, C_small, h, w], large [N, C_large, 2h, 2w]: of a convolution its result's gradient and its input, of a transposed
    one its input and its result's gradient.
    """
    given = (large, small) if transposed else (small, large)
    wanted = [False, True, False]
    gradient: Tensor = torch.ops.aten.convolution_backward(*given, weight, None, *GEOMETRY, transposed, [0, 0], 1, wanted)[1]
    return gradient


def classify(u: Tensor) -> Tensor:
    """The kinds [N, 1, H, W], uint8, of a mask chain's input [N, C, H, W]: ZERO, KNOWN or MIXED."""
    zero, one = u == 0, u == 1
    if u.shape[1] > 1:
        zero, one = zero.all(dim=1, keepdim=True), one.all(dim=1, keepdim=True)
    return torch.where(zero, ZERO, torch.where(one, KNOWN, MIXED)).to(torch.uint8)


def spread(kinds: Tensor) -> Triple:
    """The kinds of a mask convolution's results [N, 1, H, W] -> [N, 1, H/2, W/2]; their positions sorted by kind, int32 [N * H/2
    * W/2]; and the kinds in that order."""
    not_zero = F.max_pool2d(F.pad((kinds != ZERO).float(), (1, 1, 1, 1), value=0), 4, 2)
    not_known = F.max_pool2d(F.pad((kinds != KNOWN).float(), (1, 1, 1, 1), value=1), 4, 2)
    following = torch.where(not_zero == 0, ZERO, torch.where(not_known == 0, KNOWN, MIXED)).to(torch.uint8)
    in_order, order = following.flatten().sort(stable=True)
    return following, order.int(), in_order


def widened(x: Tensor) -> Tensor:
    """Half precision in float32, others as they are."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def _finish(product: Tensor, affine: Affine) -> Tensor:
    scaled = _scale(product, affine)
    return scaled if affine.slope == 1 else F.leaky_relu(scaled, affine.slope)


def _scale(product: Tensor, affine: Affine) -> Tensor:
    if affine.scale is None or affine.shift is None:
        return product
    scaled: Tensor = product * affine.scale.view(-1, 1, 1) + affine.shift.view(-1, 1, 1)
    return scaled


def _map_derivatives(m: Tensor, scalars: Tensor) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
    """g_A(m), dg_A/dm, and the derivatives by a, mu, gamma_l, gamma_r."""
    a, mu, gamma_l, gamma_r = scalars
    distance = m - mu
    below = m < mu
    gamma = torch.where(below, gamma_l, gamma_r)
    bell = torch.exp(-gamma * distance.square())
    height = torch.where(below, a, a - 1)
    slope = -2 * gamma * distance * height * bell
    fall = -distance * (distance * height * bell)  # in an order that keeps infinity out of it
    attention = height * bell + torch.where(below, 0.0, 1.0)
    return attention, slope, (bell, -slope, torch.where(below, fall, 0), torch.where(below, 0, fall))
