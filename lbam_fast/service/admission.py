"""Which requests are let in: limits on their number and on their bytes, checked before anything is read."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from lbam_fast.service.errors import ServiceError
from lbam_fast.service.settings import Settings

RETRY = 2
"""Seconds after which a refused request may try again."""


class Admission:
    """Counts the requests at hand."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.count = self.size = 0
        self.closed = False

    @contextlib.contextmanager
    def entry(self, length: int | None) -> Iterator[None]:
        """A place for a request whose body has that many bytes, or that does not say how many. Raises ServiceError."""
        most = self._settings.max_body
        if length is not None and length > most:
            raise too_large(most)
        size = most if length is None else length
        if self.closed:
            raise stopping()
        if self.count >= self._settings.queue:
            raise ServiceError(f"{self.count} requests are waiting already; try again", 503, "queue_full", RETRY)
        if self.count and self.size + size > self._settings.queue_bytes:
            raise ServiceError("the requests that are waiting hold too much memory already; try again", 503, "memory_full", RETRY)
        self.count += 1
        self.size += size
        try:
            yield
        finally:
            self.count -= 1
            self.size -= size


def stopping() -> ServiceError:
    return ServiceError("the service is stopping; try again", 503, "stopping", RETRY)


def too_large(most: int) -> ServiceError:
    return ServiceError(f"the request has more than {most:,} bytes; send smaller pictures", 413, "body_too_large")
