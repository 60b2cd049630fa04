"""The arguments of an op: bundled, as people write them, and one after the other, as ``torch.ops`` takes them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from lbam_fast.kernels.arguments import Affine, Gate, Regions, Wanted

__all__ = ["Affine", "Gate", "Regions", "Signature", "Wanted", "flatten", "map_tensors", "nhwc", "tensors_of"]

_BUNDLES: dict[type, str] = {
    Gate: "Tensor scalars, Tensor alpha",
    Affine: "Tensor? scale, Tensor? shift, float slope",
    Wanted: "bool update, bool keep",
    Regions: "Tensor? order=None, Tensor? kinds=None, Tensor? constant=None",
}


class Signature:
    """Of an op, made of stretches of a schema and of the bundles' types: ``Signature("Tensor x", Affine)``. Regions come last."""

    def __init__(self, *parts: str | type) -> None:
        self._parts = parts
        self.schema = ", ".join(part if isinstance(part, str) else _BUNDLES[part] for part in parts)

    def flatten(self, arguments: Sequence[Any]) -> list[Any]:
        """Arguments as functions take them, as the schema has them."""
        absent = self._parts[-1] is Regions and arguments[-1] is None
        return list(flatten(arguments[:-1] if absent else arguments))

    def bundle(self, flat: Sequence[Any]) -> list[Any]:
        """The arguments as functions take them. Absent regions are None; trailing ones may be missing."""
        result: list[Any] = []
        taken = 0
        for part in self._parts:
            if isinstance(part, str):
                count = part.count(",") + 1
                result += flat[taken : taken + count]
            else:
                count = len(part._fields)  # type: ignore[attr-defined]
                given = flat[taken : taken + count]
                absent = part is Regions and (not given or given[0] is None)
                result.append(None if absent else part(*given))
            taken += count
        return result


def flatten(arguments: Iterable[Any]) -> Iterator[Any]:
    """Bundled arguments one after the other."""
    for argument in arguments:
        if isinstance(argument, tuple):
            yield from argument
        else:
            yield argument


def map_tensors(function: Callable[[Tensor], Tensor], arguments: Sequence[Any]) -> list[Any]:
    """The arguments with ``function`` of each tensor, in bundles too."""

    def mapped(x: Any) -> Any:
        if isinstance(x, tuple):
            return type(x)(*map(mapped, x))
        return function(x) if isinstance(x, Tensor) else x

    return [mapped(x) for x in arguments]


def tensors_of(arguments: Sequence[Any]) -> Iterator[Tensor]:
    """All tensors among the arguments, in bundles too."""
    return (x for x in flatten(arguments) if isinstance(x, Tensor))


def nhwc(x: Tensor) -> Tensor:
    """[N, C, H, W] dense in channels_last, as kernels read it; copied only if it is not."""
    return x.contiguous(memory_format=torch.channels_last)
