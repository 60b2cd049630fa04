"""The errors of everything that inpaints."""

from lbam_fast.errors import LBAMError


class InpaintError(LBAMError, ValueError):
    """A picture, mask or option that cannot be inpainted; the message says what was wrong, what was expected and what to do."""


class OutOfMemoryError(InpaintError):
    """Too little memory for so many pictures of that size at once; fewer may fit."""
