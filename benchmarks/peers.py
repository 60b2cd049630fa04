"""Every method of whole-model inference: this package, the published form, and what people would use instead."""

# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeVar

import exported
import torch
from exported import Call
from harness import BASELINE, Candidate, Method, never_absent
from published import Published
from torch import Tensor, nn
from workload import Case, Inputs, weights

from lbam_fast import LBAM
from lbam_fast.model.generator import Generator
from lbam_fast.reference import AttentionMaps

Module = TypeVar("Module", bound=nn.Module)

HALVES = {"bf16": torch.bfloat16, "fp16": torch.float16}
OURS: Any = {"ours": True, "layout": "channels_last"}
CPU_DTYPES, CUDA_DTYPES = ("fp32", "bf16"), ("fp32", "tf32", "bf16", "fp16")


@contextmanager
def precision(device: str, dtype: str) -> Iterator[None]:
    """Run in that dtype: autocast for bf16 and fp16; on a GPU, fp32 products in full or with tf32 operands."""
    if dtype in HALVES:
        with torch.autocast(torch.device(device).type, HALVES[dtype]):
            yield
        return
    if not device.startswith("cuda"):
        yield
        return
    backends: tuple[Any, ...] = (torch.backends.cudnn, torch.backends.cuda.matmul)
    before = [backend.allow_tf32 for backend in backends]
    try:
        for backend in backends:
            backend.allow_tf32 = dtype == "tf32"
        yield
    finally:
        for backend, value in zip(backends, before, strict=True):
            backend.allow_tf32 = value


def absent_dtype(dtype: str) -> Callable[[Case], str]:
    """Says why a case's device has no such dtype."""

    def reason(case: Case) -> str:
        known = CUDA_DTYPES if case.device.startswith("cuda") else CPU_DTYPES
        return "" if dtype in known else f"{dtype} is measured on a GPU only"

    return reason


def published_module(case: Case, dtype: torch.dtype = torch.float32) -> Published:
    """The published form with the workload's weights, in NCHW."""
    with torch.device("meta"):
        module = Published(case.config)
    module.load_state_dict(weights(case.config), assign=True)
    return module.to(case.device, dtype).eval()


def our_model(case: Case) -> LBAM:
    """The package's model as its ``Inpainter`` sets it up."""
    with torch.device("meta"):
        model = LBAM(case.config)
    model.load_state_dict(weights(case.config), assign=True)
    model = model.to(case.device).eval()
    return channels_last(model) if case.device.startswith("cuda") else model


def channels_last(module: Module) -> Module:
    """The same module with its filters in channels_last."""
    return module.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def truth(case: Case, pool: Inputs) -> Tensor:
    """The published form in float64 for the first inputs. Remembered, since it takes long and cases share inputs."""
    image, mask = pool[0]
    contents = hashlib.sha256(b"".join(tensor.cpu().numpy().tobytes() for tensor in (image, mask))).digest()
    key = (case.config, tuple(image.shape), case.device, contents)
    if key not in _TRUTHS:
        with torch.no_grad():
            _TRUTHS[key] = published_module(case, torch.float64)(image.double(), mask.double())
    return _TRUTHS[key]


_TRUTHS: dict[Hashable, Tensor] = {}


def yardstick(case: Case, pool: Inputs, dtype: str) -> Tensor:
    """What eager PyTorch gives in that dtype for the first inputs."""
    build = published_eager if dtype in ("fp32", "tf32") else published_channels_last
    return build(case, dtype)(*pool[0])


def published_eager(case: Case, dtype: str) -> Call:
    """NCHW, eager."""
    return _in_precision(published_module(case), case, dtype)


def published_channels_last(case: Case, dtype: str) -> Call:
    """channels_last and autocast: what a user of the published code can switch on."""
    module = channels_last(published_module(case))
    return _in_precision(lambda image, mask: module(_nhwc(image), mask), case, dtype)


def compiled(case: Case, dtype: str, mode: str) -> Call:
    """``torch.compile`` of the published form in channels_last; frozen on a CPU, with CUDA graphs in max-autotune on a GPU.

    Freezing, which packs the weights beforehand, has to be switched on for the process while the first call compiles: given to
    ``torch.compile`` as an option it comes too late for the tracer, which then leaves the weights unpacked without a word.
    """
    from torch._inductor import config  # two seconds

    module = channels_last(published_module(case))
    run: Any = torch.compile(module, dynamic=False, mode=mode)

    def call(image: Tensor, mask: Tensor) -> Tensor:
        with config.patch(freezing=case.device == "cpu"):
            output: Tensor = run(_nhwc(image), mask)
        return output

    ready = _in_precision(call, case, dtype)
    ready(*blank_inputs(case))  # compiles
    return ready


def lbam_fast_call(case: Case, dtype: str) -> Call:
    """The model with image and mask."""
    return _in_precision(our_model(case), case, dtype)


def blank_inputs(case: Case) -> tuple[Tensor, Tensor]:
    """Noise and a mask without a hole, in the shapes of the case's inputs."""
    size = (case.height, case.width)
    image = torch.rand(case.batch, 3, *size, device=case.device)
    return image, torch.ones(1 if case.mask == "shared" else case.batch, 1, *size, device=case.device)


