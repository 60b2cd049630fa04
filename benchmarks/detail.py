"""Time what ``detail`` adds: ``python benchmarks/detail.py [--plot FILE]``.

On the example photograph, interleaved, medians, as many threads as cores: the texture stage, PyPatchMatch with patches of 7x7 on
the same hole, and the full-width network; then the stage on 2000x1500 pixels with holes of more and more pixels.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from lbam_fast import LBAM, LBAMConfig
from lbam_fast.evaluation import available_rivals, harmonic
from lbam_fast.inference import Inpainter
from lbam_fast.inference.detail import Detailer
from lbam_fast.inference.masks import Hole
from lbam_fast.pictures import read_mask, read_picture

EXAMPLE = Path(__file__).parent.parent / "docs" / "example"
LARGE = (1500, 2000)
SHARES = (0.005, 0.01, 0.02, 0.04, 0.08)


def medians(methods: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Seconds of each method, run in turn, once before it counts."""
    seconds: dict[str, list[float]] = {name: [] for name in methods}
    for _ in range(rounds + 1):
        for name, method in methods.items():
            start = time.perf_counter()
            method()
            seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(each[1:]) for name, each in seconds.items()}


def stage(guide: NDArray[np.uint8], filled: NDArray[np.bool_]) -> Callable[[], object]:
    """The texture stage alone, on a picture whose hole is filled already."""
    hole, output = Hole(filled), guide.astype(np.float32) / np.float32(255)
    detailer = Detailer("exemplar", 16)
    return lambda: detailer(guide, output, hole)


def on_the_example(rounds: int) -> None:
    picture = read_picture(EXAMPLE / "china.jpg").pixels
    filled = read_mask(EXAMPLE / "china_mask.png") > 0.5
    mask = 255 * filled.astype(np.uint8)
    network = Inpainter(LBAM(LBAMConfig()), detail="off")
    methods = {"detail": stage(harmonic(picture, mask), filled), "full-width network": lambda: network(picture, mask)}
    rivals, notes = available_rivals()
    if "PatchMatch" in rivals:
        methods["PatchMatch"] = lambda: rivals["PatchMatch"](picture, mask)
    found = medians(methods, rounds)
    height, width = filled.shape
    print(f"{width}x{height}, {filled.mean():.1%} hole, {torch.get_num_threads()} threads")
    for name, seconds in found.items():
        print(f"  {name}: {seconds:.3f} s, detail takes 1/{seconds / found['detail']:.2f} of it")
    for note in notes:
        print(note)


def growing(rounds: int) -> list[tuple[int, float]]:
    """Hole pixels and seconds, on the example enlarged, with boxes all over it."""
    small = read_picture(EXAMPLE / "china.jpg").pixels
    lines, columns = (np.arange(size) * have // size for size, have in zip(LARGE, small.shape[:2], strict=True))
    picture = np.ascontiguousarray(small[lines][:, columns])
    rows = []
    for share in SHARES:
        filled, side = np.zeros(LARGE, bool), round((share * LARGE[0] * LARGE[1] / 48) ** 0.5)
        for y in range(6):
            for x in range(8):
                filled[100 + 230 * y :, :][:side, 60 + 240 * x :][:, :side] = True
        guide = np.where(filled[..., None], picture[~filled].mean(axis=0), picture).astype(np.uint8)
        seconds = medians({"detail": stage(guide, filled)}, rounds)["detail"]
        rows.append((int(filled.sum()), seconds))
        print(f"  {LARGE[1]}x{LARGE[0]}, {filled.mean():.1%} hole, {filled.sum()} pixels: {seconds:.2f} s")
    return rows


def plot(rows: list[tuple[int, float]], path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 3.2), layout="constrained")
    axes = figure.subplots()
    axes.plot([pixels / 1000 for pixels, _ in rows], [seconds for _, seconds in rows], "o-")
    axes.set(xlabel="thousand pixels of hole", ylabel="seconds", title="detail, 2000x1500", xlim=(0, None), ylim=(0, None))
    figure.savefig(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="repetitions that count")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw seconds over hole pixels")
    options = parser.parse_args()
    on_the_example(options.rounds)
    rows = growing(options.rounds)
    if options.plot:
        plot(rows, options.plot)


if __name__ == "__main__":
    main()
