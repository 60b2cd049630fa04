"""Methods without learning that fill holes: what a network has to be better than."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec

import cv2
import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
Method = Callable[[Pixels, Pixels], Pixels]
"""Takes a picture [H, W, 3] and a mask [H, W] with 255 = hole, gives the filled picture with all other pixels as they were."""


def harmonic(picture: Pixels, mask: Pixels) -> Pixels:
    """The solution of Laplace's equation (5 points) in the hole: known pixels fix it, no flow crosses the picture's edge.

    Raises ValueError where the whole picture is hole.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.linalg import splu

    hole = mask > 0
    if hole.all():
        raise ValueError("the whole picture is hole: nothing fixes the harmonic solution")
    count = int(hole.sum())
    number = np.full(hole.shape, -1)
    number[hole] = np.arange(count)
    neighbours = np.zeros(count)
    sums = np.zeros((count, 3))
    pairs = []
    for step in (1, -1):
        for axis in (0, 1):
            here, there = _neighbours(hole.shape, axis, step)
            inside = hole[here]
            centre, other = number[here][inside], number[there][inside]
            neighbours[centre] += 1
            known = other < 0
            sums[centre[known]] += picture[there][inside][known]
            pairs.append(np.stack([centre, other])[:, ~known])
    rows, columns = np.concatenate(pairs, axis=1)
    diagonal = np.arange(count)
    laplacian = coo_array(
        (
            np.concatenate([neighbours, np.full(len(rows), -1.0)]),
            (np.concatenate([diagonal, rows]), np.concatenate([diagonal, columns])),
        ),
        shape=(count, count),
    ).tocsc()
    factors = splu(laplacian, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options={"SymmetricMode": True})
    filled = picture.copy()
    filled[hole] = np.rint(factors.solve(sums)).clip(0, 255)
    return filled


def _neighbours(shape: tuple[int, ...], axis: int, step: int) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Windows of all pixels that have a neighbour ``step`` away along ``axis``, and of these neighbours."""
    inner, shifted = [slice(None), slice(None)], [slice(None), slice(None)]
    inner[axis], shifted[axis] = (slice(None, -1), slice(1, None)) if step > 0 else (slice(1, None), slice(None, -1))
    return (inner[0], inner[1]), (shifted[0], shifted[1])
