"""The harmonic fill, which networks with ``base="harmonic"`` start from and correct: in every hole the solution of Laplace's
equation with the known pixels as its border.

Solved by multigrid (Briggs, Henson, McCormick, A Multigrid Tutorial, SIAM 2000) with a number of steps that no value decides,
so that it can be traced, exported and repeated. Computed in float32 at least.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

LEVELS = 7
"""Halvings from the picture to the coarsest grid: as many as the network has."""
FIRST_SWEEPS, CYCLES, SWEEPS, COARSEST_SWEEPS = 2, 2, 2, 16
"""Of relaxation on the way up from the coarsest picture; V-cycles after it; sweeps before and after each cycle's correction of a
level; sweeps on the coarsest grid. 256x256 photographs are then within 0.01 of the exact solution, 0.0005 in the mean."""


CONTRAST = 4.0
"""What the network's input is multiplied by: differences from the trend are small numbers."""


def correction_input(image: Tensor, mask: Tensor, trend: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """What a network with ``base="harmonic"`` reads and what it corrects: ``(x, base)``, [N, 6, H, W] and [N, 3, H, W].

    image [N, 3, H, W] in [0, 1], mask [N or 1, 1 or 3, H, W], known where above 0 in all its channels; what lies in holes,
    even NaN, does not count. ``base`` is the trend of the known pixels and the harmonic fill of what they differ from
    it; ``x`` is that difference, 4 times, on known pixels, then in holes. So ``x`` is 0 for a constant and for a linear picture,
    and twice the contrast is twice ``x``. ``trend``, like the image, stands in place of ``plane``'s. Half precision is computed
    in float32.
    """
    wide = image.float() if image.dtype in (torch.float16, torch.bfloat16) else image
    known = known_pixels(mask, wide.dtype)
    trend = plane(wide, known) if trend is None else trend.to(wide.dtype)
    rest = harmonic_fill(torch.where(known > 0, wide - trend, 0), known)
    x = torch.cat([torch.where(known > 0, rest, 0), torch.where(known > 0, 0, rest)], dim=1)
    return (CONTRAST * x).to(image.dtype), (trend + rest).to(image.dtype)


def corrected(base: Tensor, y: Tensor) -> Tensor:
    """``base`` corrected by a network's output ``y``, both [N, 3, H, W] in [0, 1]: by ``2 y - 1``, kept within [0, 1]."""
    return (base + (2 * y - 1)).clamp(0, 1)


def known_pixels(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """1 where all channels of a mask [N, C, H, W] are above 0, else 0: [N, 1, H, W]."""
    return (mask.amin(dim=1, keepdim=True) > 0).to(dtype)


def plane(image: Tensor, known: Tensor) -> Tensor:
    """The linear trend of the known pixels: image [N, C, H, W], known [N or 1, 1, H, W] of 0 and 1 -> [N, C, H, W]."""
    down, across = plane_parts(image, known)
    return down + across


def plane_parts(image: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
    """What ``plane`` is the sum of: how it goes down, [N, C, H, 1], and how across, [N, C, 1, W].

    The known pixels' mean, and their least-squares plane's slope times the share of their variance that it explains: the whole
    slope for a linear picture, next to none for a usual photograph. 0.5 everywhere where nothing is known. Values in holes do
    not count.
    """
    height, width = image.shape[-2:]
    down = torch.linspace(-1, 1, height, dtype=image.dtype, device=image.device)[:, None]
    across = torch.linspace(-1, 1, width, dtype=image.dtype, device=image.device)
    of_lines, of_columns = known.sum(dim=3, keepdim=True), known.sum(dim=2, keepdim=True)  # the known pixels of each
    count = _sum(of_lines)
    divisor = count.clamp(min=1)
    down_mean, across_mean = _sum(down * of_lines) / divisor, _sum(across * of_columns) / divisor
    v, h = down - down_mean, across - across_mean
    vv, hh = _sum(v * v * of_lines), _sum(h * h * of_columns)
    vh = _sum(v * (known * h).sum(dim=3, keepdim=True))

    values = torch.where(known > 0, image, 0)
    mean = _sum(values) / divisor
    values = values.sub_(mean).mul_(known)
    with_v, with_h = _sum(v * values.sum(dim=3, keepdim=True)), _sum(h * values.sum(dim=2, keepdim=True))
    variance = torch.linalg.vector_norm(values, dim=(2, 3), keepdim=True).square()
    determinant = vv * hh - vh * vh
    solvable = determinant > 1e-6 * vv * hh
    inverse = torch.where(solvable, 1 / torch.where(solvable, determinant, 1), 0)
    slope_v, slope_h = (hh * with_v - vh * with_h) * inverse, (vv * with_h - vh * with_v) * inverse
    explained = slope_v * with_v + slope_h * with_h
    share = torch.where(variance > 0, explained / torch.where(variance > 0, variance, 1), 0).clamp(0, 1)
    return torch.where(count > 0, mean + share * slope_v * v, 0.5), share * slope_h * h


def harmonic_fill(image: Tensor, known: Tensor) -> Tensor:
    """``image`` [N, C, H, W] where ``known`` [N or 1, 1, H, W] is 1, and its harmonic fill where it is 0; H, W multiples of 128.

    At the picture's edge the fill ends level (its normal derivative is 0). 0 where nothing is known. Values in holes do not
    count.
    """
    hole = (known == 0).expand(image.shape[0], -1, -1, -1)
    pictures, holes = [torch.where(hole, 0, image)], [hole]
    for _ in range(LEVELS):
        weight = (~holes[-1]).to(image.dtype)
        share = F.avg_pool2d(weight, 2)
        holes.append(share == 0)
        pictures.append(torch.where(holes[-1], 0, F.avg_pool2d(pictures[-1] * weight, 2) / torch.where(holes[-1], 1, share)))
    known_cells = (~holes[-1]).to(image.dtype)
    mean = _sum(pictures[-1]) / _sum(known_cells).clamp(min=1)
    x = _relaxed(torch.where(holes[-1], mean, pictures[-1]), holes[-1], None, COARSEST_SWEEPS)
    for picture, hole in zip(pictures[-2::-1], holes[-2::-1], strict=True):
        x = _relaxed(torch.where(hole, _upsampled(x), picture), hole, None, FIRST_SWEEPS)
    # A cell of a correction's grid is free where all of the picture's own pixels in it are.
    free = [hole]
    for _ in range(LEVELS):
        free.append(F.max_pool2d((~free[-1]).to(image.dtype), 2) == 0)
    for _ in range(CYCLES):
        x = _cycle(x, torch.zeros_like(x), free)
    return x


def _cycle(x: Tensor, right: Tensor, free: Sequence[Tensor]) -> Tensor:
    """One V-cycle for ``sum of the four neighbours - 4 x = right`` in the free cells of the finest of these grids."""
    here, coarser = free[0], free[1:]
    if not coarser:
        return _relaxed(x, here, right, COARSEST_SWEEPS)
    x = _relaxed(x, here, right, SWEEPS)
    residual = torch.where(here, right - (_neighbours(x) - 4 * x), 0)
    coarse = 4 * F.avg_pool2d(residual, 2)
    correction = _cycle(torch.zeros_like(coarse), torch.where(coarser[0], coarse, 0), coarser)
    return _relaxed(torch.where(here, x + _upsampled(correction), x), here, right, SWEEPS)


def _relaxed(x: Tensor, free: Tensor, right: Tensor | None, sweeps: int) -> Tensor:
    """Gauss-Seidel in the order red, black: each colour of a chessboard at once."""
    height, width = x.shape[-2:]
    rows, columns = torch.arange(height, device=x.device)[:, None], torch.arange(width, device=x.device)
    red = (rows + columns) % 2 == 0
    colours = (free & red, free & ~red)
    for _ in range(sweeps):
        for colour in colours:
            total = _neighbours(x)
            x = torch.where(colour, (total if right is None else total - right) * 0.25, x)
    return x


def _neighbours(x: Tensor) -> Tensor:
    """The sum of the four neighbours; beyond the edge each pixel is its own."""
    y = F.pad(x, (1, 1, 1, 1), mode="replicate")
    return (y[..., :-2, 1:-1] + y[..., 2:, 1:-1]) + (y[..., 1:-1, :-2] + y[..., 1:-1, 2:])


def _upsampled(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)


def _sum(x: Tensor) -> Tensor:
    return x.sum(dim=(2, 3), keepdim=True)
