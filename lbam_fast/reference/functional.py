"""The pieces of LBAM as plain PyTorch functions: any floating dtype, any device, differentiable.

Notation follows the paper (ICCV 2019) and its supplement: ``M`` is a mask with 1 = known and 0 = hole, ``u`` the input of
a mask convolution, ``m`` its output. Tensors are [N, C, H, W].
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

LEAKY_SLOPE = 0.2
PARTIAL_EPSILON = 1e-8


def mask_convolution(u: Tensor, weight: Tensor) -> Tensor:
    """``m``: [N, C_in, H, W] and a filter [C_out, C_in, k, k], k = 4 or 3 -> [N, C_out, H/2, W/2] (stride 2, padding 1)."""
    return F.conv2d(u, weight, stride=2, padding=1)


def attention_map(m: Tensor, a: Tensor, mu: Tensor, gamma_l: Tensor, gamma_r: Tensor) -> Tensor:
    """g_A, the asymmetric Gaussian of Eqn. 9. The four parameters are scalars; the result has the shape of ``m``.

    ``a * exp(-gamma_l * (m - mu)^2)`` where ``m < mu``, ``1 + (a - 1) * exp(-gamma_r * (m - mu)^2)`` elsewhere:
    continuous at ``mu`` with the value ``a``, near 0 far below it and near 1 far above it. Half precision is computed in float32.
    """
    wide = m.float() if m.dtype in (torch.float16, torch.bfloat16) else m
    square = (wide - mu).square()
    return torch.where(wide < mu, a * torch.exp(-gamma_l * square), 1 + (a - 1) * torch.exp(-gamma_r * square)).to(m.dtype)


def mask_update(m: Tensor, alpha: float | Tensor) -> Tensor:
    """g_M, ``relu(m) ** alpha`` (Eqn. 8). Its derivative, unbounded towards 0+, is 0 at ``m <= 0``, never NaN."""
    positive = m > 0
    return torch.where(positive, torch.where(positive, m, 1).pow(alpha), 0)


def reciprocal_attention(m: Tensor) -> Tensor:
    """The unlearned attention of Eqn. 4: ``1 / m`` where ``m > 0``, else 0."""
    positive = m > 0
    return torch.where(positive, torch.where(positive, m, 1).clamp(min=torch.finfo(m.dtype).tiny).reciprocal(), 0)


def step_update(m: Tensor) -> Tensor:
    """The unlearned mask update of Eqn. 5: 1 where ``m > 0``, else 0."""
    return (m > 0).to(m.dtype)


def damaged_input(image: Tensor, mask: Tensor, channels: int) -> Tensor:
    """What the image network reads: ``image * M`` [N, 3, H, W], with ``M[0]`` as a fourth channel if ``channels`` is 4.

    image is [N, 3, H, W], mask [N or 1, 1 or 3, H, W]. Holes are selected, not multiplied away: NaN and infinity there vanish.
    """
    known = torch.where(mask > 0, image, 0) * mask
    if channels == 3:
        return known
    return torch.cat([known, mask[:, :1].expand(known.shape[0], -1, -1, -1)], dim=1)


def output_form(y: Tensor, form: str) -> Tensor:
    """The last transposed convolution's result in [0, 1]: ``(tanh(y) + 1) / 2`` for "tanh", ``|tanh(y)|`` for "abs"."""
    return (y.tanh() + 1) / 2 if form == "tanh" else y.tanh().abs()


def convolution(x: Tensor, weight: Tensor) -> Tensor:
    """``F`` of an encoder layer: [N, C_in, H, W], [C_out, C_in, 4, 4] -> [N, C_out, H/2, W/2] (stride 2, padding 1)."""
    return F.conv2d(x, weight, stride=2, padding=1)


def deconvolution(y: Tensor, weight: Tensor) -> Tensor:
    """Transposed: [N, C_in, H, W], [C_in, C_out, 4, 4] -> [N, C_out, 2H, 2W] (stride 2, padding 1)."""
    return F.conv_transpose2d(y, weight, stride=2, padding=1)


def activation(x: Tensor) -> Tensor:
    """LeakyReLU with slope 0.2."""
    return F.leaky_relu(x, LEAKY_SLOPE)


def partial_ratio(masks: list[tuple[Tensor, int]], kernel_size: int, stride: int) -> tuple[Tensor, Tensor]:
    """The mask half of a partial convolution (Liu et al., ECCV 2018): the factor for its features, and the new mask.

    masks holds pairs (mask [N, 1 or C, H, W], channels): each mask covers that many feature channels, equally. Padding is 1.
    Returns ``(ratio, new)``, both [N, 1, H', W']: ``new = min(sum, 1)``, ``ratio = new * window / (sum + 1e-8)`` with ``sum`` the
    mask's sum over the window and all channels and ``window`` the sum over a window wholly known, as its authors' code has it.
    """
    first = masks[0][0]
    total = first.new_zeros(())
    for mask, channels in masks:
        kernel = mask.new_full((1, mask.shape[1], kernel_size, kernel_size), channels / mask.shape[1])
        total = total + F.conv2d(mask, kernel, stride=stride, padding=1)
    window = kernel_size * kernel_size * sum(channels for _, channels in masks)
    new = total.clamp(0, 1)
    known = total > 0
    return torch.where(known, new * window / torch.where(known, total + PARTIAL_EPSILON, 1), 0), new


def upsample(x: Tensor) -> Tensor:
    """Nearest-neighbour, twice the height and width."""
    return F.interpolate(x, scale_factor=2.0, mode="nearest")
