"""What the first run on a GPU should measure, predicted from the network's own shapes: the tables of docs/gpu-notes.md.

python benchmarks/predict.py             # writes the page
python benchmarks/predict.py --check     # whether the page is what this gives
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from accounting import Layer, floor_seconds, layers

from lbam_fast.cli.common import SOME_FAILED, print_error, print_note
from lbam_fast.config import LBAMConfig
from lbam_fast.files import replace_file
from lbam_fast.kernels import decoder, encoder, split

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "gpu-notes.md"
TEXT = ROOT / "benchmarks" / "gpu-notes.txt"
"""The page around its tables, each in the place of a line "<name>"."""
SIZES = ((256, 256, 1), (256, 256, 16), (256, 256, 64), (1024, 1024, 1))
BF16 = 2
CONFIG = LBAMConfig.preset("official")


@dataclass(frozen=True)
class Gpu:
    """Rates that a device reaches, and how many multiprocessors it has.

    product, fma  flop per second of large bf16 products, and of float32 outside tensor cores
    copy          bytes per second, read and written
    """

    name: str
    product: float
    fma: float
    copy: float
    processors: int = 132


GPUS = (Gpu("H100", 790e12, 60e12, 3.0e12), Gpu("H200", 790e12, 60e12, 4.3e12))

GAP = 2e-6
"""Seconds from one kernel of a graph to the next."""
HOST = 12e-6
"""Seconds of Python and launch for an op outside a graph."""
REPLAY = 6e-6
"""Seconds of a graph's launch."""
MAINLOOP, BANDWIDTH, SCALAR = 0.5, 0.8, 0.6
"""Shares of the rates that kernels with gathered operands reach."""
STEP, BLOCK_K = 0.25e-6, 64
"""Seconds of one step of a program's loop that waits for memory, and the taps in it."""
GATHER, ARRIVAL = 100e9, 1e-6
"""Bytes per second at which one program reads the others' shares from the L2 cache; seconds until it knows that all are there."""
BESIDE = {"fresh mask": 4, "with maps": 1}
"""Launches beside the fused ops: the network's input; of a fresh mask the holes, and the casts of both. Where layers are split
there is one more: their counters are set to 0."""


