"""Pictures of an evaluation: what the methods made, side by side, and their means over the size of the holes."""

from __future__ import annotations

import io
from collections.abc import Sequence

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from lbam_fast.evaluation.holes import BELOW, ROWS
from lbam_fast.evaluation.methods import Pixels
from lbam_fast.evaluation.metrics import Metric
from lbam_fast.evaluation.quality import QualityRow

GAP, QUALITY = 6, 88


def sheet(lines: Sequence[Sequence[Pixels]], titles: Sequence[str] = (), height: int | None = None) -> Pixels:
    """Lines of pictures [H, W, 3] on white, a title over each column. ``height``: what lines are reduced to, if higher."""
    reduced = [[_reduced(picture, height) for picture in line] for line in lines]
    widths = [max(picture.shape[1] for picture in column) for column in zip(*reduced, strict=True)]
    parts = [_header(titles, widths)] if titles else []
    for line in reduced:
        parts.append(np.concatenate([_padded(picture, width) for picture, width in zip(line, widths, strict=True)], axis=1))
        parts.append(np.full((GAP, parts[-1].shape[1], 3), 255, np.uint8))
    return np.concatenate(parts[:-1])[:, :-GAP]


def jpeg(pixels: Pixels) -> bytes:
    encoded: Pixels = cv2.imencode(".jpg", pixels[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1]
    return encoded.tobytes()


def plot(rows: Sequence[QualityRow], metrics: Sequence[Metric]) -> bytes:
    """A PNG with the means of each metric over the hole's share, with their intervals. Needs matplotlib."""
    from matplotlib.figure import Figure

    shown = [row for row in rows if row.border == "all" and row.holes in ROWS and row.holes != BELOW]
    figure = Figure(figsize=(4.2 * len(metrics), 3.8), layout="constrained")
    for axes, metric in zip(figure.subplots(1, len(metrics), squeeze=False)[0], metrics, strict=True):
        for name in rows[0].means[metric.name]:
            found = np.array([row.means[metric.name][name] for row in shown])
            means = np.where(np.isfinite(found), found, np.nan)
            ends = [row.intervals.get(metric.name, {}).get(name, (mean, mean)) for row, mean in zip(shown, means, strict=True)]
            bars = np.abs(np.array(ends).reshape(-1, 2).T - means)
            axes.errorbar([row.holes for row in shown], means, bars, marker="o", markersize=3, capsize=2, label=name)
        unit = f", {metric.unit}" if metric.unit else ""
        axes.set(xlabel="hole's share", title=f"{metric.name}{unit}")
        axes.tick_params(axis="x", labelrotation=45)
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside right center")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=100, metadata={"Software": None})
    return buffer.getvalue()


def _reduced(picture: Pixels, height: int | None) -> Pixels:
    if height is None or len(picture) <= height:
        return picture
    width = max(1, round(picture.shape[1] * height / len(picture)))
    return cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)


def _padded(picture: Pixels, width: int) -> Pixels:
    return np.pad(picture, ((0, 0), (0, width - picture.shape[1] + GAP), (0, 0)), constant_values=255)


def _header(titles: Sequence[str], widths: Sequence[int]) -> Pixels:
    image = Image.new("RGB", (sum(widths) + GAP * len(widths), 18), "white")
    draw, left = ImageDraw.Draw(image), 0
    for title, width in zip(titles, widths, strict=True):
        draw.text((left + 2, 3), _fitted(title, width), fill="black", font=ImageFont.load_default())
        left += width + GAP
    return np.asarray(image)


def _fitted(title: str, width: int) -> str:
    """As much of the title as fits, from its end, where options stand."""
    most = width // 6
    return title if len(title) <= most else "..." + title[-max(1, most - 3) :]
