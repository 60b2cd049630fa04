"""Each layer on its own, on the activations that reach it inside the network."""

import pytest
from harness import Feed, Figure, Suite
from layers import LAYERS, layer_inputs, layer_methods, truth, yardstick
from limits import layer_work
from timing import Schedule
from workload import Case

pytestmark = pytest.mark.layers

ONE_OF_EACH_KIND = ("ec1", "ec2", "ec7", "reverseConv2", "dc1", "dc6", "dc7")

SUITE = Suite(
    name="layers",
    quick=tuple(Case(256, 256, 1, layer=layer) for layer in ONE_OF_EACH_KIND),
    full=tuple(Case(side, side, batch, layer=layer) for side, batch in ((256, 1), (256, 16), (1024, 1)) for layer in LAYERS),
    methods=layer_methods,
    truth=truth,
    yardstick=yardstick,
    inputs=layer_inputs,
    work=layer_work,
    schedule=Schedule(warmup=0.05, seconds=0.6, at_most=30),
)


def test_layer(figure: Figure, feed: Feed) -> None:
    feed(figure)
