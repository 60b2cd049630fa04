"""``lbam-fast doctor``."""

from __future__ import annotations

import importlib
import json
import os
import platform
from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from lbam_fast.cli.common import console, escaped, failing_with_message
from lbam_fast.cli.warm import DTYPES, warm_up

ABSENT = "absent"
_LIBRARIES = {"PyTorch": "torch", "Triton": "triton", "NumPy": "numpy", "Pillow": "PIL", "OpenCV": "cv2"}


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
    warm: Annotated[bool, typer.Option("--warm", help="First compile and measure for a GPU what a network needs.")] = False,
    size: Annotated[str, typer.Option(help="With --warm: height and width of the pictures.")] = "256x256",
    batch: Annotated[int, typer.Option(help="With --warm: pictures at a time.")] = 1,
    dtype: Annotated[str, typer.Option(help=f"With --warm: {', '.join(DTYPES)}.")] = "bf16",
    preset: Annotated[str, typer.Option(help="With --warm: of the network.")] = "official",
    base_width: Annotated[int, typer.Option(help="With --warm: of the network.")] = 64,
) -> None:
    """Show versions, devices, weights, and which backend is active and why."""
    if warm:
        with failing_with_message():
            warm_up(size, batch, dtype, preset, base_width)
    findings = examine()
    if as_json:
        typer.echo(json.dumps(findings, indent=2))
        return
    from rich.table import Table

    table = Table(show_header=False, box=None)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, finding in findings.items():
        table.add_row(f"[bold]{name}[/]", escaped(finding))
    console.print(table)


def examine() -> dict[str, str]:
    """What is worth knowing when something is amiss, by name; what is missing is said to be absent, never an error."""
    from lbam_fast import __version__

    return {
        "lbam_fast": __version__,
        "Python": platform.python_version(),
        **{name: _version(module) for name, module in _LIBRARIES.items()},
        "platform": platform.platform(),
        "CPU": _cpu(),
        "GPU": _gpu(),
        "backend": _backend(),
        "compiled kernels": _native(),
        "routes": _routes(),
        "weights": _weights(),
    }


def _version(module: str) -> str:
    try:
        return str(getattr(importlib.import_module(module), "__version__", "of unknown version"))
    except ModuleNotFoundError:
        return ABSENT
    except Exception as error:  # a broken library is what this command is there to tell of
        return f"broken: {type(error).__name__}: {error}"


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        model = platform.processor() or platform.machine()
    try:
        import torch

        threads = f"{torch.get_num_threads()} threads used by PyTorch"
    except Exception:
        threads = "threads of PyTorch unknown"
    return f"{model}, {os.cpu_count()} cores, {threads}"


def _gpu() -> str:
    try:
        import torch

        if torch.cuda.is_available():
            devices = (torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count()))
            return "; ".join(f"{device.name}, {device.total_memory / 2**30:.0f} GiB" for device in devices)
        built_for = torch.version.cuda or torch.version.hip
        return f"none: PyTorch, built for {built_for}, finds no device" if built_for else "none: PyTorch is built for CPUs alone"
    except Exception as error:
        return f"unknown: {type(error).__name__}: {error}"


def _backend() -> str:
    try:
        import torch

        from lbam_fast.ops import dispatch

        device = "cuda" if torch.cuda.is_available() else "cpu"
        name = dispatch.chosen(torch.device(device), torch.float32)
        reason = dispatch.unavailable(dispatch.TRITON)
    except Exception as error:  # a wrong LBAM_BACKEND among others
        return f"none: {error}"
    return f"{name}, on {device}; triton is {f'not usable: {reason}' if reason else 'usable'}"


def _native() -> str:
    from lbam_fast import native

    reason = native.unavailable()
    cpu = f"not usable: {reason}" if reason else f"usable, {native.instruction_set()}"
    reason = native.unavailable("cuda")
    return f"CPU {cpu}; CUDA {f'not usable: {reason}' if reason else 'usable'}"


def _routes() -> str:
    try:
        from lbam_fast.ops import autotune

        table = autotune.remembered()
    except Exception as error:
        return f"unknown: {type(error).__name__}: {error}"
    counts = Counter(table.choices.values())
    choices = ", ".join(f"{name} for {count}" for name, count in sorted(counts.items())) or "nothing measured yet"
    refusals = "".join(f"; refused: {call}: {reason}" for call, reason in sorted(table.refused.items()))
    return f"{choices} (op, shape and dtype), in {table.path}{refusals}"


def _weights() -> str:
    import lbam_fast

    files = sorted((Path(lbam_fast.__file__).parent / "weights").glob("*.safetensors"))
    return "; ".join(f"{file}, {file.stat().st_size / 2**20:.1f} MiB" for file in files) or f"{ABSENT}: give --weights"
