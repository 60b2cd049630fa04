"""Where and with what a figure was measured."""

# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

import datetime
import os
import platform
import subprocess
from collections.abc import Iterable
from dataclasses import replace
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any

import nvml
import torch
from rows import Row
from workload import ROOT

LIBRARIES = ("lbam-fast", "torch", "triton", "numpy", "onnxruntime", "openvino", "pytest-benchmark", "nvidia-ml-py")


@lru_cache(maxsize=1)
def machine(device: str) -> dict[str, Any]:
    """Device, processor, driver and threads."""
    if device.startswith("cuda"):
        properties = torch.cuda.get_device_properties(device)
        name = properties.name
        gpu = {"driver": nvml.driver(), "cuda": torch.version.cuda or "", "capability": f"{properties.major}.{properties.minor}"}
    else:
        name, gpu = processor(), {}
    return {
        "device": name,
        "processor": processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "isa": torch.backends.cpu.get_cpu_capability(),
        "system": platform.system(),
        **gpu,
    }


@lru_cache(maxsize=1)
def versions() -> dict[str, str]:
    """Of Python and the libraries in play, those that are installed."""
    found = {"python": platform.python_version()}
    for library in LIBRARIES:
        try:
            found[library] = metadata.version(library)
        except metadata.PackageNotFoundError:
            continue
    if torch.backends.cudnn.is_available():
        found["cudnn"] = str(torch.backends.cudnn.version())
    return found


@lru_cache(maxsize=1)
def commit() -> str:
    """The checked out commit, with "-dirty" where tracked files differ from it; empty outside a checkout."""
    try:
        head, changes = (_git(*command) for command in (("rev-parse", "HEAD"), ("status", "--porcelain", "-uno")))
    except (OSError, subprocess.CalledProcessError):
        return ""
    return head + ("-dirty" if changes else "")


def signed(rows: Iterable[Row], device: str) -> list[Row]:
    """The rows with machine, versions, commit and date filled in."""
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    return [replace(row, machine=machine(device), versions=versions(), commit=commit(), date=today) for row in rows]


def processor() -> str:
    """The processor's model, as far as the system tells."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _git(*arguments: str) -> str:
    return subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=True).stdout.strip()
