"""The pictures below a folder."""

from __future__ import annotations

from pathlib import Path

from lbam_fast.pictures import PictureError, output_suffixes, visible_files


def picture_files(folder: Path) -> list[Path]:
    """Every picture below ``folder`` of the formats that are written too, sorted. Raises PictureError where there is none."""
    suffixes = output_suffixes()
    files = [path for path in visible_files(folder, recursive=True) if path.suffix.lower() in suffixes]
    if not files:
        raise PictureError(f"no pictures in {folder}: expected files ending in {', '.join(sorted(suffixes))}")
    return files
