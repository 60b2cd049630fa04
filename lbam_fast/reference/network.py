"""The whole LBAM generator as pure functions of its state dict: the specification that every kernel is held to.

A state is a mapping from the published checkpoint's keys to tensors. Level ``i`` runs from 1 (finest) to 7, as in the keys.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from lbam_fast.config import LBAMConfig, Range
from lbam_fast.reference.functional import (
    activation,
    attention_map,
    convolution,
    damaged_input,
    deconvolution,
    mask_convolution,
    mask_update,
    output_form,
    partial_ratio,
    reciprocal_attention,
    step_update,
    upsample,
)
from lbam_fast.reference.harmonic import corrected, correction_input

State = Mapping[str, Tensor]
LEVELS = 7
MULTIPLE = 2**LEVELS


@dataclass(frozen=True)
class AttentionMaps:
    """All that a network takes from the mask; reusable for any image under that mask.

    mask     [N, 1 or 3, H, W], the mask itself (N may be 1: the maps then serve a batch of any size)
    forward  7 maps [N, C_i or 1, H / 2^i, W / 2^i] for the encoder and the decoder's skip halves
    reverse  6 maps for the decoder's own halves, finest first; empty without a reverse chain. In a network of
             partial convolutions: the 7 factors of the decoder, coarsest first
    known    partial convolutions only: the 7 masks of the encoder's outputs, then the 6 of the decoder's
    """

    mask: Tensor
    forward: tuple[Tensor, ...]
    reverse: tuple[Tensor, ...]
    known: tuple[Tensor, ...] = ()

    def repeated(self, times: int) -> AttentionMaps:
        """For a batch in which so many images, one after the other, share each mask."""

        def repeat(maps: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            return tuple(each.repeat_interleave(times, dim=0) for each in maps)

        return AttentionMaps(repeat((self.mask,))[0], repeat(self.forward), repeat(self.reverse), repeat(self.known))


def clamped(value: Tensor, bounds: Range) -> Tensor:
    """``value`` held within ``bounds``, with the gradient passed straight through to where the parameter stands."""
    return value.clamp(*bounds).detach() + (value - value.detach())


def attention_maps(state: State, config: LBAMConfig, mask: Tensor) -> AttentionMaps:
    """Both mask chains of a mask [N, 1 or 3, H, W], 1 = known: the forward one from ``M``, the reverse one from ``1 - M``."""
    if config.attention == "partial":
        return _partial_maps(config, mask)
    forward = _mask_chain(state, config, mask, "ec{}.conv.", "maskConv", LEVELS)
    reverse = _mask_chain(state, config, 1 - mask, "reverseConv{}.", "reverseMaskConv", LEVELS - 1) if config.reverse else ()
    return AttentionMaps(mask, forward, reverse)


def generate(state: State, config: LBAMConfig, x: Tensor, maps: AttentionMaps, training: bool = False) -> Tensor:
    """The image network on its input ``x`` [N, 3, 4 or 6, H, W]: [N, 3, H, W] in [0, 1], not pasted.

    With ``training``, BatchNorm uses the batch's statistics and updates the running ones in ``state``.
    """
    if config.attention == "partial":
        return _generate_partial(state, config, x, maps, training)
    products = []
    for i, attention in enumerate(maps.forward, start=1):
        product = convolution(x, state[f"ec{i}.conv.conv.weight"]) * attention
        products.append(product)
        x = activation(_batch_norm(state, f"ec{i}.bn", product, training))
    for i in range(1, LEVELS):
        level = LEVELS - i
        own = deconvolution(x, state[f"dc{i}.conv.weight"])
        if config.reverse:
            own = own * maps.reverse[level - 1]
        # Eqn. 12 by halves: the skip half, F_skip * g_A(m_forward), is the product that the encoder has computed already.
        halves = (products[level - 1], own) if config.skip_first else (own, products[level - 1])
        x = activation(_batch_norm(state, f"dc{i}.bn", torch.cat(halves, dim=1), training))
    return output_form(deconvolution(x, state["dc7.weight"]), config.output)


def inpaint(state: State, config: LBAMConfig, image: Tensor, mask: Tensor, training: bool = False) -> Tensor:
    """The whole forward pass. image [N, 3, H, W] in [0, 1], mask [N, 1 or 3, H, W] with 1 = known -> [N, 3, H, W] in [0, 1]."""
    maps = attention_maps(state, config, mask)
    if config.base == "harmonic":
        x, base = correction_input(image, mask)
        return corrected(base, generate(state, config, x, maps, training))
    return generate(state, config, damaged_input(image, mask, config.input_channels), maps, training)


def _mask_chain(state: State, config: LBAMConfig, u: Tensor, block: str, filter_name: str, depth: int) -> tuple[Tensor, ...]:
    maps = []
    if config.attention != "reciprocal":
        u = u.expand(-1, 3, -1, -1)
    for i in range(1, depth + 1):
        prefix = block.format(i)
        if config.attention == "reciprocal":
            # Every filter is the same mean, 1 / (16 C_in), so all channels of m are equal: one stands for all.
            m = mask_convolution(u, u.new_full((1, u.shape[1], 4, 4), 1 / (16 * u.shape[1])))
        else:
            m = mask_convolution(u, state[f"{prefix}{filter_name}.weight"])
        maps.append(_attention(state, config, prefix, m))
        if i < depth:
            u = _update(state, config, prefix, m)
    return tuple(maps)


def _attention(state: State, config: LBAMConfig, prefix: str, m: Tensor) -> Tensor:
    match config.attention:
        case "gaussian":
            scalars = {
                "a": config.a_range,
                "mu": config.mu_range,
                "sigma1": config.gamma_range,
                "sigma2": config.gamma_range,
            }
            values = (clamped(state[f"{prefix}activationFuncG_A.{name}"], bounds) for name, bounds in scalars.items())
            return attention_map(m, *values)
        case "sigmoid":
            return m.sigmoid()
        case "leaky_relu":
            return activation(m)
        case "relu":
            return m.relu()
        case _:
            return reciprocal_attention(m)


def _update(state: State, config: LBAMConfig, prefix: str, m: Tensor) -> Tensor:
    if config.attention == "reciprocal":
        return step_update(m)
    if config.alpha_range is None:
        return mask_update(m, config.alpha)
    return mask_update(m, clamped(state[f"{prefix}updateMask.alpha"], config.alpha_range))


def _batch_norm(state: State, prefix: str, x: Tensor, training: bool) -> Tensor:
    """BatchNorm with the state's entries under ``prefix``; ``x`` itself where the state has none."""
    if f"{prefix}.weight" not in state:
        return x
    if training:
        state[f"{prefix}.num_batches_tracked"].add_(1)
    mean, var, weight, bias = (state[f"{prefix}.{name}"] for name in ("running_mean", "running_var", "weight", "bias"))
    return F.batch_norm(x, mean, var, weight, bias, training=training)


