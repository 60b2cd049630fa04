"""The options of ``lbam-fast doctor --warm``."""

from __future__ import annotations

import re

from lbam_fast.cli.common import ArgumentError, print_note

DTYPES = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}


def warm_up(size: str, batch: int, dtype: str, preset: str, base_width: int) -> None:
    """Make the GPU ready for such calls, and say what that took. Raises LBAMError for words that are not expected."""
    height, width = _size(size)
    if dtype not in DTYPES:
        raise ArgumentError(f"--dtype is {dtype!r}, expected {', '.join(DTYPES)}")
    if batch < 1:
        raise ArgumentError(f"--batch is {batch}, expected at least 1")
    import torch

    from lbam_fast import LBAMConfig
    from lbam_fast.model.warm import warm

    found = warm(LBAMConfig.preset(preset, base_width=base_width), height, width, batch, getattr(torch, DTYPES[dtype]))
    print_note(
        f"{size}, batch {batch}, {dtype}: the kernels of {found.launches} launches were ready after {found.compiling:.1f} s"
    )
    print_note(f"{found.routes} calls have a measured route, found in {found.measuring:.1f} s")


def _size(text: str) -> tuple[int, int]:
    """Height and width of "HxW"."""
    match = re.fullmatch(r"(\d+)x(\d+)", text)
    if match is None or any(side < 128 or side % 128 for side in map(int, match.groups())):
        raise ArgumentError(f"--size is {text!r}, expected HEIGHTxWIDTH in multiples of 128, such as 256x256")
    return int(match[1]), int(match[2])
