"""How close a filled picture is to the original."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lbam_fast.evaluation.stlpips import STLPIPS, read_weights

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Metric:
    """A function of a picture and its original, both [H, W, 3] uint8, and how to read its values."""

    name: str
    of: Callable[[Pixels, Pixels], float]
    more_is_better: bool
    digits: int
    unit: str = ""


def psnr(picture: Pixels, original: Pixels) -> float:
    """Peak signal-to-noise ratio in dB over all pixels and channels of two uint8 arrays of one shape; infinite if equal."""
    if picture.shape != original.shape or picture.dtype != np.uint8 or original.dtype != np.uint8:
        raise ValueError(
            f"psnr of {picture.dtype}{list(picture.shape)} and {original.dtype}{list(original.shape)}: "
            "expected two uint8 arrays of one shape"
        )
    error = np.mean((picture.astype(np.float64) - original) ** 2)
    return float("inf") if error == 0 else float(10 * np.log10(255**2 / error))


def ssim(picture: Pixels, original: Pixels) -> float:
    """Structural similarity (Wang et al., 2004) of two uint8 arrays [H, W, 3] as in the paper: Gaussian windows of deviation 1.5.

    The mean over pixels and channels, at most 1. Needs scikit-image.
    """
    from skimage.metrics import structural_similarity

    return float(
        structural_similarity(  # type: ignore[no-untyped-call]
            picture,
            original,
            channel_axis=-1,
            data_range=255,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
        )
    )


PSNR = Metric("PSNR", psnr, more_is_better=True, digits=2, unit="dB")
SSIM = Metric("SSIM", ssim, more_is_better=True, digits=4)


def available_metrics(st_lpips: Path | None = None) -> tuple[list[Metric], list[str]]:
    """PSNR, SSIM and ST-LPIPS as far as what they need is there, and a note on each that is left out.

    st_lpips: see ``read_weights``.
    """
    metrics, notes = [PSNR], []
    if find_spec("skimage"):
        metrics.append(SSIM)
    else:
        notes.append("SSIM is left out, as scikit-image is not installed: pip install 'lbam-fast[evaluation]'")
    try:
        metrics.append(Metric("ST-LPIPS", STLPIPS(read_weights(st_lpips)), more_is_better=False, digits=4))
    except FileNotFoundError as error:
        notes.append(f"ST-LPIPS is left out: {error}")
    return metrics, notes
