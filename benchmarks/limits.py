"""The limit beside the result: what the device can do at most, and hence the least time for a piece of work."""

# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import torch
from accounting import Layer, floor_seconds, layers
from peers import CPU_DTYPES, CUDA_DTYPES, HALVES, precision
from rows import Row
from timing import Quartiles, device_clock
from workload import Case

ROUNDS = 7
SIDES = {"cuda": 8192, "cpu": 2048}
"""Of the products."""
ITEM_SIZE = {"fp32": 4, "tf32": 4, "bf16": 2, "fp16": 2}


@dataclass(frozen=True)
class Limits:
    """Quartiles of measured rates: bytes per second of a large copy, read and written; flop per second of the fastest product."""

    copy: Quartiles
    matmul: dict[str, Quartiles]


@lru_cache(maxsize=1)
def limits(device: str) -> Limits:
    """Measured once for a run, in about 3 seconds, on random data."""
    on_gpu = device.startswith("cuda")
    source = torch.rand((2048 if on_gpu else 256) << 18, device=device)
    target = torch.empty_like(source)
    copy = _rate(lambda: target.copy_(source), device, 2 * source.nbytes)
    dtypes = CUDA_DTYPES if on_gpu else CPU_DTYPES
    return Limits(copy, {dtype: _matmul(device, dtype) for dtype in dtypes})


@torch.no_grad()
def _matmul(device: str, dtype: str) -> Quartiles:
    """Of the plain product and, on a CPU with oneDNN, of its product with packed weights, which can be half as fast again."""
    side = SIDES[torch.device(device).type]
    if device == "cpu" and dtype == "bf16" and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        side = 256  # computed one by one, it takes minutes
    a, b = (torch.randn(side, side, device=device, dtype=HALVES.get(dtype, torch.float32)) for _ in range(2))
    works: list[Callable[[], object]] = [lambda: a @ b]
    if device == "cpu" and torch.backends.mkldnn.is_available():
        with contextlib.suppress(RuntimeError):  # of bfloat16 on a processor that has no instructions for it
            packed = torch.ops.mkldnn._reorder_linear_weight(b, side)
            works.append(lambda: torch.ops.mkldnn._linear_pointwise(a, packed, None, "none", [], ""))
    with precision(device, dtype):
        return max(_rate(work, device, 2 * side**3) for work in works)


def rows(device: str) -> list[Row]:
    """The limits as rows for the records."""
    measured = limits(device)

    def row(case: str, metric: str, rate: Quartiles, dtype: str) -> Row:
        params = {"device": device, "dtype": dtype}
        return Row("limits", case, "PyTorch", metric, median=rate.median, q1=rate.q1, q3=rate.q3, rounds=ROUNDS, params=params)

    products = [row(f"matrix product {dtype}", "flop_per_second", rate, dtype) for dtype, rate in measured.matmul.items()]
    return [row("copy", "bytes_per_second", measured.copy, "fp32"), *products]


def network_work(case: Case, dtype: str) -> dict[str, float]:
    """Operations and least bytes of a whole forward pass, and its floor: the sum of its layers' floors.

    With one mask for many images both mask chains are left out: they need not run.
    """
    chains = case.mask != "shared"
    return _work(case, dtype, lambda layer: chains or layer.group in ("encoder", "decoder"))


def layer_work(case: Case, dtype: str) -> dict[str, float]:
    """The same of the one layer that the case names; an encoder layer is two convolutions."""
    return _work(case, dtype, lambda layer: layer.name.removesuffix(".mask").replace("reverse", "reverseConv") == case.layer)


def _rate(work: Callable[[], object], device: str, amount: float, least_seconds: float = 0.2) -> Quartiles:
    clock = device_clock(device)
    start = time.perf_counter()
    while time.perf_counter() - start < least_seconds:
        clock(work)
    return Quartiles.of([amount / clock(work) for _ in range(ROUNDS)])


def _work(case: Case, dtype: str, wanted: Callable[[Layer], bool]) -> dict[str, float]:
    found = [layer for layer in layers(case.config, case.height, case.width, case.batch) if wanted(layer)]
    measured, size = limits(case.device), ITEM_SIZE[dtype]
    rate, bandwidth = measured.matmul[dtype].median, measured.copy.median
    return {
        "flop": sum(layer.flop for layer in found),
        "bytes": sum(layer.bytes(size) for layer in found),
        "floor_seconds": sum(floor_seconds(layer, rate, bandwidth, size) for layer in found),
    }
