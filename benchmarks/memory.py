"""Peak memory of a method, each in a process of its own. Run as a program, this file is that process."""

from __future__ import annotations

import dataclasses
import json
import resource
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from harness import BASELINE, Figure, Method, Suite, empty_row
from peers import inference_methods
from rows import ABSENT, FAILED, Row
from workload import Case, inputs

TIMEOUT = 600.0


def measure_memory(suite: Suite, case: Case, methods: Sequence[Method]) -> dict[str, Figure]:
    """Peak resident bytes (on a GPU: of PyTorch's allocator) during the first call, weights and libraries included."""
    figures = {}
    for method in methods:
        row = empty_row(suite, case, method, metric="bytes")
        reason = method.absent(case)
        row = replace(row, status=ABSENT, note=reason) if reason else _probed(row, case, method)
        figures[method.name] = Figure(row, ours=method.ours)
    baseline = figures[BASELINE].row.median if BASELINE in figures else None
    return {name: replace(figure, row=_with_ratio(figure.row, baseline)) for name, figure in figures.items()}


def memory_methods(case: Case) -> list[Method]:
    """All of inference; in the quick set this package in fp32 alone, since every method takes a process of its own."""
    return [replace(method, quick=method.quick and method.ours and method.dtype == "fp32") for method in inference_methods(case)]


def peak_resident() -> int:
    """The most bytes that this process has had in memory since ``forget_peak``, or ever where the system cannot forget."""
    status = Path("/proc/self/status")
    if status.is_file():
        for line in status.read_text(encoding="utf-8").splitlines():
            if line.startswith("VmHWM"):
                return int(line.split()[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def resident() -> int:
    """The bytes that this process has in memory now, of which only Linux tells."""
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * resource.getpagesize()


def forget_peak() -> None:
    """From here on ``peak_resident`` counts anew, where the system allows it."""
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return


def _probed(row: Row, case: Case, method: Method) -> Row:
    job = json.dumps({"case": dataclasses.asdict(case), "method": method.name, "threads": torch.get_num_threads()})
    command = [sys.executable, __file__, job]
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=True)
        found = json.loads(result.stdout.splitlines()[-1])
    except subprocess.CalledProcessError as error:
        lines = error.stderr.strip().splitlines() or [f"ended with {error.returncode}"]
        return replace(row, status=FAILED, note=lines[-1][:300])
    except (subprocess.TimeoutExpired, ValueError, IndexError) as error:
        return replace(row, status=FAILED, note=f"{type(error).__name__}: {error}"[:300])
    peak = found["peak"]
    return replace(row, median=peak, q1=peak, q3=peak, rounds=1, extra={"before": found["before"]})


def _with_ratio(row: Row, baseline: float | None) -> Row:
    if row.median is None or baseline is None:
        return row
    ratio = baseline / row.median
    return replace(row, ratio={"to": BASELINE, "median": ratio, "q1": ratio, "q3": ratio})


def _probe(job: dict[str, object]) -> dict[str, int]:
    case = Case(**job["case"])  # type: ignore[arg-type]
    torch.set_num_threads(int(job["threads"]))  # type: ignore[call-overload]
    method = next(method for method in inference_methods(case) if method.name == job["method"])
    pool = inputs(case, 1)
    candidate = method.build(case, pool)
    if case.device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
    else:
        forget_peak()
        before = peak_resident()
    candidate.run(0)
    peak = torch.cuda.max_memory_allocated() if case.device.startswith("cuda") else peak_resident()
    return {"before": before, "peak": peak}


if __name__ == "__main__":
    print(json.dumps(_probe(json.loads(sys.argv[1]))))
