"""The fused ops of LBAM and the choice of what runs them.

Each function here is an op of ``torch.ops.lbam`` under autocast by hand: images, features and filters are cast to the autocast
dtype, the scalars of g_A, g_M and BatchNorm stay as they are. Shapes: features and masks [N, C, H, W]; filters as in PyTorch.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from functools import wraps
from typing import Any

import torch
from torch import Tensor

from lbam_fast import reference
from lbam_fast.ops import autograd as _registered  # noqa: F401
from lbam_fast.ops import buffers, definitions, on_cpu, tape
from lbam_fast.ops.backends import CPU, REFERENCE, BackendError, backend, chosen, fell_back, skips
from lbam_fast.ops.prepared import forget, prepared, traced
from lbam_fast.ops.regions import Tracker
from lbam_fast.ops.sparing import sparing

__all__ = [
    "CPU",
    "REFERENCE",
    "BackendError",
    "Tracker",
    "attend",
    "backend",
    "chosen",
    "clear",
    "correction_input",
    "damaged_input",
    "deconvolution",
    "features_with_map",
    "fell_back",
    "forward_attention",
    "forward_statistics",
    "mask_attention",
    "on_cpu",
    "played",
    "prepared",
    "reconstruct",
    "reverse_attention",
    "reverse_statistics",
    "skips",
    "sparing",
    "traced",
    "working_dtype",
]


def _autocast(*positions: int, filters: tuple[int, ...]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """The function with the tensors at those positions in autocast's dtype, where autocast is on, and without autocast inside.

    Where no gradients are wanted, the compiled kernels round the filters themselves, once.
    """

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        def call(*arguments: Any) -> Any:
            device = next(x.device.type for x in arguments if isinstance(x, Tensor))
            if not torch.is_autocast_enabled(device):
                return function(*arguments)
            dtype = torch.get_autocast_dtype(device)
            as_they_are = not torch.is_grad_enabled() and chosen(torch.device(device), dtype) == CPU
            wanted = positions if as_they_are else positions + filters
            cast = (x.to(dtype) if i in wanted and isinstance(x, Tensor) else x for i, x in enumerate(arguments))
            with torch.autocast(device, enabled=False):
                return function(*cast)

        return call

    return decorate


forward_attention = _autocast(0, 1, filters=(2, 3))(definitions.forward_attention)
features_with_map = _autocast(0, filters=(1, 2))(definitions.features_with_map)
mask_attention = _autocast(0, filters=(1,))(definitions.mask_attention)
reverse_attention = _autocast(0, 1, filters=(2, 3, 4))(definitions.reverse_attention)
reconstruct = _autocast(0, 1, filters=(2, 3))(definitions.reconstruct)
attend = _autocast(0, 1, filters=())(definitions.attend)
forward_statistics = _autocast(0, 1, filters=(2, 3))(definitions.forward_statistics)
reverse_statistics = _autocast(0, 1, 4, filters=(2, 3))(definitions.reverse_statistics)
deconvolution = _autocast(0, 1, filters=(2, 3))(definitions.deconvolution)


def working_dtype(x: Tensor) -> torch.dtype:
    """The dtype that these functions compute ``x`` in: autocast's where that is on, else its own."""
    return torch.get_autocast_dtype(x.device.type) if torch.is_autocast_enabled(x.device.type) else x.dtype


def damaged_input(image: Tensor, mask: Tensor, channels: int) -> Tensor:
    """``reference.damaged_input``, by the compiled kernels where they run: then in the dtype that the ops compute in."""
    plain = torch.is_grad_enabled() or traced() or chosen(image.device, image.dtype) != CPU
    if plain or chosen(image.device, dtype := working_dtype(image)) != CPU:
        return reference.damaged_input(image, mask, channels)
    return on_cpu.damaged_input(image, mask, channels, dtype)


def correction_input(image: Tensor, mask: Tensor, trend: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """``reference.correction_input``, with the compiled kernels' harmonic fill where they run and no gradient of it is wanted."""
    own = chosen(image.device, torch.float32) == CPU and image.dtype != torch.float64 and not traced()
    wanted = torch.is_grad_enabled() and image.requires_grad
    return reference.correction_input(image, mask, trend, on_cpu.harmonic_fill if own and not wanted else None)


def played(
    kind: Hashable,
    parameters: Sequence[Tensor],
    maps: Sequence[Tensor],
    inputs: Sequence[Tensor],
    run: Callable[..., Tensor],
) -> Tensor:
    """``run(*inputs)``, which runs on the backend ``cpu``, or what a tape of it gives; ``tape.played``."""
    return tape.played(kind, parameters, maps, inputs, on_cpu.kernels(), run)


def clear() -> None:
    """Free packed filters and the memory of past results; both come again when they are needed. Call it after writing to
    parameters through ``.data`` or NumPy, which goes unseen otherwise."""
    tape.forget()
    forget()
    buffers.clear()
