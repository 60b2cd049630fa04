"""Microseconds that the choice of a route adds to a call that has been made before: ``python benchmarks/bookkeeping.py``.

On the tensors of a CPU, whose shapes, types and layouts Python reads in the time that it takes for those of a GPU.
"""

from __future__ import annotations

import timeit
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from lbam_fast.ops.arguments import Affine, Gate, Wanted
from lbam_fast.ops.autotune import Measured

CALLS, REPEATS = 200, 200
"""Short stretches and many, of which the fastest counts: nothing else got in its way."""


def calls(dtype: torch.dtype) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """The ops of inference as a layer calls them."""

    def made(*shape: int) -> Tensor:
        return torch.zeros(shape, dtype=dtype).contiguous(memory_format=torch.channels_last)

    x, y, weight = made(1, 64, 8, 8), made(1, 64, 16, 16), made(64, 64, 4, 4)
    gate, after, wanted = Gate(torch.zeros(4), torch.zeros(())), Affine(slope=0.2), Wanted(update=True, keep=False)
    yield "encode", (x, x, weight, weight, gate, after, wanted, None)
    yield "encode_with_map", (x, weight, x, after)
    yield "mask_step", (x, weight, gate, wanted, None)
    yield "decode_with_map", (x, x, weight, weight, y, after)
    yield "reconstruct", (x, x, weight, weight, "tanh")


def microseconds(name: str, arguments: tuple[Any, ...]) -> float:
    """More than calling the route itself."""

    def nothing(*_: Any) -> None:
        pass

    op = Measured(name, {"kernel": nothing, "library": nothing})
    op(*arguments)
    whole, bare = (min(timeit.repeat(lambda f=f: f(*arguments), number=CALLS, repeat=REPEATS)) for f in (op, nothing))  # type: ignore[misc]
    return (whole - bare) / CALLS * 1e6


if __name__ == "__main__":
    for dtype in (torch.bfloat16, torch.float32):
        for name, arguments in calls(dtype):
            print(f"{microseconds(name, arguments):6.2f} us  {name}, {str(dtype).removeprefix('torch.')}")
