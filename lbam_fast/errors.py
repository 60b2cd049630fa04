"""The root of the package's own errors."""


class LBAMError(Exception):
    """Something that was given cannot be used; the message says what was wrong, what was expected and what to do."""
