"""Arrays to a device and back: on a GPU through pinned memory, in a stream of copies beside the one that computes."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor


def upload(array: NDArray[Any], device: torch.device, dtype: torch.dtype) -> Tensor:
    """The array as a tensor there. On a GPU the caller's stream waits for it, the caller does not."""
    host = torch.from_numpy(array)
    if device.type != "cuda":
        return host.to(device, dtype)
    copies, current = _copies(device), torch.cuda.current_stream(device)
    with torch.cuda.stream(copies):
        there = host.pin_memory().to(device, non_blocking=True)
    current.wait_stream(copies)
    there.record_stream(current)
    return there.to(dtype)


def download(x: Tensor) -> Callable[[], NDArray[Any]]:
    """What gives the tensor as an array: on a GPU it is computed and copied meanwhile, and waited for only then."""
    if x.device.type != "cuda":
        array = x.cpu().numpy()
        return lambda: array
    copies = _copies(x.device)
    copies.wait_stream(torch.cuda.current_stream(x.device))
    with torch.cuda.stream(copies):
        host = torch.empty(x.shape, dtype=x.dtype, pin_memory=True)
        host.copy_(x, non_blocking=True)
        done = copies.record_event()
    x.record_stream(copies)

    def wait() -> NDArray[Any]:
        done.synchronize()
        return host.numpy()

    return wait


@cache
def _copies(device: torch.device) -> torch.cuda.Stream:
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
