"""The gradients of 4x4 filters of stride 2 and padding 1, of convolutions and transposed ones alike."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

GEOMETRY = ([2, 2], [1, 1], [1, 1])
"""Stride, padding and dilation of every convolution."""
AT_ONCE = 1 << 22
"""Values of windows that are laid out at a time, 16 MB in float32; of one picture at least."""


def filter_gradient(small: Tensor, large: Tensor, weight: Tensor, transposed: bool) -> Tensor:
    """The gradient of a filter [C_small, C_large, 4, 4] in its own memory format.

    small [N, C_small, h, w], large [N, C_large, 2h, 2w]: of a convolution its result's gradient and its input, of a transposed
    one its input and its result's gradient.

    On a CPU, in float32 and float64, one product of matrices: PyTorch's own convolutions lay the gradient of a filter in
    channels_last out anew, which for deep layers takes several times as long as the arithmetic.
    """
    if small.device.type != "cpu" or small.dtype not in (torch.float32, torch.float64):
        given = (large, small) if transposed else (small, large)
        wanted = [False, True, False]
        own: Tensor = torch.ops.aten.convolution_backward(*given, weight, None, *GEOMETRY, transposed, [0, 0], 1, wanted)[1]
        return own
    nhwc = weight.is_contiguous(memory_format=torch.channels_last)
    count, channels = len(small), weight.shape[1]
    share = max(1, AT_ONCE // max(1, small[0, 0].numel() * 16 * channels))
    gradient = small.new_zeros(small.shape[1], 16 * channels)
    for first in range(0, count, share):
        rows = small[first : first + share].permute(0, 2, 3, 1).flatten(0, 2)
        gradient.addmm_(rows.t(), _windows(large[first : first + share], nhwc), beta=min(first, 1))
    return gradient.view(-1, 4, 4, channels).permute(0, 3, 1, 2) if nhwc else gradient.view(-1, channels, 4, 4)


def _windows(x: Tensor, nhwc: bool) -> Tensor:
    """[N, C, 2h, 2w] -> [N h w, 16 C]: the 4x4 windows that stand 2 apart, channels last or first."""
    padded = F.pad(x.permute(0, 2, 3, 1), (0, 0, 1, 1, 1, 1)).contiguous()  # [N, 2h + 2, 2w + 2, C]
    windows = padded.unfold(1, 4, 2).unfold(2, 4, 2)  # [N, h, w, C, 4, 4]
    windows = windows.permute(0, 1, 2, 4, 5, 3) if nhwc else windows
    return windows.reshape(-1, 16 * x.shape[1])
