"""The compiled kernels, ``torch.ops.lbam_native`` and ``lbam_native_cuda``: whether they are there, and why not.

They are optional: where the package was installed without a compiler, everything else works. docs/building.md says how they are
built and what the ops take.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from lbam_fast.errors import LBAMError

FOLDER = Path(__file__).parent / "_native"
NAMESPACES = {"cpu": "lbam_native", "cuda": "lbam_native_cuda"}
"""Of the ops, by device."""
INSTRUCTION_SETS = ("plain", "avx2", "avx512", "avx512bf16")


class NativeError(LBAMError, RuntimeError):
    """The compiled kernels cannot be used here; the message says why and what to do."""


def ops(device: str = "cpu") -> Any:
    """The ops for ``device``, "cpu" or "cuda". Raises NativeError, each time with the reason of the first."""
    if reason := unavailable(device):
        raise NativeError(f"the compiled {device.upper()} kernels cannot be used: {reason}")
    import torch

    return getattr(torch.ops, NAMESPACES[device])


@cache
def unavailable(device: str = "cpu") -> str:
    """Why the kernels for ``device`` cannot be used, and what to do; "" if they can, and then they are loaded."""
    if missing := not_built(device):
        return missing
    try:
        import torch

        if device == "cuda" and not torch.cuda.is_available():
            return "PyTorch finds no CUDA device"
        torch.ops.load_library(FOLDER / f"lbam_native_{device}.so")  # type: ignore[no-untyped-call]
        _TRIALS[device](getattr(torch.ops, NAMESPACES[device]))
    except Exception as error:  # whatever a broken library or a wrong LBAM_CPU raises
        return f"{error} ({error.__cause__})" if error.__cause__ else str(error)
    return ""


def _tried_on_gpu(ops: Any) -> None:
    """Raises where the library has no code for the device."""
    import torch

    kinds = torch.ones(1, 1, 2, 2, dtype=torch.uint8, device="cuda")
    order = ops.spread(kinds)[1]
    if order.tolist() != [0]:
        raise NativeError("a kernel gave a wrong result on this device")


_TRIALS: dict[str, Callable[[Any], object]] = {"cpu": lambda ops: ops.instruction_set(), "cuda": _tried_on_gpu}


def not_built(device: str) -> str:
    """Why no kernels were built for ``device``, "cpu" or "cuda", when the package was installed; "" if they were."""
    try:
        status = json.loads((FOLDER / "status.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return "they were not built; install lbam-fast with pip, from its repository: pip install ."
    return str(status[device])


def instruction_set() -> str:
    """The one of INSTRUCTION_SETS that runs: this processor's best, or what the variable LBAM_CPU names. Raises NativeError."""
    return INSTRUCTION_SETS[ops().instruction_set()]
