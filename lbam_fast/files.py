"""Files that are replaced whole or not at all, and paths that lead to the same one."""

from __future__ import annotations

import contextlib
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside ``path`` that takes its place, and its permissions, when the block ends well; else it is removed.

    Links are followed. Raises OSError.
    """
    path = path.resolve()
    temporary = path.with_name(f".{uuid.uuid4().hex}{path.suffix}")
    try:
        yield temporary
        if path.exists():
            shutil.copymode(path, temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def replace_file(path: Path, content: bytes) -> None:
    """Write ``content`` to ``path``, whole or not at all. Raises OSError."""
    with replacing(path) as temporary, open(temporary, "xb") as file:
        file.write(content)


def is_same_file(one: Path, other: Path) -> bool:
    """Whether both paths lead to one file, through links too; paths that do not exist yet are compared by name."""
    if one.exists() and other.exists():
        return one.samefile(other)
    return one.resolve() == other.resolve()
