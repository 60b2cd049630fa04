"""The machine code of the CUDA C++ kernels, read without a GPU: no spill, no atomics, packs of 16 bytes.

As they were built with the package; where they were not, and in ``make test-all``, compiled anew, of which
``make test`` takes compute capability 9.0 alone.
"""

import os
import re
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pytest

pytest.importorskip("triton", reason="cuobjdump comes with Triton")
import aot

from lbam_fast import native

NVCC = shutil.which("nvcc")
pytestmark = pytest.mark.skipif(NVCC is None, reason="there is no nvcc")

SOURCES = sorted((Path(__file__).parent.parent / "csrc" / "cuda").glob("*.cu"))
SHIPPED = ("sm_80", "sm_86", "sm_89", "sm_90a", "sm_100", "sm_120")
ARCHITECTURES = [name if name == "sm_90a" else pytest.param(name, marks=pytest.mark.sampled) for name in SHIPPED]
MOVES = {
    r"(attend|backward)_kernelI(fLi4|\w+Li8)": ("LDG.E.128", "STG.E.128"),
    r"moments_kernelI(fLi4|\w+Li8)": ("LDG.E.128",),
    r"classify_packs_kernel": ("LDG.E.128",),
    r"encode_kernel": ("LDS.128", "STG.E.128"),
    r"reconstruct_kernel": ("LDG.E.128", "LDS.128"),
}
"""Instructions that kernels of these names must have."""

FAULTS = {
    "atomic": ("__global__ void attend_kernel(float* x) { atomicAdd(x, 1.0f); }", "atomics"),
    "spill": (
        """__global__ void __maxnreg__(24) attend_kernel(float* x) {
          float held[64], sum = 0;
          for (int i = 0; i < 64; ++i) sum += held[i] = x[i * 32];
          for (int i = 0; i < 64; ++i) x[i * 32] = held[i] * sum;
        }""",
        "local memory",
    ),
    "single elements": (
        "template <typename T, int kWidth> __global__ void attend_kernel(T* x) { x[0] = x[kWidth]; }"
        "template __global__ void attend_kernel<float, 4>(float*);",
        "no LDG.E.128, STG.E.128",
    ),
}


class Kernel(NamedTuple):
    registers: int
    instructions: tuple[str, ...]


def machine_code(architecture: str, source: Path, folder: Path) -> dict[str, Kernel]:
    """Of a file that is compiled for it, warnings being errors."""
    cubin = folder / f"{source.stem}.{architecture}.cubin"
    command = [NVCC, "-std=c++17", "-O3", f"-arch={architecture}", "-Werror=all-warnings", "-cubin", "-o", cubin, source]
    result = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return code_in(cubin)


def code_in(binary: Path, *options: str) -> dict[str, Kernel]:
    """By name."""
    registers = dict(re.findall(r"Function (\w+):\s+REG:(\d+)", aot._cuobjdump("-res-usage", *options, str(binary))))
    parts = re.split(r"Function : (\w+)", aot._cuobjdump("-sass", *options, str(binary)))
    return {
        name: Kernel(int(registers[name]), tuple(aot._INSTRUCTION.findall(text)))
        for name, text in zip(parts[1::2], parts[2::2], strict=True)
    }


def faults(name: str, kernel: Kernel) -> list[str]:
    wanted = next((moves for pattern, moves in MOVES.items() if re.search(pattern, name)), ())
    missing = [move for move in wanted if not any(instruction.startswith(move) for instruction in kernel.instructions)]
    found = {
        "atomics": any(map(aot._SASS_ATOMIC.match, kernel.instructions)),
        "local memory": any(instruction.startswith(("STL", "LDL")) for instruction in kernel.instructions),
        f"no {', '.join(missing)}": missing,
    }
    return [fault for fault, there in found.items() if there]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_kernels_have_no_fault(architecture, tmp_path, thorough):
    if not thorough and not native.not_built("cuda"):
        pytest.skip("they are read in the library; make test-all compiles them anew")
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        codes = list(pool.map(partial(machine_code, architecture, folder=tmp_path), SOURCES))
    assert all(codes)
    check({name: kernel for code in codes for name, kernel in code.items()})


@pytest.mark.skipif(bool(native.not_built("cuda")), reason="the CUDA kernels are not built")
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_library_has_no_fault(architecture):
    check(code_in(native.FOLDER / "lbam_native_cuda.so", "-arch", architecture))


def check(kernels: dict[str, Kernel]) -> None:
    assert not {name: found for name, kernel in kernels.items() if (found := faults(name, kernel))}
    assert all(kernel.registers <= 168 for kernel in kernels.values())
    assert all(any(re.search(pattern, name) for name in kernels) for pattern in MOVES)


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_are_caught(fault, tmp_path):
    text, found = FAULTS[fault]
    source = tmp_path / "faulty.cu"
    source.write_text(text)
    ((name, kernel),) = machine_code("sm_90a", source, tmp_path).items()
    assert faults(name, kernel) == [found]
