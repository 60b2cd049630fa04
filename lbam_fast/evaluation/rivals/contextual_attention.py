"""Contextual Attention (DeepFill v1; Yu et al., CVPR 2018): a coarse and a fine network, in the dialects of public versions."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lbam_fast.evaluation.rivals.attention import AttentionDialect, ContextualAttention, resized
from lbam_fast.evaluation.rivals.tree import place


class Layer(NamedTuple):
    """A convolution to ``width`` channels, where the first layer has 32; ``doubled``: of its input at twice the size."""

    width: int
    kernel_size: int = 3
    stride: int = 1
    dilation: int = 1
    doubled: bool = False


_DILATED = tuple(Layer(128, dilation=dilation) for dilation in (2, 4, 8, 16))
_DECODER = (Layer(128), Layer(128), Layer(64, doubled=True), Layer(64), Layer(32, doubled=True), Layer(16), Layer(3))
_FIRST = Layer(32, kernel_size=5)
COARSE = (_FIRST, Layer(64, stride=2), Layer(64), Layer(128, stride=2), Layer(128), Layer(128), *_DILATED, *_DECODER)
PLAIN = (_FIRST, Layer(32, stride=2), Layer(64), Layer(64, stride=2), Layer(128), Layer(128), *_DILATED)
BEFORE = (_FIRST, Layer(32, stride=2), Layer(64), Layer(128, stride=2), Layer(128), Layer(128))
AFTER = (Layer(128), Layer(128))

ATTENTION = {
    "ca_authors_floor": AttentionDialect("floor", by_steps=True),
    "ca_authors_round": AttentionDialect("round", by_steps=True),
    "ca_daa233": AttentionDialect(),
    "ca_daa233_sum": AttentionDialect(summed_norm=True),
    "ca_mmagic": AttentionDialect(excluded=True, true_overlap=True),
}


class Block(nn.Module):
    """A convolution, of the doubled input where the layer says so, and an activation.

    TensorFlow pads a convolution of stride 2 by nothing before and one after (``same``), the others by one on both sides.
    """

    def __init__(self, layer: Layer, c_in: int, c_out: int, dialect: str, activation: nn.Module) -> None:
        super().__init__()
        self.doubled, self.resampling = layer.doubled, ATTENTION[dialect].resampling
        self.same = layer.stride == 2 and dialect.startswith("ca_authors")
        padding = 0 if self.same else layer.dilation * (layer.kernel_size - 1) // 2
        mode: Literal["reflect", "zeros"] = "reflect" if dialect == "ca_mmagic" else "zeros"
        self.conv = nn.Conv2d(c_in, c_out, layer.kernel_size, layer.stride, padding, layer.dilation, padding_mode=mode)
        self.activation = activation
        nn.init.xavier_uniform_(self.conv.weight)
        nn.init.zeros_(self.conv.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        if self.doubled:
            x = resized(x, (2 * x.shape[2], 2 * x.shape[3]), self.resampling)
        if self.same:
            x = F.pad(x, (0, 1, 0, 1))
        y: Tensor = self.activation(self.conv(x))
        return y


class ContextualAttentionNetwork(nn.Module):
    """The coarse stage fills the hole, the fine one repaints it by two branches, one of them with attention.

    dialect     "ca_authors_floor", "ca_authors_round", "ca_daa233", "ca_daa233_sum" (as "ca_daa233", keys normalised as its code
                does since July 2020) or "ca_mmagic"
    base_width  channels of the first layer, 32 as published
    """

    def __init__(self, dialect: str, base_width: int = 32) -> None:
        super().__init__()
        self._dialect, self._base_width = dialect, base_width
        mmagic = dialect == "ca_mmagic"
        self._coarse = self._branch(COARSE, 5, "stage1" if mmagic else "coarse_generator.conv", 1)
        fine = "stage2" if mmagic else "fine_generator"
        self._plain = self._branch(PLAIN, 5, f"{fine}.encoder_conv" if mmagic else f"{fine}.conv", 1)
        self._before = self._branch(BEFORE, 5, f"{fine}.encoder_attention" if mmagic else f"{fine}.pmconv", 1)
        self._attention = f"{fine}.contextual_attention_neck.contextual_attention" if mmagic else f"{fine}.contextul_attention"
        attention = ContextualAttention(ATTENTION[dialect])
        if mmagic:
            attention.register_buffer("fuse_kernel", torch.eye(3)[None, None])
        else:
            self.get_submodule(self._before[-1]).activation = nn.ReLU()
        place(self, self._attention, attention)
        self._after = self._branch(AFTER, 128, f"{fine}.contextual_attention_neck" if mmagic else f"{fine}.pmconv", 9)
        self._decoder = self._branch(_DECODER, 256, fine if mmagic else f"{fine}.allconv", 11)

    def _branch(self, layers: tuple[Layer, ...], c_in: int, path: str, first: int) -> list[str]:
        """Make a branch whose layers are counted from ``first``; their paths."""
        c_in = c_in if c_in == 5 else c_in * self._base_width // 32
        paths = []
        for i, layer in enumerate(layers, first):
            last = layer.width == 3
            c_out = 3 if last else layer.width * self._base_width // 32
            paths.append(_mmagic_path(path, i) if self._dialect == "ca_mmagic" else f"{path}{i}{_suffix(layer)}")
            block = Block(layer, c_in, c_out, self._dialect, nn.Identity() if last else nn.ELU())
            place(self, paths[-1], block)
            c_in = c_out
        return paths

    def forward(self, x: Tensor, hole: Tensor) -> tuple[Tensor, Tensor]:
        """x [N, 3, H, W] in [-1, 1], 0 in the hole; hole [N, 1, H, W], 1 there. Gives the coarse and the fine picture, as x."""
        ones = torch.ones_like(hole)
        coarse = self._run(self._coarse, torch.cat([x, ones, hole], 1)).clamp(-1, 1)
        given = torch.cat([coarse * hole + x * (1 - hole), ones, hole], 1)
        attended = self.get_submodule(self._attention)(self._run(self._before, given), hole)
        joined = torch.cat([self._run(self._plain, given), self._run(self._after, attended)], 1)
        return coarse, self._run(self._decoder, joined).clamp(-1, 1)

    def _run(self, paths: list[str], x: Tensor) -> Tensor:
        for path in paths:
            x = self.get_submodule(path)(x)
        return x


def _suffix(layer: Layer) -> str:
    return "_downsample" if layer.stride > 1 else "_atrous" if layer.dilation > 1 else ""


def _mmagic_path(stage: str, i: int) -> str:
    """Where the i-th layer of a stage or of a part of the second one is."""
    if stage.endswith("neck"):
        return f"{stage}.conv{i - 8}"
    if i <= 6:
        return f"{stage}.enc{i}" if "." in stage else f"{stage}.encoder.enc{i}"
    part = f"dilation_neck.dilation_convs.{i - 7}" if i <= 10 else f"decoder.dec{i - 10}"
    return f"{stage.partition('.')[0]}.{part}"
