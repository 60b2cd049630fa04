"""Pictures padded to sizes that the network takes, by repeated reflection below and on the right, as ``numpy.pad`` does it."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from lbam_fast.inference.memory import padded_size
from lbam_fast.reference import plane, plane_parts


def padded(x: Tensor) -> Tensor:
    """[..., H, W] with H and W multiples of 128."""
    whole = x.new_empty(*x.shape[:-2], *padded_size(*x.shape[-2:]))
    put_padded(whole, x)
    return whole


def put_padded(whole: Tensor, x: Tensor) -> None:
    """``whole[:] = padded(x)``, which has its shape or a smaller height and width."""
    height, width = x.shape[-2:]
    whole[..., :height, :width] = x
    for axis, size in ((-1, width), (-2, height)):  # the picture's own lines first, then whole ones
        part = whole[..., :height, :] if axis == -1 else whole
        lines = _reflection(size, whole.shape[axis], x.device)[size:]
        part.narrow(axis, size, len(lines)).copy_(part.index_select(axis, lines))


def put_trend(whole: Tensor, image: Tensor, known: Tensor, window: int | None) -> None:
    """``whole[:] = padded(plane(image, known))``, all [C, H, W]; with a window, in each square of that side by itself."""
    if window is not None:
        put_padded(whole, _windowed_plane(image[None], known[None], window)[0])
        return
    parts = zip(plane_parts(image[None], known[None]), (-2, -1), strict=True)
    down, across = (x[0].index_select(axis, _reflection(x.shape[axis], whole.shape[axis], x.device)) for x, axis in parts)
    whole.copy_(down).add_(across)


def _windowed_plane(image: Tensor, known: Tensor, window: int) -> Tensor:
    """The trend of [N, C, H, W] in each square of that side by itself; H and W are multiples of it."""
    count, _, height, width = image.shape

    def apart(x: Tensor) -> Tensor:  # -> [N * rows * columns, C, window, window]
        squares = x.unfold(2, window, window).unfold(3, window, window)
        return squares.permute(0, 2, 3, 1, 4, 5).flatten(0, 2)

    trend = plane(apart(image), apart(known))
    rows, columns = height // window, width // window
    apart_again = trend.reshape(count, rows, columns, -1, window, window)
    return apart_again.permute(0, 3, 1, 4, 2, 5).reshape(count, -1, height, width)


def _reflection(size: int, padded_size: int, device: torch.device) -> Tensor:
    """Which of ``size`` lines each line of the padded picture is."""
    return torch.from_numpy(np.pad(np.arange(size), (0, padded_size - size), mode="reflect")).to(device)
