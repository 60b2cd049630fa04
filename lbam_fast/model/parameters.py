"""What the layers read, from a state dict in the modules' names: gates, filters and folded BatchNorms."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from lbam_fast import ops
from lbam_fast.config import LBAMConfig
from lbam_fast.ops import Affine, Gate
from lbam_fast.ops.backends.eager import widened
from lbam_fast.reference import LEAKY_SLOPE, LEVELS, clamped

EPSILON = 1e-5
"""Of BatchNorm, PyTorch's own."""
EVERYTHING = slice(None)

Make = Callable[..., Tensor]


class Chain:
    """Where a mask chain's layers lie in the state dict: the prefix of a level, and its filter."""

    def __init__(self, prefix: str, filter_name: str, depth: int) -> None:
        self._prefix, self._filter, self.depth = prefix, filter_name, depth

    def prefix(self, level: int) -> str:
        return self._prefix.format(level)

    def filter(self, level: int) -> str:
        return self.prefix(level) + self._filter


FORWARD = Chain("ec{}.conv.", "maskConv.weight", LEVELS)
REVERSE = Chain("reverseConv{}.", "reverseMaskConv.weight", LEVELS - 1)


class Parameters:
    """Of a network of that configuration.

    prepare  ``prepare(kind, make, *tensors)`` gives ``make(*tensors)``, perhaps an earlier one
    dtype    that filters are given in, in channels_last; None: as they are
    """

    def __init__(
        self,
        state: Mapping[str, Tensor],
        config: LBAMConfig,
        prepare: Callable[..., Tensor] | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        self.state, self.config, self._dtype = state, config, dtype
        self._prepare = prepare or _make

    @property
    def last(self) -> Tensor:
        """The last layer's filter, which says where and in which dtype the network is."""
        return self.state["dc7.weight"]

    def gate(self, prefix: str) -> Gate:
        """The functions of a mask layer at the clamped values."""
        return Gate(self._scalars(prefix), self.alpha(prefix))

    def alpha(self, prefix: str) -> Tensor:
        learned, bounds = self.state.get(f"{prefix}updateMask.alpha"), self.config.alpha_range
        if bounds is None or learned is None:
            dtype, value = torch.promote_types(self.last.dtype, torch.float32), self.config.alpha
            return self._prepare(f"alpha {value}", lambda x: torch.full((), value, dtype=dtype, device=x.device), self.last)
        return self._prepare(f"alpha in {bounds}", lambda x: widened(clamped(x, bounds)), learned)

    def filter(self, name: str) -> Tensor:
        return self._cast(self.state[name])

    def mask_filter(self, name: str, u: Tensor) -> Tensor:
        """The filter; where ``u`` is one channel for three equal ones, summed over them."""
        weight = self.state[name]
        if u.shape[1] == weight.shape[1]:
            return self._cast(weight)
        return self._cast(self._prepare("sum over the inputs", lambda x: x.sum(dim=1, keepdim=True), weight))

    def filter_halves(self, name: str, skip: Tensor | None) -> tuple[Tensor | None, Tensor]:
        """A decoder filter's rows for the skip and for the layer's own input."""
        weight = self.state[name]
        if skip is None:
            return None, self._cast(weight)
        first, second = map(self._cast, torch.split(weight, [skip.shape[1], weight.shape[0] - skip.shape[1]]))
        return (first, second) if self.config.skip_first else (second, first)

    def half(self, level: int, of_skip: bool) -> slice:
        """The channels of one half in the decoder's BatchNorm at that level."""
        channels = self.config.channels[level - 1]
        return slice(channels) if of_skip == self.config.skip_first else slice(channels, None)

    def norm(self, prefix: str, part: slice = EVERYTHING) -> Affine:
        """That part of a BatchNorm's channels by its running statistics, if the network has it, and LeakyReLU."""
        if f"{prefix}.weight" not in self.state:
            return Affine(slope=LEAKY_SLOPE)
        given = self.norm_values(prefix, part)
        scale, shift = self._prepare("folded BatchNorm", lambda *given: torch.stack(folded(*given)), *given)
        return Affine(scale, shift, LEAKY_SLOPE)

    def skip_norm(self, level: int) -> Affine:
        """The decoder's BatchNorm of the features that it reads at that level."""
        return self.norm(f"dc{LEVELS - level}.bn", self.half(level, of_skip=True))

    def norm_values(self, prefix: str, part: slice) -> list[Tensor]:
        """Weight, bias, running mean and running variance."""
        return [self.state[f"{prefix}.{name}"][part] for name in ("weight", "bias", "running_mean", "running_var")]

    def tracker(self, u: Tensor, chain: Chain, depth: int | None = None) -> ops.Tracker | None:
        """Follows a chain that begins with ``u``, to that depth or its own, where that pays."""
        if not ops.skips(u):
            return None
        levels = range(1, (depth or chain.depth) + 1)
        filters = [self.mask_filter(chain.filter(1), u), *(self.filter(chain.filter(level)) for level in levels[1:])]
        return ops.Tracker(u, filters, [self.alpha(chain.prefix(level)) for level in levels], ops.working_dtype(u))

    def _cast(self, weight: Tensor) -> Tensor:
        dtype = self._dtype
        if dtype is None or (weight.dtype == dtype and weight.is_contiguous(memory_format=torch.channels_last)):
            return weight
        return self._prepare(f"filter in {dtype}", lambda x: x.to(dtype, memory_format=torch.channels_last), weight)

    def _scalars(self, prefix: str) -> Tensor:
        config = self.config
        ranges = {"a": config.a_range, "mu": config.mu_range, "sigma1": config.gamma_range, "sigma2": config.gamma_range}

        def stacked(*values: Tensor) -> Tensor:
            return widened(torch.stack([clamped(x, bounds) for x, bounds in zip(values, ranges.values(), strict=True)]))

        given = (self.state[f"{prefix}activationFuncG_A.{name}"] for name in ranges)
        return self._prepare(f"scalars in {ranges}", stacked, *given)


def folded(weight: Tensor, bias: Tensor, mean: Tensor, variance: Tensor) -> tuple[Tensor, Tensor]:
    """Scale and shift of a BatchNorm."""
    scale = widened(weight) * torch.rsqrt(widened(variance) + EPSILON)
    return scale, widened(bias) - widened(mean) * scale


def _make(kind: str, make: Make, *tensors: Tensor) -> Tensor:
    return make(*tensors)


def differentiable(tensors: Sequence[Tensor]) -> bool:
    """Whether gradients of any of these are wanted."""
    return torch.is_grad_enabled() and any(x.requires_grad for x in tensors)
