"""A reader of TensorFlow's checkpoints (TensorBundle: PREFIX.index and PREFIX.data-00000-of-00001), without TensorFlow.

The index is a table of LevelDB's format, uncompressed, of protocol buffers (``tensor_bundle.proto``), one a tensor.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lbam_fast.errors import LBAMError

_MAGIC = 0xDB4775248B80FB57
_FOOTER = 48
_DTYPES = {1: "<f4", 2: "<f8", 3: "<i4", 9: "<i8", 19: "<f2"}
_DTYPE, _SHAPE, _SHARD, _OFFSET, _SIZE = 1, 2, 3, 4, 5
"""Fields of an entry."""


class TensorBundleError(LBAMError, ValueError):
    """Files that are no checkpoint of TensorFlow, or that are damaged."""


def read_tensor_bundle(index: Path) -> dict[str, NDArray[Any]]:
    """Tensors of floating or integer types by name; ``index`` is PREFIX.index. Raises TensorBundleError, OSError."""
    content = index.read_bytes()
    prefix = index.name.removesuffix(".index")
    shards = {int(path.name.partition(".data-")[2][:5]): path for path in index.parent.glob(f"{prefix}.data-?????-of-?????")}
    tensors: dict[str, NDArray[Any]] = {}
    try:
        entries = {key.decode(): _fields(value) for key, value in _table(content)}
        opened = {shard: path.read_bytes() for shard, path in shards.items()}
        for name, fields in entries.items():
            dtype = _DTYPES.get(fields.get(_DTYPE, [0])[0])
            if name and dtype:
                tensors[name] = _tensor(fields, dtype, opened)
    except (struct.error, IndexError, KeyError, TypeError, UnicodeDecodeError, ValueError) as error:
        raise TensorBundleError(f"no checkpoint of TensorFlow, damaged, or without its data files: {error!r}") from error
    return tensors


def _tensor(fields: dict[int, list[Any]], dtype: str, shards: dict[int, bytes]) -> NDArray[Any]:
    """One entry's tensor, from the file of its shard."""
    sizes = [_fields(each).get(1, [0])[0] for each in _fields(fields.get(_SHAPE, [b""])[0]).get(2, [])]
    start, size = fields.get(_OFFSET, [0])[0], fields[_SIZE][0]
    content = shards[fields.get(_SHARD, [0])[0]][start : start + size]
    return np.frombuffer(content, dtype).reshape(sizes)


def _table(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Keys and values of a table, in order."""
    footer = content[-_FOOTER:]
    if len(footer) < _FOOTER or struct.unpack("<Q", footer[-8:])[0] != _MAGIC:
        raise TensorBundleError("its index does not end as a table does")
    _, at = _handle(footer, 0)
    index, _ = _handle(footer, at)
    for _, value in _block(content, index):
        yield from _block(content, _handle(value, 0)[0])


def _handle(content: bytes, at: int) -> tuple[tuple[int, int], int]:
    """(offset, size) of a block, and where the next thing begins."""
    offset, at = _varint(content, at)
    size, at = _varint(content, at)
    return (offset, size), at


def _block(content: bytes, handle: tuple[int, int]) -> Iterator[tuple[bytes, bytes]]:
    """Keys, which share their beginnings with those before, and values of a block."""
    offset, size = handle
    if content[offset + size] != 0:
        raise TensorBundleError("its index is compressed")
    block = content[offset : offset + size]
    end = size - 4 * (1 + struct.unpack("<I", block[-4:])[0])
    at, key = 0, b""
    while at < end:
        shared, at = _varint(block, at)
        own, at = _varint(block, at)
        length, at = _varint(block, at)
        key = key[:shared] + block[at : at + own]
        yield key, block[at + own : at + own + length]
        at += own + length


def _fields(message: bytes) -> dict[int, list[Any]]:
    """A protocol buffer's fields by number: integers, or bytes."""
    fields: dict[int, list[Any]] = {}
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        kind = tag & 7
        value: Any
        if kind == 0:
            value, at = _varint(message, at)
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
            value, at = message[at : at + size], at + size
        elif kind == 2:
            size, at = _varint(message, at)
            value, at = message[at : at + size], at + size
        else:
            raise TensorBundleError(f"a field of type {kind}")
        fields.setdefault(tag >> 3, []).append(value)
    return fields


def _varint(content: bytes, at: int) -> tuple[int, int]:
    """A number of 7 bits a byte, and where the next thing begins."""
    value = shift = 0
    while True:
        byte = content[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at
