"""The error of jobs that cannot be made, or whose result has no place."""

from lbam_fast.errors import LBAMError


class JobError(LBAMError, ValueError):
    """Paths that do not go together or cannot be used; the message says what was expected."""
