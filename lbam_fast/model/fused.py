"""The generator made of fused ops: no concatenated tensor, no stored map. Equal to ``lbam_fast.reference``, which specifies it.

Without BatchNorm a skip is the encoder's own output; with it, the same features and ``m`` under the decoder's scale and shift.
For backward, layers keep their features and ``m`` beside the convolutions' inputs; all else is computed again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from lbam_fast import ops
from lbam_fast.config import LBAMConfig
from lbam_fast.ops.eager import widened
from lbam_fast.reference import LEAKY_SLOPE, LEVELS, AttentionMaps, clamped, output_form

EPSILON, MOMENTUM = 1e-5, 0.1
"""Of BatchNorm, PyTorch's own."""

Affine = tuple[Tensor | None, Tensor | None]
Statistics = tuple[Tensor, Tensor, int]
"""Mean and biased variance per channel, and the number of values behind each."""
Skip = Tensor | Callable[[], Tensor]
"""An encoder layer's output for the decoder, or what makes it again."""

NO_AFFINE: Affine = (None, None)
NO_REGIONS = (None, None, None)
_FORWARD, _REVERSE = ("ec{}.conv.", "maskConv.weight"), ("reverseConv{}.", "reverseMaskConv.weight")
"""The mask chains in the modules' names: a layer's prefix, and its filter's name."""
EVERYTHING = slice(None)
SMALL = 1 << 17
"""Pixels of a call on a CPU up to which its kernels are recorded and played again."""
LARGE = {torch.float32: 1 << 20, torch.bfloat16: 1 << 22}
"""Pixels of a call on a CPU, by its dtype, from which memory is spared at the cost of a little time."""


def covers(config: LBAMConfig) -> bool:
    """Whether the network can be made of the fused ops."""
    return config.attention == "gaussian" and config.mask_kernel_size == 4 and config.reverse


def _regions(tracker: ops.Tracker | None) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """What the next level may skip."""
    return NO_REGIONS if tracker is None else tracker.step()


def _folded(weight: Tensor, bias: Tensor, mean: Tensor, variance: Tensor) -> tuple[Tensor, Tensor]:
    """Scale and shift of a BatchNorm."""
    scale = widened(weight) * torch.rsqrt(widened(variance) + EPSILON)
    return scale, widened(bias) - widened(mean) * scale


def _values(features: Tensor) -> int:
    """Per channel."""
    return features.numel() // features.shape[1]


