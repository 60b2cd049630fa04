"""The gradients of the fused ops. Importing this registers them.

What an op keeps for its backward pass is what its convolutions read, and their results; all else is computed again.
"""

# mypy: disable-error-code="no-untyped-call, no-untyped-def, misc, untyped-decorator"

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from lbam_fast.ops.arguments import Affine, Gate
from lbam_fast.ops.backends import eager
from lbam_fast.ops.definitions import (
    attend,
    attend_backward,
    convolution,
    decode_with_map,
    decode_with_statistics,
    deconvolution,
    encode,
    encode_with_map,
    encode_with_statistics,
    filter_gradient,
    mask_step,
    reconstruct,
    statistics_backward,
)


def _register(op: Any, backward: Callable[..., Any], keep: Callable[..., None]) -> None:
    """Give the op its first derivatives; a graph of them, for second ones, would silently lack what the kernels compute."""

    def first(ctx, *gradients):
        if torch.is_grad_enabled():
            raise RuntimeError(
                "the fused ops have first derivatives alone, and create_graph=True asks for second ones: "
                'run the network within lbam_fast.backend("reference")'
            )
        return backward(ctx, *gradients)

    op.register_autograd(first, setup_context=keep)


def _keep_inputs(ctx, inputs, output) -> None:
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(*(value for value in inputs if value is None or isinstance(value, Tensor)))
    ctx.settings = [None if value is None or isinstance(value, Tensor) else (value,) for value in inputs]


def _attend_backward(ctx, dy, du):
    features, m, scalars, alpha, scale, shift = ctx.saved_tensors
    slope, update = (setting[0] for setting in ctx.settings[6:])
    if dy is None and du is None:
        return (None,) * 8
    dy, du = torch.zeros_like(features) if dy is None else dy, du if update else None
    gradients = attend_backward(dy, du, features, m, Gate(scalars, alpha), Affine(scale, shift, slope))
    return *_affine_gradients(gradients, scale), None, None


def _affine_gradients(gradients, scale):
    return *gradients[:4], *(gradients[4:] if scale is not None else (None, None))


_register(attend, _attend_backward, _keep_inputs)


def _through_statistics(dmean, dvariance, mean, features, m, scalars):
    """``statistics_backward`` where either gradient, or both, may be missing."""
    if dmean is None and dvariance is None:
        return None, None, None
    dmean, dvariance = (torch.zeros_like(mean) if d is None else d for d in (dmean, dvariance))
    return statistics_backward(dmean, dvariance, mean, features, m, scalars)


def _keep_encode(ctx, inputs, output) -> None:
    *tensors, slope, update, keep = inputs[:11]
    if not keep:
        raise RuntimeError("encode needs keep=True where gradients are wanted")
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(*tensors, *output[2:])
    ctx.slope, ctx.update = slope, update


def _encode_backward(ctx, dy, du, dfeatures, dm):
    x, u, weight, mask_weight, scalars, alpha, scale, shift, features, m = ctx.saved_tensors
    if dy is None and du is None and dfeatures is None and dm is None:
        return (None,) * 14
    dy, du = torch.zeros_like(features) if dy is None else dy, du if ctx.update else None
    own_dfeatures, own_dm, *rest = _affine_gradients(
        attend_backward(dy, du, features, m, Gate(scalars, alpha), Affine(scale, shift, ctx.slope)), scale
    )
    dx, dweight = _convolution_backward(_sum(own_dfeatures, dfeatures), x, weight, ctx.needs_input_grad[0])
    du_in, dmask_weight = _convolution_backward(_sum(own_dm, dm), u, mask_weight, ctx.needs_input_grad[1])
    return dx, du_in, dweight, dmask_weight, *rest, *(None,) * 6


def _sum(x, y):
    """Of two gradients, either of which may be missing."""
    return y if x is None else x if y is None else x + y


def _convolution_backward(gradient, x, weight, need_x):
    """The gradients of a convolution's input, None unless it is needed, and filter, from its result's, which may be missing.

    That of a 4x4 one's input is a transposed convolution, an op with a choice of routes.
    """
    if gradient is None:
        return None, None
    if weight.shape[-1] != 4:
        wanted = [need_x, True, False]
        return torch.ops.aten.convolution_backward(gradient, x, weight, None, *eager.GEOMETRY, False, [0, 0], 1, wanted)[:2]
    return deconvolution(None, gradient, None, weight) if need_x else None, filter_gradient(gradient, x, weight, False)


def _deconvolution_backward(gradient, x, weight, need_x):
    """The same of a transposed convolution, whose input may be missing too."""
    if x is None or gradient is None:
        return None, None
    return convolution(gradient, weight) if need_x else None, filter_gradient(x, gradient, weight, True)


