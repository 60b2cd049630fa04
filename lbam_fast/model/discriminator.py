"""The two-column discriminator of LBAM's adversarial training."""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor, nn

from lbam_fast.reference import LEAKY_SLOPE, damaged_input

_DEPTH = 6
_MULTIPLE = 2**_DEPTH
_FINAL_KERNEL = 4
_SMALLEST = _FINAL_KERNEL * _MULTIPLE


def _column(widths: tuple[int, ...]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for i, (c_in, c_out) in enumerate(itertools.pairwise((3, *widths))):
        layers.append(nn.Conv2d(c_in, c_out, 4, stride=2, padding=1, bias=i == 0))
        if i > 0:
            layers.append(nn.BatchNorm2d(c_out))
        layers.append(nn.LeakyReLU(LEAKY_SLOPE))
    return nn.Sequential(*layers)


class Discriminator(nn.Module):
    """Real or filled in? The discriminator of Table 1 of the supplement to LBAM (Xie et al., ICCV 2019).

    One column reads ``image * M``, the other ``image * (1 - M)``: each six 4x4 convolutions of stride 2, padding 1,
    with BatchNorm in all but the first, and LeakyReLU(0.2). A 4x4 convolution to one channel joins them, without
    padding and with stride 1 (the table's "stride = 0" is read as no striding).

    The table leaves biases and start values open. Chosen here: biases, starting at 0, in the first and the last
    convolution alone, since BatchNorm takes away any other; filters Kaiming normal for LeakyReLU(0.2), the last one for
    a linear layer.

    sigmoid     the last layer of the table, for a probability; False leaves the raw value, for a Wasserstein critic
    base_width  channels of the first layer; the six have 1, 2, 4, 8, 8, 8 times as many
    """

    def __init__(self, *, sigmoid: bool = True, base_width: int = 64) -> None:
        super().__init__()
        if base_width < 1:
            raise ValueError(f"base_width is {base_width}, expected at least 1")
        widths = tuple(base_width * factor for factor in (1, 2, 4, 8, 8, 8))
        self.known = _column(widths)
        self.hole = _column(widths)
        self.merge = nn.Conv2d(2 * widths[-1], 1, _FINAL_KERNEL)
        self.sigmoid = sigmoid
        self._initialise()

    @torch.no_grad()
    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                gain = 1.0 if module is self.merge else 2 / (1 + LEAKY_SLOPE**2)
                module.weight.normal_(0, math.sqrt(gain / module.weight[0].numel()))
                if module.bias is not None:
                    module.bias.zero_()

    def forward(self, image: Tensor, mask: Tensor) -> Tensor:
        """[N, 1, H / 64 - 3, W / 64 - 3]: in (0, 1), or unbounded without the sigmoid.

        image [N, 3, H, W] in [0, 1], floating; mask [N or 1, 1 or 3, H, W], 1 = known, soft values allowed. H, W:
        multiples of 64, at least 256. Where the mask is 0 the first column sees 0 whatever the image holds; where it
        is 1 the second does. Raises ValueError for other shapes.
        """
        _check(image, mask)
        mask = mask.to(image.dtype)
        columns = self.known(damaged_input(image, mask, 3)), self.hole(damaged_input(image, 1 - mask, 3))
        value: Tensor = self.merge(torch.cat(columns, dim=1))
        return value.sigmoid() if self.sigmoid else value


def _check(image: Tensor, mask: Tensor) -> None:
    for name, tensor, channels in (("image", image, (3,)), ("mask", mask, (1, 3))):
        if tensor.dim() != 4 or tensor.shape[1] not in channels:
            wanted = f"[N, {' or '.join(map(str, channels))}, H, W]"
            raise ValueError(f"{name} has the shape {list(tensor.shape)}, expected {wanted}")
    if mask.shape[-2:] != image.shape[-2:] or mask.shape[0] not in (1, image.shape[0]):
        raise ValueError(
            f"mask {list(mask.shape)} does not go with the image {list(image.shape)}: "
            "expected its height and width, and 1 or its batch size"
        )
    height, width = image.shape[-2:]
    if min(height, width) < _SMALLEST or height % _MULTIPLE or width % _MULTIPLE:
        raise ValueError(
            f"image is {height}x{width} (height x width), expected multiples of {_MULTIPLE} and at least {_SMALLEST}"
        )
