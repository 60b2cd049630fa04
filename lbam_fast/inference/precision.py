"""Which dtype a precision means on a device."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch

from lbam_fast import native
from lbam_fast.devices import resolve_device
from lbam_fast.inference.errors import InpaintError

Precision = Literal["auto", "fp32", "bf16", "fp16"]
_DTYPES = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}
_BFLOAT16_FROM, _FLOAT16_FROM = (8, 0), (7, 0)
"""Compute capabilities of GPUs with products in these dtypes."""


@dataclass(frozen=True)
class Chosen:
    """A dtype by its name, and why it was chosen."""

    dtype: str
    reason: str


def resolve_precision(precision: str, device: str | torch.device = "auto") -> Chosen:
    """The dtype of a precision; "auto" is the fastest that the device computes in by itself: bfloat16 or float16 where it has
    products in them, else float32. Raises InpaintError for other names, ConfigError for the device.
    """
    if precision not in get_args(Precision):
        raise InpaintError(f"precision is {precision!r}, expected one of {', '.join(get_args(Precision))}")
    if precision != "auto":
        return Chosen(_DTYPES[precision], "as asked for")
    found = resolve_device(device)
    if found.type == "cuda":
        return _on_gpu(torch.cuda.get_device_capability(found), torch.cuda.get_device_name(found))
    if found.type != "cpu":
        return Chosen("float32", f"auto: nothing is known of {found.type}")
    missing = native.unavailable("cpu")
    instructions = "" if missing else native.instruction_set()
    if instructions == "avx512bf16":
        return Chosen("bfloat16", "auto: the processor has instructions for it")
    return Chosen("float32", f"auto: {'no compiled kernels' if missing else f'a processor with {instructions}'}, no bfloat16")


def _on_gpu(capability: tuple[int, int], name: str) -> Chosen:
    why = f"auto: {name}, compute capability {capability[0]}.{capability[1]}"
    if capability >= _BFLOAT16_FROM:
        return Chosen("bfloat16", why)
    return Chosen("float16" if capability >= _FLOAT16_FROM else "float32", why)
