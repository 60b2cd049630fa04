"""One training step: forward, backward, optimiser. The gate compares gradients."""

import pytest
from gate import GRADIENT_SLACK
from harness import Feed, Figure, Suite
from timing import Schedule
from training_step import training_methods, truth, yardstick
from workload import Case

pytestmark = pytest.mark.training

SUITE = Suite(
    name="training",
    quick=(Case(128, 128, 2),),
    full=(Case(128, 128, 16), Case(256, 256, 4), Case(256, 256, 16)),
    methods=training_methods,
    truth=truth,
    yardstick=yardstick,
    slack=GRADIENT_SLACK,
    schedule=Schedule(warmup=1.0, seconds=6.0),
)


def test_training(figure: Figure, feed: Feed) -> None:
    feed(figure)