class FusedGenerator:
    """One pass of the network on a state dict in the modules' names, for those inputs."""

    def __init__(self, state: Mapping[str, Tensor], config: LBAMConfig, training: bool, *inputs: Tensor) -> None:
        self.state, self.config, self.training = state, config, training
        differentiable = torch.is_grad_enabled() and any(x.requires_grad for x in (*state.values(), *inputs))
        self.keep = differentiable or training
        """Whether layers keep ``m`` rather than maps: for gradients, and for BatchNorm's statistics."""
        self.reuse = not self.keep and state["dc7.weight"].device.type == "cpu"
        """Whether what is made of parameters is kept for the next call: a GPU makes it while it waits for work anyway."""
        last = state["dc7.weight"]
        own_kernels = not ops.traced() and ops.chosen(last.device, ops.working_dtype(last)) == ops.CPU
        self.over_maps = own_kernels and not self.keep
        """Whether results may take the memory of maps that nobody else has."""
        self.layers: Any = ops.on_cpu if self.over_maps else ops
        """Whose functions run the layers: the CPU's kernels at once, or the ops, which choose and cast."""
        self.large = LARGE[ops.working_dtype(last)] if self.over_maps else None

    def inpaint(self, x: Tensor, mask: Tensor) -> Tensor:
        """x [N, 3 or 4, H, W] and its mask [N or 1, 1 or 3, H, W] -> [N, 3, H, W] in [0, 1]; differentiable."""
        run = self._inpaint
        if not self.keep and (mask.shape[0] != x.shape[0] or (self.config.batch_norm and self.reuse)):
            run = self._inpaint_by_maps
        elif mask.shape[0] != x.shape[0]:
            mask = mask.expand(x.shape[0], -1, -1, -1)
        return self._played("inpaint", (), (x, mask, 1 - mask), run)

    def _inpaint_by_maps(self, x: Tensor, mask: Tensor, holes: Tensor) -> Tensor:
        with self._sparing(x):
            maps = self._maps(mask, holes)
        return self._generate(x, maps)

    def _inpaint(self, x: Tensor, mask: Tensor, holes: Tensor) -> Tensor:
        with self._sparing(x):
            first, u, tracker = x, mask, self._tracker(mask, _FORWARD, LEVELS)
            skips: list[Skip] = []
            for level in range(1, LEVELS + 1):
                x, u, skip = self._encode(level, x, u, tracker, update=level < LEVELS)
                skips.append(skip)
                del skip
                if self.lean and level == 1:
                    skips = [lambda: self._encode(1, first, mask, self._tracker(mask, _FORWARD, 1), update=False)[0]]
            del u
            return self._decode(x, skips, self._from_coarsest(holes), self.over_maps)

    def _played(self, name: str, maps: Sequence[Tensor], inputs: Sequence[Tensor], run: Callable[..., Tensor]) -> Tensor:
        """``run(*inputs)``; for small pictures on the CPU's kernels as recorded before. It reads the maps too."""
        inputs = [self._ready(x) for x in inputs]
        with self._cast_already():
            if self.over_maps and inputs[0].shape[0] * inputs[0].shape[2] * inputs[0].shape[3] <= SMALL:
                return ops.played((name, self.config), tuple(self.state.values()), maps, inputs, run)
            return run(*inputs)

    def _ready(self, x: Tensor) -> Tensor:
        """An input as the CPU's kernels take it; for the ops, which cast by themselves, as it is."""
        return x.to(ops.working_dtype(x)).contiguous(memory_format=torch.channels_last) if self.over_maps else x

    def _cast_already(self) -> AbstractContextManager[object]:
        return torch.autocast("cpu", enabled=False) if self.over_maps else nullcontext()

    def attention_maps(self, mask: Tensor) -> AttentionMaps:
        """Both chains' maps; only without gradients."""
        with self._sparing(mask), self._cast_already():
            return replace(self._maps(self._ready(mask), self._ready(1 - mask)), mask=mask)

    def _maps(self, mask: Tensor, holes: Tensor) -> AttentionMaps:
        forward = self._chain(mask, _FORWARD, LEVELS, keep=False)
        return AttentionMaps(mask, tuple(forward), tuple(self._chain(holes, _REVERSE, LEVELS - 1, keep=False)))

    def generate(self, x: Tensor, maps: AttentionMaps) -> Tensor:
        """The image network under maps that are known; only without gradients and in ``eval()``."""
        return self._played("generate", (*maps.forward, *maps.reverse), (x,), lambda x: self._generate(x, maps))

    def _generate(self, x: Tensor, maps: AttentionMaps) -> Tensor:
        with self._sparing(x):
            skips: list[Skip] = []
            for level, attention in enumerate(maps.forward, start=1):
                weight = self.state[f"ec{level}.conv.conv.weight"]
                y = skip = self.layers.features_with_map(x, weight, attention, *self._batch_norm(f"ec{level}.bn"), LEAKY_SLOPE)
                if self.config.batch_norm and level < LEVELS:
                    skip = self.layers.features_with_map(x, weight, attention, *self._skip_batch_norm(level), LEAKY_SLOPE)
                skips.append(skip)
                x = y
            return self._decode(x, skips, reversed(maps.reverse))

    def _sparing(self, x: Tensor) -> AbstractContextManager[None]:
        """If ``x`` is large, filters are packed anew for each use, and the largest map and skip made when their turn comes."""
        self.lean = self.large is not None and x.shape[0] * x.shape[2] * x.shape[3] >= self.large
        return ops.sparing(True) if self.lean else nullcontext()

    def _encode(
        self, level: int, x: Tensor, u: Tensor, tracker: ops.Tracker | None, update: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The layer's output, the updated mask if it is wanted, and the skip for the decoder."""
        prefix = f"ec{level}.conv."
        weight, mask_weight = self.state[f"{prefix}conv.weight"], self._mask_filter(prefix + _FORWARD[1], u)
        scalars, alpha = self._scalars(prefix), self._alpha(prefix)
        regions = _regions(tracker)
        if not self.config.batch_norm:
            y, new, _, _ = self.layers.forward_attention(
                x, u, weight, mask_weight, scalars, alpha, *NO_AFFINE, LEAKY_SLOPE, update, self.keep, *regions
            )
            return y, new, y
        if self.training:
            features, m, mean, variance = ops.forward_statistics(x, u, weight, mask_weight, scalars)
            statistics = mean, variance, _values(features)
            y, new = ops.attend(features, m, scalars, alpha, *self._batch_norm(f"ec{level}.bn", statistics), LEAKY_SLOPE, update)
        else:
            statistics = None
            affine = self._batch_norm(f"ec{level}.bn")
            y, new, features, m = self.layers.forward_attention(
                x, u, weight, mask_weight, scalars, alpha, *affine, LEAKY_SLOPE, update, True, *regions
            )
        if not update:
            return y, new, y  # the last layer's output is nobody's skip
        skip, _ = ops.attend(features, m, scalars, alpha, *self._skip_batch_norm(level, statistics), LEAKY_SLOPE, False)
        return y, new, skip

    def _chain(self, u: Tensor, names: tuple[str, str], depth: int, keep: bool, finest: bool = True) -> list[Tensor]:
        """Of every layer the map or, with ``keep``, ``m``; of the first only if the ``finest`` is wanted."""
        found, tracker = [], self._tracker(u, names, depth)
        for level in range(1, depth + 1):
            prefix = names[0].format(level)
            weight, regions = self._mask_filter(prefix + names[1], u), _regions(tracker)
            given = self._scalars(prefix), self._alpha(prefix)
            if level == 1 and not finest:
                _, u, _ = self.layers.mask_attention(u, weight, *given, True, False, *regions, mapped=False)
                continue
            attention, u, m = self.layers.mask_attention(u, weight, *given, level < depth, keep, *regions)
            found.append(m if keep else attention)
            del attention, m
        return found

    def _from_coarsest(self, u: Tensor) -> Iterator[Tensor]:
        """What the reverse ``_chain`` of ``u`` finds, the coarsest first, each given away; the finest is made last where memory
        is spared."""
        found = self._chain(u, _REVERSE, LEVELS - 1, self.keep, finest=not self.lean)
        while found:
            yield found.pop()
        if self.lean:
            yield self._chain(u, _REVERSE, 1, keep=False)[0]

    def _decode(self, x: Tensor, skips: list[Skip], reverse: Iterator[Tensor], over_maps: bool = False) -> Tensor:
        """``reverse``: the reverse chain's maps or, with ``keep``, its ``m``; the coarsest first. The skips are used up."""
        layer = partial(self.layers.reverse_attention, over_map=True) if over_maps else self.layers.reverse_attention
        skips.pop()  # x itself
        skip = None
        for i in range(1, LEVELS):
            level, attention = LEVELS - i, next(reverse)
            weights = self._filter_halves(f"dc{i}.conv.weight", skip)
            own = self._half(level, of_skip=False)
            if self.keep:
                prefix, m = f"reverseConv{level}.", attention
                scalars, statistics = self._scalars(prefix), None
                if self.training and self.config.batch_norm:
                    features, mean, variance = ops.reverse_statistics(skip, x, *weights, m, scalars)
                    statistics = mean, variance, _values(features)
                else:
                    features = ops.deconvolution(skip, x, *weights)
                affine = self._batch_norm(f"dc{i}.bn", statistics, own)
                x, _ = ops.attend(features, m, scalars, self._alpha(prefix), *affine, LEAKY_SLOPE, False)
            else:
                affine = self._batch_norm(f"dc{i}.bn", None, own)
                x = layer(skip, x, *weights, attention, *affine, LEAKY_SLOPE)
            del attention
            skip, last = None, skips.pop()
            skip = last if isinstance(last, Tensor) else last()
        weights = self._filter_halves("dc7.weight", skip)
        if self.keep:
            return output_form(ops.deconvolution(skip, x, *weights), self.config.output)
        output: Tensor = self.layers.reconstruct(skip, x, *weights, self.config.output, None, None)
        return output

    def _tracker(self, u: Tensor, names: tuple[str, str], depth: int) -> ops.Tracker | None:
        """Follows a chain that begins with ``u`` where that pays; not where gradients are wanted."""
        if self.keep or not ops.skips(u):
            return None
        prefixes = [names[0].format(level) for level in range(1, depth + 1)]
        filters = [self._mask_filter(prefixes[0] + names[1], u), *(self.state[prefix + names[1]] for prefix in prefixes[1:])]
        return ops.Tracker(u, filters, [self._alpha(prefix) for prefix in prefixes], ops.working_dtype(u))

    def _scalars(self, prefix: str) -> Tensor:
        config = self.config
        ranges = {"a": config.a_range, "mu": config.mu_range, "sigma1": config.gamma_range, "sigma2": config.gamma_range}

        def stacked(*values: Tensor) -> Tensor:
            return widened(torch.stack([clamped(x, bounds) for x, bounds in zip(values, ranges.values(), strict=True)]))

        return self._made(f"scalars in {ranges}", stacked, *(self.state[f"{prefix}activationFuncG_A.{name}"] for name in ranges))

    def _alpha(self, prefix: str) -> Tensor:
        learned = self.state.get(f"{prefix}updateMask.alpha")
        if self.config.alpha_range is None or learned is None:
            last = self.state["dc7.weight"]
            dtype = torch.promote_types(last.dtype, torch.float32)
            return self._made(
                f"alpha {self.config.alpha}", lambda x: torch.full((), self.config.alpha, dtype=dtype, device=x.device), last
            )
        bounds = self.config.alpha_range
        return self._made(f"alpha in {bounds}", lambda x: widened(clamped(x, bounds)), learned)

    def _made(self, kind: str, make: Callable[..., Tensor], *parameters: Tensor) -> Tensor:
        """``make(*parameters)``, kept for the next call where nothing is learned from it."""
        return ops.prepared(kind, make, *parameters) if self.reuse else make(*parameters)

    def _mask_filter(self, name: str, u: Tensor) -> Tensor:
        """The filter; where ``u`` is one channel for three equal ones, summed over them."""
        weight = self.state[name]
        if u.shape[1] == weight.shape[1]:
            return weight
        return self._made("sum over the inputs", lambda x: x.sum(dim=1, keepdim=True), weight)

    def _filter_halves(self, name: str, skip: Tensor | None) -> tuple[Tensor | None, Tensor]:
        """A decoder filter's rows for the skip and for the layer's own input."""
        weight = self.state[name]
        if skip is None:
            return None, weight
        first, second = torch.split(weight, [skip.shape[1], weight.shape[0] - skip.shape[1]])
        return (first, second) if self.config.skip_first else (second, first)

    def _half(self, level: int, of_skip: bool) -> slice:
        """The channels of one half in the decoder's BatchNorm at that level."""
        channels = self.config.channels[level - 1]
        return slice(channels) if of_skip == self.config.skip_first else slice(channels, None)

    def _skip_batch_norm(self, level: int, statistics: Statistics | None = None) -> Affine:
        """The decoder's BatchNorm of the features that it reads at that level."""
        return self._batch_norm(f"dc{LEVELS - level}.bn", statistics, self._half(level, of_skip=True))

    def _batch_norm(self, prefix: str, statistics: Statistics | None = None, part: slice = EVERYTHING) -> Affine:
        """Scale and shift of that part of a BatchNorm's channels; None where the network has no such BatchNorm.

        By the batch's statistics, which the running ones then follow; without them by the running ones.
        """
        if f"{prefix}.weight" not in self.state:
            return NO_AFFINE
        given = [self.state[f"{prefix}.{name}"][part] for name in ("weight", "bias", "running_mean", "running_var")]
        if statistics is None and self.reuse:
            scale, shift = self._made("folded BatchNorm", lambda *given: torch.stack(_folded(*given)), *given)
            return scale, shift
        weight, bias, mean, variance = given
        if statistics is not None:
            mean, variance = self._followed(prefix, statistics, mean, variance, first=part.start is None)
        return _folded(weight, bias, mean, variance)

    def _followed(
        self, prefix: str, statistics: Statistics, running_mean: Tensor, running_variance: Tensor, first: bool
    ) -> tuple[Tensor, Tensor]:
        mean, variance, count = statistics
        if count == 1:
            raise ValueError("BatchNorm in training needs more than one value per channel: use larger images or batches")
        with torch.no_grad():
            running_mean.lerp_(mean.to(running_mean.dtype), MOMENTUM)
            running_variance.lerp_((variance * (count / (count - 1))).to(running_variance.dtype), MOMENTUM)
            if first:
                self.state[f"{prefix}.num_batches_tracked"].add_(1)
        return mean, variance
