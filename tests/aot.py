"""Kernels compiled ahead of time, without a GPU, and what their machine code holds: ``python tests/aot.py pointwise:80,90``.

Triton's interpreter must be off in the process that runs this: it is chosen when a kernel is decorated.
"""

import argparse
import importlib
import importlib.util
import json
import re
import subprocess
import tempfile
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import triton
from handover import handover
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from lbam_fast.kernels.shipped import Shipped

TENSOR_CORE = {80: "HMMA", 90: "HGMMA", 100: "UTCHMMA", 120: "HMMA"}
"""The instruction of matrix products at each compute capability."""

SHARED_MEMORY = {80: 163 << 10, 90: 227 << 10, 100: 227 << 10, 120: 99 << 10}
"""The most bytes of shared memory that a block may have at each."""
REGISTERS = 65536
"""The most that a block may have at any."""
TENSOR_MEMORY = 512
"""Columns of it, where there is any."""

_TOOL = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
_INSTRUCTION = re.compile(r"^\s*/\*[0-9a-f]+\*/\s+(?:@!?\w+\s+)?([A-Z][\w.]*)", re.MULTILINE)
_PTX_ATOMIC = re.compile(r"^\s*(?:@!?%\w+\s+)?(?:atom|red)\.", re.MULTILINE)
# Not REDUX, which reduces within a warp; nor the bits that ptxas sets and clears in shared memory to reserve tensor memory.
_SASS_ATOMIC = re.compile(r"(?!ATOMS\.(?:OR|AND)$)(?:ATOM\w*|RED[GS]?|UTMARED\w*)(?:\.|$)")
_REGISTERS = re.compile(r"\bREG:(\d+)")


@dataclass(frozen=True)
class MachineCode:
    """Counts of instructions of one kernel at one compute capability, and what a block of it takes: registers of all its threads,
    bytes of shared memory, columns of tensor memory. ``shared``: whether several programs share a block, and ``handover`` what is
    missing there. ``error`` where it does not compile."""

    name: str
    precision: str
    multiplies: bool
    capability: int
    tensor_core: int = 0
    local_memory: int = 0
    atomics: int = 0
    registers: int = 0
    shared_memory: int = 0
    tensor_memory: int = 0
    shared: bool = False
    handover: tuple[str, ...] = ()
    error: str = ""


def compile_shipped(entry: Shipped, capability: int) -> MachineCode:
    kernel = entry.kernel
    source = ASTSource(
        kernel,
        {name: entry.signature.get(name, "constexpr") for name in kernel.arg_names},
        constexprs=dict(entry.constants),
        attrs={(kernel.arg_names.index(name),): [["tt.divisibility", 16]] for name in entry.aligned},
    )
    options = {"num_warps": entry.num_warps, "num_stages": entry.num_stages}
    described = {"name": entry.name, "precision": entry.precision, "multiplies": entry.multiplies, "capability": capability}
    try:
        compiled = triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)
    except Exception as error:  # whatever the compiler raises is the result
        return MachineCode(**described, error=f"{type(error).__name__}: {error}")
    asm, metadata = compiled.asm, compiled.metadata
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(asm["cubin"])
        file.flush()
        sass = _cuobjdump("-sass", file.name)
        instructions = _INSTRUCTION.findall(sass)
        registers = _REGISTERS.findall(_cuobjdump("-res-usage", file.name))
    splits = entry.constants.get("SPLITS", 1)
    counts = Counter(instruction.split(".")[0] for instruction in instructions)
    return MachineCode(
        **described,
        tensor_core=counts[TENSOR_CORE[capability]],
        local_memory=counts["STL"] + counts["LDL"],
        atomics=sum(map(bool, map(_SASS_ATOMIC.match, instructions))) + len(_PTX_ATOMIC.findall(asm["ptx"])),
        registers=max(map(int, registers)) * metadata.num_warps * 32,
        shared_memory=metadata.shared,
        tensor_memory=metadata.tmem_size,
        shared=splits > 1,
        handover=tuple(handover(asm["ptx"], sass, splits)) if splits > 1 else (),
    )


def _cuobjdump(*arguments: str) -> str:
    return subprocess.run([_TOOL, *arguments], capture_output=True, text=True, check=True).stdout


def shipped(module: str) -> tuple[Shipped, ...]:
    """``SHIPPED`` of a module of ``lbam_fast.kernels``, or of any other."""
    ours = f"lbam_fast.kernels.{module}"
    entries: tuple[Shipped, ...] = importlib.import_module(ours if importlib.util.find_spec(ours) else module).SHIPPED
    return entries


def _taken(entries: tuple[Shipped, ...], sample: int, first: int = 0) -> list[int]:
    """Indices of all entries, or of every ``sample``-th with bf16 from ``first`` on."""
    if not sample:
        return list(range(len(entries)))
    return [index for index, entry in enumerate(entries) if entry.precision == "bf16"][first::sample]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="+", help="a module of lbam_fast.kernels and compute capabilities of 80, 90, 100, 120")
    parser.add_argument(
        "--sample",
        type=int,
        default=0,
        metavar="N",
        help="of the bf16 kernels alone every N-th, for each capability of a module from another on",
    )
    arguments = parser.parse_args()
    work = [
        (module, index, int(capability))
        for module, _, capabilities in (what.partition(":") for what in arguments.what)
        for first, capability in enumerate(capabilities.split(","))
        for index in _taken(shipped(module), arguments.sample, first)
    ]
    with ProcessPoolExecutor() as pool:
        for (module, *_), code in zip(work, pool.map(_compile, work), strict=True):
            print(json.dumps({"module": module, **asdict(code)}), flush=True)


def _compile(work: tuple[str, int, int]) -> MachineCode:
    module, index, capability = work
    return compile_shipped(shipped(module)[index], capability)


if __name__ == "__main__":
    main()
