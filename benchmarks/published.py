"""The published graph, written out literally: what people run who take the authors' code.

Both mask chains run in every call, skip features and deconvolutions are concatenated, so are their maps, and the two are
multiplied. Nothing is taken from ``lbam_fast`` but the settings, so a mistake in the package cannot hide here: in float64
this module is the truth that the correctness gate holds every method to.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lbam_fast import LBAMConfig
from lbam_fast.config import GaussianStart


class GaussActivation(nn.Module):
    """g_A by both of its halves, each computed everywhere and then masked, as published."""

    def __init__(self, config: LBAMConfig, start: GaussianStart) -> None:
        super().__init__()
        self.ranges = (config.a_range, config.mu_range, config.gamma_range, config.gamma_range)
        self.a, self.mu, self.sigma1, self.sigma2 = (nn.Parameter(torch.tensor(value)) for value in start)

    def forward(self, m: Tensor) -> Tensor:
        scalars = (self.a, self.mu, self.sigma1, self.sigma2)
        a, mu, sigma1, sigma2 = (value.clamp(*bounds) for value, bounds in zip(scalars, self.ranges, strict=True))
        below, above = m < mu, m >= mu
        left = (a * torch.exp(-sigma1 * (m - mu) ** 2)).masked_fill(above, 0.0)
        right = (1 + (a - 1) * torch.exp(-sigma2 * (m - mu) ** 2)).masked_fill(below, 0.0)
        return left + right


class MaskUpdate(nn.Module):
    """g_M. The last one of a chain is computed, but nobody reads it: its exponent is not learned."""

    def __init__(self, config: LBAMConfig, last: bool) -> None:
        super().__init__()
        self.range = None if last else config.alpha_range
        self.fixed = config.alpha
        if self.range is not None:
            self.alpha = nn.Parameter(torch.tensor(config.alpha))

    def forward(self, m: Tensor) -> Tensor:
        if self.range is None:
            return torch.pow(F.relu(m), self.fixed)
        return torch.pow(F.relu(m), self.alpha.clamp(*self.range))


class ForwardAttention(nn.Module):
    """An encoder layer's two convolutions: (product, updated mask, features before attention, attention map)."""

    def __init__(self, config: LBAMConfig, level: int, c_in: int, mask_in: int, c_out: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(c_in, c_out, 4, 2, 1, bias=False)
        self.maskConv = nn.Conv2d(mask_in, c_out, 4, 2, 1, bias=False)
        self.activationFuncG_A = GaussActivation(config, config.forward_start)
        self.updateMask = MaskUpdate(config, last=level == 7)

    def forward(self, x: Tensor, u: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        features, m = self.conv(x), self.maskConv(u)
        attention = self.activationFuncG_A(m)
        return features * attention, self.updateMask(m), features, attention


class EncoderLayer(nn.Module):
    """Attention, BatchNorm where the network has it, LeakyReLU."""

    def __init__(self, config: LBAMConfig, level: int, c_in: int, mask_in: int, c_out: int) -> None:
        super().__init__()
        self.conv = ForwardAttention(config, level, c_in, mask_in, c_out)
        if config.batch_norm and level > 1:
            self.bn = nn.BatchNorm2d(c_out)

    def forward(self, x: Tensor, u: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        product, update, features, attention = self.conv(x, u)
        if hasattr(self, "bn"):
            product = self.bn(product)
        return F.leaky_relu(product, 0.2), update, features, attention


class ReverseMask(nn.Module):
    """A layer of the reverse chain: (attention map, updated mask)."""

    def __init__(self, config: LBAMConfig, level: int, c_in: int, c_out: int) -> None:
        super().__init__()
        self.reverseMaskConv = nn.Conv2d(c_in, c_out, 4, 2, 1, bias=False)
        self.activationFuncG_A = GaussActivation(config, config.reverse_start)
        self.updateMask = MaskUpdate(config, last=level == 6)

    def forward(self, u: Tensor) -> tuple[Tensor, Tensor]:
        m = self.reverseMaskConv(u)
        return self.activationFuncG_A(m), self.updateMask(m)


class DecoderLayer(nn.Module):
    """Eqn. 12: features concatenated, maps concatenated, one times the other."""

    def __init__(self, config: LBAMConfig, c_in: int, c_out: int) -> None:
        super().__init__()
        self.skip_first = config.skip_first
        self.conv = nn.ConvTranspose2d(c_in, c_out, 4, 2, 1, bias=False)
        if config.batch_norm:
            self.bn = nn.BatchNorm2d(2 * c_out)

    def forward(self, skip: Tensor, y: Tensor, forward_map: Tensor, reverse_map: Tensor) -> Tensor:
        own = self.conv(y)
        features, maps = [skip, own], [forward_map, reverse_map]
        if not self.skip_first:
            features, maps = features[::-1], maps[::-1]
        product = torch.cat(features, dim=1) * torch.cat(maps, dim=1)
        if hasattr(self, "bn"):
            product = self.bn(product)
        return F.leaky_relu(product, 0.2)


class Published(nn.Module):
    """The published generator with the published parameter names. Raises ValueError for presets it does not cover."""

    def __init__(self, config: LBAMConfig) -> None:
        super().__init__()
        if config.attention != "gaussian" or not config.reverse or config.mask_kernel_size != 4 or config.base != "none":
            raise ValueError("the published form covers networks with g_A, both chains and 4x4 mask filters, and without a base")
        self.config = config
        widths = config.channels
        inputs = (config.input_channels, *widths[:-1])
        self.encoder, self.reverse, self.decoder = [], [], []
        for i, (c_in, c_out) in enumerate(zip(inputs, widths, strict=True), start=1):
            self.encoder.append(self._add(f"ec{i}", EncoderLayer(config, i, c_in, 3 if i == 1 else c_in, c_out)))
        for i, (c_in, c_out) in enumerate(zip((3, *widths[:-2]), widths[:-1], strict=True), start=1):
            self.reverse.append(self._add(f"reverseConv{i}", ReverseMask(config, i, c_in, c_out)))
        for i, c_out in enumerate(reversed(widths[:-1]), start=1):
            self.decoder.append(self._add(f"dc{i}", DecoderLayer(config, widths[-1] if i == 1 else 2 * widths[-i], c_out)))
        self.dc7 = nn.ConvTranspose2d(2 * widths[0], 3, 4, 2, 1, bias=False)

    def _add(self, name: str, module: nn.Module) -> nn.Module:
        self.add_module(name, module)
        return module

    def forward(self, image: Tensor, mask: Tensor) -> Tensor:
        """image [N, 3, H, W] in [0, 1], mask [N or 1, 1, H, W] with 1 = known -> [N, 3, H, W] in [0, 1]."""
        masks = mask.expand(image.shape[0], 3, -1, -1)
        damaged = image * masks
        x = torch.cat((damaged, masks[:, :1]), dim=1) if self.config.input_channels == 4 else damaged
        u, skips, forward_maps, reverse_maps = masks, [], [], []
        for encode in self.encoder:
            x, u, features, attention = encode(x, u)
            skips.append(features)
            forward_maps.append(attention)
        u = 1 - masks
        for chain in self.reverse:
            attention, u = chain(u)
            reverse_maps.append(attention)
        for level, decode in zip(range(5, -1, -1), self.decoder, strict=True):
            x = decode(skips[level], x, forward_maps[level], reverse_maps[level])
        y = torch.tanh(self.dc7(x))
        return y.abs() if self.config.output == "abs" else (y + 1) / 2
