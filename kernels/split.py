"""Products split along their inner axis, where a layer has too few positions and channels to keep a GPU busy.

Each of several programs adds a share of the inner axis, and stores it in float32. The program that arrives last adds all these
partial sums in the order of the shares, so that the bits do not depend on who that is, and does all that follows. No program
waits for another.
"""

from __future__ import annotations

from functools import cache

import torch
import triton
import triton.language as tl
from torch import Tensor

from . import counters

MULTIPROCESSORS = 132
"""Of a GPU that is not there: those of an H100."""

ENOUGH_PROGRAMS = 128
"""With fewer, multiprocessors of a large GPU stay idle: smaller blocks are worth their extra loads."""

LEAST_SHARE = 512
"""The shortest share of the inner axis that is worth a program, and what it costs to add up the shares."""


def splits_for(programs: int, inner: int, multiprocessors: int) -> int:
    """Into how many shares, a power of 2, to split an inner axis of that length; 1 leaves it whole."""
    most = min(multiprocessors // programs, inner // LEAST_SHARE)
    return 1 << max(0, most.bit_length() - 1)


def multiprocessors_of(device: torch.device) -> int:
    """Of that GPU, or MULTIPROCESSORS."""
    return _multiprocessors(device.index) if device.type == "cuda" else MULTIPROCESSORS


@cache
def _multiprocessors(index: int | None) -> int:
    return int(torch.cuda.get_device_properties(index).multi_processor_count)


def workspace(programs: int, splits: int, halves: int, size: int, device: torch.device) -> dict[str, Tensor]:
    """For the partial sums of ``halves`` products of that size, and to count the programs of each of so many blocks.

    The allocator gives it again to later work of the same stream or graph alone.
    """
    partial = torch.empty((splits, halves, size), dtype=torch.float32, device=device)
    return {"partial": partial, "arrived": counters.zeros(programs, device)}


@triton.jit
def share_of(steps):
    """The steps [first, last) of this program: those of its number along the second axis of the grid."""
    each = tl.cdiv(steps, tl.num_programs(1))
    first = tl.program_id(1) * each
    return first, tl.minimum(first + each, steps)


@triton.jit
def store_partial_sum(partial, product, half, HALVES: tl.constexpr, at, inside, size):
    """Into ``partial`` [splits, HALVES, size], at this program's split."""
    tl.store(partial + (tl.program_id(1).to(tl.int64) * HALVES + half) * size + at, product, mask=inside)


@triton.jit
def is_last(arrived):
    """Whether the partial sums of this block are all stored, by every program that shares it; true for one of them.

    The barrier orders the stores of all threads before the atomic of one; atomics in acquire-release order hand on, each to the
    next, all that came before; and the result reaches the other threads across a second barrier, before their loads.
    """
    tl.debug_barrier()  # Triton puts none before an atomic, release or not (triton-lang/triton#10816)
    return tl.atomic_add(arrived + tl.program_id(0), 1, sem="acq_rel", scope="gpu") == tl.num_programs(1) - 1


@triton.jit
def sum_of(partial, half, HALVES: tl.constexpr, at, inside, size, SPLITS: tl.constexpr):
    """One product, of its partial sums in order: past the first-level cache, which other multiprocessors do not write to."""
    total = tl.load(partial + half * size + at, mask=inside, other=0.0, cache_modifier=".cg")
    for split in tl.static_range(1, SPLITS):
        total += tl.load(partial + (split * HALVES + half) * size + at, mask=inside, other=0.0, cache_modifier=".cg")
    return total
