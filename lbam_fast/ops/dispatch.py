"""Which code runs the fused ops: one function chooses, a context manager or the variable LBAM_BACKEND overrides it."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from importlib import import_module
from types import ModuleType

import torch

from lbam_fast import native
from lbam_fast.errors import LBAMError
from lbam_fast.ops.runtime.prepared import traced

VARIABLE = "LBAM_BACKEND"
AUTO, REFERENCE, EAGER, CPU, TRITON, CUDA, GPU = NAMES = ("auto", "reference", "eager", "cpu", "triton", "cuda", "gpu")
_MODULES = {
    REFERENCE: "lbam_fast.ops.backends.eager",
    EAGER: "lbam_fast.ops.backends.eager",
    CPU: "lbam_fast.ops.backends.cpu",
    TRITON: "lbam_fast.ops.backends.triton",
    CUDA: "lbam_fast.ops.backends.cuda",
    GPU: "lbam_fast.ops.backends.gpu",
}
_DTYPES = {
    CPU: (torch.float32, torch.bfloat16),
    **dict.fromkeys((TRITON, CUDA, GPU), (torch.float32, torch.float16, torch.bfloat16)),
}
_BY_DEVICE = {"cpu": (CPU,), "cuda": (GPU, CUDA)}
_TITLES = {CPU: "compiled kernels for the CPU", GPU: "Triton kernels", CUDA: "CUDA kernels"}
SKIP_FROM = 512 * 512
"""Pixels of a picture from which Triton's kernels skip; in smaller ones, most of their blocks see a hole's border."""

_override: ContextVar[str | None] = ContextVar("lbam_backend", default=None)
forced_route: ContextVar[str | None] = ContextVar("lbam_route", default=None)
"""Of ``autotune``; here, as it goes from thread to thread with the backend."""


class BackendError(LBAMError, RuntimeError):
    """A backend that was asked for by name cannot run here; the message says why and what to do."""


@contextmanager
def backend(name: str) -> Iterator[None]:
    """Run LBAM with that backend inside the block.

    name  "reference": the network as it is specified, in plain PyTorch; "eager": the fused ops in plain PyTorch, which keep a
          third of the memory for backward; "cpu": the compiled kernels for the CPU; "triton": the Triton kernels;
          "cuda": the compiled kernels for NVIDIA GPUs; "gpu": whichever of these two, and of PyTorch's own, is the fastest;
          "auto": "gpu" on a CUDA device, "cpu" on a CPU

    Raises BackendError at once for another name, or if the backend cannot be loaded.
    """
    _checked(name, "backend()")
    token = _override.set(name)
    try:
        yield
    finally:
        _override.reset(token)


def choices() -> tuple[str | None, str | None]:
    """What this thread's blocks have named, backend and route."""
    return _override.get(), forced_route.get()


@contextmanager
def made(named: tuple[str | None, str | None]) -> Iterator[None]:
    """Inside the block the ``choices`` of another thread or time."""
    tokens = _override.set(named[0]), forced_route.set(named[1])
    try:
        yield
    finally:
        _override.reset(tokens[0])
        forced_route.reset(tokens[1])


def chosen(device: torch.device, dtype: torch.dtype) -> str:
    """The backend for tensors of that device and dtype: the one named, else the best that can be loaded.

    The reference runs dtypes without kernels, float64 among them. An automatic choice that cannot be loaded gives way to the next
    and says so once. What ``torch.compile`` compiles keeps the choice of that time.
    """
    named, lacking = _named(), []
    for name in _BY_DEVICE.get(device.type, ()) if named == AUTO else (named,):
        if dtype not in _DTYPES.get(name, (dtype,)):
            return REFERENCE
        reason = unavailable(name) if named == AUTO else ""
        if not reason:
            found = name
            break
        lacking.append(f"the {_TITLES[name]} cannot be loaded ({reason})")
    else:
        found = REFERENCE
    if lacking:
        _say_once(f"{'; '.join(lacking)}; {_TITLES.get(found, 'plain PyTorch')} instead")
    return found


# What torch.compiler.assume_constant_result does, which would import the compiler, and with it Triton, at once.
chosen._dynamo_marked_constant = True  # type: ignore[attr-defined]


def implementation(device: torch.device, dtype: torch.dtype) -> ModuleType:
    """The module whose functions run the ops, all of ``backends.eager``'s names."""
    return import_module(_MODULES[chosen(device, dtype)])


def skips(u: torch.Tensor) -> bool:
    """Whether the backend for a mask chain's input leaves out what ``regions`` says that it may, and that pays."""
    if traced():
        return False
    name = chosen(u.device, u.dtype)
    return name == CPU or (name in (TRITON, GPU) and u.shape[-2] * u.shape[-1] >= SKIP_FROM)


def map_dtype(device: torch.device, dtype: torch.dtype) -> torch.dtype:
    """The dtype of the maps that ``mask_step`` gives for masks of that dtype: the CPU's kernels do not round them.

    Rounded to bfloat16 they cost 1 dB of the output, and the kernels multiply by them while they wait for the product anyway.
    """
    return torch.float32 if dtype == torch.bfloat16 and chosen(device, dtype) == CPU else dtype


@cache
def unavailable(name: str) -> str:
    """Why a backend cannot be loaded; empty if it can."""
    try:
        import_module(_MODULES[name])
    except Exception as error:  # whatever a broken installation raises
        return f"{type(error).__name__}: {error}"
    if name == CPU:
        return native.unavailable()
    if name == CUDA:
        return native.unavailable("cuda")
    if name in (TRITON, GPU) and not torch.cuda.is_available() and os.environ.get("TRITON_INTERPRET") != "1":
        return "PyTorch finds no CUDA device"
    return ""


def fell_back(what: str, device: torch.device) -> None:
    """Say once that ``what`` runs on the reference; on a CPU, where that surprises nobody, only if a backend was named."""
    if device.type != "cpu" or _named() != AUTO:
        _say_once(f"{what} has no fused kernels; plain PyTorch runs instead")


@cache
def _say_once(message: str) -> None:
    warnings.warn(message, stacklevel=2)


def _named() -> str:
    return _override.get() or _checked(os.environ.get(VARIABLE, AUTO), f"the environment variable {VARIABLE}")


def _checked(name: str, where: str) -> str:
    if name not in NAMES:
        raise BackendError(f"{where} names the backend {name!r}, expected one of {', '.join(NAMES)}")
    if name != AUTO and (reason := unavailable(name)):
        raise BackendError(f"{where} names the backend {name!r}, which cannot be loaded: {reason}")
    return name
