"""The fused ops of LBAM, and what keeps their state: each function here is an op of ``torch.ops.lbam`` under autocast by hand.

Images, features and filters are cast to autocast's dtype; the scalars of g_A, g_M and BatchNorm stay as they are. Shapes: images,
features and masks [N, C, H, W], floating, of even H and W; filters as in PyTorch, [C_out, C_in, 4, 4], transposed ones [C_in,
C_out, 4, 4]. Results are channels_last in the dtype of the inputs; absent ones are empty tensors. Equations: Xie et
al., ICCV 2019. ``lbam_fast.ops.backends.eager`` specifies every op. All raise RuntimeError or ValueError for shapes and dtypes
that do not go together.
"""

# mypy: disable-error-code="no-any-return"

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from lbam_fast import reference
from lbam_fast.ops import autograd as _registered  # noqa: F401
from lbam_fast.ops import definitions
from lbam_fast.ops.arguments import Affine, Gate, Regions, Wanted
from lbam_fast.ops.backends import cpu
from lbam_fast.ops.dispatch import CPU, REFERENCE, BackendError, backend, chosen, fell_back, implementation, skips
from lbam_fast.ops.regions import Tracker
from lbam_fast.ops.runtime.graphs import capturing
from lbam_fast.ops.runtime.prepared import traced
from lbam_fast.ops.runtime.session import Session, clear, spares

__all__ = [
    "CPU",
    "REFERENCE",
    "Affine",
    "BackendError",
    "Gate",
    "Regions",
    "Session",
    "Tracker",
    "Wanted",
    "attend",
    "backend",
    "capturing",
    "chosen",
    "clear",
    "corrected",
    "correction_input",
    "cpu",
    "damaged_input",
    "decode_with_map",
    "decode_with_statistics",
    "deconvolution",
    "encode",
    "encode_with_map",
    "encode_with_statistics",
    "fell_back",
    "mask_step",
    "reconstruct",
    "skips",
    "spares",
    "traced",
    "working_dtype",
]

_Pair = tuple[Tensor, Tensor]
_Triple = tuple[Tensor, Tensor, Tensor]
_Quadruple = tuple[Tensor, Tensor, Tensor, Tensor]


def encode(
    x: Tensor, u: Tensor, weight: Tensor, mask_weight: Tensor, gate: Gate, affine: Affine, wanted: Wanted, regions: Regions | None
) -> _Quadruple:
    """An encoder layer: F = conv(x) and m = conv(u), ``y = leaky(scale * F * g_A(m) + shift)`` (g_A: Eqn. 9) and g_M(m) (Eqn. 8).

    x [N, C, H, W], u [N, C_m, H, W]; mask_weight 4x4 or 3x3. Returns (y, g_M(m), F, m), each [N, C_out, H/2, W/2]; g_M(m) if
    ``wanted.update``, F and m if ``wanted.keep``, which gradients need. regions: what of m is known, or None.
    """
    return _run(definitions.encode, (x, u), (weight, mask_weight), gate, affine, wanted, regions)


def encode_with_map(x: Tensor, weight: Tensor, attention: Tensor, affine: Affine) -> Tensor:
    """The features' half of ``encode`` under a map that is known: x [N, C, H, W], attention [N or 1, C_out, H/2, W/2]."""
    return _run(definitions.encode_with_map, (x,), (weight, attention), affine)


def encode_with_statistics(x: Tensor, u: Tensor, weight: Tensor, mask_weight: Tensor, scalars: Tensor) -> _Quadruple:
    """The convolutions of ``encode``, and of ``F * g_A(m)`` what BatchNorm needs: (F, m, mean, biased variance), [C_out] each."""
    return _run(definitions.encode_with_statistics, (x, u), (weight, mask_weight), scalars)


def mask_step(u: Tensor, weight: Tensor, gate: Gate, wanted: Wanted, regions: Regions | None) -> _Triple:
    """A layer of a mask chain, m = conv(u): (g_A(m), g_M(m), m), each [N, C_out, H/2, W/2] (Eqns. 8 and 9).

    g_M(m) if ``wanted.update``; if ``wanted.keep``, which gradients need, m in place of the map, which the CPU's kernels give in
    float32.
    """
    return _run(definitions.mask_step, (u,), (weight,), gate, wanted, regions)


