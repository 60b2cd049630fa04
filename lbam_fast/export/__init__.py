"""The network as an ONNX graph for other runtimes. Needs the extra ``export``: the packages onnx and onnxruntime.

The graph is written node by node, after ``lbam_fast.reference``, rather than traced: that takes no time, works for every preset,
leaves batch, height and width free, and depends on no version of PyTorch's exporters. Running it checks it.
"""

from __future__ import annotations

import copy
import importlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lbam_fast.checkpoints import CONFIG_KEY
from lbam_fast.config import LBAMConfig, Range
from lbam_fast.errors import LBAMError
from lbam_fast.export.graph import Graph
from lbam_fast.export.harmonic import corrected, correction_input
from lbam_fast.files import replacing
from lbam_fast.model import LBAM, Generator
from lbam_fast.reference import LEAKY_SLOPE, LEVELS, MULTIPLE
from lbam_fast.reference.functional import PARTIAL_EPSILON

TOLERANCE = 1e-4
OPSET, LEAST_OPSET = 17, 13
_CHECKED_SHAPES = ((1, MULTIPLE, MULTIPLE), (2, MULTIPLE, 2 * MULTIPLE))


class ExportError(LBAMError, ValueError):
    """A graph that cannot be written, or that computes something else than the model; the message says which and what to do."""


def export_onnx(model: Generator, path: str | Path, *, opset: int = OPSET, check: bool = True) -> float | None:
    """Write the model as an ONNX file that computes what ``LBAM`` does in ``eval()``, in float32.

    Inputs of the graph: ``image`` [N, 3, H, W] in [0, 1], damaged or not, and ``mask`` [N, 1, H, W], 1 = known, soft values
    allowed; N, H and W are free, H and W multiples of 128. Output: ``output`` [N, 3, H, W] in [0, 1], not pasted. What lies
    inside holes, even NaN, changes nothing. The model's configuration is in the file's metadata, under ``lbam_config``.

    With ``check``, the graph runs in ONNX Runtime at two shapes before the file appears, and must agree with the model within
    1e-4; a network that amplifies rounding beyond that, within four times what the model itself loses in float32.
    Returns the largest difference found, or None where nothing was run: without ``check``, or without onnxruntime.
    Raises ExportError where the onnx package is missing, the opset is not one from 13 to what that package knows, the file
    cannot be written, or the check fails; then no file is left.
    """
    path = Path(path)
    onnx = _imported("onnx")
    if onnx is None:
        raise ExportError("exporting needs the package onnx: pip install 'lbam-fast[export]'")
    most = onnx.defs.onnx_opset_version()
    if not LEAST_OPSET <= opset <= most:
        raise ExportError(f"the opset is {opset}, expected one from {LEAST_OPSET} to {most}")
    if not path.parent.is_dir():
        raise ExportError(f"cannot write {path}: there is no folder {path.parent}; create it or choose another one")
    plain = _plain(model)
    graph = _written(onnx, plain, opset)
    difference = largest_difference(plain, graph) if check else None
    if difference is not None and not difference <= TOLERANCE:
        allowed = max(TOLERANCE, 4 * _own_rounding(plain))
        if not difference <= allowed:
            raise ExportError(
                f"the graph computes something else than the model: ONNX Runtime differs by {difference:.2g}, "
                f"allowed is {allowed:.2g}; nothing was written"
            )
    try:
        with replacing(path) as temporary:
            temporary.write_bytes(graph)
    except OSError as error:
        raise ExportError(f"cannot write {path}: {error}") from error
    return difference


@torch.no_grad()
def largest_difference(model: Generator, graph: bytes | str | Path) -> float | None:
    """The largest difference between an ONNX graph, serialised or in a file, run on the CPU, and the model in float32.

    The graph sees NaN inside holes and the model does not, so a graph that lets them through differs by NaN.
    None where onnxruntime is not installed. Raises ExportError where it refuses the graph.
    """
    runtime = _imported("onnxruntime")
    if runtime is None:
        return None
    model = _plain(model)
    differences: list[Tensor] = []
    options = runtime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    try:
        source = graph if isinstance(graph, bytes) else str(graph)
        session = runtime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
        for image, mask in _examples():
            damaged = torch.where(mask > 0, image, torch.nan)
            (output,) = session.run(None, {"image": damaged.numpy(), "mask": mask.numpy()})
            differences.append((torch.from_numpy(output) - model(image, mask)).abs().max())
    except Exception as error:  # ONNX Runtime's own errors share no class
        raise ExportError(f"ONNX Runtime refuses the graph: {error}") from error
    return float(torch.stack(differences).max())  # NaN if one is


