"""Which masks come again, so that what was computed from one of them is worth keeping."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable

MOST = 16
"""Keys that are remembered."""


class Recurring:
    """Remembers the keys that it was asked for last. Safe under threads; copies of it begin anew."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seen: OrderedDict[Hashable, None] = OrderedDict()

    def __reduce__(self) -> tuple[type[Recurring], tuple[()]]:
        return Recurring, ()

    def __call__(self, key: Hashable) -> bool:
        """Whether it was asked for that key before."""
        with self._lock:
            known = key in self._seen
            self._seen[key] = None
            self._seen.move_to_end(key)
            if len(self._seen) > MOST:
                self._seen.popitem(last=False)
        return known