def decode_with_map(
    skip: Tensor | None, own: Tensor, skip_weight: Tensor | None, own_weight: Tensor, attention: Tensor, affine: Affine
) -> Tensor:
    """A decoder layer: ``leaky(scale * (deconv(skip) + deconv(own)) * attention + shift)`` (Eqn. 12), never joining its inputs.

    skip, own [N, C, H, W]; attention [N or 1, C_out, 2H, 2W]; returns [N, C_out, 2H, 2W].
    """
    return _run(definitions.decode_with_map, (skip, own), (skip_weight, own_weight, attention), affine)


def decode_with_statistics(
    skip: Tensor | None, own: Tensor, skip_weight: Tensor | None, own_weight: Tensor, m: Tensor, scalars: Tensor
) -> _Triple:
    """The transposed convolution of ``decode_with_map``, and what BatchNorm needs: (F, mean, biased variance)."""
    return _run(definitions.decode_with_statistics, (skip, own), (skip_weight, own_weight, m), scalars)


def reconstruct(skip: Tensor, own: Tensor, skip_weight: Tensor, own_weight: Tensor, form: str) -> Tensor:
    """The last decoder layer, [N, 3, 2H, 2W] in [0, 1]. form: "tanh", ``(tanh(x) + 1) / 2``, or "abs", ``|tanh(x)|``."""
    return _run(definitions.reconstruct, (skip, own), (skip_weight, own_weight), form)


def attend(features: Tensor, m: Tensor, gate: Gate, affine: Affine, update: bool) -> _Pair:
    """What follows the convolutions of ``encode``: (y, g_M(m)) of F and m [N, C, H, W]."""
    return _run(definitions.attend, (features, m), (), gate, affine, update)


def deconvolution(skip: Tensor | None, own: Tensor, skip_weight: Tensor | None, own_weight: Tensor) -> Tensor:
    """The transposed convolution of ``decode_with_map`` alone: [N, C_out, 2H, 2W]."""
    return _run(definitions.deconvolution, (skip, own), (skip_weight, own_weight))


def _run(op: Any, inputs: Sequence[Tensor | None], filters: Sequence[Tensor | None], *settings: object) -> Any:
    """The op with ``inputs`` and ``filters`` in autocast's dtype, where autocast is on, and without autocast inside.

    Where no gradients are wanted, the compiled kernels round the filters themselves, once.
    """
    device = next(x.device for x in inputs if x is not None)
    if not torch.is_autocast_enabled(device.type):
        return op(*inputs, *filters, *settings)
    dtype = torch.get_autocast_dtype(device.type)
    inputs = [None if x is None else x.to(dtype) for x in inputs]
    if torch.is_grad_enabled() or chosen(device, dtype) != CPU:
        filters = [None if x is None else x.to(dtype) for x in filters]
    with torch.autocast(device.type, enabled=False):
        return op(*inputs, *filters, *settings)


def working_dtype(x: Tensor) -> torch.dtype:
    """The dtype that these functions compute ``x`` in: autocast's where that is on, else its own."""
    return torch.get_autocast_dtype(x.device.type) if torch.is_autocast_enabled(x.device.type) else x.dtype


def damaged_input(image: Tensor, mask: Tensor, channels: int) -> Tensor:
    """``reference.damaged_input``, by the backend's kernel if it has one: then in the dtype that the ops compute in."""
    name = chosen(image.device, image.dtype)
    own = None
    if name != REFERENCE and not torch.is_grad_enabled() and not traced():
        dtype = working_dtype(image)
        if chosen(image.device, dtype) == name:
            own = getattr(implementation(image.device, dtype), "damaged_input", None)
    return reference.damaged_input(image, mask, channels) if own is None else own(image, mask, channels, dtype)


def correction_input(image: Tensor, mask: Tensor, trend: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """``reference.correction_input``, in one pass by the compiled kernels where they run and no gradient of it is wanted."""
    wanted = torch.is_grad_enabled() and (image.requires_grad or (trend is not None and trend.requires_grad))
    if wanted or not _compiled(image):
        return reference.correction_input(image, mask, trend)
    return cpu.correction_input(image.detach(), mask, trend)


def corrected(base: Tensor, y: Tensor) -> Tensor:
    """``reference.corrected``. Where compiled kernels run and no gradients are wanted, the result takes the place of ``base``."""
    if torch.is_grad_enabled() or not _compiled(base):
        return reference.corrected(base, y)
    return cpu.corrected(base, y)


def _compiled(x: Tensor) -> bool:
    """Whether the compiled kernels take it as it is."""
    return x.dtype in (torch.float32, torch.bfloat16) and chosen(x.device, torch.float32) == CPU and not traced()
