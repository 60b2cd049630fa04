"""One run at a time for an output folder. The system drops the lock with the process that holds it, however that ends."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from lbam_fast.batch.errors import JobError

_TEMPORARY = re.compile(r"\.[0-9a-f]{32}(\.\w+)?")


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the folder, which must exist, for this run alone. Raises JobError if another run holds it.

    Where the file system knows no locks, nothing is held.
    """
    descriptor = _opened(folder)
    try:
        if not _taken(descriptor):
            raise JobError(f"{folder}: another run is writing into this folder; wait for it, or choose another output")
        yield
    finally:
        os.close(descriptor)


def remove_leftovers(folders: Iterable[Path], before: float | None = None) -> list[Path]:
    """Remove half-written files of runs that were killed, of up to that time (now, in seconds since 1970); returns them.

    Only for folders that are locked.
    """
    limit = time.time() if before is None else before
    removed = []
    for folder in set(folders):
        with contextlib.suppress(OSError):
            for path in folder.iterdir():
                if _TEMPORARY.fullmatch(path.name) and path.is_file() and path.stat().st_mtime <= limit:
                    path.unlink()
                    removed.append(path)
    return sorted(removed)


if sys.platform == "win32":
    import msvcrt

    def _opened(folder: Path) -> int:
        name = hashlib.sha256(os.path.normcase(folder.resolve()).encode()).hexdigest()[:32]
        return os.open(Path(tempfile.gettempdir()) / f"lbam-fast-{name}.lock", os.O_RDWR | os.O_CREAT)

    def _taken(descriptor: int) -> bool:
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

else:
    import fcntl

    def _opened(folder: Path) -> int:
        return os.open(folder, os.O_RDONLY)

    def _taken(descriptor: int) -> bool:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:
            return True
        return True
