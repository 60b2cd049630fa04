"""What is made of parameters once and used until they change: packed filters, sums of taps, clamped scalars.

A tensor is known by its memory and its version, which PyTorch counts up at every operation in place, so in ``load_state_dict``,
optimisers and ``project_``; ``to()`` brings other memory. Writing through ``.data`` or NumPy goes unseen: call ``forget`` then.
"""

# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef

_Key = tuple[object, ...]
_lock = threading.Lock()
_kept: dict[_Key, tuple[tuple[int, ...], list[StorageWeakRef], Tensor]] = {}


def prepared(kind: str, make: Callable[..., Tensor], *parameters: Tensor) -> Tensor:
    """``make(*parameters)``, or what it gave for these very tensors. ``kind`` names it. Safe under threads; without gradients."""
    if traced() or any(x.is_inference() for x in parameters):  # which have no version
        return make(*parameters)
    key: _Key = (kind, *map(identity, parameters))
    versions = tuple(x._version for x in parameters)
    with _lock:
        found = _kept.get(key)
        if found is not None and found[0] == versions:
            return found[2]
    with torch.inference_mode(False), torch.no_grad():  # so that it has a version itself
        made = make(*parameters)
    # A weak reference keeps a storage's identity from being used again, not its memory.
    storages = [StorageWeakRef(x.untyped_storage()) for x in parameters]
    with _lock:
        for old in [old for old, (_, owners, _) in _kept.items() if any(owner.expired() for owner in owners)]:
            del _kept[old]
        _kept[key] = versions, storages, made
    return made


def traced() -> bool:
    """Whether PyTorch writes down what runs, to compile, export or keep it: then nothing is kept, and only ops may run."""
    return torch.compiler.is_compiling() or torch.jit.is_tracing()  # type: ignore[attr-defined]


def forget() -> None:
    """Free everything; it is made again when it is needed."""
    with _lock:
        _kept.clear()


def identity(x: Tensor) -> tuple[Any, ...]:
    """What tells a tensor from others, as long as its storage is alive or referred to weakly; its version does the rest."""
    return x.untyped_storage()._cdata, x.storage_offset(), x.shape, x.stride(), x.dtype  # type: ignore[attr-defined]
