"""Filters in the layout that the compiled kernels for the CPU read, when Winograd's products are the faster ones, and a filter's
gradient where they are not."""

# mypy: disable-error-code="no-any-return"

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from lbam_fast import native
from lbam_fast.ops.runtime import replay, session

WINOGRAD_FROM = 64
"""Positions of a layer, of each phase where there are four, from which Winograd's products are the faster ones."""

WINOGRAD_ANEW_FROM = 1024
"""The same where the filters are packed for this one product: in training, and for large pictures."""

LARGE_TILES_FROM = 24
"""Positions for each channel from which tiles of nine results are faster than those of four: nearly twice the weights to read."""

LARGE_TILES_SIDE = 40
"""Lines and columns of a layer from which what its last tiles have beyond them matters little."""

AT_ONCE = 1 << 22
"""Values of windows that are laid out at a time for a filter's gradient, 16 MB in float32; of one picture at least."""


def compiled() -> Any:
    """The compiled ops, or what records their calls."""
    return replay.recording() or kernels()


@cache
def kernels() -> Any:
    """The ops of the compiled kernels. Raises NativeError."""
    return native.ops()


@cache
def _multiplies_bfloat16() -> bool:
    return compiled().bfloat16_products()


def winograd_tile(x: Tensor, size: Sequence[int], anew: bool = False, whole: bool = False) -> int:
    """By Winograd, windows in so many lines and columns go in tiles of so many results a side, 2 or 3; without it 0.

    That takes less arithmetic, and two to four times the weights. ``anew``: with filters packed for them alone. ``whole``:
    all results are computed; where some are left out, small tiles spare more.
    """
    positions, channels = len(x) * math.prod(size), x.shape[1]
    least = WINOGRAD_ANEW_FROM if anew or session.spares() else WINOGRAD_FROM
    if positions < least or channels < 16 or channels % 2:
        return 0
    return 3 if whole and min(size) >= LARGE_TILES_SIDE and positions >= LARGE_TILES_FROM * channels else 2


def packed(
    dtype: torch.dtype, first: Tensor | None, weight: Tensor, transposed: bool, tile: int, in_halves: bool = False
) -> Tensor:
    """Filters as the kernels read them for products of ``dtype``: of layers ``transposed`` one or two, else one.

    ``in_halves``: those of a transposed layer whose results nothing follows that would hide the rounding of its filters: what
    that takes from the outputs comes after them.
    """
    in_halves = in_halves and _element(dtype) == torch.bfloat16
    if session.spares() and not in_halves:  # which are few and small
        return pack_anew(dtype, first, weight, transposed, tile)

    def make(*given: Tensor) -> Tensor:
        if in_halves:
            given = tuple(torch.cat([x.bfloat16().float(), x.float() - x.bfloat16().float()], dim=1) for x in given)
        return _panels(dtype, given[:-1], given[-1], transposed, tile, partial(torch.empty, device="cpu"))

    how = (f" in tiles of {tile}" if tile else "") + " in halves" * in_halves
    kind = f"{'decoder' if transposed else 'encoder'}'s filters for {dtype}{how}"
    return session.current().prepared(kind, make, *(weight for weight in (first, weight) if weight is not None))


def pack_anew(dtype: torch.dtype, first: Tensor | None, weight: Tensor, transposed: bool, tile: int) -> Tensor:
    """``packed`` for one use."""

    def memory(count: int, dtype: torch.dtype) -> Tensor:
        return session.current().flat(count, dtype, compiled().in_large_pages)

    return _panels(dtype, () if first is None else (first,), weight, transposed, tile, memory)


def _panels(
    dtype: torch.dtype,
    first: tuple[Tensor, ...],
    weight: Tensor,
    transposed: bool,
    tile: int,
    memory: Callable[..., Tensor],
) -> Tensor:
    channels = sum(x.shape[0 if transposed else 1] for x in (*first, weight))
    outputs = weight.shape[1 if transposed else 0]
    out = memory(compiled().panel_elements(channels, outputs, transposed, tile), dtype=_element(dtype))
    compiled().pack(first[0].float() if first else None, weight.float(), transposed, tile, out)
    return out


def _element(dtype: torch.dtype) -> torch.dtype:
    """Of the products of pictures of that dtype."""
    return torch.bfloat16 if dtype == torch.bfloat16 and _multiplies_bfloat16() else torch.float32


def filter_product(small: Tensor, large: Tensor, weight: Tensor) -> Tensor:
    """``eager.filter_gradient`` as one product of matrices, in float32.

    PyTorch's own convolutions lay the gradient of a filter in channels_last out anew, which for deep layers takes several times
    as long as the arithmetic.
    """
    last = weight.is_contiguous(memory_format=torch.channels_last)
    count, channels = len(small), weight.shape[1]
    share = max(1, AT_ONCE // max(1, small[0, 0].numel() * 16 * channels))
    gradient = small.new_zeros(small.shape[1], 16 * channels)
    for first in range(0, count, share):
        rows = small[first : first + share].permute(0, 2, 3, 1).flatten(0, 2)
        gradient.addmm_(rows.t(), _windows(large[first : first + share], last), beta=min(first, 1))
    return gradient.view(-1, 4, 4, channels).permute(0, 3, 1, 2) if last else gradient.view(-1, channels, 4, 4)


def _windows(x: Tensor, last: bool) -> Tensor:
    """[N, C, 2h, 2w] -> [N h w, 16 C]: the 4x4 windows that stand 2 apart, channels last or first."""
    padded = F.pad(x.permute(0, 2, 3, 1), (0, 0, 1, 1, 1, 1)).contiguous()  # [N, 2h + 2, 2w + 2, C]
    windows = padded.unfold(1, 4, 2).unfold(2, 4, 2)  # [N, h, w, C, 4, 4]
    windows = windows.permute(0, 1, 2, 4, 5, 3) if last else windows
    return windows.reshape(-1, 16 * x.shape[1])
