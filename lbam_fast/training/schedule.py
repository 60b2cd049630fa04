"""Learning rates over a training."""

from __future__ import annotations

import math

from lbam_fast.training.settings import Settings


def learning_rate(settings: Settings, step: int, highest: float) -> float:
    """Of step ``step``, from 0 on, where the highest is ``highest``: a rise along ``warmup`` steps, then a half cosine down."""
    if step < settings.warmup:
        return highest * (step + 1) / settings.warmup
    final = highest * (settings.final_learning_rate / settings.learning_rate)
    progress = (step - settings.warmup) / max(1, settings.steps - settings.warmup)
    return final + (highest - final) * (1 + math.cos(math.pi * progress)) / 2
