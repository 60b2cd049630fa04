"""Images in, images out."""

from lbam_fast.inference.errors import InpaintError
from lbam_fast.inference.inpainter import DTYPES, Inpainter, embedded_weights
from lbam_fast.inference.masks import MaskOptions

__all__ = ["DTYPES", "InpaintError", "Inpainter", "MaskOptions", "embedded_weights"]
