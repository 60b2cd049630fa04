"""Random masks and photographs for training and evaluation."""

from lbam_fast.data.masks import MASK_KINDS, noise_mask, random_mask, scratch_mask, stroke_mask
from lbam_fast.data.photographs import PhotographCrops, picture_files

__all__ = [
    "MASK_KINDS",
    "PhotographCrops",
    "noise_mask",
    "picture_files",
    "random_mask",
    "scratch_mask",
    "stroke_mask",
]
