"""What was computed from the weights and something else, such as the maps of a mask: kept while the weights are as they were."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from typing import Any, NamedTuple

from torch import Tensor

from lbam_fast.ops.runtime.prepared import Marks

MOST, MOST_BYTES, LONG = 16, 256 << 20, 32
"""Values that are kept, their bytes, and calls of the network for which each is kept without use: a mask that comes again does so
soon, and others should not take memory for long."""


class _Value(NamedTuple):
    value: Any
    nbytes: int
    last: int  # call for which it was used


class Kept:
    """Values by key, those used last, within a number and a number of bytes. Safe under threads."""

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self._most_bytes = most_bytes
        self._lock = threading.Lock()
        self._values: OrderedDict[Hashable, _Value] = OrderedDict()  # by their last use
        self._calls = 0
        self._marks = Marks()

    def count_call(self) -> None:
        """Another call of the network: gives up what none of the last ones used."""
        with self._lock:
            self._calls += 1
            while self._values and self._calls - next(iter(self._values.values())).last > LONG:
                self._values.popitem(last=False)

    def get(self, key: Hashable, weights: Sequence[Tensor], make: Callable[[], Any], nbytes: Callable[[Any], int]) -> Any:
        """``make()``, or what it gave for that key with the weights as they are now."""
        with self._lock:
            if self._marks.changed(weights):
                self._values.clear()
            if (found := self._values.get(key)) is not None:
                self._values.move_to_end(key)
                self._values[key] = found._replace(last=self._calls + 1)
                return found.value
        value = make()
        with self._lock:
            self._values[key] = _Value(value, nbytes(value), self._calls + 1)
            self._values.move_to_end(key)
            while len(self._values) > MOST or sum(each.nbytes for each in self._values.values()) > self._most_bytes:
                self._values.popitem(last=False)
        return value

    def clear(self) -> None:
        with self._lock:
            self._values.clear()
