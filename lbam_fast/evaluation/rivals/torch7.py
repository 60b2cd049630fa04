"""A reader of Torch7's binary files, which PyTorch has dropped: numbers, strings, tables and tensors, and nothing that runs.

The format is that of torch7's ``File.lua`` and ``generic/Tensor.c``, on machines of 64 bits: an int32 says the type of each
value; tables and objects are numbered, so that each is stored once.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lbam_fast.errors import LBAMError

_DTYPES = {
    "Double": "<f8",
    "Float": "<f4",
    "Cuda": "<f4",
    "CudaDouble": "<f8",
    "Half": "<f2",
    "CudaHalf": "<f2",
    "Long": "<i8",
    "CudaLong": "<i8",
    "Int": "<i4",
    "Short": "<i2",
    "Char": "<i1",
    "Byte": "<u1",
}
_NIL, _NUMBER, _STRING, _TABLE, _OBJECT, _BOOLEAN = range(6)
_DEEPEST = 100
Table = dict[Any, Any]


class Torch7Error(LBAMError, ValueError):
    """A file that is no Torch7 file, is damaged, or holds what this reader does not take."""


def read_torch7(path: Path) -> Any:
    """The value in a file. Tables are dicts; tensors NumPy arrays; modules their tables, with their class under "torch class".

    Raises Torch7Error, also for functions, which could run anything; OSError.
    """
    reader = _Reader(path.read_bytes())
    try:
        return reader.value(0)
    except (struct.error, UnicodeDecodeError, TypeError) as error:  # TypeError: a key that cannot be one
        raise Torch7Error(f"damaged at byte {reader.at}: {error}") from error


class _Reader:
    def __init__(self, content: bytes) -> None:
        self.content, self.at = content, 0
        self.seen: dict[int, Any] = {}

    def value(self, depth: int) -> Any:
        if depth > _DEEPEST:
            raise Torch7Error(f"nested deeper than {_DEEPEST}")
        kind = self._number("i")
        if kind == _NIL:
            return None
        if kind == _NUMBER:
            return self._number("d")
        if kind == _STRING:
            return self._string()
        if kind == _BOOLEAN:
            return bool(self._number("i"))
        if kind not in (_TABLE, _OBJECT):
            raise Torch7Error(
                f"a value of type {kind} at byte {self.at - 4}: expected a number, string, boolean, table or object"
            )
        index = self._number("i")
        if index not in self.seen:
            if kind == _TABLE:
                self._table(index, depth)
            else:
                self._object(index, depth)
        return self.seen[index]

    def _table(self, index: int, depth: int) -> None:
        table: Table = {}
        self.seen[index] = table
        for _ in range(self._number("i")):
            key = self.value(depth + 1)
            table[key] = self.value(depth + 1)

    def _object(self, index: int, depth: int) -> None:
        name = self._string()
        if name.startswith("V "):
            name = self._string()
        library, _, kind = name.partition(".")
        if library == "torch" and kind.endswith("Storage") and kind.removesuffix("Storage") in _DTYPES:
            self.seen[index] = self._array(_DTYPES[kind.removesuffix("Storage")], self._number("q"))
        elif library == "torch" and kind.endswith("Tensor") and kind.removesuffix("Tensor") in _DTYPES:
            self.seen[index] = self._tensor(_DTYPES[kind.removesuffix("Tensor")], depth)
        elif library in ("nn", "cudnn"):
            self.seen[index] = table = {"torch class": name}
            content = self.value(depth + 1)
            if not isinstance(content, dict):
                raise Torch7Error(f"the content of {name} is no table")
            table.update(content)
        else:
            raise Torch7Error(f"an object of class {name!r}: expected a tensor or a module of nn")

    def _tensor(self, dtype: str, depth: int) -> NDArray[Any]:
        dimensions = self._number("i")
        if not 0 <= dimensions <= 8:
            raise Torch7Error(f"a tensor with {dimensions} dimensions")
        shape, strides = self._array("<i8", dimensions).tolist(), self._array("<i8", dimensions).tolist()
        offset = self._number("q") - 1
        storage = self.value(depth + 1)
        if storage is None:
            return np.zeros(0, dtype)
        if not isinstance(storage, np.ndarray) or storage.dtype != dtype or min(*shape, *strides, offset, 0) < 0:
            raise Torch7Error("a tensor does not go with its storage")
        last = offset + sum((length - 1) * stride for length, stride in zip(shape, strides, strict=True))
        if 0 in shape or not shape:
            return np.zeros(0, dtype)
        if last >= len(storage):
            raise Torch7Error("a tensor reaches beyond its storage")
        steps = [stride * storage.itemsize for stride in strides]
        return np.lib.stride_tricks.as_strided(storage[offset:], shape, steps, writeable=False).copy()

    def _array(self, dtype: str, count: int) -> NDArray[Any]:
        size = count * np.dtype(dtype).itemsize
        return np.frombuffer(self._bytes(size), dtype)

    def _number(self, kind: str) -> Any:
        return struct.unpack("<" + kind, self._bytes(struct.calcsize(kind)))[0]

    def _string(self) -> str:
        return self._bytes(self._number("i")).decode()

    def _bytes(self, count: int) -> bytes:
        if not 0 <= count <= len(self.content) - self.at:
            raise Torch7Error(f"{count} bytes are to follow at byte {self.at}, {len(self.content) - self.at} do")
        self.at += count
        return self.content[self.at - count : self.at]
