"""Folders of photographs: files in, files out, beside plain loops over the same network."""

import pytest
from batch import batch_methods, measure_batch
from harness import Feed, Figure, Suite
from timing import Schedule
from torch import Tensor
from workload import Case

pytestmark = pytest.mark.batch


def nothing_to_compare(*_: object) -> Tensor:
    raise NotImplementedError("the tests of the package compare what the ways write")


SUITE = Suite(
    name="batch",
    quick=(Case(512, 512, 12), Case(256, 256, 12, "shared")),
    full=(Case(2000, 2000, 200), Case(512, 512, 100, "shared")),
    methods=batch_methods,
    truth=nothing_to_compare,
    yardstick=nothing_to_compare,
    schedule=Schedule(warmup=0.0, seconds=10.0, at_least=3, at_most=5),
    measure=measure_batch,
)


def test_batch_rate(figure: Figure, feed: Feed) -> None:
    feed(figure)
