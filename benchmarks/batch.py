"""Folders of photographs from files to files, beside the same work in plain loops.

    python benchmarks/batch.py                         # photographs of mixed sizes, a mask each
    python benchmarks/batch.py --one-mask              # frames of one size under one mask
    python benchmarks/batch.py PICTURES MASKS --rounds 3

Three ways take turns: pictures one at a time, each read, filled and written before the next; ``lbam_fast.batch``; and the network
alone on the batches that ``lbam_fast.batch`` makes, its pictures in memory already. With ``--one-mask`` there is a fourth:
``lbam_fast.batch`` on the same frames under a mask each.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from lbam_fast import waiting

os.environ.setdefault("GOMP_SPINCOUNT", waiting.SPINS)  # as the command line does, before PyTorch is imported

from harness import Candidate, Figure, Method, Suite, empty_row, timed
from timing import EndToEndClock, Quartiles, Schedule, interleave, ratios
from workload import Case, photograph

from lbam_fast import Inpainter
from lbam_fast.batch import Filled, Filler, Job, pair_folder
from lbam_fast.batch.planning import WINDOW, Batch, planned
from lbam_fast.batch.reading import Reader
from lbam_fast.data import random_mask
from lbam_fast.pictures import Picture, read_mask, read_picture, write_picture

ONE_AT_A_TIME, PIPELINE, NETWORK, FRESH = "one at a time", "lbam_fast.batch", "network alone", "a mask each"
SHORTEST = 256


def make_folder(folder: Path, count: int, largest: int, one_mask: bool, seed: int = 0) -> list[Job]:
    """Jobs of ``count`` photographs, every other a JPEG and a PNG, with sides from 256 to ``largest`` pixels, evenly in the
    logarithm; with ``one_mask`` all of ``largest`` squared, under the one of as many masks whose hole is nearest to their mean.
    """
    rng = np.random.default_rng(seed)
    holes = []
    for i in range(count):
        height, width = (round(SHORTEST * (largest / SHORTEST) ** rng.random()) for _ in range(2))
        if one_mask:
            height = width = largest
        holes.append(write_pair(folder, i, rng, height, width))
    typical = np.abs(np.array(holes) - np.mean(holes)).argmin()
    masks = folder / "masks" / f"{typical:04d}.png" if one_mask else folder / "masks"
    return pair_folder(folder / "pictures", masks, folder / "filled").jobs


def write_pair(folder: Path, i: int, rng: np.random.Generator, height: int, width: int) -> float:
    """A photograph into ``pictures`` and its mask into ``masks``, under that number; gives the hole's share."""
    for name in ("pictures", "masks"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    pixels = np.rint(photograph(rng, height, width) * 255).astype(np.uint8)
    plain = Picture(pixels, None, "PNG", None, None, (), lossless=True)
    write_picture(folder / "pictures" / f"{i:04d}.{'jpg' if i % 2 else 'png'}", plain)
    mask = random_mask(rng, height, width, "noise", (0.05, 0.2))
    write_picture(folder / "masks" / f"{i:04d}.png", replace(plain, pixels=((1 - mask) * 255).astype(np.uint8)[..., None]))
    return float(1 - mask.mean())


def one_at_a_time(inpainter: Inpainter, jobs: Sequence[Job]) -> None:
    """As one would write it: read, fill, write, next."""
    for job in jobs:
        assert job.mask is not None
        picture = read_picture(job.image)
        filled = inpainter(picture.pixels, read_mask(job.mask))
        job.output.parent.mkdir(exist_ok=True)
        write_picture(job.output, replace(picture, pixels=filled))


def pipeline(inpainter: Inpainter, jobs: Sequence[Job]) -> None:
    """The package's own way, without its command line."""
    filled = sum(isinstance(event, Filled) for event in Filler(inpainter).fill(jobs, make_folders=True))
    assert filled == len(jobs)


def batches_of(inpainter: Inpainter, jobs: Sequence[Job]) -> list[Batch]:
    """What the pipeline gives to the network."""
    reader = Reader(inpainter.options, inpainter.max_pixels)
    works = [reader.read(job) for job in jobs]
    windows = [works[start : start + WINDOW] for start in range(0, len(works), WINDOW)]
    return [batch for window in windows for batch in planned(window, inpainter)]


def network_alone(inpainter: Inpainter, batches: Sequence[Batch]) -> None:
    for batch in batches:
        inpainter.fill([work.picture.pixels for work in batch.works], [work.found.hole for work in batch.works])


def measured(inpainter: Inpainter, jobs: Sequence[Job], schedule: Schedule, fresh: Sequence[Job] = ()) -> dict[str, list[float]]:
    """Seconds of every round of each way, in turns. fresh: what is done besides, if anything."""
    batches = batches_of(inpainter, jobs)
    ways: dict[str, Callable[[int], object]] = {
        ONE_AT_A_TIME: lambda _: one_at_a_time(inpainter, jobs),
        PIPELINE: lambda _: pipeline(inpainter, jobs),
        NETWORK: lambda _: network_alone(inpainter, batches),
    }
    if fresh:
        ways[FRESH] = lambda _: pipeline(inpainter, fresh)
    return interleave(ways, EndToEndClock(str(inpainter.device)), schedule)


def batch_methods(case: Case) -> list[Method]:
    """The three ways, all with the network that ships."""
    return [Method(name, "fp32", _unbuilt, ours=name == PIPELINE) for name in (ONE_AT_A_TIME, PIPELINE, NETWORK)]


def measure_batch(suite: Suite, case: Case, methods: Sequence[Method]) -> dict[str, Figure]:
    """Seconds for all pictures of a folder; the case's ``batch`` is their number, its height the largest side."""
    with tempfile.TemporaryDirectory() as folder:
        shared = case.mask == "shared"
        jobs = make_folder(Path(folder), case.batch, case.height, shared)
        seconds = measured(Inpainter.from_pretrained(device=case.device, keep_maps=shared), jobs, suite.schedule)
    figures = {}
    for method in methods:
        rounds = seconds[method.name]
        row = timed(empty_row(suite, case, method), rounds, None)
        ratio = {"to": ONE_AT_A_TIME, **ratios(rounds, seconds[ONE_AT_A_TIME])._asdict()}
        row = replace(row, ratio=ratio, params={**row.params, "preset": "harmonic", "base_width": 16})
        figures[method.name] = Figure(row, rounds, method.ours)
    return figures


def _unbuilt(*_: object) -> Candidate:
    raise NotImplementedError("measured by measure_batch")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pictures", type=Path, nargs="?", help="a folder; by default photographs are made")
    parser.add_argument("masks", type=Path, nargs="?", help="a folder, or one mask for all")
    parser.add_argument("--count", type=int, default=48)
    parser.add_argument("--largest", type=int, default=1000, help="side in pixels of what is made, with --one-mask of all of it")
    parser.add_argument("--one-mask", action="store_true")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--weights", type=Path, help="by default the network that ships")
    parser.add_argument("--detail", default="auto")
    options = parser.parse_args()
    fresh: list[Job] = []
    with tempfile.TemporaryDirectory() as folder:
        if options.pictures:
            jobs = pair_folder(options.pictures, options.masks, Path(folder) / "filled").jobs[: options.count]
        else:
            jobs = make_folder(Path(folder), options.count, options.largest, options.one_mask)
            if options.one_mask:
                fresh = pair_folder(Path(folder) / "pictures", Path(folder) / "masks", Path(folder) / "fresh").jobs
        inpainter = Inpainter.from_pretrained(options.weights, detail=options.detail)
        schedule = Schedule(warmup=0.0, seconds=0.0, at_least=options.rounds, at_most=options.rounds)
        seconds = measured(inpainter, jobs, schedule, fresh)
    print(f"{len(jobs)} pictures, {options.rounds} rounds in turns: pictures a second, median and quartiles")
    for name, rounds in seconds.items():
        rate = Quartiles.of([len(jobs) / each for each in rounds])
        beside = ", ".join(f"{ratios(rounds, seconds[other]).median:.2f} of {other}" for other in seconds if other != name)
        print(f"{name:16} {rate.median:8.3f}  {rate.q1:.3f} - {rate.q3:.3f}   {beside}")


if __name__ == "__main__":
    main()
