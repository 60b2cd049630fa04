"""One training step, forward, backward and optimiser, and the gradients that the gate compares."""

# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any

import torch
from harness import BASELINE, Candidate, Method
from peers import CPU_DTYPES, CUDA_DTYPES, HALVES, OURS, absent_compiler, channels_last, our_model, precision, published_module
from torch import Tensor, nn
from workload import Case, Inputs, inputs

from lbam_fast.training import reconstruction_loss
from lbam_fast.training.optimizer import Adam

BUCKETS = 16
LEARNING_RATE = 1e-6  # the weights stay about where the gate has seen them


def training_methods(case: Case) -> list[Method]:
    """This package's model and the published form, eager and compiled. The quick set on a CPU, where steps are slow: fp32."""
    on_gpu = case.device.startswith("cuda")
    dtypes = CUDA_DTYPES if on_gpu else CPU_DTYPES
    nhwc: Any = {"layout": "channels_last"}
    methods = [Method(BASELINE, "fp32", partial(_ready, module=published_module, dtype="fp32"), eager=True)]
    for dtype in dtypes:
        quick = on_gpu or dtype == "fp32"
        if dtype in HALVES:
            build = partial(_ready, module=_published_nhwc, dtype=dtype)
            methods.append(Method(f"channels_last autocast {dtype}", dtype, build, **nhwc, eager=True, quick=quick))
        elif dtype != "fp32":
            build = partial(_ready, module=published_module, dtype=dtype)
            methods.append(Method(f"{BASELINE} {dtype}", dtype, build, eager=True, quick=quick))
        build = partial(_ready, module=_ours_nhwc, dtype=dtype)
        methods.append(Method(f"lbam_fast {dtype}", dtype, build, **OURS, quick=quick))
    for dtype in dtypes:
        build = partial(_ready, module=_published_nhwc, dtype=dtype, compile_it=True)
        methods.append(Method(f"torch.compile {dtype}", dtype, build, **nhwc, absent=absent_compiler, quick=False))
    return methods


def truth(case: Case, pool: Inputs) -> Tensor:
    """The gradients' sketch from the published form in float64."""
    module = published_module(case, torch.float64).train()
    return sketch(case, module, module, tuple(tensor.double() for tensor in pool[0]), dtype="float64")


def yardstick(case: Case, pool: Inputs, dtype: str) -> Tensor:
    """From eager PyTorch in that dtype."""
    module = copy.deepcopy(published_module(case) if dtype not in HALVES else _published_nhwc(case)).train()
    return sketch(case, module, module, pool[0], dtype=dtype)


def sketch(case: Case, module: nn.Module, forward: Callable[..., Tensor], pair: tuple[Tensor, ...], dtype: str) -> Tensor:
    """Every gradient, in units of its own size, summed with random signs into a few buckets: [parameters, buckets].

    So each parameter counts alike, be it a scalar of g_A or a million weights, and no single kink decides. The loss is the
    mean square error: the sign in an absolute error's gradient flips where output and picture agree.
    """
    image, mask = pair
    module.zero_grad()
    with precision(case.device, dtype):
        output = forward(image, mask)
    ((output.to(image.dtype) - image).square()).mean().backward()
    gradients = {name: p.grad for name, p in module.named_parameters() if p.grad is not None}
    rows = [_bucketed(gradients[name], scale, name) for name, scale in sizes(case).items()]
    module.zero_grad()
    return torch.stack(rows)


@lru_cache(maxsize=2)
def sizes(case: Case) -> dict[str, float]:
    """Root mean square of every parameter's gradient, from the published form in fp32."""
    module = copy.deepcopy(published_module(case)).train()
    image, mask = inputs(case)[0]
    (module(image, mask) - image).square().mean().backward()
    return {name: float(p.grad.square().mean().sqrt()) for name, p in module.named_parameters() if p.grad is not None}


def _bucketed(gradient: Tensor, scale: float, name: str) -> Tensor:
    values = gradient.detach().flatten().double() / max(scale, 1e-30)
    generator = torch.Generator().manual_seed(len(name))
    signs = torch.randint(0, 2, values.shape, generator=generator, dtype=torch.int8).to(values.device) * 2 - 1
    values = torch.nn.functional.pad(values * signs, (0, -values.numel() % BUCKETS))
    total: Tensor = values.view(BUCKETS, -1).sum(dim=1)
    return total / math.sqrt(max(1, gradient.numel() / BUCKETS))


def _published_nhwc(case: Case) -> nn.Module:
    return channels_last(published_module(case))


def _ours_nhwc(case: Case) -> nn.Module:
    return channels_last(our_model(case))


def _ready(case: Case, pool: Inputs, module: Callable[[Case], nn.Module], dtype: str, compile_it: bool = False) -> Candidate:
    model = copy.deepcopy(module(case)).train()
    forward: Any = torch.compile(model, dynamic=False) if compile_it else model
    adam = torch.optim.Adam if module in (published_module, _published_nhwc) else Adam  # as `lbam-fast train` has it
    optimizer = adam(model.parameters(), lr=LEARNING_RATE, fused=True)
    scaler = torch.amp.GradScaler(torch.device(case.device).type, enabled=dtype == "fp16")  # type: ignore[attr-defined]

    def step(i: int) -> None:
        image, mask = pool[i % len(pool)]
        with precision(case.device, dtype):
            output = forward(image, mask)
        hole, valid = reconstruction_loss(output, image, mask)
        optimizer.zero_grad()
        scaler.scale(6 * hole + valid).backward()
        scaler.step(optimizer)
        scaler.update()

    return Candidate(step, lambda: sketch(case, model, forward, pool[0], dtype=dtype))
