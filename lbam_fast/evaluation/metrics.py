"""How close a filled picture is to the original."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from lbam_fast.evaluation.fetched import LPIPS, lpips_needs
from lbam_fast.evaluation.stlpips import STLPIPS, read_weights

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Metric:
    """A function of a picture and its original, both [H, W, 3] uint8, and how to read its values.

    in_hole: the function gets the pixels of the hole alone, [K, 3].
    """

    name: str
    of: Callable[[Pixels, Pixels], float]
    more_is_better: bool
    digits: int
    unit: str = ""
    in_hole: bool = False

    def value(self, picture: Pixels, original: Pixels, mask: Pixels) -> float:
        """Of a picture filled where ``mask`` [H, W] is above 0."""
        return self.of(picture[mask > 0], original[mask > 0]) if self.in_hole else self.of(picture, original)


def psnr(picture: Pixels, original: Pixels) -> float:
    """scikit-image's peak signal-to-noise ratio in dB over all values of two uint8 arrays of one shape; infinite if equal."""
    from skimage.metrics import peak_signal_noise_ratio

    if picture.shape != original.shape or picture.dtype != np.uint8 or original.dtype != np.uint8:
        raise ValueError(
            f"psnr of {picture.dtype}{list(picture.shape)} and {original.dtype}{list(original.shape)}: "
            "expected two uint8 arrays of one shape"
        )
    with np.errstate(divide="ignore"):
        return float(peak_signal_noise_ratio(original, picture, data_range=255))  # type: ignore[no-untyped-call]


def mean_l1(picture: Pixels, original: Pixels) -> float:
    """torchmetrics' mean absolute error of two uint8 arrays of one shape, in percent of 255."""
    from torchmetrics.functional import mean_absolute_error

    found, wanted = (torch.from_numpy(each.astype(np.float64)) for each in (picture, original))
    return 100 / 255 * float(mean_absolute_error(found, wanted))


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
L1 = Metric("L1", mean_l1, more_is_better=False, digits=2, unit="%")
L1_IN_HOLE = Metric("L1 in holes", mean_l1, more_is_better=False, digits=2, unit="%", in_hole=True)
_NEEDED = (("scikit-image", "skimage", (PSNR, SSIM)), ("torchmetrics", "torchmetrics", (L1, L1_IN_HOLE)))


def available_metrics(st_lpips: Path | None = None) -> tuple[list[Metric], list[str]]:
    """All metrics as far as what they need is there, and a note on each that is left out.

    st_lpips: see ``read_weights``.
    """
    metrics: list[Metric] = []
    notes = []
    for package, module, needing in _NEEDED:
        if find_spec(module):
            metrics += needing
        else:
            names = " and ".join(metric.name for metric in needing)
            notes.append(f"{names} are left out, as {package} is not installed: pip install 'lbam-fast[evaluation]'")
    if missing := lpips_needs():
        notes.append(f"LPIPS is left out: {missing}")
    else:
        metrics.append(Metric("LPIPS", LPIPS(), more_is_better=False, digits=4))
    try:
        metrics.append(Metric("ST-LPIPS", STLPIPS(read_weights(st_lpips)), more_is_better=False, digits=4))
    except FileNotFoundError as error:
        notes.append(f"ST-LPIPS is left out: {error}")
    return metrics, notes
