"""Memory for large results, used again as soon as nothing refers to it: fresh memory costs a page fault for each of its pages."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from math import prod
from typing import NamedTuple

import torch
from torch import Tensor

from lbam_fast.ops.sparing import spares

LEAST = 1 << 20
"""Elements of a result from which its memory is kept; smaller ones PyTorch's allocator has at hand."""
MOST = 1 << 30
"""Bytes that are kept while nothing uses them and fresh memory is needed; where memory is spared, none of that dtype."""

_lock = threading.Lock()


class _Owner(NamedTuple):
    """Memory, flat, and what its storage looks like while no result uses it."""

    memory: Tensor
    idle: tuple[int, int, int]

    def unused(self) -> bool:
        return _state(self.memory) == self.idle

    def moved(self) -> bool:
        return self.memory.data_ptr() != self.idle[-1]


_kept: list[_Owner] = []
"""By their last use."""


def empty(shape: tuple[int, int, int, int], dtype: torch.dtype, fresh: Callable[[Tensor], None]) -> Tensor:
    """A result [N, C, H, W] in channels_last on the CPU, uninitialised; the rest as in ``flat``."""
    if prod(shape) < LEAST:
        return torch.empty(shape, dtype=dtype, device="cpu", memory_format=torch.channels_last)
    _, channels, height, width = shape
    return _taken(shape, (channels * height * width, 1, channels * width, channels), dtype, fresh)


def flat(count: int, dtype: torch.dtype, fresh: Callable[[Tensor], None]) -> Tensor:
    """[count] elements on the CPU, uninitialised.

    ``fresh`` is called with new memory before it is used. A tensor's memory is used again when it and all its views are gone.
    """
    return torch.empty(count, dtype=dtype, device="cpu") if count < LEAST else _taken((count,), (1,), dtype, fresh)


def clear() -> None:
    """Free what nothing uses."""
    with _lock:
        _kept.clear()


def _taken(shape: tuple[int, ...], strides: tuple[int, ...], dtype: torch.dtype, fresh: Callable[[Tensor], None]) -> Tensor:
    count = prod(shape)
    with _lock:
        _kept[:] = [x for x in _kept if not x.moved()]
        fitting = [x for x in _kept if x.memory.dtype == dtype and count <= x.memory.numel() < 1.5 * count and x.unused()]
        if fitting:
            owner = min(fitting, key=lambda x: x.memory.numel())
            _drop(owner)
        else:
            unused = [x for x in _kept if x.unused()]
            while unused and sum(x.memory.nbytes for x in unused) > MOST:
                _drop(unused.pop(0))
            if spares():
                _kept[:] = [x for x in _kept if x.memory.dtype != dtype or not x.unused()]
            del unused
            with torch.inference_mode(False):  # what is made of it has the mode of its time
                memory = torch.empty(count, dtype=dtype, device="cpu")
            fresh(memory)
            owner = _Owner(memory, _state(memory))
        _kept.append(owner)
        # No view, which would carry the mode that it was made in; and in use before another thread looks.
        return torch.empty(0, dtype=dtype, device="cpu").set_(owner.memory.untyped_storage(), 0, shape, strides)


def _drop(owner: _Owner) -> None:
    del _kept[next(i for i, x in enumerate(_kept) if x is owner)]


def _state(memory: Tensor) -> tuple[int, int, int]:
    """References to the storage, from tensors and from Python, and its address: ``share_memory_`` gives it another."""
    storage = memory.untyped_storage()
    return int(torch._C._storage_Use_Count(storage._cdata)), sys.getrefcount(storage), storage.data_ptr()  # type: ignore[attr-defined]
