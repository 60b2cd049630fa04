"""The fused ops as torch ops, ``torch.ops.lbam.*``: schema, shapes and strides of the results. Their gradients: ``autograd``.

Results are channels_last in the dtype of their inputs, a filter's gradient as the filter; absent ones are empty tensors. What an
op computes is said in ``lbam_fast.ops.backends.eager``; which code computes it, ``dispatch`` chooses. Ops neither synchronise nor
depend on values, so that CUDA graphs can capture them.
"""

# mypy: disable-error-code="no-untyped-call, no-untyped-def, misc, untyped-decorator"

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from lbam_fast.ops.arguments import Affine, Gate, Regions, Signature, Wanted, nhwc
from lbam_fast.ops.dispatch import choices, implementation, made, map_dtype

_library = torch.library.Library("lbam", "DEF")


class _Op:
    """An op of ``torch.ops.lbam``, run by the chosen backend's function of the same name; called with bundled arguments.

    Defined by hand: the first call of a ``torch.library.custom_op`` imports PyTorch's compiler, which takes seconds.
    """

    def __init__(self, name: str, signature: Signature, results: str, device_of: int = 0, ordered: bool = True) -> None:
        self._name, self.signature = name, signature
        order = _ordered if ordered else _as_it_is
        _library.define(f"{name}({signature.schema}) -> {results}", tags=(torch.Tag.pt2_compliant_tag,))

        def run(*flat: Any) -> Any:
            lead = flat[device_of]
            results = getattr(implementation(lead.device, lead.dtype), name)(*signature.bundle(flat))
            return order(results) if isinstance(results, Tensor) else tuple(map(order, results))

        _library.impl(name, run, "CompositeExplicitAutograd")
        self.overload = getattr(torch.ops.lbam, name).default

    def __call__(self, *arguments: Any) -> Any:
        return self.overload(*self.signature.flatten(arguments))

    def register_fake(self, function: Callable[..., Any]) -> None:
        torch.library.register_fake(f"lbam::{self._name}", function, lib=_library)

    def register_autograd(self, backward: Callable[..., Any], *, setup_context: Callable[..., Any]) -> None:
        """The backward pass runs under the choices of the forward pass, in whichever thread autograd runs it."""

        def keep(ctx, inputs, output) -> None:
            ctx.choices = choices()
            setup_context(ctx, inputs, output)

        def run(ctx, *gradients):
            with made(ctx.choices):
                return backward(ctx, *gradients)

        torch.library.register_autograd(f"lbam::{self._name}", run, setup_context=keep, lib=_library)


def _ordered(x: Tensor) -> Tensor:
    return nhwc(x) if x.dim() == 4 else x


def _as_it_is(x: Tensor) -> Tensor:
    return x


_TWO_INPUTS = "Tensor? skip, Tensor own, Tensor? skip_weight, Tensor own_weight"
_TWO, _THREE, _FOUR, _SIX = (f"({', '.join(['Tensor'] * count)})" for count in (2, 3, 4, 6))

attend = _Op("attend", Signature("Tensor features, Tensor m", Gate, Affine, "bool update"), _TWO)
attend_backward = _Op("attend_backward", Signature("Tensor dy, Tensor? du, Tensor features, Tensor m", Gate, Affine), _SIX)
statistics_backward = _Op(
    "statistics_backward",
    Signature("Tensor dmean, Tensor dvariance, Tensor mean, Tensor features, Tensor m, Tensor scalars"),
    _THREE,
    device_of=3,
)
encode = _Op(
    "encode",
    Signature("Tensor x, Tensor u, Tensor weight, Tensor mask_weight", Gate, Affine, Wanted, Regions),
    _FOUR,
)
encode_with_statistics = _Op(
    "encode_with_statistics", Signature("Tensor x, Tensor u, Tensor weight, Tensor mask_weight, Tensor scalars"), _FOUR
)
encode_with_map = _Op("encode_with_map", Signature("Tensor x, Tensor weight, Tensor attention", Affine), "Tensor")
mask_step = _Op("mask_step", Signature("Tensor u, Tensor weight", Gate, Wanted, Regions), _THREE)
decode_with_map = _Op("decode_with_map", Signature(f"{_TWO_INPUTS}, Tensor attention", Affine), "Tensor", device_of=1)
decode_with_statistics = _Op("decode_with_statistics", Signature(f"{_TWO_INPUTS}, Tensor m, Tensor scalars"), _THREE, device_of=1)
convolution = _Op("convolution", Signature("Tensor x, Tensor weight"), "Tensor")
deconvolution = _Op("deconvolution", Signature(_TWO_INPUTS), "Tensor", device_of=1)
filter_gradient = _Op(
    "filter_gradient", Signature("Tensor small, Tensor large, Tensor weight, bool transposed"), "Tensor", ordered=False
)
reconstruct = _Op(
    "reconstruct",
    Signature("Tensor skip, Tensor own, Tensor skip_weight, Tensor own_weight, str form"),
    "Tensor",
)


