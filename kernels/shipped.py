"""What is compiled for users: every kernel with the configurations that it is launched in, as data for tests and tools."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

DTYPES = {"fp32": "fp32", "tf32": "fp32", "fp16": "fp16", "bf16": "bf16"}
"""Name of a precision -> how Triton names the type of its elements in memory."""


@dataclass(frozen=True)
class Shipped:
    """One kernel in one configuration.

    name       unique; with the precision in it
    kernel     the ``triton.jit`` function
    signature  Triton's type of every run-time argument, e.g. {"x": "*bf16", "height": "i32"}
    constants  its compile-time arguments
    precision  "fp32", "tf32", "fp16" or "bf16"
    multiplies whether tensor-core instructions are expected (not in full fp32, not in thin layers)
    aligned    arguments that are divisible by 16, as the launcher sees them: all pointers and channel counts, usually
    """

    name: str
    kernel: Any
    signature: Mapping[str, str]
    constants: Mapping[str, Any]
    precision: str
    num_warps: int
    num_stages: int
    multiplies: bool
    aligned: tuple[str, ...] = field(default=())
