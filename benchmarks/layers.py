"""Single layers on the activations that reach them inside the network: the place where fused ops compete."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import Any

import torch
from harness import BASELINE, Candidate, Method
from peers import CPU_DTYPES, CUDA_DTYPES, HALVES, OURS, precision, published_module
from peers import channels_last as nhwc
from torch import Tensor
from workload import Case, Inputs, inputs

from lbam_fast import native, ops, reference
from lbam_fast.config import LBAMConfig
from lbam_fast.ops import autotune, dispatch
from lbam_fast.ops.defaults import CUDA

SLOPE = reference.LEAKY_SLOPE
FRESH = ops.Wanted(update=True, keep=False)
"""What a layer gives in inference under a fresh mask."""
Layer = Callable[..., tuple[Tensor, ...]]

ENCODER = tuple(f"ec{i}" for i in range(1, 8))
REVERSE = tuple(f"reverseConv{i}" for i in range(1, 7))
DECODER = tuple(f"dc{i}" for i in range(1, 8))
LAYERS = (*ENCODER, *REVERSE, *DECODER)


def layer_methods(case: Case) -> list[Method]:
    """The published layer, the reference's functions, and the fused ops: on a GPU by every route, else on the CPU's kernels."""
    on_gpu = case.device.startswith("cuda")
    methods = [Method(BASELINE, "fp32", partial(_ready, layer=_published, dtype="fp32"), eager=True)]
    for dtype in CUDA_DTYPES if on_gpu else CPU_DTYPES:
        build = partial(_ready, layer=_reference, dtype=dtype, channels_last=True)
        methods.append(Method(f"reference channels_last {dtype}", dtype, build, **OURS))
        for backend, route in _ways(case):
            build = partial(_ready, layer=_fused, dtype=dtype, channels_last=True, backend=backend, route=route)
            name = " ".join(word for word in ("lbam_fast", backend, route, dtype) if word)
            methods.append(Method(name, dtype, build, **OURS, absent=partial(_unavailable, backend, route)))
    return methods


def op_of(layer: str) -> str:
    """The fused op that a layer is."""
    if layer in ENCODER:
        return "encode"
    if layer in REVERSE:
        return "mask_step"
    return "reconstruct" if layer == "dc7" else "decode_with_map"


def _ways(case: Case) -> list[tuple[str, str]]:
    """Backend and route of every row; a CPU has no routes."""
    if not case.device.startswith("cuda"):
        return [(dispatch.CPU, "")]
    from lbam_fast.ops.backends.gpu import ROUTES

    return [(dispatch.GPU, route) for route in ROUTES[op_of(case.layer)]]


def _unavailable(backend: str, route: str, case: Case) -> str:
    reason = dispatch.unavailable(backend)
    return reason or (native.unavailable("cuda") if route == CUDA else "")


@torch.no_grad()
def layer_inputs(case: Case, count: int = 2) -> Inputs:
    """What the layer reads in the published form, on ``count`` of the workload's inputs."""
    module = published_module(case)
    captured: list[tuple[Tensor, ...]] = []
    handle = module.get_submodule(case.layer).register_forward_pre_hook(lambda _, arguments: captured.append(arguments))
    for image, mask in inputs(case, count):
        module(image, mask)
    handle.remove()
    return captured


def truth(case: Case, pool: Inputs) -> Tensor:
    """The published layer in float64."""
    module = published_module(case).get_submodule(case.layer).double()
    return _joined(_published(module, case)(*(tensor.double() for tensor in pool[0])))


def yardstick(case: Case, pool: Inputs, dtype: str) -> Tensor:
    """Eager PyTorch in that dtype."""
    return _ready(case, pool, layer=_published, dtype=dtype, channels_last=dtype in HALVES).output()