def _empty(x: Tensor, *shape: int) -> Tensor:
    """[N, C, H, W] in channels_last, or a shape of fewer dimensions."""
    return x.new_empty(shape) if len(shape) < 4 else x.new_empty(shape).contiguous(memory_format=torch.channels_last)


def _like(x: Tensor) -> Tensor:
    return _empty(x, *x.shape)


def _halved(x: Tensor, weight: Tensor) -> Tensor:
    return _empty(x, x.shape[0], weight.shape[0], x.shape[2] // 2, x.shape[3] // 2)


def _doubled(x: Tensor, weight: Tensor) -> Tensor:
    return _empty(x, x.shape[0], weight.shape[1], 2 * x.shape[2], 2 * x.shape[3])


def _per_channel(features: Tensor, scalars: Tensor, present: bool = True) -> Tensor:
    return scalars.new_empty(features.shape[1] if present else 0)


@attend.register_fake
def _(features, m, scalars, alpha, scale, shift, slope, update):
    return _like(features), _like(m) if update else m.new_empty(0)


@attend_backward.register_fake
def _(dy, du, features, m, scalars, alpha, scale, shift, slope):
    channels = [_per_channel(features, scalars, scale is not None) for _ in range(2)]
    return _like(features), _like(m), torch.empty_like(scalars), torch.empty_like(alpha), *channels


@statistics_backward.register_fake
def _(dmean, dvariance, mean, features, m, scalars):
    return _like(features), _like(m), torch.empty_like(scalars)


@encode.register_fake
def _(x, u, weight, mask_weight, scalars, alpha, scale, shift, slope, update, keep, order=None, kinds=None, constant=None):
    mask = _halved(u, mask_weight)
    features = _halved(x, weight)
    absent = [x.new_empty(0) for _ in range(2)]
    return _like(features), mask if update else u.new_empty(0), *((features, _like(mask)) if keep else absent)


@encode_with_statistics.register_fake
def _(x, u, weight, mask_weight, scalars):
    features = _halved(x, weight)
    return features, _halved(u, mask_weight), *(_per_channel(features, scalars) for _ in range(2))


@encode_with_map.register_fake
def _(x, weight, attention, scale, shift, slope):
    return _halved(x, weight)


@mask_step.register_fake
def _(u, weight, scalars, alpha, update, keep, order=None, kinds=None, constant=None):
    absent, result = u.new_empty(0), _halved(u, weight)
    attention = absent if keep else result.to(map_dtype(u.device, u.dtype))
    return attention, (_like(result) if update else u.new_empty(0)), (_like(result) if keep else u.new_empty(0))


@decode_with_map.register_fake
def _(skip, own, skip_weight, own_weight, attention, scale, shift, slope):
    return _doubled(own, own_weight)


@decode_with_statistics.register_fake
def _(skip, own, skip_weight, own_weight, m, scalars):
    features = _doubled(own, own_weight)
    return features, *(_per_channel(features, scalars) for _ in range(2))


@convolution.register_fake
def _(x, weight):
    return _halved(x, weight)


@deconvolution.register_fake
def _(skip, own, skip_weight, own_weight):
    return _doubled(own, own_weight)


@filter_gradient.register_fake
def _(small, large, weight, transposed):
    return torch.empty_like(weight, dtype=small.dtype)


@reconstruct.register_fake
def _(skip, own, skip_weight, own_weight, form):
    return _doubled(own, own_weight)
