"""Files in folders."""

from pathlib import Path


def visible_files(folder: Path, recursive: bool) -> list[Path]:
    """The files in ``folder``, or in those below it too, sorted; not those whose own name starts with a dot."""
    found = folder.rglob("*") if recursive else folder.iterdir()
    return sorted(path for path in found if path.is_file() and not path.name.startswith("."))
