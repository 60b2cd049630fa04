"""Methods without learning that fill holes: what a network has to be better than."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from importlib.util import find_spec
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
Method = Callable[[Pixels, Pixels], Pixels]
"""Takes a picture [H, W, 3] and a mask [H, W] with 255 = hole, gives the filled picture with all other pixels as they were."""

# The best on the set to decide with, by the mean over all rows of the PSNR in dB, two masks a picture (PyPatchMatch: one):
# radius            1      2      3      5      8      12     16
# Telea             26.56  26.73  26.81  26.90  26.96  26.97  26.93
# Navier-Stokes     26.86  26.80  26.84  26.89  26.95  27.00
# PyPatchMatch                    27.04  26.92
TELEA_RADIUS = 12
NAVIER_STOKES_RADIUS = 12
PATCH_RADIUS = 3


def harmonic(picture: Pixels, mask: Pixels) -> Pixels:
    """The solution of Laplace's equation (5 points) in the hole: known pixels fix it, no flow crosses the picture's edge.

    Raises ValueError where the whole picture is hole.
    """
    filled = picture.copy()
    filled[mask > 0] = np.rint(harmonic_values(picture, mask > 0)).clip(0, 255)
    return filled


def harmonic_values(values: NDArray[Any], hole: NDArray[np.bool_]) -> NDArray[np.float64]:
    """The same for values [H, W, C] of any kind, in float64: the solution at the hole's pixels [count, C], in their order."""
    from scipy.sparse import coo_array
    from scipy.sparse.linalg import splu

    if hole.all():
        raise ValueError("the whole picture is hole: nothing fixes the harmonic solution")
    count = int(hole.sum())
    number = np.full(hole.shape, -1)
    number[hole] = np.arange(count)
    neighbours = np.zeros(count)
    sums = np.zeros((count, values.shape[2]))
    pairs = []
    for step in (1, -1):
        for axis in (0, 1):
            here, there = _neighbours(hole.shape, axis, step)
            inside = hole[here]
            centre, other = number[here][inside], number[there][inside]
            neighbours[centre] += 1
            known = other < 0
            sums[centre[known]] += values[there][inside][known]
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
    solution: NDArray[np.float64] = factors.solve(sums)
    return solution


def _neighbours(shape: tuple[int, ...], axis: int, step: int) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Windows of all pixels that have a neighbour ``step`` away along ``axis``, and of these neighbours."""
    inner, shifted = [slice(None), slice(None)], [slice(None), slice(None)]
    inner[axis], shifted[axis] = (slice(None, -1), slice(1, None)) if step > 0 else (slice(1, None), slice(None, -1))
    return (inner[0], inner[1]), (shifted[0], shifted[1])


def biharmonic(picture: Pixels, mask: Pixels) -> Pixels:
    """scikit-image's solution of the biharmonic equation in the hole (Damelin and Hoang, 2018)."""
    from skimage.restoration import inpaint_biharmonic

    solution = inpaint_biharmonic(picture, mask > 0, channel_axis=-1)
    return _pasted(picture, mask, np.rint(255 * solution.clip(0, 1)).astype(np.uint8))


def telea(picture: Pixels, mask: Pixels) -> Pixels:
    """OpenCV's fast marching (Telea, 2004)."""
    return _pasted(picture, mask, cv2.inpaint(picture, mask, TELEA_RADIUS, cv2.INPAINT_TELEA))


def navier_stokes(picture: Pixels, mask: Pixels) -> Pixels:
    """OpenCV's method after fluid dynamics (Bertalmio, Bertozzi and Sapiro, 2001)."""
    return _pasted(picture, mask, cv2.inpaint(picture, mask, NAVIER_STOKES_RADIUS, cv2.INPAINT_NS))


def patch_match(picture: Pixels, mask: Pixels) -> Pixels:
    """PyPatchMatch: patches from elsewhere in the picture (Barnes et al., 2009; Wexler et al., 2007), from a fixed seed."""
    import patchmatch

    patchmatch.set_random_seed(0)
    return _pasted(picture, mask, patchmatch.inpaint(picture, mask, patch_size=PATCH_RADIUS))


RIVALS: dict[str, Method] = {
    "harmonic": harmonic,
    "biharmonic": biharmonic,
    "Telea": telea,
    "Navier-Stokes": navier_stokes,
    "PatchMatch": patch_match,
}
_NEEDED = {"harmonic": "scipy", "biharmonic": "skimage", "PatchMatch": "patchmatch"}


def available_rivals(names: Iterable[str] = RIVALS) -> tuple[dict[str, Method], list[str]]:
    """Those of ``names`` whose packages are installed, and a note on each that is left out."""
    methods: dict[str, Method] = {}
    notes = []
    for name in names:
        if name in _NEEDED and find_spec(_NEEDED[name]) is None:
            notes.append(f"{name} is left out, as {_NEEDED[name]} is not installed: pip install 'lbam-fast[evaluation]'")
        else:
            methods[name] = RIVALS[name]
    return methods, notes


def _pasted(picture: Pixels, mask: Pixels, filled: NDArray[Any]) -> Pixels:
    return np.where(mask[..., None] > 0, filled, picture)
