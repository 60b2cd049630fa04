"""Random masks and photographs for training and evaluation."""

from lbam_fast.data.masks import MASK_KINDS, noise_mask, random_mask, scratch_mask, stroke_mask
from lbam_fast.data.photographs import PhotographCrops, picture_files
from lbam_fast.data.protocols import Split, nvidia_masks, paris, places, read_split, write_split

__all__ = [
    "MASK_KINDS",
    "PhotographCrops",
    "Split",
    "noise_mask",
    "nvidia_masks",
    "paris",
    "picture_files",
    "places",
    "random_mask",
    "read_split",
    "scratch_mask",
    "stroke_mask",
    "write_split",
]
