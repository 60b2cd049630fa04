"""Random masks and photographs for training and evaluation."""

from lbam_fast.data.files import picture_files
from lbam_fast.data.mask_sources import AnyMask, MaskError, MaskSource, OwnMasks, drawn_masks, masks_by_name
from lbam_fast.data.masks import MASK_KINDS, noise_mask, random_mask, scratch_mask, stroke_mask
from lbam_fast.data.photographs import PhotographCrops
from lbam_fast.data.protocols import Split, nvidia_masks, paris, places, read_split, write_split

__all__ = [
    "MASK_KINDS",
    "AnyMask",
    "MaskError",
    "MaskSource",
    "OwnMasks",
    "PhotographCrops",
    "Split",
    "drawn_masks",
    "masks_by_name",
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
