"""Images in, images out."""

from lbam_fast.inference.errors import InpaintError, OutOfMemoryError
from lbam_fast.inference.hands import Hands, grouped
from lbam_fast.inference.inpainter import DTYPES, Inpainter, embedded_weights
from lbam_fast.inference.masks import Hole, MaskOptions, find_hole
from lbam_fast.inference.strategies import Plan, PlanOptions, Strategy, plan

__all__ = [
    "DTYPES",
    "Hands",
    "Hole",
    "InpaintError",
    "Inpainter",
    "MaskOptions",
    "OutOfMemoryError",
    "Plan",
    "PlanOptions",
    "Strategy",
    "embedded_weights",
    "find_hole",
    "grouped",
    "plan",
]
