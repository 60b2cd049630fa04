"""Mutated pictures and weights: read, or refused with a sentence, and nothing else.

    python tests/fuzz.py --seconds 300 --seed 1

Each file comes of (seed, number) alone; the first that breaks the rule is kept in the folder that is printed.
"""

import argparse
import io
import random
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from lbam_fast import LBAM, CheckpointError, LBAMConfig, load_checkpoint, save_checkpoint
from lbam_fast.pictures import PictureError, read_mask, read_picture, write_picture

MOST_PIXELS = 1_000_000
SLOW = 20.0
"""Seconds that no file of a few kilobytes may take, on a busy machine either."""


def pictures() -> Iterator[tuple[str, bytes]]:
    """Small files of every format, with what files carry."""
    rng = np.random.default_rng(0)
    colour = rng.integers(0, 256, (24, 31, 4), np.uint8)
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "Camera"
    exif.get_ifd(0x8825)[1] = "N"
    for mode in ("1", "L", "LA", "RGB", "RGBA", "P", "CMYK", "I;16"):
        grey = Image.fromarray(colour[..., :2].copy().view(np.uint16)[..., 0])
        image = grey if mode == "I;16" else Image.fromarray(colour).convert(mode)
        for kind in ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF"):
            stored = io.BytesIO()
            try:
                image.save(stored, kind, exif=exif.tobytes(), icc_profile=bytes(200), dpi=(300, 300))
            except (OSError, ValueError):
                continue  # a mode that the format has no place for
            yield f"{mode.replace(';', '')}.{kind.lower()}", stored.getvalue()


def checkpoints(folder: Path) -> Iterator[tuple[str, bytes]]:
    torch.manual_seed(0)
    model = LBAM(LBAMConfig.preset("official", base_width=2))
    for suffix in (".safetensors", ".pth"):
        save_checkpoint(model, folder / f"seed{suffix}")
        yield f"weights{suffix}", (folder / f"seed{suffix}").read_bytes()


def mutated(data: bytes, rng: random.Random) -> bytes:
    """The file with a few bytes changed, cut out, doubled or put in."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        head = rng.random() < 0.5  # where the structure is
        place = rng.randrange(max(1, min(len(changed), 200) if head else len(changed)))
        match rng.randrange(5):
            case 0:
                changed[place : place + 1] = bytes([rng.randrange(256)])
            case 1:
                changed[place : place + 4] = rng.choice((b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\0\0\x4e\x20"))
            case 2:
                del changed[place : place + rng.randrange(1, 40)]
            case 3:
                changed[place:place] = changed[place : place + rng.randrange(1, 40)]
            case _:
                del changed[max(place, 1) :]
    return bytes(changed)


def read_one_picture(path: Path) -> None:
    try:
        picture = read_picture(path, MOST_PIXELS)
        mask = read_mask(path, max_pixels=MOST_PIXELS)
        write_picture(path.with_suffix(".again.png"), picture)
    except PictureError:
        return
    height, width, channels = picture.pixels.shape
    assert channels in (1, 3) and mask.shape == (height, width) and 0 <= mask.min() <= mask.max() <= 1
    assert picture.alpha is None or picture.alpha.shape == (height, width)


def read_one_checkpoint(path: Path) -> None:
    try:
        model = load_checkpoint(path)
    except CheckpointError:
        return
    assert isinstance(model, LBAM)


def run(
    read: Callable[[Path], None], sources: list[tuple[str, bytes]], folder: Path, seed: int, count: int, until: float = np.inf
) -> int:
    """Read ``count`` mutated files, or as many as fit in before ``until``, and give how many.

    Raises AssertionError, which names the file.
    """
    for number in range(count):
        if time.monotonic() > until:
            return number
        rng = random.Random(f"{seed} {number}")
        name, data = sources[number % len(sources)]
        path = folder / f"{seed}-{number}-{name}"
        path.write_bytes(mutated(data, rng))
        start = time.monotonic()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                read(path)
        except Exception as error:
            raise AssertionError(f"{path}: {type(error).__name__}: {error}") from error
        assert time.monotonic() - start < SLOW, f"{path}: takes {time.monotonic() - start:.0f} s"
        for each in folder.glob(f"{seed}-{number}-*"):
            each.unlink()
    return count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="fuzz"))
    print(f"files that break the rule stay in {folder}", flush=True)
    half = options.seconds / 2
    for name, read, sources in (
        ("pictures", read_one_picture, list(pictures())),
        ("checkpoints", read_one_checkpoint, list(checkpoints(folder))),
    ):
        done = run(read, sources, folder, options.seed, 10**9, time.monotonic() + half)
        print(f"{done} {name} read or refused")


if __name__ == "__main__":
    main()
