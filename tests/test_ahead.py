"""Kernels compiled side by side ahead of their calls, for a GPU that is not there."""

import os
import subprocess
import sys
from contextlib import contextmanager

import pytest
import torch

pytest.importorskip("triton")
from lbam_fast import LBAMConfig
from lbam_fast.model import warm
from lbam_fast.ops import dispatch

PROGRAM = """
import threading
import torch, triton
from triton.backends.compiler import GPUTarget
from triton.runtime import driver
from triton.runtime.jit import JITFunction

class Driver:
    get_current_target = lambda self: GPUTarget("cuda", 90, 32)
    get_current_device = lambda self: 0
    get_current_stream = lambda self, device: 0

driver.set_active(Driver())
from lbam_fast.kernels import pointwise
from lbam_fast.kernels.arguments import Affine, Gate
from lbam_fast.ops.ahead import compiling_together

threads = set()
right = triton.compiler.compile

def compile(*arguments, **named):
    threads.add(threading.current_thread().name)
    return right(*arguments, **named)

triton.compiler.compile = compile
gate, run = Gate(torch.rand(4), torch.rand(())), JITFunction.run
with compiling_together(2) as names:
    for dtype in (torch.bfloat16, torch.float16):
        x = torch.rand(1, 64, 4, 4, dtype=torch.float32).to(dtype).contiguous(memory_format=torch.channels_last)
        for _ in range(2):
            pointwise.attend(x, x, gate, Affine(slope=0.2), True)
kernels = list(pointwise.attend_kernel.device_caches[0][0].values())
assert JITFunction.run is run
assert threads and "MainThread" not in threads, threads
print(*names, *(f"{type(kernel).__name__}:{'cubin' in kernel.asm}" for kernel in kernels))
"""


def test_launches_compile_in_threads_and_do_not_run(tmp_path):
    """Two types, each launched twice: two kernels, compiled and never launched, for there is nothing to launch them on."""
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment["TRITON_CACHE_DIR"] = str(tmp_path)
    result = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, env=environment)
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == ["attend_kernel"] * 4 + ["CompiledKernel:True"] * 2


def test_a_gpu_is_made_ready_in_two_passes(monkeypatch):
    """The first compiles what the second, by a network of its own, measures."""
    passes = []

    @contextmanager
    def together():
        passes.append("compiling")
        yield ["encode"] * 20
        passes.append("compiled")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(warm.ahead, "compiling_together", together)
    monkeypatch.setattr(warm, "_forward", lambda *given: passes.append((dispatch.choices(), given[1:])))
    given = 256, 384, 2, torch.bfloat16
    assert warm.warm(LBAMConfig(base_width=4), *given).launches == 20
    assert passes == ["compiling", ((None, "kernel"), given), "compiled", ((None, None), given)]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU to make ready")
def test_without_a_gpu_there_is_nothing_to_make_ready():
    with pytest.raises(warm.NoDeviceError, match="no CUDA device"):
        warm.warm(LBAMConfig(base_width=4), 256, 256, 1, torch.bfloat16)
