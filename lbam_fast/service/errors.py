"""What goes wrong between a client and the service."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from lbam_fast.errors import LBAMError


class ServiceError(LBAMError):
    """A setting that cannot be, or a request that was refused: ``status`` is that of the answer, ``code`` a short name of why.

    status       of HTTP; 0 where there was no answer
    retry_after  seconds after which the same request may be accepted; None where trying again does not help
    """

    def __init__(self, message: str, status: int = 0, code: str = "", retry_after: int | None = None) -> None:
        super().__init__(message)
        self.status, self.code, self.retry_after = status, code, retry_after


@contextlib.contextmanager
def naming_the_extra() -> Iterator[None]:
    """Say what to install where one of the packages of the extra ``serve`` is missing."""
    try:
        yield
    except ImportError as error:
        if (error.name or "").partition(".")[0] == "lbam_fast":
            raise
        raise ServiceError(f"this needs the package {error.name}: pip install 'lbam-fast[serve]'") from error
