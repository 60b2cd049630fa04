"""What the image network reads, in one pass over picture and mask."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from .shipped import DTYPES, Shipped

_BLOCK = 1024  # pixels of a program
_WARPS = 4


@triton.jit(do_not_specialize=["positions", "height", "width"])
def damage_kernel(
    image,
    mask,
    y,
    positions,
    height,
    width,
    image_batch,
    image_channel,
    image_row,
    image_column,
    mask_batch,
    mask_channel,
    mask_row,
    mask_column,
    CHANNELS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """``image * mask``, 0 where the mask is 0, and the mask's first channel where y has a fourth. The rest are strides.

    y  [positions, CHANNELS], of pictures in channels_last
    """
    position = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = position < positions
    line = position // width
    number, row, column = (line // height).to(tl.int64), line % height, position % width
    from_image = image + number * image_batch + row.to(tl.int64) * image_row + column.to(tl.int64) * image_column
    from_mask = mask + number * mask_batch + row.to(tl.int64) * mask_row + column.to(tl.int64) * mask_column
    for channel in tl.static_range(CHANNELS):
        value = tl.load(from_mask + channel % 3 * mask_channel, mask=inside, other=0.0).to(tl.float32)
        if channel < 3:
            colour = tl.load(from_image + channel * image_channel, mask=inside & (value > 0), other=0.0).to(tl.float32)
            value = colour * value
        tl.store(y + position.to(tl.int64) * CHANNELS + channel, value.to(y.dtype.element_ty), mask=inside)


def damaged_input(image: Tensor, mask: Tensor, channels: int, dtype: torch.dtype) -> Tensor:
    """``reference.damaged_input`` in that dtype: image [N, 3, H, W], mask [N or 1, 1 or 3, H, W], in any layout, to [N, channels,
    H, W] in channels_last; without gradients."""
    batch, _, height, width = image.shape
    y = torch.empty((batch, channels, height, width), dtype=dtype, device=image.device, memory_format=torch.channels_last)
    positions = batch * height * width
    if positions == 0:
        return y
    shared = (0 if len(mask) == 1 else mask.stride(0), 0 if mask.shape[1] == 1 else mask.stride(1))
    with torch.cuda.device_of(image):
        damage_kernel[(triton.cdiv(positions, _BLOCK),)](
            image,
            mask,
            y,
            positions,
            height,
            width,
            *image.stride(),
            *shared,
            *mask.stride()[2:],
            CHANNELS=channels,
            BLOCK=_BLOCK,
            num_warps=_WARPS,
        )
    return y


_SIZES = ("positions", "height", "width")
_STRIDES = tuple(f"{of}_{axis}" for of in ("image", "mask") for axis in ("batch", "channel", "row", "column"))


def _shipped(precision: str, channels: int) -> Shipped:
    return Shipped(
        name=f"inputs-{precision}-{channels}",
        kernel=damage_kernel,
        signature={"image": "*fp32", "mask": "*fp32", "y": f"*{DTYPES[precision]}", **dict.fromkeys((*_SIZES, *_STRIDES), "i32")},
        constants={"CHANNELS": channels, "BLOCK": _BLOCK},
        precision=precision,
        num_warps=_WARPS,
        num_stages=1,
        multiplies=False,
        aligned=("image", "mask", "y"),
    )


SHIPPED: tuple[Shipped, ...] = tuple(
    _shipped(precision, channels) for precision in ("fp32", "fp16", "bf16") for channels in (3, 4)
)
