"""The generator made of fused ops, for training: no concatenated tensor, no stored map. ``lbam_fast.reference`` specifies it.

Without BatchNorm a skip is the encoder's own output; with it, the same features and ``m`` under the decoder's scale and shift.
For backward, layers keep their features and ``m`` beside the convolutions' inputs; all else is computed again.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping

import torch
from torch import Tensor

from lbam_fast import ops
from lbam_fast.config import LBAMConfig
from lbam_fast.model.parameters import EVERYTHING, FORWARD, REVERSE, Parameters, folded
from lbam_fast.ops import Affine, Wanted
from lbam_fast.reference import LEAKY_SLOPE, LEVELS, output_form

MOMENTUM = 0.1
"""Of BatchNorm, PyTorch's own."""

_Statistics = tuple[Tensor, Tensor, int]
"""Mean and biased variance per channel, and the number of values behind each."""


def covers(config: LBAMConfig) -> bool:
    """Whether the network can be made of the fused ops."""
    return config.attention == "gaussian" and config.mask_kernel_size == 4 and config.reverse


class FusedGenerator:
    """One differentiable pass of the network on a state dict in the modules' names."""

    def __init__(self, state: Mapping[str, Tensor], config: LBAMConfig, training: bool) -> None:
        self._state, self._config, self._training = state, config, training
        self._parameters = Parameters(state, config)

    def inpaint(self, x: Tensor, mask: Tensor, needed: Tensor | None = None, mask_key: Hashable = None) -> Tensor:
        """x [N, C, H, W] and its mask [N or 1, 1 or 3, H, W] -> [N, 3, H, W] in [0, 1]: all of it, and all anew."""
        if mask.shape[0] != x.shape[0]:
            mask = mask.expand(x.shape[0], -1, -1, -1)
        u, skips = mask, []
        for level in range(1, LEVELS + 1):
            x, u, skip = self._encode(level, x, u, update=level < LEVELS)
            skips.append(skip)
        return self._decode(x, skips, self._reverse(1 - mask))

    def _encode(self, level: int, x: Tensor, u: Tensor, update: bool) -> tuple[Tensor, Tensor, Tensor]:
        """The layer's output, the updated mask if it is wanted, and the skip for the decoder."""
        own = self._parameters
        weight, mask_weight = self._state[f"ec{level}.conv.conv.weight"], own.mask_filter(FORWARD.filter(level), u)
        gate, statistics = own.gate(FORWARD.prefix(level)), None
        if not self._config.batch_norm:
            y, new, _, _ = ops.encode(x, u, weight, mask_weight, gate, Affine(slope=LEAKY_SLOPE), Wanted(update, True), None)
            return y, new, y
        if self._training:
            features, m, mean, variance = ops.encode_with_statistics(x, u, weight, mask_weight, gate.scalars)
            statistics = mean, variance, _values(features)
            y, new = ops.attend(features, m, gate, self._norm(f"ec{level}.bn", statistics), update)
        else:
            y, new, features, m = ops.encode(
                x, u, weight, mask_weight, gate, own.norm(f"ec{level}.bn"), Wanted(update, True), None
            )
        if not update:
            return y, new, y  # the last layer's output is nobody's skip
        skip_norm = self._norm(f"dc{LEVELS - level}.bn", statistics, own.half(level, of_skip=True))
        return y, new, ops.attend(features, m, gate, skip_norm, False)[0]

    def _reverse(self, u: Tensor) -> list[Tensor]:
        """Of every layer of the reverse chain ``m``."""
        found = []
        for level in range(1, LEVELS):
            weight, gate = self._parameters.mask_filter(REVERSE.filter(level), u), self._parameters.gate(REVERSE.prefix(level))
            _, u, m = ops.mask_step(u, weight, gate, Wanted(level < LEVELS - 1, True), None)
            found.append(m)
        return found

    def _decode(self, x: Tensor, skips: list[Tensor], reverse: list[Tensor]) -> Tensor:
        own, skip = self._parameters, None
        for i in range(1, LEVELS):
            level, m = LEVELS - i, reverse[LEVELS - 1 - i]
            weights, gate, statistics = own.filter_halves(f"dc{i}.conv.weight", skip), own.gate(REVERSE.prefix(level)), None
            if self._training and self._config.batch_norm:
                features, mean, variance = ops.decode_with_statistics(skip, x, *weights, m, gate.scalars)
                statistics = mean, variance, _values(features)
            else:
                features = ops.deconvolution(skip, x, *weights)
            x, _ = ops.attend(features, m, gate, self._norm(f"dc{i}.bn", statistics, own.half(level, of_skip=False)), False)
            skip = skips[level - 1]
        return output_form(ops.deconvolution(skip, x, *own.filter_halves("dc7.weight", skip)), self._config.output)

    def _norm(self, prefix: str, statistics: _Statistics | None, part: slice = EVERYTHING) -> Affine:
        """A BatchNorm's part by the batch's statistics, which the running ones then follow; without them by the running ones."""
        if statistics is None or f"{prefix}.weight" not in self._state:
            return self._parameters.norm(prefix, part)
        weight, bias, running_mean, running_variance = self._parameters.norm_values(prefix, part)
        mean, variance, count = statistics
        if count == 1:
            raise ValueError("BatchNorm in training needs more than one value per channel: use larger images or batches")
        with torch.no_grad():
            running_mean.lerp_(mean.to(running_mean.dtype), MOMENTUM)
            running_variance.lerp_((variance * (count / (count - 1))).to(running_variance.dtype), MOMENTUM)
            if part.start is None:
                self._state[f"{prefix}.num_batches_tracked"].add_(1)
        return Affine(*folded(weight, bias, mean, variance), LEAKY_SLOPE)


def _values(features: Tensor) -> int:
    """Per channel."""
    return features.numel() // features.shape[1]
