"""The network as plain PyTorch functions, in any floating dtype and on any device: the specification of every kernel."""

from lbam_fast.reference.functional import (
    LEAKY_SLOPE,
    activation,
    attention_map,
    convolution,
    damaged_input,
    deconvolution,
    mask_convolution,
    mask_update,
    output_form,
    partial_ratio,
    reciprocal_attention,
    step_update,
)
from lbam_fast.reference.harmonic import corrected, correction_input, harmonic_fill, plane, plane_parts
from lbam_fast.reference.network import LEVELS, MULTIPLE, AttentionMaps, attention_maps, clamped, generate, inpaint

__all__ = [
    "LEAKY_SLOPE",
    "LEVELS",
    "MULTIPLE",
    "AttentionMaps",
    "activation",
    "attention_map",
    "attention_maps",
    "clamped",
    "convolution",
    "corrected",
    "correction_input",
    "damaged_input",
    "deconvolution",
    "generate",
    "harmonic_fill",
    "inpaint",
    "mask_convolution",
    "mask_update",
    "output_form",
    "partial_ratio",
    "plane",
    "plane_parts",
    "reciprocal_attention",
    "step_update",
]
