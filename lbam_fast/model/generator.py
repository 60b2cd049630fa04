"""The generator as modules that hold the published parameters under the published names."""

from __future__ import annotations

import itertools
import math
from collections.abc import Hashable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from lbam_fast import ops, reference
from lbam_fast.config import GaussianStart, LBAMConfig, Output, Range
from lbam_fast.model.engine import Engine
from lbam_fast.model.fused import FusedGenerator, covers
from lbam_fast.model.parameters import differentiable
from lbam_fast.model.state import State
from lbam_fast.reference import LEVELS, MULTIPLE, AttentionMaps


class _GaussianAttention(nn.Module):
    """The four learned scalars of g_A; ``sigma1`` and ``sigma2`` are the paper's gamma_l and gamma_r."""

    def __init__(self, start: GaussianStart) -> None:
        super().__init__()
        for name, value in zip(("a", "mu", "sigma1", "sigma2"), start, strict=True):
            self.register_parameter(name, nn.Parameter(torch.tensor(value)))


class _MaskUpdate(nn.Module):
    """The learned exponent of g_M."""

    def __init__(self, alpha: float) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.tensor(alpha))


def _block(**children: nn.Module) -> nn.Module:
    block = nn.Module()
    for name, child in children.items():
        block.add_module(name, child)
    return block


def _mask_children(
    config: LBAMConfig, filter_name: str, c_in: int, c_out: int, start: GaussianStart, last: bool
) -> dict[str, nn.Module]:
    if config.attention in ("reciprocal", "partial"):
        return {}
    children: dict[str, nn.Module] = {
        filter_name: nn.Conv2d(c_in, c_out, config.mask_kernel_size, stride=2, padding=1, bias=False)
    }
    if config.attention == "gaussian":
        children["activationFuncG_A"] = _GaussianAttention(start)
    if config.alpha_range is not None and not last:
        children["updateMask"] = _MaskUpdate(config.alpha)
    return children


