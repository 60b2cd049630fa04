"""An ONNX graph in the making."""

from __future__ import annotations

from typing import Any

from torch import Tensor, tensor


class Graph:
    """Nodes and constants. Values are known by their names; methods take and return such names."""

    def __init__(self, onnx: Any) -> None:
        self.onnx = onnx
        self.nodes: list[Any] = []
        self.constants: dict[str, Any] = {}

    def add(self, operator: str, *inputs: str | float, output: str | None = None, **attributes: object) -> str:
        names = [self.constant(str(each), tensor(each)) if isinstance(each, float) else each for each in inputs]
        output = output or f"{operator}_{len(self.nodes)}"
        self.nodes.append(self.onnx.helper.make_node(operator, names, [output], name=output, **attributes))
        return output

    def constant(self, name: str, value: Tensor) -> str:
        if name not in self.constants:
            self.constants[name] = self.onnx.numpy_helper.from_array(value.contiguous().numpy(), name)
        return name