def _examples() -> Iterator[tuple[Tensor, Tensor]]:
    """Random images and masks of blocks: holes, known and soft."""
    generator = torch.Generator().manual_seed(0)
    for n, height, width in _CHECKED_SHAPES:
        image = torch.rand(n, 3, height, width, generator=generator)
        coarse = torch.rand(n, 1, height // 16, width // 16, generator=generator)
        blocks = torch.where(coarse < 0.3, 0, (coarse + 0.3).clamp(max=1))
        yield image, blocks.repeat_interleave(16, 2).repeat_interleave(16, 3)


@torch.no_grad()
def _own_rounding(model: LBAM) -> float:
    """What the model loses in float32, against float64."""
    exact = copy.deepcopy(model).double()
    lost = [(model(image, mask) - exact(image, mask)).abs().max() for image, mask in _examples()]
    return float(torch.stack(lost).max())


def _imported(name: str) -> Any:
    """The package, or None where it is not installed."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        return None


def _plain(model: Generator) -> LBAM:
    """The model's weights, shared where they are in float32 on the CPU already, as an ``LBAM`` in ``eval()``."""
    with torch.device("meta"):
        plain = LBAM(model.config)
    state = {k: v.detach().to("cpu", torch.float32 if v.is_floating_point() else None) for k, v in model.state_dict().items()}
    plain.load_state_dict(state, assign=True)
    return plain.eval()


def _written(onnx: Any, model: LBAM, opset: int) -> bytes:
    config, helper, real = model.config, onnx.helper, onnx.TensorProto.FLOAT
    network = _Network(onnx, model.state_dict(), config)
    network.generate()
    graph = helper.make_graph(
        network.nodes,
        "lbam",
        [helper.make_tensor_value_info(name, real, ["N", c, "H", "W"]) for name, c in (("image", 3), ("mask", 1))],
        [helper.make_tensor_value_info("output", real, ["N", 3, "H", "W"])],
        list(network.constants.values()),
    )
    opsets = [helper.make_opsetid("", opset)]
    written = helper.make_model(
        graph, opset_imports=opsets, ir_version=helper.find_min_ir_version_for(opsets), producer_name="lbam_fast"
    )
    helper.set_model_props(written, {CONFIG_KEY: json.dumps(config.to_dict())})
    serialised: bytes = written.SerializeToString()
    onnx.checker.check_model(serialised, full_check=True)
    return serialised


class _Network(Graph):
    """One network's graph."""

    def __init__(self, onnx: Any, state: dict[str, Tensor], config: LBAMConfig) -> None:
        super().__init__(onnx)
        self.state, self.config = state, config

    def weight(self, name: str) -> str:
        return self.constant(name, self.state[name])

    def scalar(self, name: str, bounds: Range) -> float:
        return self.state[name].clamp(*bounds).item()

    def convolution(self, x: str, weight: str, operator: str = "Conv", stride: int = 2) -> str:
        return self.add(operator, x, weight, strides=[stride, stride], pads=[1, 1, 1, 1])

    def activation(self, x: str, norm: str) -> str:
        if f"{norm}.weight" in self.state:
            names = (self.weight(f"{norm}.{name}") for name in ("weight", "bias", "running_mean", "running_var"))
            x = self.add("BatchNormalization", x, *names, epsilon=1e-5)
        return self.add("LeakyRelu", x, alpha=LEAKY_SLOPE)

    def output(self, y: str, name: str | None = "output") -> str:
        if self.config.output == "tanh":
            return self.add("Mul", self.add("Add", self.add("Tanh", y), 1.0), 0.5, output=name)
        return self.add("Abs", self.add("Tanh", y), output=name)

    def generate(self) -> None:
        selected = self.add("Where", self.add("Greater", "mask", 0.0), "image", 0.0)  # NaN in holes vanishes
        if self.config.base == "harmonic":
            x, base = correction_input(self, selected, "mask")
            corrected(self, base, self.output(self.features(x), None), "output")
            return
        x = self.add("Mul", selected, "mask")
        if self.config.input_channels == 4:
            x = self.add("Concat", x, "mask", axis=1)
        if self.config.attention == "partial":
            self.output(self.partial_features(x))
        else:
            self.output(self.features(x))

    def features(self, x: str) -> str:
        """What the output form is applied to."""
        forward = self.mask_chain("mask", "ec{}.conv.", "maskConv", LEVELS)
        reverse = []
        if self.config.reverse:
            reverse = self.mask_chain(self.add("Sub", 1.0, "mask"), "reverseConv{}.", "reverseMaskConv", LEVELS - 1)
        products = []
        for i, attention in enumerate(forward, start=1):
            feature = self.convolution(x, self.weight(f"ec{i}.conv.conv.weight"))
            products.append(self.add("Mul", feature, attention))
            x = self.activation(products[-1], f"ec{i}.bn")
        for i in range(1, LEVELS):
            level = LEVELS - i
            own = self.convolution(x, self.weight(f"dc{i}.conv.weight"), "ConvTranspose")
            if reverse:
                own = self.add("Mul", own, reverse[level - 1])
            x = self.activation(self.joined(products[level - 1], own), f"dc{i}.bn")
        return self.convolution(x, self.weight("dc7.weight"), "ConvTranspose")

    def joined(self, skip: str, own: str) -> str:
        return self.add("Concat", *((skip, own) if self.config.skip_first else (own, skip)), axis=1)

    def mask_chain(self, u: str, block: str, filter_name: str, depth: int) -> list[str]:
        maps = []
        for i in range(1, depth + 1):
            prefix = block.format(i)
            if self.config.attention == "reciprocal":
                weight = self.constant("mean_filter", torch.full((1, 1, 4, 4), 1 / 16))
            elif i == 1:  # the mask's channels are equal: one stands for all
                name = f"{prefix}{filter_name}.weight"
                weight = self.constant(name, self.state[name].sum(dim=1, keepdim=True))
            else:
                weight = self.weight(f"{prefix}{filter_name}.weight")
            m = self.convolution(u, weight)
            maps.append(self.attention(m, prefix))
            if i < depth:
                u = self.update(m, prefix)
        return maps

    def attention(self, m: str, prefix: str) -> str:
        match self.config.attention:
            case "gaussian":
                return self.gaussian(m, f"{prefix}activationFuncG_A.")
            case "sigmoid":
                return self.add("Sigmoid", m)
            case "leaky_relu":
                return self.add("LeakyRelu", m, alpha=LEAKY_SLOPE)
            case "relu":
                return self.add("Relu", m)
            case _:
                inverse = self.add("Reciprocal", self.add("Max", m, torch.finfo(torch.float32).tiny))
                return self.add("Where", self.add("Greater", m, 0.0), inverse, 0.0)

    def gaussian(self, m: str, prefix: str) -> str:
        config = self.config
        a, mu = self.scalar(f"{prefix}a", config.a_range), self.scalar(f"{prefix}mu", config.mu_range)
        gamma_l, gamma_r = (self.scalar(f"{prefix}{name}", config.gamma_range) for name in ("sigma1", "sigma2"))
        distance = self.add("Sub", m, mu)
        square = self.add("Mul", distance, distance)
        left = self.add("Mul", self.add("Exp", self.add("Mul", square, -gamma_l)), a)
        right = self.add("Add", self.add("Mul", self.add("Exp", self.add("Mul", square, -gamma_r)), a - 1), 1.0)
        return self.add("Where", self.add("Less", m, mu), left, right)

    def update(self, m: str, prefix: str) -> str:
        config = self.config
        if config.attention == "reciprocal":
            return self.add("Cast", self.add("Greater", m, 0.0), to=self.onnx.TensorProto.FLOAT)
        bounds = config.alpha_range
        alpha = config.alpha if bounds is None else self.scalar(f"{prefix}updateMask.alpha", bounds)
        return self.add("Pow", self.add("Relu", m), float(alpha))

    def partial_features(self, x: str) -> str:
        widths, new, known, masked = self.config.channels, "mask", ["mask"], [x]
        for i, channels in enumerate((3, *widths[:-1]), start=1):
            ratio, new = self.partial_ratio([(new, channels)], kernel_size=4, stride=2)
            product = self.add("Mul", self.convolution(masked[-1], self.weight(f"ec{i}.conv.conv.weight")), ratio)
            masked.append(self.add("Mul", self.activation(product, f"ec{i}.bn"), new))
            known.append(new)
        y, own_channels = masked[-1], widths[-1]
        for i in range(1, LEVELS + 1):
            level = LEVELS - i
            channels = (3, *widths)[level]
            ratio, new = self.partial_ratio(
                [(known[level], channels), (self.upsample(new), own_channels)], kernel_size=3, stride=1
            )
            weight = self.weight(f"dc{i}.conv.weight" if level else "dc7.weight")
            y = self.add("Mul", self.convolution(self.joined(masked[level], self.upsample(y)), weight, stride=1), ratio)
            if level:
                y = self.add("Mul", self.activation(y, f"dc{i}.bn"), new)
            own_channels = channels
        return y

    def partial_ratio(self, masks: list[tuple[str, int]], kernel_size: int, stride: int) -> tuple[str, str]:
        sums = []
        for mask, channels in masks:
            kernel = torch.full((1, 1, kernel_size, kernel_size), float(channels))
            sums.append(self.convolution(mask, self.constant(f"window_{kernel_size}_{channels}", kernel), stride=stride))
        total = sums[0] if len(sums) == 1 else self.add("Add", *sums)
        window = float(kernel_size**2 * sum(channels for _, channels in masks))
        new = self.add("Clip", total, 0.0, 1.0)
        ratio = self.add("Div", self.add("Mul", new, window), self.add("Add", total, PARTIAL_EPSILON))
        return self.add("Where", self.add("Greater", total, 0.0), ratio, 0.0), new

    def upsample(self, x: str) -> str:
        scales = self.constant("twice", torch.tensor([1.0, 1.0, 2.0, 2.0]))
        return self.add(
            "Resize", x, "", scales, mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor"
        )
