"""What a training shows while it runs: TensorBoard's files, and a grid of pictures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from lbam_fast.inspection import InspectionError, attention_pictures, curves
from lbam_fast.model import Generator

FOLDER = "tensorboard"
MAPS = ("forward 1", "forward 4", "reverse 1")
"""Layers whose attention is shown."""
GAP = 4


@dataclass(frozen=True)
class Grid:
    """Rows of pictures: [H, W, 3] uint8, RGB."""

    pixels: NDArray[np.uint8]

    @property
    def png(self) -> bytes:
        """As a PNG file."""
        encoded: NDArray[np.uint8] = cv2.imencode(".png", self.pixels[..., ::-1])[1]
        return encoded.tobytes()


def grid(pictures: Tensor) -> Grid:
    """[rows, columns, 3, H, W] in [0, 1], with white lines between them."""
    rows, columns, _, height, width = pictures.shape
    sheet = np.full((rows * (height + GAP) - GAP, columns * (width + GAP) - GAP, 3), 255, np.uint8)
    for row in range(rows):
        for column in range(columns):
            top, left = row * (height + GAP), column * (width + GAP)
            square = (pictures[row, column].permute(1, 2, 0) * 255).round().byte().numpy()
            sheet[top : top + height, left : left + width] = square
    return Grid(sheet)


class Watcher:
    """Writes what TensorBoard shows below ``folder``, from ``step`` on; where it is not installed, says so once."""

    def __init__(self, folder: Path, step: int, note: Callable[[str], None]) -> None:
        self._writer: Any = None
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            note("TensorBoard is not installed, so there is nothing to watch but the log: pip install 'lbam-fast[train]'")
            return
        self._writer = SummaryWriter(str(folder / FOLDER), purge_step=step)  # type: ignore[no-untyped-call]

    def scalars(self, row: dict[str, float]) -> None:
        """A row of the log: each value under its name."""
        if self._writer is not None:
            for name, value in row.items():
                if name != "step":
                    self._writer.add_scalar(name, value, int(row["step"]))

    def pictures(self, step: int, shown: Grid, network: nn.Module, mask: Tensor) -> None:
        """The grid; of this project's networks also g_A's curves and attention maps of three layers for ``mask`` [1, 1, H, W]."""
        if self._writer is None:
            return
        self._writer.add_image("given, filled, original", shown.pixels, step, dataformats="HWC")
        if not isinstance(network, Generator):
            return
        for name, picture in attention_pictures(network, mask).items():
            if name in MAPS:
                self._writer.add_image(f"attention/{name}", picture, step, dataformats="HWC")
        try:
            m, found = curves(network)
        except InspectionError:
            return
        for name, values in found.items():
            self._writer.add_image(f"g_A/{name}", _plotted(m, values), step, dataformats="HWC")

    def close(self) -> None:
        """Write what is left."""
        if self._writer is not None:
            self._writer.close()


def _plotted(m: NDArray[np.float32], values: NDArray[np.float32], size: int = 160) -> NDArray[np.uint8]:
    """A curve through [0, its largest value, at least 2] over the range of m: [size, size, 3], with lines at 0 and 1."""
    canvas = np.full((size, size, 3), 255, np.uint8)
    top = max(2.0, float(values.max()))

    def across(m: NDArray[np.float32]) -> NDArray[np.float32]:
        return (m - low) / (high - low) * (size - 1)

    low, high = float(m.min()), float(m.max())
    for level in (0.0, 1.0):
        y = round((size - 1) * (1 - level / top))
        cv2.line(canvas, (0, y), (size - 1, y), (200, 200, 200), 1)
    points = np.stack([across(m), (size - 1) * (1 - values / top)], axis=1).round().astype(np.int32)
    cv2.polylines(canvas, [points], False, (200, 60, 20), 1, cv2.LINE_AA)
    return canvas
