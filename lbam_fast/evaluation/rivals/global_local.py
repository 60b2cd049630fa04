"""Global&Local (Iizuka et al., SIGGRAPH 2017): the completion network in three dialects, and its discriminators."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from lbam_fast.evaluation.rivals.tree import place


class Layer(NamedTuple):
    """A convolution to ``width`` (of the first layer's) channels; ``transposed`` ones are 4x4, of stride 2."""

    width: float
    kernel_size: int = 3
    stride: int = 1
    dilation: int = 1
    transposed: bool = False


LAYERS = (
    Layer(1, kernel_size=5),
    Layer(2, stride=2),
    Layer(2),
    Layer(4, stride=2),
    Layer(4),
    Layer(4),
    *(Layer(4, dilation=dilation) for dilation in (2, 4, 8, 16)),
    Layer(4),
    Layer(4),
    Layer(2, transposed=True),
    Layer(2),
    Layer(1, transposed=True),
    Layer(0.5),
)
"""All but the last, which gives three channels."""


class CompletionNetwork(nn.Sequential):
    """The completion network: cat(picture, hole) [N, 4, H, W] -> [N, 3, H, W], sides multiples of 4.

    dialect     "gl_authors": convolution, BatchNorm, ReLU, and a sigmoid at the end; "gl_otenim": convolution, ReLU, BatchNorm,
                and a sigmoid; "gl_mmagic": as the authors', without biases, and clamped to [-1, 1] at the end
    base_width  channels of the first layer, 64 as published
    """

    def __init__(self, dialect: str, base_width: int = 64) -> None:
        super().__init__()
        c_in = 4
        for i, layer in enumerate(LAYERS, 1):
            c_out = int(layer.width * base_width)
            conv = _convolution(layer, c_in, c_out, bias=dialect != "gl_mmagic")
            modules = {"conv": conv, "norm": nn.BatchNorm2d(c_out), "activation": nn.ReLU()}
            order = ("conv", "activation", "norm") if dialect == "gl_otenim" else ("conv", "norm", "activation")
            names = _names(dialect, i, layer.transposed)
            for kind in order:
                place(self, names[kind], modules[kind])
            c_in = c_out
        place(self, _names(dialect, len(LAYERS) + 1, transposed=False)["conv"], nn.Conv2d(c_in, 3, 3, padding=1))
        place(self, "49" if dialect == "gl_authors" else "bounded", nn.Hardtanh() if dialect == "gl_mmagic" else nn.Sigmoid())


def _convolution(layer: Layer, c_in: int, c_out: int, bias: bool) -> nn.Module:
    if layer.transposed:
        return nn.ConvTranspose2d(c_in, c_out, 4, 2, 1, bias=bias)
    padding = layer.dilation * (layer.kernel_size - 1) // 2
    return nn.Conv2d(c_in, c_out, layer.kernel_size, layer.stride, padding, layer.dilation, bias=bias)


def _names(dialect: str, i: int, transposed: bool) -> dict[str, str]:
    """Paths of the i-th layer's modules, counted from 1."""
    if dialect == "gl_authors":
        return {kind: str(3 * (i - 1) + j) for j, kind in enumerate(("conv", "norm", "activation"))}
    if dialect == "gl_otenim":
        return {"conv": f"{'deconv' if transposed else 'conv'}{i}", "norm": f"bn{i}", "activation": f"relu{i}"}
    layer = f"encoder.enc{i}" if i <= 6 else f"dilation_neck.dilation_convs.{i - 7}" if i <= 10 else f"decoder.dec{i - 10}"
    return {"conv": f"{layer}.conv", "norm": f"{layer}.bn", "activation": f"{layer}.activation"}


class GlobalLocalDiscriminator(nn.Module):
    """Real or filled in? One column reads the whole picture, the other the part around the hole; one layer joins them.

    Each column: 5x5 convolutions of stride 2 down to 4x4, each with BatchNorm and ReLU, and a linear layer.

    size, part_size  sides of the two, powers of 2 (256 and 128 as published, so 6 and 5 convolutions)
    base_width       channels of the first layer, 64 as published; the others have 2, 4, 8, 8, 8 times as many
    """

    def __init__(self, size: int = 256, part_size: int = 128, base_width: int = 64) -> None:
        super().__init__()
        for name, side in (("size", size), ("part_size", part_size)):
            if side < 8 or side & (side - 1):
                raise ValueError(f"{name} is {side}, expected a power of 2, at least 8")
        self.size, self.part_size = size, part_size
        self.whole, self.part = _column(size, base_width), _column(part_size, base_width)
        self.join = nn.Linear(2 * 16 * base_width, 1)

    def forward(self, image: Tensor, part: Tensor) -> Tensor:
        """Logits [N, 1] for pictures [N, 3, size, size] and their parts [N, 3, part_size, part_size] (see ``around_hole``)."""
        value: Tensor = self.join(torch.cat([self.whole(image), self.part(part)], 1).relu())
        return value


def _column(size: int, base_width: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    c_in, depth = 3, size.bit_length() - 3
    for i in range(depth):
        c_out = base_width * min(2**i, 8)
        layers += [nn.Conv2d(c_in, c_out, 5, 2, 2), nn.BatchNorm2d(c_out), nn.ReLU()]
        c_in = c_out
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(16 * c_in, 16 * base_width))


def around_hole(image: Tensor, mask: Tensor, size: int) -> Tensor:
    """The part [N, 3, size, size] of each picture that lies around the middle of its hole's box, as far as the picture allows.

    image [N, 3, H, W], mask [N, 1, H, W] with 1 = known; H, W at least ``size``. Without a hole: the middle of the picture.
    """
    parts = []
    for picture, known in zip(image, mask[:, 0], strict=True):
        corner = []
        for axis, length in enumerate(known.shape):
            met = (known < 1).any(1 - axis).nonzero()
            middle = int(met[0] + met[-1]) // 2 if len(met) else length // 2
            corner.append(min(max(middle - size // 2, 0), length - size))
        top, left = corner
        parts.append(picture[:, top : top + size, left : left + size])
    return torch.stack(parts)
