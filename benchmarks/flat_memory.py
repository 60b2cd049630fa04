"""Resident memory while many pictures of many shapes are filled from files to files, a mask each, by the network that ships.

    python benchmarks/flat_memory.py                   # 2,000 pictures of 60 shapes, from 64 to 420 pixels a side

Shapes come at random. Linux only.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from batch import write_pair
from memory import resident

from lbam_fast import Inpainter
from lbam_fast.batch import Filled, Filler, Job, pair_folder

SIDES = 64, 420


def make_jobs(folder: Path, count: int, shapes: int, seed: int) -> list[Job]:
    """Jobs of ``count`` photographs of so many shapes."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(*SIDES, (shapes, 2), endpoint=True)
    for i in range(count):
        height, width = map(int, rng.choice(sizes))
        write_pair(folder, i, rng, height, width)
    return pair_folder(folder / "pictures", folder / "masks", folder / "filled").jobs


def readings(inpainter: Inpainter, jobs: Sequence[Job]) -> list[int]:
    """Bytes in memory when each picture is written."""
    found = [resident() for event in Filler(inpainter).fill(jobs, make_folders=True) if isinstance(event, Filled)]
    assert len(found) == len(jobs)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--shapes", type=int, default=60)
    parser.add_argument("--first", type=int, default=200, help="pictures after which memory is compared with that at the end")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if not 0 < options.first < options.count:
        parser.error(f"--first is {options.first}, expected a number from 1 to below --count, which is {options.count}")
    with tempfile.TemporaryDirectory() as folder:
        jobs = make_jobs(Path(folder), options.count, options.shapes, options.seed)
        found = np.array(readings(Inpainter.from_pretrained(), jobs)) / 2**20
    first, last, later = found[options.first - 1], found[-1], found[options.first - 1 :]
    ends = f"{first:.0f} after {options.first}, {last:.0f} at the end: {last / first:.3f} times"
    print(f"{len(found)} pictures; MiB in memory: {ends}")
    print(f"in between {later.mean():.0f} in the mean, {later.min():.0f} to {later.max():.0f}; in the mean of each tenth of all:")
    print(*(f"{part.mean():.0f}" for part in np.array_split(found, 10)))


if __name__ == "__main__":
    main()
