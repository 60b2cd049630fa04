"""What a network costs, counted from its configuration's own shapes: arithmetic, memory traffic, parameters. Needs no torch.

Counted are the convolutions, which are all but a few thousandths of the arithmetic. Attention, BatchNorm and activations add no
arithmetic, and no traffic either: a fused layer does them on the way. So the figures are bounds from below.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from lbam_fast.config import LBAMConfig

Group = Literal["encoder", "forward", "reverse", "decoder", "whole"]
GROUPS: tuple[Group, ...] = ("encoder", "forward", "reverse", "decoder")
"""The image encoder, the forward and the reverse mask chain, the decoder."""


@dataclass(frozen=True)
class Layer:
    """One convolution, or the sum of several, over a whole batch.

    name             ``ec1`` ... ``ec7`` of the encoder, ``ec1.mask`` ... of the forward chain, ``reverse1`` ... ``reverse6``,
                     ``dc1`` ... ``dc7``; with partial convolutions also ``dc1.mask`` ... of the decoder's masks
    flop             floating-point operations, two for each multiply-add
    input_elements, weight_elements, output_elements   what is read, read and written, each once
    parameters       learned numbers: the filter, the scalars of g_A and g_M, BatchNorm's weight and bias
    """

    name: str
    group: Group
    flop: int
    input_elements: int
    weight_elements: int
    output_elements: int
    parameters: int

    def bytes(self, dtype_size: int) -> int:
        """The least that passes through memory with elements of ``dtype_size`` bytes."""
        return (self.input_elements + self.weight_elements + self.output_elements) * dtype_size


def layers(config: LBAMConfig, height: int, width: int, batch: int = 1) -> list[Layer]:
    """Every convolution of ``LBAM(config)`` on images [batch, 3, height, width], group by group.

    The first layer of a learned chain reads three mask channels, as its filter does. The chain of ``unlearned`` and the masks of
    ``pconv`` have one channel and constant filters; those of ``pconv`` all count as the forward chain, the decoder's too.
    Raises ValueError unless height and width are positive multiples of 128 and batch is positive.
    """
    multiple = 2 ** len(config.channels)
    for name, value, step in (("height", height, multiple), ("width", width, multiple), ("batch", batch, 1)):
        if value < 1 or value % step:
            raise ValueError(f"{name} is {value}, expected a positive multiple of {step}")
    pixels = batch * height * width
    found = [*_encoder(config, pixels), *_chains(config, pixels)]
    return found + list(_partial_decoder(config, pixels) if config.attention == "partial" else _decoder(config, pixels))


def totals(layers: Iterable[Layer]) -> dict[Group, Layer]:
    """The sums by group, for the groups that occur, and of all as ``whole``."""
    layers = list(layers)
    present: list[Group] = [group for group in GROUPS if any(layer.group == group for layer in layers)]
    sums = {group: _sum(group, [layer for layer in layers if layer.group == group]) for group in present}
    return {**sums, "whole": _sum("whole", layers)}


def floor_seconds(layer: Layer, flop_per_second: float, bytes_per_second: float, dtype_size: int) -> float:
    """The least time, in seconds, at a device's rates: arithmetic or memory, whichever takes longer.

    For a network run layer by layer, the floor is the sum over its layers, not the floor of their total.
    """
    return max(layer.flop / flop_per_second, layer.bytes(dtype_size) / bytes_per_second)


def _sum(group: Group, layers: list[Layer]) -> Layer:
    counts = zip(*((x.flop, x.input_elements, x.weight_elements, x.output_elements, x.parameters) for x in layers), strict=True)
    return Layer(group, group, *map(sum, counts))


def _encoder(config: LBAMConfig, pixels: int) -> Iterator[Layer]:
    for level, (c_in, c_out) in enumerate(itertools.pairwise((config.input_channels, *config.channels)), start=1):
        norm = 2 * c_out if config.batch_norm and level > 1 else 0
        yield _convolution(f"ec{level}", "encoder", pixels >> 2 * level, c_in, c_out, 4, norm)


def _chains(config: LBAMConfig, pixels: int) -> Iterator[Layer]:
    chains: list[tuple[Group, str, int]] = [("forward", "ec{}.mask", 7)]
    if config.reverse:
        chains.append(("reverse", "reverse{}", 6))
    learned = config.attention not in ("reciprocal", "partial")
    widths = (3, *config.channels) if learned else (1,) * 8
    for group, name, depth in chains:
        for level, (c_in, c_out) in enumerate(itertools.pairwise(widths[: depth + 1]), start=1):
            outputs, kernel = pixels >> 2 * level, config.mask_kernel_size if learned else 4
            scalars = 4 * (config.attention == "gaussian") + (config.alpha_range is not None and level < depth)
            extra = scalars if learned else None
            yield _convolution(name.format(level), group, outputs, c_in, c_out, kernel, extra)


def _convolution(name: str, group: Group, outputs: int, c_in: int, c_out: int, kernel: int, extra: int | None) -> Layer:
    """Stride 2, to ``outputs`` positions; extra: parameters beside the filter, or None where nothing is learned."""
    weight = c_out * c_in * kernel**2
    parameters = 0 if extra is None else weight + extra
    return Layer(name, group, 2 * outputs * weight, 4 * outputs * c_in, weight, outputs * c_out, parameters)


def _decoder(config: LBAMConfig, pixels: int) -> Iterator[Layer]:
    c_in = config.channels[-1]
    for i, c_out in enumerate((*reversed(config.channels[:-1]), 3), start=1):
        inputs, last = pixels >> 2 * (8 - i), i == 7
        weight = c_in * c_out * 16
        norm = 4 * c_out if config.batch_norm and not last else 0  # over the skip half too
        yield Layer(f"dc{i}", "decoder", 2 * inputs * weight, inputs * c_in, weight, 4 * inputs * c_out, weight + norm)
        c_in = 2 * c_out


def _partial_decoder(config: LBAMConfig, pixels: int) -> Iterator[Layer]:
    """3x3 convolutions of the upsampled features, read before upsampling, and the skip; then the same for their masks."""
    own, mask_layers = config.channels[-1], []
    for i, skip in enumerate((*reversed(config.channels[:-1]), 3), start=1):
        outputs, last = pixels >> 2 * (7 - i), i == 7
        weight = (own + skip) * skip * 9
        norm = 2 * skip if config.batch_norm and not last else 0
        inputs = outputs // 4 * own + outputs * skip
        yield Layer(f"dc{i}", "decoder", 2 * outputs * weight, inputs, weight, outputs * skip, weight + norm)
        mask_layers.append(Layer(f"dc{i}.mask", "forward", 2 * outputs * 2 * 9, outputs // 4 + outputs, 2 * 9, outputs, 0))
        own = skip
    yield from mask_layers
