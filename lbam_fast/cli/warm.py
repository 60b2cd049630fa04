"""What ``lbam-fast doctor --warm`` does: compiles and measures for one kind of call, so that the first real one need not."""

from __future__ import annotations

import re
import time
from typing import Any

from lbam_fast.cli.common import ArgumentError, print_note

DTYPES = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}


def size_of(text: str) -> tuple[int, int]:
    """Height and width of "HxW". Raises ArgumentError unless both are positive multiples of 128."""
    match = re.fullmatch(r"(\d+)x(\d+)", text)
    sides = tuple(map(int, match.groups())) if match else ()
    if len(sides) != 2 or any(side < 128 or side % 128 for side in sides):
        raise ArgumentError(f"--size is {text!r}, expected HEIGHTxWIDTH in multiples of 128, such as 256x256")
    return sides


def warm(size: str, batch: int, dtype: str, preset: str, base_width: int) -> None:
    """Compile the Triton kernels of a network for such pictures on all cores, and measure which route each op takes.

    Raises ArgumentError where there is no GPU, or for other words than those that are expected.
    """
    import torch

    from lbam_fast import LBAM, LBAMConfig
    from lbam_fast.ops import ahead, autotune

    height, width = size_of(size)
    if dtype not in DTYPES:
        raise ArgumentError(f"--dtype is {dtype!r}, expected {', '.join(DTYPES)}")
    if batch < 1:
        raise ArgumentError(f"--batch is {batch}, expected at least 1")
    if not torch.cuda.is_available():
        raise ArgumentError("--warm prepares a GPU, and PyTorch finds no CUDA device; nothing needs to be prepared on a CPU")
    config = LBAMConfig.preset(preset, base_width=base_width)
    image = torch.rand(batch, 3, height, width, device="cuda")
    mask = torch.ones(batch, 1, height, width, device="cuda")
    mask[:, :, height // 4 : height // 2, width // 4 : width // 2] = 0

    def forward() -> None:
        model: Any = LBAM(config).cuda().eval()
        model = model.to(memory_format=torch.channels_last)
        value = getattr(torch, DTYPES[dtype])
        with torch.no_grad(), torch.autocast("cuda", value, enabled=dtype != "fp32"):
            model(image, mask)
            model(image, maps=model.attention_maps(mask))
        torch.cuda.synchronize()

    start = time.perf_counter()
    with autotune.route("kernel"), ahead.compiling_together() as kernels:
        forward()
    middle = time.perf_counter()
    forward()
    end = time.perf_counter()
    launched, routes = len(kernels), len(autotune.remembered().choices)
    print_note(f"{size}, batch {batch}, {dtype}: the kernels of {launched} launches were ready after {middle - start:.1f} s")
    print_note(f"{routes} calls have a measured route, found in {end - middle:.1f} s")
