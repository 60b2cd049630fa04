"""Writes Torch7's binary files, as torch7's own ``File.lua`` lays them out, for tests of the reader."""

import struct
from typing import Any

import numpy as np

TENSORS = {np.dtype(np.float32): "Float", np.dtype(np.float64): "Double", np.dtype(np.int64): "Long", np.dtype(np.uint8): "Byte"}


class Module(dict):
    """A table with a class."""

    def __init__(self, name: str, **fields: Any) -> None:
        super().__init__(**fields)
        self.name = name


class Writer:
    """``known`` has the number of each object, and the object itself, so that no other takes its identity."""

    def __init__(self) -> None:
        self.count = 0
        self.known: dict[int, tuple[int, Any]] = {}

    def file(self, value: Any) -> bytes:
        if value is None:
            return self.number("i", 0)
        if isinstance(value, bool):
            return self.number("ii", 5, value)
        if isinstance(value, int | float):
            return self.number("i", 1) + self.number("d", value)
        if isinstance(value, str):
            return self.number("i", 2) + self.string(value)
        if id(value) in self.known:
            kind = 3 if isinstance(value, dict) and not isinstance(value, Module) else 4
            return self.number("ii", kind, self.known[id(value)][0])
        self.count += 1
        self.known[id(value)] = self.count, value
        if isinstance(value, np.ndarray):
            return self.number("ii", 4, self.count) + self.tensor(value)
        if isinstance(value, Module):
            head = self.number("ii", 4, self.count) + self.string("V 1") + self.string(value.name)
            return head + self.file(dict(value))
        head = self.number("iii", 3, self.count, len(value))
        return head + b"".join(self.file(key) + self.file(item) for key, item in value.items())

    def tensor(self, value: np.ndarray) -> bytes:
        kind, strides = TENSORS[value.dtype], [stride // value.itemsize for stride in value.strides]
        head = self.string("V 1") + self.string(f"torch.{kind}Tensor") + self.number("i", value.ndim)
        head += self.number(f"{value.ndim}q", *value.shape) + self.number(f"{value.ndim}q", *strides) + self.number("q", 1)
        self.count += 1
        memory = value.ravel("K")
        storage = self.number("ii", 4, self.count) + self.string("V 1") + self.string(f"torch.{kind}Storage")
        return head + storage + self.number("q", len(memory)) + memory.tobytes()

    @staticmethod
    def number(kinds: str, *values: float) -> bytes:
        return struct.pack("<" + kinds, *values)

    def string(self, text: str) -> bytes:
        return self.number("i", len(text)) + text.encode()
