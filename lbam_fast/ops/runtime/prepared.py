"""What is made of parameters once and used until they change: packed filters, sums of taps, clamped scalars.

A tensor is known by its memory and its version, which PyTorch counts up at every operation in place, so in ``load_state_dict``,
optimisers and ``project_``; ``to()`` brings other memory. Writing through ``.data`` or NumPy goes unseen.
"""

# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef

_Key = tuple[object, ...]


class Prepared:
    """What was made, by its kind and the tensors that it was made of. Safe under threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: dict[_Key, tuple[tuple[int, ...], list[StorageWeakRef], Tensor]] = {}

    def get(self, kind: str, make: Callable[..., Tensor], *parameters: Tensor) -> Tensor:
        """``make(*parameters)``, or what it gave for these very tensors. ``kind`` names it. Without gradients."""
        if traced() or not have_versions(parameters):
            return make(*parameters)
        key: _Key = (kind, *map(_identity, parameters))
        versions = tuple(x._version for x in parameters)
        with self._lock:
            found = self._kept.get(key)
            if found is not None and found[0] == versions:
                return found[2]
        with torch.inference_mode(False), torch.no_grad():  # so that it has a version itself
            made = make(*parameters)
        owners = _storages_of(parameters)
        with self._lock:
            for old in [old for old, (_, owners, _) in self._kept.items() if any(owner.expired() for owner in owners)]:
                del self._kept[old]
            self._kept[key] = versions, owners, made
        return made

    def clear(self) -> None:
        with self._lock:
            self._kept.clear()


def traced() -> bool:
    """Whether PyTorch writes down what runs, to compile, export or keep it: then nothing is kept, and only ops may run."""
    return torch.compiler.is_compiling() or torch.jit.is_tracing()  # type: ignore[attr-defined]


def have_versions(tensors: Sequence[Tensor]) -> bool:
    """Whether changes in these tensors are seen; those of inference mode have no version."""
    return not any(x.is_inference() for x in tensors)


def _storages_of(tensors: Sequence[Tensor]) -> list[StorageWeakRef]:
    """Weak references, which keep a storage's identity from being used again, not its memory."""
    return [StorageWeakRef(x.untyped_storage()) for x in tensors]


class Marks:
    """Tells whether tensors are as they were when it was last asked. Not safe under threads."""

    def __init__(self) -> None:
        self._seen: list[tuple[Any, ...]] = []
        self._storages: list[StorageWeakRef] = []

    def changed(self, tensors: Sequence[Tensor]) -> bool:
        now = [(x.untyped_storage()._cdata, x.data_ptr(), x.stride(), x._version) for x in tensors]  # type: ignore[attr-defined]
        if now == self._seen:
            return False
        self._seen, self._storages = now, _storages_of(tensors)
        return True


def _identity(x: Tensor) -> tuple[Any, ...]:
    """What tells a tensor from others, as long as its storage is alive or referred to weakly; its version does the rest."""
    return x.untyped_storage()._cdata, x.storage_offset(), x.shape, x.stride(), x.dtype  # type: ignore[attr-defined]
