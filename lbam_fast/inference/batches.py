"""One picture or many, and the masks that belong to them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lbam_fast.inference.errors import InpaintError

MASK_LAYOUTS = "[H, W], a tensor [C, H, W] or an array [H, W, C] for all; [N, H, W], [N, C, H, W] or a list for one each"


def listed_images(image: Any) -> tuple[list[Any], Callable[[list[Any]], Any]]:
    """The images, and what joins their results into what was given."""
    if isinstance(image, (Tensor, np.ndarray)) and image.ndim == 4:
        return list(image), torch.stack if isinstance(image, Tensor) else np.stack
    if _is_list(image):
        return list(image), list
    return [image], lambda results: results[0]


def listed_masks(mask: Any, sizes: Sequence[tuple[int, int]]) -> list[Any]:
    """A mask each for images of those ``sizes`` (height, width), or one mask for all.

    Lists and batches of four dimensions hold a mask each. [N, H, W] for N images is N masks, never one mask with N channels; with
    several images a tensor [C, H, W] is refused unless C is 1, since it could be a batch of too few. Raises InpaintError.
    """
    masks = list(mask) if _is_batch(mask, sizes) else [mask]
    if not sizes:
        raise InpaintError("no images were given")
    if len(masks) not in (1, len(sizes)):
        raise InpaintError(
            f"{len(masks)} masks for {len(sizes)} images: expected one each, or one for all. Masks may be {MASK_LAYOUTS}"
        )
    return masks


def _is_batch(mask: Any, sizes: Sequence[tuple[int, int]]) -> bool:
    """Whether that holds several masks, or one in a batch of its own."""
    if _is_list(mask):
        return True
    if not isinstance(mask, (Tensor, np.ndarray)) or mask.ndim != 3:
        return isinstance(mask, (Tensor, np.ndarray)) and mask.ndim == 4
    fits = tuple(mask.shape[1:]) in sizes
    if isinstance(mask, Tensor):
        return len(sizes) > 1 or (fits and mask.shape[0] == 1)
    return fits and (mask.shape[0] == len(sizes) or tuple(mask.shape[:2]) not in sizes)


def _is_list(given: Any) -> bool:
    return isinstance(given, Sequence) and not isinstance(given, (str, bytes))
