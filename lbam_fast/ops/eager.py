"""The fused ops in plain PyTorch: what every other backend must equal, on any device and in any floating dtype.

Half precision is computed in float32, float64 in float64. Tensors are [N, C, H, W]; ``scalars`` is ``(a, mu, gamma_l, gamma_r)``
[4] and ``alpha`` a scalar tensor, both at least float32; ``scale`` and ``shift`` [C] are a folded BatchNorm, or None. Absent
results are empty tensors.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from lbam_fast.reference import attention_map, mask_update, output_form

Pair = tuple[Tensor, Tensor]
Triple = tuple[Tensor, Tensor, Tensor]
Sextuple = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]


def attend(
    features: Tensor,
    m: Tensor,
    scalars: Tensor,
    alpha: Tensor,
    scale: Tensor | None,
    shift: Tensor | None,
    slope: float,
    update: bool,
) -> Pair:
    """``y = leaky(scale * features * g_A(m) + shift)`` and, with ``update``, ``g_M(m)``."""
    wide, wide_m = widened(features), widened(m)
    y = _activate(_affine(wide * attention_map(wide_m, *scalars), scale, shift), slope).to(features.dtype)
    return y, mask_update(wide_m, alpha).to(m.dtype) if update else m.new_empty(0)


def attend_backward(
    dy: Tensor,
    du: Tensor | None,
    features: Tensor,
    m: Tensor,
    scalars: Tensor,
    alpha: Tensor,
    scale: Tensor | None,
    shift: Tensor | None,
    slope: float,
) -> Sextuple:
    """Gradients of features, m, scalars [4], alpha [], scale and shift [C], the last two empty without a scale."""
    wide, wide_m, dy = widened(features), widened(m), widened(dy)
    attention, slope_of_map, by_scalar = _map_derivatives(wide_m, scalars)
    product = wide * attention
    if slope != 1:
        dy = torch.where(_affine(product, scale, shift) > 0, dy, slope * dy)
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


def statistics_backward(
    dmean: Tensor, dvariance: Tensor, mean: Tensor, features: Tensor, m: Tensor, scalars: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of features, m and scalars [4]."""
    count = features.numel() // features.shape[1]
    wide, wide_m = widened(features), widened(m)
    attention, slope_of_map, by_scalar = _map_derivatives(wide_m, scalars)
    centred = wide * attention - mean.view(-1, 1, 1)
    dproduct = (dmean.view(-1, 1, 1) + 2 * centred * dvariance.view(-1, 1, 1)) / count
    dmap = dproduct * wide
    dscalars = torch.stack([(dmap * part).sum() for part in by_scalar]).to(scalars.dtype)
    return (dproduct * attention).to(features.dtype), (dmap * slope_of_map).to(m.dtype), dscalars


