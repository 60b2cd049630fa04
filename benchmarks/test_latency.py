"""Single-image latency: one 8-bit picture in, the filled picture out, conversions and copies included."""

import pytest
from end_to_end import latency_methods, pasted_truth, pasted_yardstick
from harness import Feed, Figure, Suite
from timing import EndToEndClock, Schedule
from workload import Case

pytestmark = pytest.mark.latency

SUITE = Suite(
    name="latency",
    quick=(Case(256, 256, 1),),
    full=(Case(256, 256, 1), Case(512, 512, 1), Case(1024, 1024, 1)),
    methods=latency_methods,
    truth=pasted_truth,
    yardstick=pasted_yardstick,
    clock=EndToEndClock,
    schedule=Schedule(seconds=3.0),
)


def test_latency(figure: Figure, feed: Feed) -> None:
    feed(figure)