class Generator(nn.Module):
    """The parameters of an LBAM generator, and what every way of calling it shares.

    Feature filters start as Kaiming normal for LeakyReLU(0.2), mask filters positive with sum 2 per output; the last
    layer of a network that corrects a base starts at 0.
    """

    def __init__(self, config: LBAMConfig) -> None:
        super().__init__()
        self.config = config
        self._session = ops.Session()
        self._walked: State | None = None
        widths = config.channels
        for i, (c_in, c_out) in enumerate(itertools.pairwise((config.input_channels, *widths)), start=1):
            mask_in = 3 if i == 1 else c_in
            mask = _mask_children(config, "maskConv", mask_in, c_out, config.forward_start, i == LEVELS)
            convolution = nn.Conv2d(c_in, c_out, 4, stride=2, padding=1, bias=False)
            block = _block(conv=_block(conv=convolution, **mask))
            if config.batch_norm and i > 1:
                block.add_module("bn", nn.BatchNorm2d(c_out))
            self.add_module(f"ec{i}", block)
        if config.reverse:
            for i, (c_in, c_out) in enumerate(itertools.pairwise((3, *widths[:-1])), start=1):
                mask = _mask_children(config, "reverseMaskConv", c_in, c_out, config.reverse_start, i == LEVELS - 1)
                self.add_module(f"reverseConv{i}", _block(**mask))
        partial = config.attention == "partial"
        own_in = widths[-1]
        for i, c_out in enumerate(reversed(widths[:-1]), start=1):
            layer: nn.Module = (
                nn.Conv2d(own_in + c_out, c_out, 3, padding=1, bias=False)
                if partial
                else nn.ConvTranspose2d(own_in, c_out, 4, stride=2, padding=1, bias=False)
            )
            block = _block(conv=layer)
            own_in = c_out if partial else 2 * c_out
            if config.batch_norm:
                block.add_module("bn", nn.BatchNorm2d(own_in))
            self.add_module(f"dc{i}", block)
        self.dc7 = (
            nn.Conv2d(own_in + 3, 3, 3, padding=1, bias=False)
            if partial
            else nn.ConvTranspose2d(own_in, 3, 4, stride=2, padding=1, bias=False)
        )
        self._initialise()

    @torch.no_grad()
    def _initialise(self) -> None:
        if self.dc7.weight.is_meta:  # nothing to fill, and PyTorch would import its compiler to draw numbers there
            return
        for name, weight in self.named_parameters():
            if weight.dim() != 4:
                continue
            if "maskconv" in name.lower():
                weight.uniform_(0, 1)
                weight.mul_(2 / weight.sum(dim=(1, 2, 3), keepdim=True))
            else:
                transposed = name.startswith("dc") and self.config.attention != "partial"
                # Each output of a 4x4, stride 2 transposed convolution reads 2x2 inputs.
                fan_in = weight.shape[0] * 4 if transposed else weight[0].numel()
                weight.normal_(0, math.sqrt(2 / (1 + reference.LEAKY_SLOPE**2) / fan_in))
        if self.config.base != "none":
            self.dc7.weight.zero_()

    def _bounded(self) -> Iterator[tuple[Tensor, Range]]:
        config = self.config
        bounds: dict[str, Range | None] = {
            "a": config.a_range,
            "mu": config.mu_range,
            "sigma1": config.gamma_range,
            "sigma2": config.gamma_range,
            "alpha": config.alpha_range,
        }
        for name, parameter in self.named_parameters():
            limits = bounds.get(name.rsplit(".", 1)[-1])
            if limits is not None:
                yield parameter, limits

    @torch.no_grad()
    def project_(self) -> None:
        """Write every learned scalar back into its range. Call it after each optimiser step and after loading weights.

        ``forward`` evaluates at the clamped values in any case and writes nothing.
        """
        for parameter, (low, high) in self._bounded():
            parameter.clamp_(low, high)

    @property
    def _dtype(self) -> torch.dtype:
        return self.dc7.weight.dtype

    def _state(self) -> dict[str, Tensor]:
        """Parameters and buffers by name, as they are now."""
        if ops.traced():
            return State(self).tensors
        if self._walked is None or not self._walked.holds(self):
            self._walked = State(self)
        return self._walked.tensors

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_walked": None}

    def attention_maps(self, mask: Tensor) -> AttentionMaps:
        """Both chains' maps of a mask [N, 1 or 3, H, W], 1 = known, soft values allowed; for ``model(image, maps=maps)``.

        Maps depend on the mask alone. Those of a batch of 1 serve any batch. The mask is taken in the model's dtype.
        Maps made under ``torch.inference_mode`` cannot be trained with. Raises ValueError for other shapes.
        """
        _check_shape("mask", mask, (1, 3))
        mask = mask.to(self._dtype)
        if not torch.is_grad_enabled() and self._fused(mask):
            return self._engine(self._state()).attention_maps(mask)
        return reference.attention_maps(self._state(), self.config, mask)

    def _read(self, image: Tensor, known: Tensor, trend: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """What the network reads, and what it corrects, if anything."""
        with nullcontext() if ops.traced() else self._session.active(ops.Session.is_large(image)):
            if self.config.base == "harmonic":
                return ops.correction_input(image, known, trend)
            return ops.damaged_input(image, known, self.config.input_channels), None

    def _network(self, x: Tensor, mask: Tensor) -> Engine | FusedGenerator | _Reference:
        """What runs the network on its own input ``x`` under that mask."""
        state = self._state()
        if not self._fused(x):
            return _Reference(state, self.config, self.training)
        if self.training or differentiable((*state.values(), x, mask)):
            return FusedGenerator(state, self.config, self.training)
        return self._engine(state)

    def _generate(self, x: Tensor, maps: AttentionMaps, needed: Tensor | None) -> Tensor:
        if not torch.is_grad_enabled() and not self.training and self._fused(x):
            return self._engine(self._state()).generate(x, maps, needed)
        return reference.generate(self._state(), self.config, x, maps, self.training)

    def _engine(self, state: dict[str, Tensor]) -> Engine:
        return Engine(state, self.config, self._session)

    def _fused(self, x: Tensor) -> bool:
        """Whether the fused ops run this network on that input."""
        if ops.chosen(x.device, x.dtype) == ops.REFERENCE:
            return False
        if not covers(self.config):
            what = f"the preset {self.config.preset_name!r}" if self.config.preset_name else "this configuration"
            ops.fell_back(what, x.device)
            return False
        return True


@dataclass(frozen=True)
class _Reference:
    """The network as it is specified, called as the others are."""

    state: dict[str, Tensor]
    config: LBAMConfig
    training: bool

    def inpaint(self, x: Tensor, mask: Tensor, needed: Tensor | None = None, mask_key: Hashable = None) -> Tensor:
        maps = reference.attention_maps(self.state, self.config, mask)
        return reference.generate(self.state, self.config, x, maps, self.training)


class LBAM(Generator):
    """Inpainting with Learnable Bidirectional Attention Maps (Xie et al., ICCV 2019).

    >>> model = LBAM(LBAMConfig.preset("official", base_width=16)).eval()
    >>> filled = model(image, mask)                      # image [N, 3, H, W] in [0, 1], mask [N, 1, H, W] with 1 = known
    >>> filled = model(image, maps=model.attention_maps(mask))  # the same; the maps serve every image under this mask
    """

    def __init__(self, config: LBAMConfig | None = None) -> None:
        super().__init__(config or LBAMConfig())

    def forward(
        self,
        image: Tensor,
        mask: Tensor | None = None,
        *,
        maps: AttentionMaps | None = None,
        trend: Tensor | None = None,
        needed: Tensor | None = None,
        mask_key: Hashable = None,
    ) -> Tensor:
        """The network's raw output [N, 3, H, W] in [0, 1], **not** pasted onto the known pixels.

        image [N, 3, H, W], floating, in [0, 1], damaged or not: what lies in holes (mask 0), even NaN, changes no bit.
        mask [N or 1, 1 or 3, H, W], 1 = known, soft values allowed; or maps from ``attention_maps``. H, W: multiples of 128.
        trend, like the image: what a network with a base takes off the picture before it fills it, in place of the known pixels'
        plane; for pictures that are padded, since their plane is another one.
        needed [N or 1, 1, H, W], bool: where the result is of use, such as in holes; the same bits there. Elsewhere it may be
        anything, which saves the compiled kernels for the CPU much of the decoder.
        mask_key, anything hashable that stands for the mask's content: these kernels keep its maps for later calls with that key,
        which do not look at their masks, up to 16 of them and 256 MB, while the weights are as they were; the same bits. For a
        mask that pictures share they do so by its content. Without effect beside maps.
        Raises ValueError for other shapes, for a trend without a base, or unless exactly one of mask and maps is given.
        """
        _check_shape("image", image, (3,))
        _check_floating("image", image)
        if mask is not None and maps is not None:
            raise ValueError("both mask and maps: give one of them, maps carry their mask")
        known = mask if maps is None else maps.mask
        if known is None:
            raise ValueError("neither mask nor maps: give one of them")
        _check_shape("mask", known, (1, 3))
        _check_same("mask", known, image)
        image, known = image.to(self._dtype), known.to(self._dtype)
        if trend is not None:
            if self.config.base == "none":
                raise ValueError("a trend for a network without a base: it has no use for one")
            _check_same("trend", trend, image)
        if needed is not None:
            _check_shape("needed", needed, (1,))
            _check_same("needed", needed, image)
        x, base = self._read(image, known, trend)
        y = self._network(x, known).inpaint(x, known, needed, mask_key) if maps is None else self._generate(x, maps, needed)
        return y if base is None else ops.corrected(base, y)


class LBAMModel(Generator):
    """The published class: same positional arguments, call and state-dict keys, so that its files load and ours load there.

    batch_norm=True and output="abs" give the 2019 release; base_width narrower networks.
    """

    def __init__(
        self,
        inputChannels: int = 4,  # noqa: N803 - the published names
        outputChannels: int = 3,  # noqa: N803
        *,
        batch_norm: bool = False,
        output: Output = "tanh",
        base_width: int = 64,
    ) -> None:
        if outputChannels != 3:
            raise ValueError(f"outputChannels is {outputChannels}, but the published network has 3")
        super().__init__(LBAMConfig(base_width=base_width, input_channels=inputChannels, batch_norm=batch_norm, output=output))

    def forward(self, input_images: Tensor, masks: Tensor) -> Tensor:
        """input_images [N, 4, H, W]: the damaged image and the first mask channel; masks [N, 3, H, W], 1 = known.

        Returns [N, 3, H, W] in [0, 1], the network's raw output, not pasted. The input is used as it is: holes must be
        zero already. H, W: multiples of 128. Raises ValueError for other shapes.
        """
        _check_shape("input_images", input_images, (self.config.input_channels,))
        _check_floating("input_images", input_images)
        _check_shape("masks", masks, (3,))
        _check_same("masks", masks, input_images)
        x, masks = input_images.to(self._dtype), masks.to(self._dtype)
        return self._network(x, masks).inpaint(x, masks)


def _check_shape(name: str, tensor: Tensor, channels: tuple[int, ...]) -> None:
    wanted = f"[N, {' or '.join(map(str, channels))}, H, W]"
    if tensor.dim() != 4 or tensor.shape[1] not in channels:
        raise ValueError(f"{name} has the shape {list(tensor.shape)}, expected {wanted}")
    height, width = tensor.shape[-2:]
    if min(height, width) < 1 or height % MULTIPLE or width % MULTIPLE:
        raise ValueError(
            f"{name} is {height}x{width} (height x width), expected multiples of {MULTIPLE}: "
            "pad it, or use lbam_fast.Inpainter, which does"
        )


def _check_floating(name: str, image: Tensor) -> None:
    if not image.is_floating_point():
        raise ValueError(f"{name} has the dtype {image.dtype}, expected a floating one with values in [0, 1]: divide by 255")


def _check_same(name: str, mask: Tensor, image: Tensor) -> None:
    if mask.shape[-2:] != image.shape[-2:] or mask.shape[0] not in (1, image.shape[0]):
        raise ValueError(
            f"{name} {list(mask.shape)} does not go with the image {list(image.shape)}: "
            "expected its height and width, and 1 or its batch size"
        )