def forward_attention(
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
    order: Tensor | None = None,
    kinds: Tensor | None = None,
    constant: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Both convolutions of an encoder layer and ``attend``: (y, g_M(m), F, m), the last two with ``keep``.

    order, kinds, constant: ``regions.Regions``, for backends that skip convolutions; nothing depends on them but speed.
    """
    features, m = convolution(x, weight), convolution(u, mask_weight)
    y, new = attend(features, m, scalars, alpha, scale, shift, slope, update)
    return (y, new, features, m) if keep else (y, new, x.new_empty(0), x.new_empty(0))


def features_with_map(
    x: Tensor, weight: Tensor, attention: Tensor, scale: Tensor | None, shift: Tensor | None, slope: float
) -> Tensor:
    """The feature half of ``forward_attention`` with a map that is known: ``leaky(scale * convolution * attention + shift)``."""
    product = _affine(widened(convolution(x, weight)) * widened(attention), scale, shift)
    return _activate(product, slope).to(x.dtype)


def forward_statistics(
    x: Tensor, u: Tensor, weight: Tensor, mask_weight: Tensor, scalars: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Both convolutions of an encoder layer and ``statistics``: (F, m, mean, variance)."""
    features, m = convolution(x, weight), convolution(u, mask_weight)
    return features, m, *statistics(features, m, scalars)


def mask_attention(
    u: Tensor,
    weight: Tensor,
    scalars: Tensor,
    alpha: Tensor,
    update: bool,
    keep: bool,
    order: Tensor | None = None,
    kinds: Tensor | None = None,
    constant: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """A mask convolution: (g_A(m), g_M(m), m); with ``keep`` m in place of the map. The rest as in ``forward_attention``."""
    m = convolution(u, weight)
    wide = widened(m)
    new = mask_update(wide, alpha).to(m.dtype) if update else m.new_empty(0)
    if keep:
        return m.new_empty(0), new, m
    return attention_map(wide, *scalars).to(m.dtype), new, m.new_empty(0)


def reverse_attention(
    skip: Tensor | None,
    own: Tensor,
    skip_weight: Tensor | None,
    own_weight: Tensor,
    attention: Tensor,
    scale: Tensor | None,
    shift: Tensor | None,
    slope: float,
) -> Tensor:
    """``leaky(scale * deconvolution * attention + shift)`` of two inputs that are never joined."""
    features = deconvolution(skip, own, skip_weight, own_weight)
    product = _affine(widened(features) * widened(attention), scale, shift)
    return _activate(product, slope).to(own.dtype)


def reverse_statistics(
    skip: Tensor | None,
    own: Tensor,
    skip_weight: Tensor | None,
    own_weight: Tensor,
    m: Tensor,
    scalars: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """A transposed convolution of one or two inputs and ``statistics``: (F, mean, variance)."""
    features = deconvolution(skip, own, skip_weight, own_weight)
    return features, *statistics(features, m, scalars)


def reconstruct(
    skip: Tensor, own: Tensor, skip_weight: Tensor, own_weight: Tensor, form: str, image: Tensor | None, mask: Tensor | None
) -> Tensor:
    """The last transposed convolution in [0, 1]; with an image and its mask, pasted: ``image`` where ``mask`` is 1.

    With an image of uint8 the result is uint8 too, in [0, 255].
    """
    y = output_form(widened(deconvolution(skip, own, skip_weight, own_weight)), form)
    return y.to(own.dtype) if image is None or mask is None else pasted(y, image, mask).to(result_dtype(own, image))


def pasted(y: Tensor, image: Tensor, mask: Tensor) -> Tensor:
    """``image`` where ``mask`` is 1, elsewhere ``y``, of [0, 1], in the image's dtype if that is uint8, else in its own."""
    if image.dtype == torch.uint8:
        y = (255 * widened(y)).round().to(torch.uint8)
    return torch.where(mask == 1, image.to(y.dtype), y)


def result_dtype(own: Tensor, image: Tensor | None) -> torch.dtype:
    """That of ``reconstruct``'s result."""
    return torch.uint8 if image is not None and image.dtype == torch.uint8 else own.dtype


def convolution(x: Tensor, weight: Tensor) -> Tensor:
    """4x4 or 3x3, stride 2, padding 1."""
    return F.conv2d(x, weight, stride=2, padding=1)


def deconvolution(skip: Tensor | None, own: Tensor, skip_weight: Tensor | None, own_weight: Tensor) -> Tensor:
    """Transposed, 4x4, stride 2, padding 1, of one or two inputs: each has its rows of the filter."""
    result = F.conv_transpose2d(own, own_weight, stride=2, padding=1)
    if skip is None or skip_weight is None:
        return result
    return result + F.conv_transpose2d(skip, skip_weight, stride=2, padding=1)


def widened(x: Tensor) -> Tensor:
    """Half precision in float32, others as they are."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def _affine(x: Tensor, scale: Tensor | None, shift: Tensor | None) -> Tensor:
    return x if scale is None or shift is None else x * scale.view(-1, 1, 1) + shift.view(-1, 1, 1)


def _activate(x: Tensor, slope: float) -> Tensor:
    return x if slope == 1 else F.leaky_relu(x, slope)


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