_register(encode, _encode_backward, _keep_encode)


def _keep_mask_step(ctx, inputs, output) -> None:
    u, weight, _, alpha, update, keep = inputs[:6]
    if not keep:
        raise RuntimeError("mask_step needs keep=True where gradients are wanted")
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(u, weight, alpha, output[2])
    ctx.update = update


def _mask_step_backward(ctx, dmap, du, dm):
    u, weight, alpha, m = ctx.saved_tensors
    dalpha = None
    if du is not None and ctx.update:
        # attend's backward with features that are 0 is g_M's alone.
        nothing = m.new_zeros(()).expand_as(m)
        zero = alpha.new_zeros(4)
        _, own, _, dalpha, _, _ = attend_backward(nothing, du, nothing, m, Gate(zero, alpha), Affine())
        dm = _sum(own, dm)
    if dm is None:
        return (None,) * 9
    du_in, dweight = _convolution_backward(dm, u, weight, ctx.needs_input_grad[0])
    return du_in, dweight, None, dalpha, *(None,) * 5


_register(mask_step, _mask_step_backward, _keep_mask_step)


def _keep_encode_with_statistics(ctx, inputs, output) -> None:
    features, m, mean, _ = output
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(*inputs, features, m, mean)


def _encode_with_statistics_backward(ctx, dfeatures, dm, dmean, dvariance):
    x, u, weight, mask_weight, scalars, features, m, mean = ctx.saved_tensors
    own, own_m, dscalars = _through_statistics(dmean, dvariance, mean, features, m, scalars)
    dx, dweight = _convolution_backward(_sum(own, dfeatures), x, weight, ctx.needs_input_grad[0])
    du, dmask_weight = _convolution_backward(_sum(own_m, dm), u, mask_weight, ctx.needs_input_grad[1])
    return dx, du, dweight, dmask_weight, dscalars


_register(encode_with_statistics, _encode_with_statistics_backward, _keep_encode_with_statistics)


def _keep_decode_with_statistics(ctx, inputs, output) -> None:
    features, mean, _ = output
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(*inputs, features, mean)


def _decode_with_statistics_backward(ctx, dfeatures, dmean, dvariance):
    skip, own, skip_weight, own_weight, m, scalars, features, mean = ctx.saved_tensors
    own_dfeatures, dm, dscalars = _through_statistics(dmean, dvariance, mean, features, m, scalars)
    inputs = skip, own, skip_weight, own_weight
    return *_two_inputs_backward(_sum(own_dfeatures, dfeatures), inputs, ctx.needs_input_grad), dm, dscalars


_register(decode_with_statistics, _decode_with_statistics_backward, _keep_decode_with_statistics)


def _two_inputs_backward(gradient, inputs, needed):
    skip, own, skip_weight, own_weight = inputs
    dskip, dskip_weight = _deconvolution_backward(gradient, skip, skip_weight, needed[0])
    down, down_weight = _deconvolution_backward(gradient, own, own_weight, needed[1])
    return dskip, down, dskip_weight, down_weight


def _keep_all(ctx, inputs, output) -> None:
    ctx.save_for_backward(*inputs)


def _bare_convolution_backward(ctx, gradient):
    x, weight = ctx.saved_tensors
    return _convolution_backward(gradient, x, weight, ctx.needs_input_grad[0])


def _bare_deconvolution_backward(ctx, gradient):
    return _two_inputs_backward(gradient, ctx.saved_tensors, ctx.needs_input_grad)


_register(convolution, _bare_convolution_backward, _keep_all)
_register(deconvolution, _bare_deconvolution_backward, _keep_all)


def _recomputed(op: Any, function: Callable[..., Tensor]) -> Any:
    """A backward pass that computes the op again from its inputs, in plain PyTorch."""

    def backward(ctx, gradient):
        if gradient is None:
            return (None,) * len(ctx.settings)
        saved = iter(ctx.saved_tensors)
        arguments = [next(saved) if setting is None else setting[0] for setting in ctx.settings]
        wanted = [i for i, need in enumerate(ctx.needs_input_grad) if need]
        with torch.enable_grad():
            for i, value in enumerate(arguments):
                if isinstance(value, Tensor):
                    arguments[i] = value.detach().requires_grad_(i in wanted)
            output = function(*op.signature.bundle(arguments))
        found = dict(zip(wanted, torch.autograd.grad(output, [arguments[i] for i in wanted], gradient), strict=True))
        return tuple(found.get(i) for i in range(len(arguments)))

    return backward


for _op, _function in (
    (encode_with_map, eager.encode_with_map),
    (decode_with_map, eager.decode_with_map),
    (reconstruct, eager.reconstruct),
):
    _register(_op, _recomputed(_op, _function), _keep_inputs)
