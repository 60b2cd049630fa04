"""The machine code of every kernel that is shipped, read without a GPU.

Each module is compiled for compute capabilities 80, 90, 100 and 120: every twelfth of its bf16 kernels, in ``make test-all`` all
kernels of all precisions.
"""

import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("triton")
import triton
import triton.language as tl
from aot import REGISTERS, SHARED_MEMORY, TENSOR_MEMORY

from lbam_fast.kernels.shipped import Shipped

PROGRAM = Path(__file__).parent / "aot.py"
MODULES = ("pointwise", "encoder", "decoder", "inputs")
CAPABILITIES = (80, 90, 100, 120)


@triton.jit
def with_an_atomic(x):
    tl.atomic_add(x + tl.arange(0, 128), 1.0)


@triton.jit
def with_a_spill(x, size: tl.constexpr):
    """All of ``x`` must be held until its sum is known: by one warp, 512 registers a thread."""
    offsets = tl.arange(0, size)
    values = tl.load(x + offsets)
    tl.store(x + offsets, values * tl.sum(values))


@triton.jit
def in_full_precision(x, size: tl.constexpr):
    offsets = tl.arange(0, size)[:, None] * size + tl.arange(0, size)[None, :]
    values = tl.load(x + offsets)
    tl.store(x + offsets, tl.dot(values, values, input_precision="ieee"))


@triton.jit
def with_an_error(x):
    tl.store(x + tl.arange(0, 100), 0.0)


@triton.jit
def without_a_fault(x, size: tl.constexpr):
    offsets = tl.arange(0, size)[:, None] * size + tl.arange(0, size)[None, :]
    values = tl.load(x + offsets)
    tl.store(x + offsets, tl.dot(values, values).to(tl.bfloat16))


@triton.jit
def with_too_many_stages(x, steps, size: tl.constexpr):
    """Each stage of the loop holds two operands in shared memory."""
    offsets = tl.arange(0, size)[:, None] * size + tl.arange(0, size)[None, :]
    total = tl.zeros([size, size], tl.float32)
    for step in range(steps):
        values = x + step * size * size + offsets
        total = tl.dot(tl.load(values), tl.load(values + size), total)
    tl.store(x + offsets, total.to(tl.bfloat16))


@triton.jit
def handed_over(x, counter, SPLITS: tl.constexpr, ordered: tl.constexpr, semantics: tl.constexpr, cache: tl.constexpr):  # noqa: N803
    """Programs add what each has stored, and the last of them stores it."""
    places = tl.arange(0, 512)
    tl.store(x + tl.program_id(0) * 512 + places, places.to(tl.float32))
    if ordered:
        tl.debug_barrier()
    if tl.atomic_add(counter, 1, sem=semantics, scope="gpu") == SPLITS - 1:
        total = tl.load(x + places, cache_modifier=cache)
        for split in tl.static_range(1, SPLITS):
            total += tl.load(x + split * 512 + places, cache_modifier=cache)
        tl.store(x + places, total)


def planted(
    kernel: Any,
    element: str = "fp32",
    warps: int = 4,
    stages: int = 1,
    multiplies: bool = False,
    name: str = "",
    **constants: int | str,
) -> Shipped:
    types = {"x": f"*{element}", "steps": "i32", "counter": "*i32"}
    signature = {name: types[name] for name in kernel.arg_names if name in types}
    return Shipped(name or kernel.__name__, kernel, signature, constants, "bf16", warps, stages, multiplies, ("x",))


RIGHT: dict[str, Any] = {"ordered": True, "semantics": "acq_rel", "cache": ".cg"}


def shared(name: str, splits: int = 4, **faulty: int | str) -> Shipped:
    return planted(handed_over, name=name, SPLITS=splits, **(RIGHT | faulty))


SHIPPED = (
    planted(with_an_atomic),
    planted(with_a_spill, warps=1, size=16384),
    planted(in_full_precision, multiplies=True, size=32),
    planted(with_an_error),
    planted(with_too_many_stages, "bf16", stages=16, multiplies=True, size=64),
    planted(without_a_fault, "bf16", multiplies=True, size=128),
    shared("handed_over"),
    shared("without_a_barrier", ordered=False),
    shared("in_any_order", semantics="relaxed"),
    shared("past_no_cache", cache=""),
)
"""Planted faults, one for each thing that is asserted of the kernels."""

FAULTS = {
    "with_an_atomic": ["atomics"],
    "with_a_spill": ["local memory"],
    "in_full_precision": ["no tensor-core instruction"],
    "with_an_error": ["does not compile"],
    "with_too_many_stages": ["shared memory"],
    "without_a_fault": [],
    "handed_over": [],
    "without_a_barrier": ["handover"],
    "in_any_order": ["handover"],
    "past_no_cache": ["handover"],
}


@cache
def machine_code(*what: str, sample: int = 0) -> tuple[dict[str, Any], ...]:
    """What ``aot.py`` finds, in a process of its own: in this one kernels may be interpreted."""
    arguments = [*what, "--sample", str(sample)]
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    result = subprocess.run([sys.executable, PROGRAM, *arguments], capture_output=True, text=True, env=environment)
    assert result.returncode == 0, result.stderr
    return tuple(map(json.loads, result.stdout.splitlines()))


def faults(code: dict[str, Any]) -> list[str]:
    if code["error"]:
        return ["does not compile"]
    found = {
        "no tensor-core instruction": code["multiplies"] and not code["tensor_core"],
        "local memory": code["local_memory"],
        "atomics": code["atomics"] and not code["shared"],
        "handover": code["handover"],
        "registers": code["registers"] > REGISTERS,
        "shared memory": code["shared_memory"] > SHARED_MEMORY[code["capability"]],
        "tensor memory": code["tensor_memory"] > TENSOR_MEMORY,
    }
    return [fault for fault, there in found.items() if there]


@pytest.mark.sampled("module", "capability")
@pytest.mark.parametrize("capability", CAPABILITIES)
@pytest.mark.parametrize("module", MODULES)
def test_what_is_shipped_has_no_fault(module, capability, thorough, request):
    if thorough:
        found = machine_code(f"{module}:{capability}")
    else:  # all that this run asks for at once: loading the compiler takes as long as two kernels
        cases = [item.callspec.params for item in request.session.items if item.function == request.function]
        found = machine_code(*(f"{case['module']}:{case['capability']}" for case in cases), sample=12)
    codes = [code for code in found if (code["module"], code["capability"]) == (module, capability)]
    assert codes
    assert all(code["registers"] or code["error"] for code in codes)
    assert not {code["name"]: (faults(code), code["handover"], code["error"]) for code in codes if faults(code)}


@pytest.mark.parametrize("capability", CAPABILITIES)
def test_faults_are_caught(capability, thorough):
    """Each for every capability; in ``make test`` each for one, and some for every capability."""
    codes = machine_code(f"test_machine_code:{','.join(map(str, CAPABILITIES))}", sample=0 if thorough else len(CAPABILITIES))
    assert {code["name"] for code in codes} == FAULTS.keys()
    found = {code["name"]: faults(code) for code in codes if code["capability"] == capability}
    assert len(found) == len(FAULTS) if thorough else len(found) >= 2
    assert found == {name: FAULTS[name] for name in found}
