"""Training on the fused ops follows training on the reference: the loss, step by step."""

import numpy as np
import pytest
import torch
from networks import images, masks, one_thread  # noqa: F401 - one_thread applies itself

from lbam_fast import LBAM, LBAMConfig, backend
from lbam_fast.training.losses import WEIGHTS, terms

LONG, SHORT = (200, 1e-4), (24, 1e-3)
"""Steps and learning rate. At 1e-3 rounding grows too far in 200 steps: the reference itself, its first weights multiplied by
1 + 1e-7 times normal numbers, ends 1.0 % away. So the long form has the published rate.
"""
SMOOTHED = 8
"""Steps that are averaged: each batch comes back after so many."""


def curve(name, steps, rate, dtype=torch.float32):
    """The weighted L1 terms of every step of a small network on that backend, in that precision."""
    torch.manual_seed(0)
    model = LBAM(LBAMConfig.preset("official", base_width=4)).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=rate, betas=(0.5, 0.9))
    pictures = images(2 * SMOOTHED, dtype=torch.float32)
    kinds = ["irregular", "box"] * SMOOTHED
    known = masks(*kinds, dtype=torch.float32)[:, :1]
    found = []
    for step in range(steps):
        chosen = slice(2 * (step % SMOOTHED), 2 * (step % SMOOTHED) + 2)
        with backend(name), torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
            output = model(pictures[chosen], known[chosen])
        parts = terms(["hole", "valid"], output, pictures[chosen], known[chosen])
        loss = sum(WEIGHTS[part] * value for part, value in parts.items())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        model.project_()
        found.append(loss.item())
    return np.array(found)


@pytest.fixture(scope="module")
def form(thorough):
    return LONG if thorough else SHORT


@pytest.fixture(scope="module")
def reference_curve(form):
    return curve("reference", *form)


def means(values):
    return values.reshape(-1, SMOOTHED).mean(axis=1)


def test_curves_agree_within_one_percent(form, reference_curve):
    fused = curve("auto", *form)
    np.testing.assert_allclose(means(fused), means(reference_curve), rtol=0.01)
    assert means(reference_curve)[-1] < 0.95 * means(reference_curve)[0], "it must learn, or any curve would do"


def test_bfloat16_ends_within_three_percent(form, reference_curve):
    fused = curve("auto", *form, torch.bfloat16)
    np.testing.assert_allclose(means(fused)[-1], means(reference_curve)[-1], rtol=0.03)


def test_another_learning_rate_is_told_apart(form, reference_curve):
    """Planted fault: a training that is a little off leaves the bounds."""
    other = curve("auto", form[0], 1.5 * form[1])
    assert np.abs(means(other) / means(reference_curve) - 1).max() > 0.01