@dataclass(frozen=True)
class Op:
    """A fused op of a layer: its convolutions, and the elements it moves beyond what they count."""

    name: str
    parts: tuple[Layer, ...]
    positions: int
    outputs: int
    taps: int
    extra_elements: int

    @property
    def flop(self) -> int:
        return sum(part.flop for part in self.parts)

    @property
    def bytes(self) -> int:
        return sum(part.bytes(BF16) for part in self.parts) + BF16 * self.extra_elements

    def floor(self, gpu: Gpu) -> float:
        return sum(floor_seconds(part, gpu.product, gpu.copy, BF16) for part in self.parts)

    def splits(self, gpu: Gpu) -> int:
        """Programs that share one tile's taps, by the kernels' own rule."""
        return 1 if self.name == "dc7" else int(split.splits_for(self._tiles(), self.taps, gpu.processors))

    def expected(self, gpu: Gpu) -> float:
        """Seconds: the slowest of arithmetic on the processors that are busy, memory, and the steps of one program's loop."""
        programs = self._tiles() * self.splits(gpu)
        busy = programs / (math.ceil(programs / gpu.processors) * gpu.processors)
        arithmetic = self.flop / (gpu.product * MAINLOOP * busy)
        loop = STEP * self.taps / (BLOCK_K * self.splits(gpu))
        return GAP + max(arithmetic, self.bytes / (gpu.copy * BANDWIDTH), loop) + self._addition(gpu)

    def _addition(self, gpu: Gpu) -> float:
        """Seconds that the last program of a tile takes to add up all shares."""
        splits = self.splits(gpu)
        if splits == 1:
            return 0.0
        elements = self.positions * self.outputs / self._tiles() * len(self.parts)
        return ARRIVAL + 4 * elements * splits / GATHER

    def _tiles(self) -> int:
        """Programs of the kernels' own tiles."""
        if self.name == "dc7":
            return _blocks(self.positions / 4, decoder.THIN_BLOCKS["bf16"].positions)
        if self.name.startswith("dc"):
            block = decoder.block_for("bf16", self.positions // 4, self.outputs)
            return 4 * _blocks(self.positions / 4, block.positions) * _blocks(self.outputs, block.channels_out)
        each = self.taps // 16 // len(self.parts)
        halves = (0, each) if self.name.startswith("reverse") else (each, each if len(self.parts) == 2 else 0)
        tile = encoder.choose_tile("bf16", *halves, self.positions, self.outputs, False)
        return _blocks(self.positions, tile.block_m) * _blocks(self.outputs, tile.block_n)


def _blocks(length: float, block: int) -> int:
    return math.ceil(length / block)


def ops(height: int, width: int, batch: int) -> list[Op]:
    """The fused ops of one pass with a fresh mask, in the order of the layers."""
    found = {layer.name: layer for layer in layers(CONFIG, height, width, batch)}
    depth, pixels = len(CONFIG.channels), batch * height * width
    result = []
    for level, outputs in enumerate(CONFIG.channels, start=1):
        parts, positions = (found[f"ec{level}"], found[f"ec{level}.mask"]), pixels >> 2 * level
        taps = sum(part.weight_elements for part in parts) // outputs
        result.append(Op(f"ec{level}", parts, positions, outputs, taps, 0))
    for level in range(1, depth):
        layer, outputs = found[f"reverse{level}"], CONFIG.channels[level - 1]
        updated = layer.output_elements if level < depth - 1 else 0  # beside the map
        taps = layer.weight_elements // outputs
        result.append(Op(f"reverseConv{level}", (layer,), pixels >> 2 * level, outputs, taps, updated))
    for i in range(1, depth + 1):
        layer, last = found[f"dc{i}"], i == depth
        outputs = 3 if last else CONFIG.channels[depth - 1 - i]
        read = 0 if last else layer.output_elements  # the map
        taps = layer.weight_elements // outputs // 4  # of one phase
        result.append(Op(f"dc{i}", (layer,), pixels >> 2 * (depth - i), outputs, taps, read))
    return result


def with_maps(found: Iterable[Op], height: int, width: int, batch: int) -> list[Op]:
    """The same where both chains' maps are known: an encoder layer is one convolution that reads a map."""
    result = []
    for op in found:
        if op.name.startswith("ec"):
            own = op.parts[0]
            taps = own.weight_elements // op.outputs
            result.append(Op(op.name, (own,), op.positions, op.outputs, taps, own.output_elements))
        elif not op.name.startswith("reverse"):
            result.append(op)
    return result


def milliseconds(seconds: float) -> str:
    return f"{seconds * 1e3:.3f}" if seconds < 1e-3 else f"{seconds * 1e3:.2f}"


def layer_table(height: int, width: int, batch: int) -> Iterator[str]:
    """Every fused op: shares of its taps, work, floor and expected time."""
    heads = [f"{gpu.name} {what}" for gpu in GPUS for what in ("floor, us", "expected, us")]
    yield f"| op | shares | GFLOP | MB | {' | '.join(heads)} |"
    yield f"|---|{'---:|' * (3 + len(heads))}"
    for op in ops(height, width, batch):
        times = (f"{seconds * 1e6:.1f}" for gpu in GPUS for seconds in (op.floor(gpu), op.expected(gpu)))
        yield f"| `{op.name}` | {op.splits(GPUS[-1])} | {op.flop / 1e9:.3f} | {op.bytes / 1e6:.1f} | {' | '.join(times)} |"


def whole_table() -> Iterator[str]:
    """Whole passes, with fresh masks and with maps, replayed from a graph and not."""
    heads = [f"{gpu.name} {what}" for gpu in GPUS for what in ("floor", "graph", "no graph")]
    yield f"| pass | launches | GFLOP | MB | {' | '.join(f'{head}, ms' for head in heads)} |"
    yield f"|---|{'---:|' * (3 + len(heads))}"
    for size in SIZES:
        fresh = ops(*size)
        for words, found in (("fresh mask", fresh), ("with maps", with_maps(fresh, *size))):
            times = []
            for gpu in GPUS:
                beside = BESIDE[words] + any(op.splits(gpu) > 1 for op in found)
                launches = len(found) + beside
                busy = sum(op.expected(gpu) for op in found) + beside * GAP
                times += [sum(op.floor(gpu) for op in found), busy + REPLAY, max(busy + HOST, launches * HOST)]
            work = sum(op.flop for op in found) / 1e9, sum(op.bytes for op in found) / 1e6
            name = f"{size[0]}x{size[1]}, batch {size[2]}, {words}"
            yield f"| {name} | {launches} | {work[0]:.1f} | {work[1]:.0f} | {' | '.join(map(milliseconds, times))} |"


def ends_table() -> Iterator[str]:
    """The first and the last layer, by float32 outside tensor cores and by several products on them."""
    yield "| layer, H200, bf16 | batch | memory | float32 FMA | tensor cores | form of the product |"
    yield "|---|---:|---:|---:|---:|---|"
    gpu = GPUS[-1]
    for batch in (1, 16, 64):
        positions = batch * 128 * 128
        first, last = (next(op for op in ops(256, 256, batch) if op.name == name) for name in ("ec1", "dc7"))
        forms = (
            (
                first,
                2 * positions * 64 * 80,
                2 * positions * 64 * 80,
                0.5,
                "4 and 1 channels: 80 taps, five steps of 16, 64 columns",
            ),
            (last, last.flop, 2 * positions * 9 * 128 * 16, 0.25, "9 neighbours, 12 of 16 columns used"),
            (last, last.flop, int(1.27 * last.flop), 0.5, "48 columns (16 taps of 3 colours), added up in shared memory"),
        )
        for op, scalar, padded, share, form in forms:
            times = op.bytes / (gpu.copy * BANDWIDTH), scalar / (gpu.fma * SCALAR), padded / (gpu.product * share)
            yield f"| `{op.name}` | {batch} | {' | '.join(f'{seconds * 1e6:.0f} us' for seconds in times)} | {form} |"


def assumptions_table() -> Iterator[str]:
    yield "| assumed | value |"
    yield "|---|---|"
    for gpu in GPUS:
        yield (
            f"| {gpu.name}: bf16 products, float32 FMA, copy, multiprocessors | {gpu.product / 1e12:.0f} TFLOP/s, "
            f"{gpu.fma / 1e12:.0f} TFLOP/s, {gpu.copy / 1e12:.1f} TB/s, {gpu.processors} |"
        )
    yield f"| of these rates kernels reach: products, FMA, memory | {MAINLOOP:.0%}, {SCALAR:.0%}, {BANDWIDTH:.0%} |"
    yield f"| one step of {BLOCK_K} taps that waits for memory | {STEP * 1e6:.2f} us |"
    gaps = ", ".join(f"{seconds * 1e6:.0f} us" for seconds in (GAP, REPLAY, HOST))
    yield f"| from kernel to kernel in a graph; a graph's launch; an op from Python | {gaps} |"
    yield "| tiles, and taps split over the multiprocessors | as the kernels choose them |"
    yield f"| launches beside the fused ops | {', '.join(f'{count} ({name})' for name, count in BESIDE.items())} |"


def page() -> str:
    """The whole page."""
    tables = {
        "assumptions": assumptions_table(),
        "whole": whole_table(),
        "ends": ends_table(),
        **{f"layers {height}x{width} {batch}": layer_table(height, width, batch) for height, width, batch in SIZES},
    }
    text = TEXT.read_text(encoding="utf-8")
    for name, lines in tables.items():
        text = text.replace(f"<{name}>", "\n".join(lines))
    return text


def main(
    check: Annotated[bool, typer.Option("--check", help="Write nothing; exit with 1 if the page is another.")] = False,
) -> None:
    """Write docs/gpu-notes.md."""
    text = page()
    if not check:
        replace_file(PAGE, text.encode())
        print_note(f"{PAGE}: written")
    elif not PAGE.is_file() or PAGE.read_text(encoding="utf-8") != text:
        print_error(f"{PAGE} is not what the shapes give: python benchmarks/predict.py writes it anew")
        raise typer.Exit(SOME_FAILED)


if __name__ == "__main__":
    typer.run(main)
