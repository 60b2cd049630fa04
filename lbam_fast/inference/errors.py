"""The error of everything that inpaints."""


class InpaintError(ValueError):
    """A picture, mask or option that cannot be inpainted; the message says what was wrong, what was expected and what to do."""
