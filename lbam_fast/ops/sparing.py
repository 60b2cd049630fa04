"""Whether memory is spared at the cost of a little time: filters packed for every use, idle memory given back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_sparing: ContextVar[bool] = ContextVar("lbam_sparing", default=False)


@contextmanager
def sparing(whether: bool) -> Iterator[None]:
    """So inside the block."""
    token = _sparing.set(whether)
    try:
        yield
    finally:
        _sparing.reset(token)


def spares() -> bool:
    return _sparing.get()
