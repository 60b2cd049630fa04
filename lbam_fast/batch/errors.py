"""The errors of jobs."""

from lbam_fast.errors import LBAMError


class JobError(LBAMError, ValueError):
    """Jobs that cannot be made or done: paths that do not go together, a result without a place; the message says what to do."""
