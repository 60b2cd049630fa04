"""Partial convolutions (Liu et al., ECCV 2018): the layer, and the U-Net made of it, in two dialects.

A mask has 1 where values are known. A layer multiplies its input by the mask, makes up for what is missing in each window,
and says which of its own outputs are known.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lbam_fast.evaluation.rivals.tree import place


def window_sum(mask: Tensor, kernel_size: int, stride: int, padding: int) -> Tensor:
    """Sum of the mask [N, C, H, W] over all channels and each window, [N, 1, H', W']; padding counts as hole."""
    ones = mask.new_ones(1, 1, kernel_size, kernel_size)
    return F.conv2d(mask.sum(1, keepdim=True), ones, stride=stride, padding=padding)


class PartialConv2d(nn.Conv2d):
    """The layer as NVIDIA and mmagic have it: ``y = (conv(x * m) * r + b) * c`` with ``c = clamp(s, 0, 1)``, ``r = |W| / s * c``.

    ``s`` is the sum of the mask over the window ``W``. The new mask is ``c``, so soft values below 1 survive.
    With ``multi_channel`` a mask has as many channels as ``x`` and ``|W|`` counts them; else it has one.
    """

    def __init__(
        self, c_in: int, c_out: int, kernel_size: int, stride: int = 1, bias: bool = True, multi_channel: bool = True
    ) -> None:
        super().__init__(c_in, c_out, kernel_size, stride, kernel_size // 2, bias=bias)
        self.multi_channel = multi_channel
        channels = (c_out, c_in) if multi_channel else (1, 1)
        _publish_ones(self, "weight_mask_updater", (*channels, kernel_size, kernel_size))

    def forward(  # type: ignore[override]
        self, x: Tensor, mask: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """x [N, C_in, H, W]; mask [N, C_in or 1, H, W], none: all known. Gives y and its mask [N, C_out or 1, H', W']."""
        if mask is None:
            mask = torch.ones_like(x if self.multi_channel else x[:, :1])
        kernel_size, stride, padding = self.kernel_size[0], self.stride[0], int(self.padding[0])
        total = window_sum(mask, kernel_size, stride, padding)
        window = kernel_size**2 * (self.in_channels if self.multi_channel else 1)
        known = total.clamp(0, 1)
        epsilon = 1e-6 if x.dtype == torch.float16 else 1e-8
        y = F.conv2d(x * mask, self.weight, stride=stride, padding=padding) * (window / (total + epsilon) * known)
        if self.bias is not None:
            y = (y + self.bias[:, None, None]) * known
        return y, known.expand(-1, self.out_channels, -1, -1) if self.multi_channel else known


class MeanPartialConv2d(nn.Module):
    """The layer of naoto0804's network: ``y = conv(x * m) / s + b``, 0 where ``s`` is 0; the new mask is 1 where ``s`` is not.

    It leaves out ``|W|``, the size of the window, so its weights are that many times larger.
    """

    def __init__(self, c_in: int, c_out: int, kernel_size: int, stride: int = 1, bias: bool = True) -> None:
        super().__init__()
        self.input_conv = nn.Conv2d(c_in, c_out, kernel_size, stride, kernel_size // 2, bias=bias)
        _publish_ones(self, "mask_conv.weight", (c_out, c_in, kernel_size, kernel_size))
        with torch.no_grad():
            self.input_conv.weight *= c_in * kernel_size**2

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """x and mask [N, C_in, H, W]. Gives y and its mask [N, C_out, H', W']."""
        conv = self.input_conv
        kernel_size, stride, padding = conv.kernel_size[0], conv.stride[0], int(conv.padding[0])
        total = window_sum(mask, kernel_size, stride, padding)
        known = total > 0
        y = F.conv2d(x * mask, conv.weight, stride=stride, padding=padding) / torch.where(known, total, 1)
        if conv.bias is not None:
            y = y + conv.bias[:, None, None]
        return torch.where(known, y, 0), known.to(x.dtype).expand(-1, conv.out_channels, -1, -1)


class Block(nn.Module):
    """A partial convolution, BatchNorm where ``norm``, and an activation."""

    def __init__(self, conv: nn.Module, norm: int, activation: nn.Module) -> None:
        super().__init__()
        self.conv = conv
        self.bn = nn.BatchNorm2d(norm) if norm else None
        self.activation = activation

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        y, known = self.conv(x, mask)
        return self.activation(y if self.bn is None else self.bn(y)), known


class PartialUNet(nn.Module):
    """The U-Net: ``levels`` convolutions of stride 2, then as many on what is doubled in size and joined with its level.

    dialect     "pconv_naoto" or "pconv_mmagic"
    base_width  channels of the first layer, 64 as published
    levels      7, for pictures of 256x256, or 8, the paper's, for 512x512; sides are multiples of ``2 ** levels``
    """

    def __init__(self, dialect: str, base_width: int = 64, levels: int = 7) -> None:
        super().__init__()
        if dialect == "pconv_naoto":
            self._encoder, self._decoder = "enc_{}", "dec_{}"
        else:
            self._encoder, self._decoder = "encoder.enc{}", "decoder.dec{}"
        layer = MeanPartialConv2d if dialect == "pconv_naoto" else PartialConv2d
        self.levels = levels
        widths = [3, *(base_width * min(2**i, 8) for i in range(levels))]
        for i in range(1, levels + 1):
            kernel_size = 7 if i == 1 else 5 if i < 4 else 3
            conv = layer(widths[i - 1], widths[i], kernel_size, stride=2, bias=i == 1 and layer is PartialConv2d)
            place(self, self._encoder.format(i), Block(conv, widths[i] if i > 1 else 0, nn.ReLU()))
        for i in range(levels, 0, -1):
            c_out = widths[i - 1]
            conv = layer(widths[i] + widths[i - 1], c_out, 3, bias=i == 1)
            activation = nn.LeakyReLU(0.2) if i > 1 else nn.Identity()
            place(self, self._decoder.format(i), Block(conv, c_out if i > 1 else 0, activation))

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """x and mask [N, 3, H, W]. Gives the picture, unbounded, and the mask of the last layer, both [N, 3, H, W]."""
        levels = [(x, mask)]
        for i in range(1, self.levels + 1):
            x, mask = self.get_submodule(self._encoder.format(i))(x, mask)
            levels.append((x, mask))
        for i in range(self.levels, 0, -1):
            joined = (torch.cat([_doubled(deep), skip], 1) for deep, skip in zip((x, mask), levels[i - 1], strict=True))
            x, mask = self.get_submodule(self._decoder.format(i))(*joined)
        return x, mask


def _doubled(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2.0, mode="nearest")


def _publish_ones(module: nn.Module, name: str, shape: tuple[int, ...]) -> None:
    """Published files hold the mask's filter too, all ones: write it without keeping it, and pass over it when loading."""
    module.register_state_dict_post_hook(partial(_write_ones, name=name, shape=shape))  # type: ignore[no-untyped-call]
    module.register_load_state_dict_pre_hook(partial(_skip_ones, name=name))  # type: ignore[no-untyped-call]


def _write_ones(
    module: nn.Module, state: dict[str, Any], prefix: str, metadata: Any, *, name: str, shape: tuple[int, ...]
) -> None:
    state[prefix + name] = next(module.parameters()).new_ones(()).expand(shape)


def _skip_ones(module: nn.Module, state: dict[str, Any], prefix: str, *others: Any, name: str) -> None:
    state.pop(prefix + name, None)
