"""Texture for what a network has filled, from the picture's own known pixels: the option ``detail`` of ``Inpainter``."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from lbam_fast import native, ops
from lbam_fast.inference.errors import InpaintError
from lbam_fast.inference.layouts import pixels_of, put_pixels, to_unit
from lbam_fast.inference.masks import Hole

Detail = Literal["auto", "exemplar", "off"]
NARROW = 32
"""Base width up to which a network leaves texture out but in fine holes."""
THIN = 8.0
"""Pixels from a hole's border to its middle up to which its texture is seen better beside it than a network makes it up."""
SMOOTH = 0.05
"""The network's share of the colours under the texture: a tenth of a dB of PSNR for 0.0003 of ST-LPIPS."""


class Detailer:
    """Decides whether a picture gets texture, and gives it. Raises InpaintError for an unknown or an impossible ``detail``."""

    def __init__(self, detail: Detail, base_width: int) -> None:
        if detail not in get_args(Detail):
            raise InpaintError(f"detail is {detail!r}, expected one of {', '.join(get_args(Detail))}")
        missing = native.unavailable("cpu") if detail != "off" else ""
        if missing and detail == "exemplar":
            raise InpaintError(f"detail='exemplar' needs the compiled kernels for the CPU: {missing}; or choose detail='off'")
        if missing:
            _say_once(f"fills are left without texture (detail='auto'), which needs the compiled kernels for the CPU: {missing}")
        self._mode: Detail = "off" if missing else detail
        self._narrow = base_width <= NARROW

    def wanted(self, hole: Hole) -> bool:
        if self._mode != "auto":
            return self._mode == "exemplar"
        return not hole.fine if self._narrow else hole.depth <= THIN

    def __call__(
        self, pixels: NDArray[Any], output: NDArray[np.float32], hole: Hole, *, alone: bool = False
    ) -> NDArray[np.float32]:
        """``output`` [H, W, 3] in [0, 1] of a network for that picture, with texture in the hole where it is wanted. alone: the
        calling thread does all of it."""
        if not self.wanted(hole):
            return output
        filled = hole.filled[hole.box]
        smooth = pixels_of(output[hole.box], filled)
        if not np.isfinite(smooth).all():
            return output
        guide = np.array(to_unit(pixels), order="C")
        put_pixels(guide[hole.box], filled, smooth)
        picture = torch.from_numpy(guide).permute(2, 0, 1)[None]
        holes = torch.from_numpy(hole.filled.view(np.uint8))[None, None]
        textured: NDArray[np.float32] = ops.cpu.exemplar(picture, holes, seed=0, alone=alone)[0].permute(1, 2, 0).numpy()
        region = textured[hole.box]
        rough = pixels_of(region, filled)
        put_pixels(region, filled, rough + np.float32(SMOOTH) * (smooth - rough))
        return textured

    def several(
        self, pictures: Sequence[NDArray[Any]], outputs: Sequence[NDArray[np.float32]], holes: Sequence[Hole]
    ) -> list[NDArray[np.float32]]:
        """As for each by itself, to the bit, but side by side, each on a thread of its own, where that is sooner."""
        results = list(outputs)
        work = {i: int(np.count_nonzero(hole.filled)) for i, hole in enumerate(holes) if self.wanted(hole)}
        together, beside = shared_out(work, torch.get_num_threads())
        for i in together:
            results[i] = self(pictures[i], outputs[i], holes[i])
        if beside:
            with ThreadPoolExecutor(torch.get_num_threads(), thread_name_prefix="lbam-texture") as threads:
                begun = [threads.submit(self, pictures[i], outputs[i], holes[i], alone=True) for i in beside]
            for i, one in zip(beside, begun, strict=True):
                results[i] = one.result()
        return results


def shared_out(work: Mapping[int, int], threads: int) -> tuple[list[int], list[int]]:
    """Which pieces of work all threads do together, one after the other, and which they do side by side, the longest first: those
    of which each takes one thread no longer than all of them take all threads."""
    if threads == 1:
        return list(work), []
    beside, rest, together = sorted(work, key=lambda i: -work[i]), sum(work.values()), []
    while beside and work[beside[0]] * threads > rest:
        together.append(beside.pop(0))
        rest -= work[together[-1]]
    return together, beside


@cache
def _say_once(message: str) -> None:
    warnings.warn(message, stacklevel=5)
