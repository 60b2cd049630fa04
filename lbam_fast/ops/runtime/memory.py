"""Memory for large results, used again as soon as nothing refers to it: fresh memory costs a page fault for each of its pages."""

from __future__ import annotations

import itertools
import mmap
import sys
import threading
from collections.abc import Callable
from math import prod
from typing import NamedTuple

import torch
from torch import Tensor

LEAST = 1 << 16
"""Elements of a result from which its memory is kept; smaller ones PyTorch's allocator has at hand."""
MAPPED = 8 << 20
"""Bytes below which memory is mapped by itself, so that what is given back goes to the system: among results of ever other sizes
the heap of a process would grow by gaps. Larger memory is the faster for coming from the heap."""
LARGE = 1 << 20
"""Elements from which idle memory is worth giving back where memory is spared."""
MOST = 1 << 30
"""Bytes that are kept while nothing uses them and fresh memory is needed."""
LONG = 2
"""Calls of the network after the last that used it for which idle memory is kept."""

_starts = range(0, 4096, 320)
_start = itertools.cycle(_starts)

Fresh = Callable[[Tensor], None]
"""Is called with new memory before it is used."""


class _Owner(NamedTuple):
    """Memory, flat, and what its storage looks like while no result uses it."""

    memory: Tensor
    idle: tuple[int, int, int]
    last: int  # call that used it

    def unused(self) -> bool:
        return _state(self.memory) == self.idle

    def moved(self) -> bool:
        return self.memory.data_ptr() != self.idle[-1]


class Memory:
    """Gives memory, and takes it again when its tensor and all views of that are gone. Safe under threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: list[_Owner] = []  # by their last use
        self._calls = 0

    def count_call(self) -> None:
        """Another call of the network: gives back what none of the last ones used."""
        with self._lock:
            self._calls += 1
            self._kept = [x for x in self._kept if self._calls - x.last <= LONG or not x.unused()]

    def empty(self, shape: tuple[int, int, int, int], dtype: torch.dtype, fresh: Fresh, spare: bool) -> Tensor:
        """A result [N, C, H, W] in channels_last on the CPU, uninitialised. spare: idle memory is given back first."""
        if prod(shape) < LEAST:
            return torch.empty(shape, dtype=dtype, device="cpu", memory_format=torch.channels_last)
        _, channels, height, width = shape
        return self._take(shape, (channels * height * width, 1, channels * width, channels), dtype, fresh, spare)

    def flat(self, count: int, dtype: torch.dtype, fresh: Fresh, spare: bool) -> Tensor:
        """[count] elements on the CPU, uninitialised."""
        if count < LEAST:
            return torch.empty(count, dtype=dtype, device="cpu")
        return self._take((count,), (1,), dtype, fresh, spare)

    def clear(self) -> None:
        """Free what nothing uses."""
        with self._lock:
            self._kept.clear()

    def _take(self, shape: tuple[int, ...], strides: tuple[int, ...], dtype: torch.dtype, fresh: Fresh, spare: bool) -> Tensor:
        count = prod(shape)
        with self._lock:
            self._kept = [x for x in self._kept if not x.moved()]
            fits = [x for x in self._kept if x.memory.dtype == dtype and count <= x.memory.numel() < 1.5 * count and x.unused()]
            if fits:
                owner = min(reversed(fits), key=lambda x: x.memory.numel())  # of equals that which caches may hold yet
                self._drop(owner)
            else:
                self._give_back(dtype, spare)
                with torch.inference_mode(False):  # what is made of it has the mode of its time
                    memory = _mapped(count, dtype) if count * dtype.itemsize < MAPPED else torch.empty(count, dtype=dtype)
                fresh(memory)
                owner = _Owner(memory, _state(memory), 0)
            self._kept.append(owner._replace(last=self._calls))
            # No view, which would carry the mode that it was made in; and in use before another thread looks.
            return torch.empty(0, dtype=dtype, device="cpu").set_(owner.memory.untyped_storage(), 0, shape, strides)

    def _give_back(self, dtype: torch.dtype, spare: bool) -> None:
        unused = [x for x in self._kept if x.unused()]
        while unused and sum(x.memory.nbytes for x in unused) > MOST:
            self._drop(unused.pop(0))
        if spare:
            self._kept = [x for x in self._kept if x.memory.dtype != dtype or x.memory.numel() < LARGE or not x.unused()]

    def _drop(self, owner: _Owner) -> None:
        del self._kept[next(i for i, x in enumerate(self._kept) if x is owner)]


def _mapped(count: int, dtype: torch.dtype) -> Tensor:
    """Begins at ever other places of a page: of what lies at the same one, caches hold only few side by side."""
    own = {} if sys.platform == "win32" else {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS}
    pages = mmap.mmap(-1, _starts.stop + count * dtype.itemsize, **own)
    return torch.frombuffer(pages, dtype=dtype, count=count, offset=next(_start))


def _state(memory: Tensor) -> tuple[int, int, int]:
    """References to the storage, from tensors and from Python, and its address: ``share_memory_`` gives it another."""
    storage = memory.untyped_storage()
    return int(torch._C._storage_Use_Count(storage._cdata)), sys.getrefcount(storage), storage.data_ptr()  # type: ignore[attr-defined]