def _ready(
    case: Case,
    pool: Inputs,
    layer: Callable[[Any, Case], Layer],
    dtype: str,
    channels_last: bool = False,
    backend: str = dispatch.AUTO,
    route: str = "",
) -> Candidate:
    """The layer, ready; a fused one by that backend and route, and by no other."""
    module = published_module(case).get_submodule(case.layer)
    if channels_last:
        module = nhwc(module)
        pool = [tuple(tensor.contiguous(memory_format=torch.channels_last) for tensor in arguments) for arguments in pool]
    function, fused = layer(module, case), layer is _fused
    if fused:
        pool = [_apart(arguments, case) for arguments in pool]

    @torch.no_grad()
    def call(arguments: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        forced = autotune.route(route) if route else nullcontext()
        with precision(case.device, dtype), dispatch.backend(backend), forced:
            return function(*arguments)

    def output() -> Tensor:
        outputs = call(pool[0])
        return _joined(_complete(outputs, pool[0], case) if fused else outputs)

    return Candidate(lambda i: call(pool[i % len(pool)]), output)


def _joined(outputs: tuple[Tensor, ...]) -> Tensor:
    return torch.cat([output.detach().flatten() for output in outputs])


def _published(layer: Any, case: Case) -> Layer:
    """The published layer's results that later layers read."""
    if case.layer in ENCODER:
        return lambda x, u: tuple(layer(x, u))[:2]
    if case.layer in REVERSE:
        return lambda u: tuple(layer(u))
    if case.layer == "dc7":
        return lambda y: (_output(layer(y), case.config),)
    return lambda *arguments: (layer(*arguments),)


def _reference(layer: Any, case: Case) -> Layer:
    """The same from the layer's weights by the reference's functions."""
    config = case.config
    if case.layer in ENCODER:
        block = layer.conv

        def encode(x: Tensor, u: Tensor) -> tuple[Tensor, ...]:
            m = reference.mask_convolution(u, block.maskConv.weight)
            product = reference.convolution(x, block.conv.weight) * _map(m, block.activationFuncG_A)
            return reference.activation(product), reference.mask_update(m, config.alpha)

        return encode
    if case.layer in REVERSE:

        def step(u: Tensor) -> tuple[Tensor, ...]:
            m = reference.mask_convolution(u, layer.reverseMaskConv.weight)
            return _map(m, layer.activationFuncG_A), reference.mask_update(m, config.alpha)

        return step
    if case.layer == "dc7":
        return lambda y: (_output(reference.deconvolution(y, layer.weight), config),)

    def decode(skip: Tensor, y: Tensor, forward_map: Tensor, reverse_map: Tensor) -> tuple[Tensor, ...]:
        own = reference.deconvolution(y, layer.conv.weight) * reverse_map
        return (reference.activation(torch.cat((skip * forward_map, own), dim=1)),)

    return decode


def _fused(layer: Any, case: Case) -> Layer:
    """The same by the fused ops, on arguments ``_apart``. A decoder layer gives its own half alone."""
    alpha, after = torch.full((), case.config.alpha, device=case.device), ops.Affine(slope=SLOPE)
    if case.layer in ENCODER:
        block = layer.conv
        weights, scalars = (block.conv.weight, block.maskConv.weight), _stacked(block.activationFuncG_A)
        return lambda x, u: ops.encode(x, u, *weights, ops.Gate(scalars, alpha), after, FRESH, None)[:2]
    if case.layer in REVERSE:
        scalars = _stacked(layer.activationFuncG_A)
        return lambda u: ops.mask_step(u, layer.reverseMaskConv.weight, ops.Gate(scalars, alpha), FRESH, None)[:2]
    if case.layer == "dc7":
        first, second = layer.weight.chunk(2)
        return lambda skip, own: (ops.reconstruct(skip, own, first, second, case.config.output),)
    if case.layer == "dc1":
        return lambda _, y, __, attention: (ops.decode_with_map(None, y, None, layer.conv.weight, attention, after),)
    first, second = layer.conv.weight.chunk(2)
    return lambda _, skip, own, __, attention: (ops.decode_with_map(skip, own, first, second, attention, after),)


def _apart(arguments: tuple[Tensor, ...], case: Case) -> tuple[Tensor, ...]:
    """With the decoder's joined input in its two halves, as they are before it is joined."""
    if case.layer not in DECODER or case.layer == "dc1":
        return arguments
    at = 0 if case.layer == "dc7" else 1
    halves = (half.contiguous(memory_format=torch.channels_last) for half in arguments[at].chunk(2, dim=1))
    return *arguments[:at], *halves, *arguments[at + 1 :]


def _complete(outputs: tuple[Tensor, ...], arguments: tuple[Tensor, ...], case: Case) -> tuple[Tensor, ...]:
    """With the skip's half before the decoder's own, as published: in the network it is the encoder's output."""
    if case.layer not in DECODER or case.layer == "dc7":
        return outputs
    skip_half = reference.activation(arguments[0] * arguments[-2])
    return (torch.cat((skip_half, outputs[0]), dim=1),)


def _stacked(scalars: Any) -> Tensor:
    return torch.stack([scalars.a, scalars.mu, scalars.sigma1, scalars.sigma2]).detach().float()


def _map(m: Tensor, scalars: Any) -> Tensor:
    return reference.attention_map(m, scalars.a, scalars.mu, scalars.sigma1, scalars.sigma2)


def _output(y: Tensor, config: LBAMConfig) -> Tensor:
    return reference.output_form(y, config.output)
