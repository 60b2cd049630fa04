"""What a network's attention has learned: its maps of a mask and its curves g_A, as arrays and as pictures."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lbam_fast.errors import LBAMError
from lbam_fast.model import Generator
from lbam_fast.reference import LEVELS, attention_map, clamped

Pixels = NDArray[np.uint8]
"""[H, W, 3], RGB."""
CURVE_RANGE = (-1.0, 4.0)
"""Of ``m`` in a curve: masks of a network as published give 0 to 2 and more, means are learned between 0.1 and 3."""


class InspectionError(LBAMError, ValueError):
    """A network that has nothing of what was asked for; the message says why."""


@torch.no_grad()
def attention_maps(model: Generator, mask: Tensor) -> dict[str, NDArray[np.float32]]:
    """Of each layer the map, averaged over its channels: {"forward 1": [H/2, W/2], ... "forward 7", "reverse 1", ...}.

    mask [1, 1 or 3, H, W], 1 = known, H and W multiples of 128. 0 hides features, 1 lets them through, more stresses them. The
    reverse chain, which starts from the holes, is missing where the network has none; "reverse" maps of a network of partial
    convolutions are the factors of its decoder. Raises ValueError for other shapes.
    """
    if len(mask) != 1:
        raise ValueError(f"the mask has the shape {list(mask.shape)}, expected [1, 1 or 3, H, W]")
    maps = model.attention_maps(mask.to(next(model.parameters()).device))
    chains = {"forward": maps.forward, "reverse": maps.reverse}
    return {
        f"{chain} {level}": each[0].float().mean(dim=0).cpu().numpy()
        for chain, found in chains.items()
        for level, each in enumerate(found, start=1)
    }


def attention_pictures(model: Generator, mask: Tensor) -> dict[str, Pixels]:
    """``attention_maps`` in colour, each [H, W, 3] uint8 in the size of the mask, pixels repeated. Mask and errors as there.

    Each has its own scale, dark at its least value and yellow at its largest: means over channels differ little within a map. One
    that is the same everywhere is dark.
    """
    size = mask.shape[-1], mask.shape[-2]
    return {name: _coloured(each, size) for name, each in attention_maps(model, mask).items()}


@torch.no_grad()
def curves(model: Generator, count: int = 201) -> tuple[NDArray[np.float32], dict[str, NDArray[np.float32]]]:
    """(m [count], {"forward 1": g_A(m) [count], ...}): the learned function of every layer, at its clamped scalars (Eqn. 9).

    Raises InspectionError for a network without g_A.
    """
    config = model.config
    if config.attention != "gaussian":
        raise InspectionError(f"this network's attention is {config.attention!r}, which has no learned curves g_A")
    m = torch.linspace(*CURVE_RANGE, count)
    ranges = (config.a_range, config.mu_range, config.gamma_range, config.gamma_range)
    state = model.state_dict()
    prefixes = {f"forward {i}": f"ec{i}.conv." for i in range(1, LEVELS + 1)}
    prefixes |= {f"reverse {i}": f"reverseConv{i}." for i in range(1, LEVELS) if config.reverse}
    found = {}
    for name, prefix in prefixes.items():
        learned = (state[f"{prefix}activationFuncG_A.{scalar}"].float().cpu() for scalar in ("a", "mu", "sigma1", "sigma2"))
        scalars = (clamped(value, bounds) for value, bounds in zip(learned, ranges, strict=True))
        found[name] = attention_map(m, *scalars).numpy()
    return m.numpy(), found


def curve_picture(model: Generator) -> Pixels:
    """``curves`` drawn, the forward chain beside the reverse one: [H, W, 3] uint8.

    Raises InspectionError for a network without g_A, and without matplotlib.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise InspectionError("curves are drawn by matplotlib: pip install 'lbam-fast[report]'") from error
    m, found = curves(model)
    chains = list(dict.fromkeys(name.split()[0] for name in found))
    figure = Figure(figsize=(5 * len(chains), 4), dpi=100, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    for chain, axes in zip(chains, figure.subplots(1, len(chains), sharey=True, squeeze=False)[0], strict=True):
        for name, values in found.items():
            if name.startswith(chain):
                axes.plot(m, values, label=name.split()[1])
        axes.set(title=f"{chain} chain", xlabel="m, the mask convolution's result", ylabel="g_A(m)")
        axes.grid(alpha=0.3)
        axes.legend(title="layer", fontsize="small")
    canvas.draw()  # type: ignore[no-untyped-call]
    pixels = np.asarray(canvas.buffer_rgba())  # type: ignore[no-untyped-call]
    return np.ascontiguousarray(pixels[..., :3])


def _coloured(values: NDArray[np.float32], size: tuple[int, int]) -> Pixels:
    low, high = values.min(), values.max()
    grey = np.rint(255 * (values - low) / (high - low if high > low else 1)).astype(np.uint8)
    large = cv2.resize(grey, size, interpolation=cv2.INTER_NEAREST)
    return np.ascontiguousarray(cv2.applyColorMap(large, cv2.COLORMAP_VIRIDIS)[..., ::-1])
