"""The compiled kernels, ``torch.ops.lbam_native``: whether they are there, and why not.

They are optional: where the package was installed without a compiler, everything else works. docs/building.md says how they are
built and what the ops take.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

FOLDER = Path(__file__).parent / "_native"
INSTRUCTION_SETS = ("plain", "avx2", "avx512", "avx512bf16")


class NativeError(RuntimeError):
    """The compiled kernels cannot be used here; the message says why and what to do."""


def load() -> None:
    """Make ``torch.ops.lbam_native`` ready. Raises NativeError, each time with the reason of the first."""
    if reason := unavailable():
        raise NativeError(f"the compiled CPU kernels cannot be used: {reason}")


@cache
def unavailable() -> str:
    """Why the kernels for the CPU cannot be used, and what to do; "" if they can, and then they are loaded."""
    if missing := not_built("cpu"):
        return missing
    try:
        import torch

        torch.ops.load_library(FOLDER / "lbam_native_cpu.so")  # type: ignore[no-untyped-call]
        torch.ops.lbam_native.instruction_set()
    except Exception as error:  # whatever a broken library or a wrong LBAM_CPU raises
        return f"{error} ({error.__cause__})" if error.__cause__ else str(error)
    return ""


def not_built(device: str) -> str:
    """Why no kernels were built for ``device``, "cpu" or "cuda", when the package was installed; "" if they were."""
    try:
        status = json.loads((FOLDER / "status.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return "they were not built; install lbam-fast with pip, from its repository: pip install ."
    return str(status[device])


def instruction_set() -> str:
    """The one of INSTRUCTION_SETS that runs: this processor's best, or what the variable LBAM_CPU names. Raises NativeError."""
    load()
    import torch

    return INSTRUCTION_SETS[torch.ops.lbam_native.instruction_set()]
