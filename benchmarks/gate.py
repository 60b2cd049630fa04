"""The correctness gate: whoever misses the error budget gets no time.

Every output is compared with float64 on the same inputs. The budget, for the largest and for the root mean square error, is
twice what eager PyTorch loses in the same dtype, measured in the same run. In fp32 it is never tighter than a slack: two
correct orders of summation differ, and eager PyTorch may be lucky.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

FACTOR = 2.0


@dataclass(frozen=True)
class Error:
    """Of an output against float64. ``maximum`` is infinite where the output is not finite or has another shape."""

    maximum: float
    rms: float

    @property
    def psnr(self) -> float:
        """In dB, for values in [0, 1]; at most 200."""
        return -20 * math.log10(max(self.rms, 1e-10)) if math.isfinite(self.rms) else -math.inf

    def row(self) -> dict[str, float] | None:
        """For a record, which has no room for infinities."""
        return {"max": self.maximum, "psnr": self.psnr} if math.isfinite(self.maximum) else None


NOT_FINITE = Error(math.inf, math.inf)
NO_SLACK = Error(0.0, 0.0)
OUTPUT_SLACK = Error(2e-5, 5e-6)
"""Of an fp32 network's output: correct orders of summation differ by several 1e-6 after fourteen layers."""
GRADIENT_SLACK = Error(1e-2, 1e-3)
"""Of an fp32 gradient in units of its own size: where rounding puts one unit on the other side of a kink, it changes by 1e-3 and
more. The published form in NCHW and in channels_last differ by that much."""


def error_of(output: Tensor, truth: Tensor) -> Error:
    """``output`` in any dtype and on any device against ``truth`` in float64."""
    if output.shape != truth.shape or not bool(output.isfinite().all()):
        return NOT_FINITE
    difference = output.detach().to(truth.device, torch.float64) - truth
    return Error(float(difference.abs().max()), float(difference.square().mean().sqrt()))


def budget(eager: Error, slack: Error = NO_SLACK) -> Error:
    """What a method may lose, given what eager PyTorch loses. Nothing passes where eager is not finite."""
    if not math.isfinite(eager.maximum):
        return Error(-1.0, -1.0)
    return Error(max(FACTOR * eager.maximum, slack.maximum), max(FACTOR * eager.rms, slack.rms))


def refusal(error: Error, allowed: Error) -> str:
    """Why a method is refused; empty if it passes."""
    if not math.isfinite(error.maximum):
        return "the output is not finite, or of another shape"
    if error.maximum > allowed.maximum:
        return f"largest error {error.maximum:.2g} against float64, allowed {allowed.maximum:.2g}"
    if error.rms > allowed.rms:
        return f"root mean square error {error.rms:.2g} against float64, allowed {allowed.rms:.2g}"
    return ""
