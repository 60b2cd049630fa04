"""Whole-model inference: a fresh mask for every image of every call, and one mask for all images."""

import pytest
from harness import Feed, Figure, Suite
from limits import network_work
from peers import inference_methods, truth, yardstick
from timing import Schedule
from workload import Case

pytestmark = pytest.mark.inference

QUICK = tuple(Case(side, side, batch, mask) for mask in ("fresh", "shared") for side, batch in ((256, 1), (256, 4), (1024, 1)))
GRID = tuple(
    Case(height, width, batch, mask)
    for height, width, batch in (
        (256, 256, 1),
        (256, 256, 4),
        (256, 256, 16),
        (256, 384, 3),  # neither square nor a power of two
        (512, 512, 1),
        (512, 512, 4),
        (1024, 1024, 1),
        (2048, 2048, 1),
    )
    for mask in ("fresh", "shared")
)
ON_A_GPU = tuple(Case(256, 256, 64, mask) for mask in ("fresh", "shared"))
PRESETS = tuple(Case(256, 256, 4, preset=preset) for preset in ("official-2019", "paddle", "paper"))

SUITE = Suite(
    name="inference",
    quick=QUICK,
    full=GRID + PRESETS,
    gpu=ON_A_GPU,
    methods=inference_methods,
    truth=truth,
    yardstick=yardstick,
    work=network_work,
    schedule=Schedule(seconds=8.0, at_least=5),
)


def test_inference(figure: Figure, feed: Feed) -> None:
    feed(figure)
