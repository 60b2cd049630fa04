"""Before any test module is imported: where there is no GPU, Triton interprets its kernels. After all: the time of each part."""

import os
from collections import defaultdict
from pathlib import Path

import torch

# Triton's own library is decorated when Triton is first imported, which PyTorch's compiler may do before a test gets to it.
if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"

PARTS = {
    "interpreter": (
        "test_kernels_encoder",
        "test_kernels_decoder",
        "test_kernels_pointwise",
        "test_kernels_split",
        "test_on_triton",
    ),
    "ahead of time": ("test_machine_code", "test_cuda_code"),
    "C++": ("test_build", "test_cuda_on_cpu", "test_binding"),
}
"""Test modules; all others are Python's on the CPU."""


def pytest_terminal_summary(terminalreporter):
    seconds = defaultdict(float)
    for reports in terminalreporter.stats.values():
        for report in reports:
            if hasattr(report, "duration"):
                name = Path(report.nodeid.partition("::")[0]).stem
                seconds[next((part for part, names in PARTS.items() if name in names), "CPU")] += report.duration
    if sum(seconds.values()) > 60:
        terminalreporter.line("time: " + ", ".join(f"{part} {total:.0f} s" for part, total in sorted(seconds.items())))
