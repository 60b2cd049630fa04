"""Peak memory of one call, each method in a fresh process."""

import pytest
from harness import Feed, Figure, Suite
from memory import measure_memory, memory_methods
from peers import truth, yardstick
from workload import Case

pytestmark = pytest.mark.memory

SUITE = Suite(
    name="memory",
    quick=(Case(1024, 1024, 1),),
    full=(Case(256, 256, 4), Case(512, 512, 1), Case(1024, 1024, 1), Case(2048, 2048, 1)),
    methods=memory_methods,
    truth=truth,
    yardstick=yardstick,
    measure=measure_memory,
)


def test_memory(figure: Figure, feed: Feed) -> None:
    feed(figure)
