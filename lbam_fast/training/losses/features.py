"""Terms over features of pictures, of the output and of the composited one (Liu et al., ECCV 2018, L_perceptual and L_style).

Mean absolute differences, as in the published code of LBAM; the paper's text has squared ones.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lbam_fast.training.losses.pixels import composited, widened

Features = Callable[[Tensor], Sequence[Tensor]]
"""Takes pictures [N, 3, H, W] in [0, 1] and gives the feature maps [N, C_i, H_i, W_i] of its layers, as ``VGG16`` does."""


@dataclass(frozen=True)
class Compared:
    """The layers' features of a batch: of the output, of the output with the known pixels pasted, and of the truth."""

    output: Sequence[Tensor]
    pasted: Sequence[Tensor]
    truth: Sequence[Tensor]

    @classmethod
    def of(cls, features: Features, output: Tensor, truth: Tensor, known: Tensor) -> Compared:
        """Of pictures [N, 3, H, W] and ``known`` [N, 1, H, W]; no gradient reaches the truth."""
        both = [widened(x).chunk(2) for x in features(torch.cat([widened(output), composited(output, truth, known)]))]
        with torch.no_grad():
            own = [widened(x) for x in features(truth)]
        return cls([first for first, _ in both], [second for _, second in both], own)


def perceptual(compared: Compared) -> Tensor:
    """The sum over layers and both pictures of the mean absolute difference of features."""
    return _difference(compared.output, compared.truth) + _difference(compared.pasted, compared.truth)


def style(compared: Compared) -> Tensor:
    """The sum over layers and both pictures of the mean absolute difference of Gram matrices."""
    with torch.autocast(compared.truth[0].device.type, enabled=False):
        output, pasted, truth = ([gram_matrix(x) for x in each] for each in (compared.output, compared.pasted, compared.truth))
    return _difference(output, truth) + _difference(pasted, truth)


def gram_matrix(features: Tensor) -> Tensor:
    """[N, C, H, W] -> [N, C, C]: the channels' products, summed over the positions and divided by ``C * H * W``."""
    flat = features.flatten(2)
    return flat @ flat.transpose(1, 2) / (flat.shape[1] * flat.shape[2])


def _difference(one: Sequence[Tensor], other: Sequence[Tensor]) -> Tensor:
    return torch.stack([(x - y).abs().mean() for x, y in zip(one, other, strict=True)]).sum()