class WithMaps:
    """The model with attention maps that are kept for as long as the mask stays the same tensor."""

    def __init__(self, model: Generator) -> None:
        self._model = model
        self._mask: Tensor | None = None
        self._maps: AttentionMaps | None = None

    def __call__(self, image: Tensor, mask: Tensor) -> Tensor:
        if mask is not self._mask:
            self._mask, self._maps = mask, self._model.attention_maps(mask)
        output: Tensor = self._model(image, maps=self._maps)
        return output


def lbam_fast_with_maps(case: Case, dtype: str) -> Call:
    """The model as a user calls it who has one mask for many images."""
    return _in_precision(WithMaps(our_model(case)), case, dtype)


def lbam_fast_graph(case: Case, dtype: str) -> Call:
    """The model captured in a CUDA graph and replayed."""
    call = lbam_fast_call(case, dtype)
    image, mask = blank_inputs(case)
    stream = torch.cuda.Stream(case.device)
    stream.wait_stream(torch.cuda.current_stream(case.device))  # which makes the inputs
    with torch.cuda.stream(stream):
        for _ in range(3):
            call(image, mask)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        output = call(image, mask)

    def replay(new_image: Tensor, new_mask: Tensor) -> Tensor:
        image.copy_(new_image)
        mask.copy_(new_mask)
        graph.replay()
        return output

    return replay


def as_method(name: str, dtype: str, build: Callable[[Case], Call], **settings: Any) -> Method:
    """A method from a builder of calls ``(image, mask) -> output``."""

    def ready(case: Case, pool: Inputs) -> Candidate:
        call = build(case)
        return Candidate(lambda i: call(*pool[i % len(pool)]), lambda: call(*pool[0]))

    return Method(name, dtype, ready, **settings)


def inference_methods(case: Case) -> list[Method]:
    """All of them, also those that are absent here.

    Where methods do the same whether a mask is fresh or shared, the quick set has them with fresh masks alone.
    """
    on_gpu, fresh = case.device.startswith("cuda"), case.mask != "shared"
    dtypes = CUDA_DTYPES if on_gpu else CPU_DTYPES
    methods = [as_method(BASELINE, "fp32", partial(published_eager, dtype="fp32"), eager=True)]
    if on_gpu:
        methods.append(as_method(f"{BASELINE} tf32", "tf32", partial(published_eager, dtype="tf32"), eager=True))
    for dtype in dtypes:
        if dtype in HALVES:
            build = partial(published_channels_last, dtype=dtype)
            settings: Any = {"layout": "channels_last", "eager": True, "quick": fresh}
            methods.append(as_method(f"channels_last autocast {dtype}", dtype, build, **settings))
    for dtype in dtypes:
        build = partial(lbam_fast_call, dtype=dtype)
        methods.append(as_method(f"lbam_fast {dtype}", dtype, build, **OURS, quick=fresh))
        if case.mask == "shared":
            build = partial(lbam_fast_with_maps, dtype=dtype)
            methods.append(as_method(f"lbam_fast with maps {dtype}", dtype, build, **OURS))
        if on_gpu:
            build = partial(lbam_fast_graph, dtype=dtype)
            methods.append(as_method(f"lbam_fast CUDA graph {dtype}", dtype, build, **OURS, quick=False))
    for mode, name in (("default", "torch.compile"), ("max-autotune", "torch.compile max-autotune")):
        for dtype in dtypes:
            build = partial(compiled, dtype=dtype, mode=mode)
            settings = {"layout": "channels_last", "absent": absent_compiler, "quick": fresh and mode == "default"}
            methods.append(as_method(f"{name} {dtype}", dtype, build, **settings))
    runtimes: list[tuple[str, str, str, Callable[[Case], Call]]] = [
        ("ONNX Runtime", "onnxruntime", "fp32", exported.onnx_runtime),
        ("OpenVINO", "openvino", "fp32", partial(exported.openvino, precision="f32")),
        ("OpenVINO", "openvino", "bf16", partial(exported.openvino, precision="bf16")),
    ]
    for name, package, dtype, runtime in runtimes:
        methods.append(as_method(f"{name} {dtype}", dtype, runtime, absent=exported.absent(package), quick=fresh))
    return methods


def absent_compiler(case: Case) -> str:
    """``torch.compile`` on a CPU needs a C++ compiler."""
    if case.device != "cpu":
        return never_absent(case)
    from torch._inductor.cpp_builder import get_cpp_compiler

    try:
        get_cpp_compiler()
    except Exception as error:
        return f"torch.compile finds no C++ compiler: {error}"
    return ""


def _in_precision(function: Callable[[Tensor, Tensor], Any], case: Case, dtype: str) -> Call:
    @torch.no_grad()
    def call(image: Tensor, mask: Tensor) -> Tensor:
        with precision(case.device, dtype):
            output: Tensor = function(image, mask)
        return output

    return call


def _nhwc(image: Tensor) -> Tensor:
    return image.contiguous(memory_format=torch.channels_last)
