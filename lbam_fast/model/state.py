"""The tensors of a module by name, quickly: PyTorch's own walks take longer than a small layer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn

_Slot = tuple[dict[str, Any], str, object]
"""A dictionary of a module, a name in it, and what stood there."""


class State:
    """A module's parameters and buffers by name; it holds as long as no tensor or module was exchanged for another."""

    def __init__(self, module: nn.Module) -> None:
        self._of = id(module)
        self._slots: list[_Slot] = []
        self.tensors = dict(self._walk(module, ""))

    def holds(self, module: nn.Module) -> bool:
        """Whether that is the module, and its tensors are still these."""
        return self._of == id(module) and all(holder.get(name) is value for holder, name, value in self._slots)

    def _walk(self, module: nn.Module, prefix: str) -> Iterator[tuple[str, Tensor]]:
        for own in (module._parameters, module._buffers):
            for name, tensor in own.items():
                self._slots.append((own, name, tensor))
                if tensor is not None:
                    yield prefix + name, tensor
        for name, child in module._modules.items():
            self._slots.append((module._modules, name, child))
            if child is not None:
                yield from self._walk(child, f"{prefix}{name}.")
