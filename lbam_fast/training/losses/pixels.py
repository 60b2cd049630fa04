"""Terms over pixels. Pictures are [N, 3, H, W] in [0, 1]; ``known`` is [N, 1, H, W], 1 = known, and counts softly in between.

All compute in float32, in float64 where the output is of it, and give a scalar.
"""

from __future__ import annotations

import torch
from torch import Tensor


def hole_error(output: Tensor, truth: Tensor, known: Tensor) -> Tensor:
    """Mean over all pixels of ``(1 - known) * |output - truth|`` (Liu et al., ECCV 2018, L_hole)."""
    return (_error(output, truth).abs() * (1 - known)).mean()


def valid_error(output: Tensor, truth: Tensor, known: Tensor) -> Tensor:
    """Mean over all pixels of ``known * |output - truth|`` (Liu et al., ECCV 2018, L_valid)."""
    return (_error(output, truth).abs() * known).mean()


def log_squared_error(output: Tensor, truth: Tensor, known: Tensor) -> Tensor:
    """Mean over the pictures of the natural logarithm of their mean squared error in the hole: PSNR's own scale.

    It falls by ln(10) / 10 for each dB of PSNR. A picture without a hole counts nothing.
    """
    hole = 1 - known
    pixels = 3 * hole.sum(dim=(1, 2, 3))
    return torch.where(pixels > 0, (_squared_error(output, truth, hole) + 1e-8).log(), 0).mean()


def relative_error(output: Tensor, truth: Tensor, known: Tensor, base: Tensor) -> Tensor:
    """Mean over the pictures of the root of the mean squared error in the hole, relative to that of ``base``, another fill.

    1 where both are as far from ``truth``. A smooth picture counts as much as one full of detail, as in PSNR, but one that
    ``base`` fills within a grey level counts little. A picture without a hole counts nothing.
    """
    hole = 1 - known
    pixels = 3 * hole.sum(dim=(1, 2, 3))
    ratio = (_squared_error(output, truth, hole) + 1e-6).sqrt() / (_squared_error(base, truth, hole) + 1e-5).sqrt()
    return torch.where(pixels > 0, ratio, 0).mean()


def total_variation(output: Tensor, truth: Tensor, known: Tensor) -> Tensor:
    """Mean absolute difference of neighbours in a row, plus that of neighbours in a column, in the composited picture.

    Only pairs that touch the hole are counted, by ``1 - known * known'``: others are the truth's own and have no gradient
    (Liu et al., ECCV 2018, L_tv, there over the hole grown by a pixel).
    """
    picture = composited(output, truth, known)
    rows = (picture[..., :, 1:] - picture[..., :, :-1]).abs() * (1 - known[..., :, 1:] * known[..., :, :-1])
    columns = (picture[..., 1:, :] - picture[..., :-1, :]).abs() * (1 - known[..., 1:, :] * known[..., :-1, :])
    return rows.mean() + columns.mean()


def composited(output: Tensor, truth: Tensor, known: Tensor) -> Tensor:
    """The output in the hole, the truth elsewhere."""
    return known * truth + (1 - known) * widened(output)


def widened(x: Tensor) -> Tensor:
    """In float32 at least: a mean over a picture is more than half precision can add up."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _error(output: Tensor, truth: Tensor) -> Tensor:
    return widened(output) - truth


def _squared_error(picture: Tensor, truth: Tensor, hole: Tensor) -> Tensor:
    """Of each picture the mean over its hole, [N]."""
    pixels = 3 * hole.sum(dim=(1, 2, 3))
    return (_error(picture, truth).square() * hole).sum(dim=(1, 2, 3)) / pixels.clamp(min=1)
