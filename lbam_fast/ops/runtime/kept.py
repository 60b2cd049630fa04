"""What was computed from the weights and something else, such as the maps of a mask: kept while the weights are as they were."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from typing import Any

from torch import Tensor

from lbam_fast.ops.runtime.prepared import Marks

MOST, MOST_BYTES = 16, 256 << 20
"""Values that are kept, and their bytes: a mask that comes again does so soon, and others should not take memory for long."""


class Kept:
    """Values by key, those used last, within a number and a number of bytes. Safe under threads."""

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self._most_bytes = most_bytes
        self._lock = threading.Lock()
        self._values: OrderedDict[Hashable, tuple[Any, int]] = OrderedDict()
        self._marks = Marks()

    def get(self, key: Hashable, weights: Sequence[Tensor], make: Callable[[], Any], nbytes: Callable[[Any], int]) -> Any:
        """``make()``, or what it gave for that key with the weights as they are now."""
        with self._lock:
            if self._marks.changed(weights):
                self._values.clear()
            if (found := self._values.get(key)) is not None:
                self._values.move_to_end(key)
                return found[0]
        value = make()
        with self._lock:
            self._values[key] = value, nbytes(value)
            while len(self._values) > MOST or sum(size for _, size in self._values.values()) > self._most_bytes:
                self._values.popitem(last=False)
        return value

    def clear(self) -> None:
        with self._lock:
            self._values.clear()
