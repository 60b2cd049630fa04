"""Memory for large results, used again as soon as nothing refers to it: fresh memory costs a page fault for each of its pages."""

from __future__ import annotations

import threading
from collections.abc import Callable
from math import prod
from typing import NamedTuple

import torch
from torch import Tensor

LEAST = 1 << 20
"""Elements of a result from which its memory is kept; smaller ones PyTorch's allocator has at hand."""
MOST = 1 << 30
"""Bytes that are kept while nothing uses them."""

_lock = threading.Lock()


class _Owner(NamedTuple):
    """Memory, flat, and how many references its storage has while no result uses it."""

    memory: Tensor
    idle: int

    def unused(self) -> bool:
        return _references(self.memory) == self.idle


_kept: list[_Owner] = []
"""By their last use."""


def empty(like: Tensor, channels: int, height: int, width: int, fresh: Callable[[Tensor], None]) -> Tensor:
    """A result [N, channels, height, width] in channels_last, uninitialised, in the dtype and on the device of ``like``.

    ``fresh`` is called with new memory before it is used. A tensor's memory is used again when it and all its views are gone.
    """
    shape = like.shape[0], channels, height, width
    if prod(shape) < LEAST:
        return torch.empty(shape, dtype=like.dtype, device=like.device, memory_format=torch.channels_last)
    memory = _memory(like, prod(shape), fresh)[: prod(shape)]
    return memory.view(shape[0], height, width, channels).permute(0, 3, 1, 2)


def clear() -> None:
    """Free what nothing uses."""
    with _lock:
        _kept.clear()


def _memory(like: Tensor, count: int, fresh: Callable[[Tensor], None]) -> Tensor:
    with _lock:
        fitting = [x for x in _kept if x.memory.dtype == like.dtype and count <= x.memory.numel() < 1.5 * count and x.unused()]
        if fitting:
            owner = min(fitting, key=lambda x: x.memory.numel())
            _drop(owner)
        else:
            memory = torch.empty(count, dtype=like.dtype, device=like.device)
            fresh(memory)
            owner = _Owner(memory, _references(memory))
            unused = [x for x in _kept if x.unused()]
            while unused and sum(x.memory.nbytes for x in unused) > MOST:
                _drop(unused.pop(0))
        _kept.append(owner)
        return owner.memory


def _drop(owner: _Owner) -> None:
    del _kept[next(i for i, x in enumerate(_kept) if x is owner)]


def _references(memory: Tensor) -> int:
    return int(torch._C._storage_Use_Count(memory.untyped_storage()._cdata))  # type: ignore[attr-defined]