def _partial_maps(config: LBAMConfig, mask: Tensor) -> AttentionMaps:
    widths = config.channels
    new, encoder, known = mask, [], []
    for channels in (3, *widths[:-1]):
        ratio, new = partial_ratio([(new, channels)], kernel_size=4, stride=2)
        encoder.append(ratio)
        known.append(new)
    decoder = []
    skips = [(mask, 3), *zip(known, widths, strict=True)]
    own_channels = widths[-1]
    for skip in reversed(skips[:-1]):
        ratio, new = partial_ratio([skip, (upsample(new), own_channels)], kernel_size=3, stride=1)
        decoder.append(ratio)
        known.append(new)
        own_channels = skip[1]
    return AttentionMaps(mask, tuple(encoder), tuple(decoder), tuple(known[:-1]))


def _generate_partial(state: State, config: LBAMConfig, x: Tensor, maps: AttentionMaps, training: bool) -> Tensor:
    """A U-Net of partial convolutions (Liu et al., ECCV 2018) at LBAM's depths and widths.

    The encoder has 4x4 filters of stride 2, as LBAM's; the decoder is as its authors published it: nearest-neighbour upsampling,
    concatenation with the skip, a 3x3 partial convolution; its last layer sees the input image as skip. No biases, as in LBAM.
    """
    masked = [x]  # image * M already
    for i, (ratio, known) in enumerate(zip(maps.forward, maps.known, strict=False), start=1):
        product = convolution(masked[-1], state[f"ec{i}.conv.conv.weight"]) * ratio
        masked.append(activation(_batch_norm(state, f"ec{i}.bn", product, training)) * known)
    y = masked[-1]
    for i, ratio in enumerate(maps.reverse, start=1):
        level = LEVELS - i
        halves = (masked[level], upsample(y))
        name = f"dc{i}.conv.weight" if level else "dc7.weight"
        joined = torch.cat(halves if config.skip_first else halves[::-1], dim=1)
        y = F.conv2d(joined, state[name], padding=1) * ratio
        if level:
            y = activation(_batch_norm(state, f"dc{i}.bn", y, training)) * maps.known[LEVELS + i - 1]
    return output_form(y, config.output)
