"""``lbam_fast.reference.harmonic`` as nodes of a graph, step by step."""

from __future__ import annotations

import torch

from lbam_fast.export.graph import Graph
from lbam_fast.reference.harmonic import COARSEST_SWEEPS, CONTRAST, CYCLES, FIRST_SWEEPS, LEVELS, SWEEPS


def correction_input(graph: Graph, image: str, mask: str) -> tuple[str, str]:
    """The network's input and the base, of an image whose holes are 0."""
    add = graph.add
    known = add("Greater", mask, 0.0)
    weight = add("Cast", known, to=graph.onnx.TensorProto.FLOAT)
    trend = _plane(graph, image, weight)
    rest = _Multigrid(graph, weight).fill(add("Where", known, add("Sub", image, trend), 0.0))
    halves = add("Where", known, rest, 0.0), add("Where", known, 0.0, rest)
    return add("Mul", add("Concat", *halves, axis=1), CONTRAST), add("Add", trend, rest)


def corrected(graph: Graph, base: str, y: str, output: str) -> str:
    return graph.add("Clip", graph.add("Add", base, graph.add("Sub", graph.add("Mul", y, 2.0), 1.0)), 0.0, 1.0, output=output)


def _sum(graph: Graph, x: str) -> str:
    return graph.add("ReduceSum", x, graph.constant("lines_and_columns", torch.tensor([2, 3])), keepdims=1)


def _positions(graph: Graph, like: str) -> tuple[str, str]:
    """The line and the column of every pixel of ``like`` [N, 1, H, W], from 0."""
    ones = graph.add("Add", graph.add("Mul", like, 0.0), 1.0)
    line, column = (graph.add("CumSum", ones, graph.constant(f"axis_{axis}", torch.tensor(axis)), exclusive=1) for axis in (2, 3))
    return line, column


def _plane(graph: Graph, image: str, known: str) -> str:
    add = graph.add

    def total(x: str) -> str:
        return _sum(graph, x)

    count = total(known)
    counted = add("Greater", count, 0.0)
    divisor = add("Max", count, 1.0)

    def centred(x: str) -> tuple[str, str]:
        mean = add("Div", total(add("Mul", x, known)), divisor)
        return mean, add("Mul", add("Sub", x, mean), known)

    def unit(index: str) -> str:
        most = add("ReduceMax", index, keepdims=0)
        return add("Sub", add("Mul", add("Div", index, most), 2.0), 1.0)

    down, across = map(unit, _positions(graph, known))
    (mean, values), (down_mean, v), (across_mean, h) = centred(image), centred(down), centred(across)

    def product(a: str, b: str) -> str:
        return total(add("Mul", a, b))

    vv, hh, vh, with_v, with_h = product(v, v), product(h, h), product(v, h), product(values, v), product(values, h)
    determinant = add("Sub", add("Mul", vv, hh), add("Mul", vh, vh))
    solvable = add("Greater", determinant, add("Mul", add("Mul", vv, hh), 1e-6))
    inverse = add("Where", solvable, add("Reciprocal", add("Where", solvable, determinant, 1.0)), 0.0)

    def slope(own: str, with_own: str, with_other: str) -> str:
        return add("Mul", add("Sub", add("Mul", own, with_own), add("Mul", vh, with_other)), inverse)

    slope_v, slope_h = slope(hh, with_v, with_h), slope(vv, with_h, with_v)
    variance = product(values, values)
    varies = add("Greater", variance, 0.0)
    explained = add("Add", add("Mul", slope_v, with_v), add("Mul", slope_h, with_h))
    share = add("Clip", add("Where", varies, add("Div", explained, add("Where", varies, variance, 1.0)), 0.0), 0.0, 1.0)
    tilt = add("Add", add("Mul", slope_v, add("Sub", down, down_mean)), add("Mul", slope_h, add("Sub", across, across_mean)))
    return add("Where", counted, add("Add", mean, add("Mul", share, tilt)), 0.5)


