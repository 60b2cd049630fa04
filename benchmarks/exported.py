"""ONNX Runtime and OpenVINO on the exported graph."""

from __future__ import annotations

import atexit
import tempfile
from collections.abc import Callable
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from workload import Case, weights

from lbam_fast import LBAM, LBAMConfig
from lbam_fast.export import export_onnx

Call = Callable[[Tensor, Tensor], Tensor]


def absent(package: str) -> Callable[[Case], str]:
    """Says why the runtime in ``package`` cannot run a case."""

    def reason(case: Case) -> str:
        missing = [name for name in (package, "onnx") if find_spec(name) is None]
        if missing:
            return f"not installed: {', '.join(missing)}"
        return "" if case.device == "cpu" else "compared on the CPU only"

    return reason


@lru_cache(maxsize=1)
def graph(config: LBAMConfig) -> Path:
    """The ONNX file of that network, exported once for a run and deleted at its end."""
    folder = tempfile.TemporaryDirectory(prefix="lbam_benchmarks_")
    atexit.register(folder.cleanup)
    with torch.device("meta"):
        model = LBAM(config).eval()
    model.load_state_dict(weights(config), assign=True)
    path = Path(folder.name) / "lbam.onnx"
    export_onnx(model, path, check=False)  # the gate checks it
    return path


def onnx_runtime(case: Case) -> Call:
    """On as many threads as PyTorch has; they sleep between calls, so as not to slow the methods beside it."""
    import onnxruntime  # type: ignore[import-untyped]

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(graph(case.config), options, providers=["CPUExecutionProvider"])

    def call(image: Tensor, mask: Tensor) -> Tensor:
        feeds = {"image": image.numpy(), "mask": _of_batch(mask, image).numpy()}
        return torch.from_numpy(session.run(None, feeds)[0])

    return call


def openvino(case: Case, precision: str) -> Call:
    """``precision``: "f32", or "bf16" as a hint. Compiled for the case's own shape."""
    import openvino  # type: ignore[import-untyped]

    core = openvino.Core()
    model = core.read_model(graph(case.config))
    size = (case.height, case.width)
    model.reshape({"image": [case.batch, 3, *size], "mask": [case.batch, 1, *size]})
    settings: dict[str, Any] = {
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "INFERENCE_PRECISION_HINT": precision,
        "PERFORMANCE_HINT": "LATENCY",
    }
    request = core.compile_model(model, "CPU", settings).create_infer_request()

    def call(image: Tensor, mask: Tensor) -> Tensor:
        feeds = {"image": image.numpy(), "mask": _of_batch(mask, image).numpy()}
        return torch.from_numpy(request.infer(feeds)[0].copy())

    return call


def _of_batch(mask: Tensor, image: Tensor) -> Tensor:
    return mask if len(mask) == len(image) else mask.expand(len(image), -1, -1, -1).contiguous()
