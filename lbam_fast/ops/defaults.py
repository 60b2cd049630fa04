"""Which route an op takes where nothing was measured, by the architecture of the GPU.

Not yet measured: the table follows from counting bytes and launches, docs/gpu-notes.md. In 16-bit types and TF32 a fused kernel
saves passes over memory; in full float32, where tensor cores do not help, the library's convolutions are the safer choice.
"""

from __future__ import annotations

from collections.abc import Collection

KERNEL, CUDA, LIBRARY = "kernel", "cuda", "library"

_FUSED = {"convolution": LIBRARY, "deconvolution": LIBRARY}
"""For ops that are not ``KERNEL``: bare convolutions leave nothing to fuse."""
TABLE: dict[int, dict[str, str]] = {8: _FUSED, 9: _FUSED, 10: _FUSED, 12: _FUSED}
"""By the major number of the compute capability: Ampere and Ada, Hopper, Blackwell."""


def default(op: str, capability: int, full_float32: bool, ways: Collection[str]) -> str:
    """The name of one of ``ways``, of which there is at least one."""
    wanted = TABLE.get(capability, {}).get(op, KERNEL) if capability in TABLE and not full_float32 else LIBRARY
    return next((name for name in (wanted, KERNEL, CUDA, LIBRARY) if name in ways), next(iter(ways)))