class _Multigrid:
    """The fill of pictures whose known pixels have the weight 1 and others 0: [N, 1, H, W]."""

    def __init__(self, graph: Graph, weight: str) -> None:
        self.graph, self.add = graph, graph.add
        self.neighbour_filter = graph.constant("neighbours", torch.tensor([[0.0, 1, 0], [1, 0, 1], [0, 1, 0]]).expand(3, 1, 3, 3))
        self.weights = [weight]
        for _ in range(LEVELS):
            share = self.pooled(self.weights[-1])
            self.weights.append(self.add("Cast", self.add("Greater", share, 0.0), to=graph.onnx.TensorProto.FLOAT))
        self.red = [self._red(weight) for weight in self.weights]

    def fill(self, image: str) -> str:
        add = self.add
        pictures = [image]
        for weight in self.weights[:-1]:
            share = self.pooled(weight)
            empty = add("Equal", share, 0.0)
            mean = add("Div", self.pooled(add("Mul", pictures[-1], weight)), add("Where", empty, 1.0, share))
            pictures.append(add("Where", empty, 0.0, mean))
        holes = [add("Equal", weight, 0.0) for weight in self.weights]
        mean = add("Div", _sum(self.graph, pictures[-1]), add("Max", _sum(self.graph, self.weights[-1]), 1.0))
        x = self.relaxed(add("Where", holes[-1], mean, pictures[-1]), LEVELS, holes[-1], None, COARSEST_SWEEPS)
        for level in reversed(range(LEVELS)):
            start = add("Where", holes[level], self.upsampled(x), pictures[level])
            x = self.relaxed(start, level, holes[level], None, FIRST_SWEEPS)
        free, fixed = [holes[0]], self.weights[0]
        for _ in range(LEVELS):
            fixed = add("MaxPool", fixed, kernel_shape=[2, 2], strides=[2, 2])
            free.append(add("Equal", fixed, 0.0))
        for _ in range(CYCLES):
            x = self.cycle(x, add("Mul", x, 0.0), free, 0)
        return x

    def cycle(self, x: str, right: str, free: list[str], level: int) -> str:
        add = self.add
        if level == LEVELS:
            return self.relaxed(x, level, free[level], right, COARSEST_SWEEPS)
        x = self.relaxed(x, level, free[level], right, SWEEPS)
        residual = add("Sub", right, add("Sub", self.neighbours(x), add("Mul", x, 4.0)))
        coarse = add("Mul", self.pooled(add("Where", free[level], residual, 0.0)), 4.0)
        zeros = add("Mul", coarse, 0.0)
        correction = self.cycle(zeros, add("Where", free[level + 1], coarse, zeros), free, level + 1)
        x = add("Where", free[level], add("Add", x, self.upsampled(correction)), x)
        return self.relaxed(x, level, free[level], right, SWEEPS)

    def relaxed(self, x: str, level: int, free: str, right: str | None, sweeps: int) -> str:
        add, red = self.add, self.red[level]
        colours = add("And", free, red), add("And", free, add("Not", red))
        for _ in range(sweeps):
            for colour in colours:
                total = self.neighbours(x)
                x = add("Where", colour, add("Mul", add("Sub", total, right) if right else total, 0.25), x)
        return x

    def neighbours(self, x: str) -> str:
        one_each = self.graph.constant("one_each_side", torch.tensor([0, 0, 1, 1, 0, 0, 1, 1]))
        return self.add("Conv", self.add("Pad", x, one_each, mode="edge"), self.neighbour_filter, group=3)

    def pooled(self, x: str) -> str:
        return self.add("AveragePool", x, kernel_shape=[2, 2], strides=[2, 2])

    def upsampled(self, x: str) -> str:
        scales = self.graph.constant("twice", torch.tensor([1.0, 1.0, 2.0, 2.0]))
        return self.add("Resize", x, "", scales, mode="linear", coordinate_transformation_mode="half_pixel")

    def _red(self, like: str) -> str:
        return self.add("Less", self.add("Mod", self.add("Add", *_positions(self.graph, like)), 2.0, fmod=1), 0.5)
