"""What a training minimises, term by term. Pictures are [N, 3, H, W] in [0, 1], masks [N, 1, H, W] with 1 = known.

``docs/losses.md`` has every term with its formula, source and weight.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from torch import Tensor

from lbam_fast.errors import LBAMError
from lbam_fast.training.losses.features import Compared, Features, gram_matrix, perceptual, style
from lbam_fast.training.losses.pixels import hole_error, log_squared_error, relative_error, total_variation, valid_error
from lbam_fast.training.losses.vgg import VGG16, FeaturesError, load_vgg16

__all__ = [
    "NAMES",
    "NEED_BASE",
    "NEED_FEATURES",
    "VGG16",
    "WEIGHTS",
    "FeaturesError",
    "LossError",
    "gram_matrix",
    "load_vgg16",
    "log_squared_error",
    "reconstruction_loss",
    "relative_error",
    "terms",
]

WEIGHTS = {
    "hole": 6.0,
    "valid": 1.0,
    "log_squared": 0.0,
    "relative": 0.0,
    "total_variation": 0.0,
    "perceptual": 0.01,
    "style": 120.0,
    "adversarial": 0.1,
    "penalty": 10.0,
}
"""Of every term, as in the published code (Vious/LBAM_Pytorch, loss/InpaintingLoss.py); 0: it has no such term."""

_OVER_PIXELS: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "hole": hole_error,
    "valid": valid_error,
    "log_squared": log_squared_error,
    "total_variation": total_variation,
}
_OVER_FEATURES: dict[str, Callable[[Compared], Tensor]] = {"perceptual": perceptual, "style": style}
NEED_FEATURES = tuple(_OVER_FEATURES)
"""Terms for which ``terms`` has to be given ``features``."""
NEED_BASE = ("relative",)
"""Terms for which ``terms`` has to be given ``base``."""
NAMES = (*_OVER_PIXELS, *NEED_BASE, *NEED_FEATURES)
"""What ``terms`` knows."""


class LossError(LBAMError, ValueError):
    """Terms that are unknown, or lack what they need; the message says what."""


def terms(
    names: Iterable[str],
    output: Tensor,
    truth: Tensor,
    known: Tensor,
    features: Features | None = None,
    base: Tensor | None = None,
) -> dict[str, Tensor]:
    """The terms of those names, scalars without their weights, in float32 (float64 of float64).

    output, truth  [N, 3, H, W] in [0, 1]: the network's, not pasted, in any floating dtype, and the picture itself
    known          [N, 1, H, W], 1 = known
    features       for "perceptual" and "style": ``load_vgg16()``, or any function of pictures that gives layers of features;
                   it is called once for both
    base           [N, 3, H, W], for "relative": the fill that the error is relative to

    Raises LossError for an unknown name, or where ``features`` or ``base`` is needed and missing.
    """
    names = tuple(names)
    if unknown := [name for name in names if name not in NAMES]:
        raise LossError(f"there is no loss {', '.join(map(repr, unknown))}; the terms are {', '.join(NAMES)}")
    compared = None
    if any(name in NEED_FEATURES for name in names):
        if features is None:
            raise LossError("perceptual and style need features: load_vgg16(), or do without by perceptual=0 style=0")
        compared = Compared.of(features, output, truth, known)
    found = {}
    for name in names:
        if name in _OVER_PIXELS:
            found[name] = _OVER_PIXELS[name](output, truth, known)
        elif compared is not None and name in _OVER_FEATURES:
            found[name] = _OVER_FEATURES[name](compared)
        elif base is None:
            raise LossError("relative needs a base, the fill that the error is relative to")
        else:
            found[name] = relative_error(output, truth, known, base)
    return found


def reconstruction_loss(output: Tensor, truth: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
    """(hole, valid): the mean absolute errors of ``terms``."""
    return hole_error(output, truth, known), valid_error(output, truth, known)
