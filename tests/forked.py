"""Processes that tests start in no time: forked from a server that has the libraries loaded, where a system forks at all."""

import multiprocessing
import os
import sys
import tempfile
from collections.abc import Callable
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from multiprocessing.context import BaseContext
from pathlib import Path
from typing import Self

import pytest

HERE = Path(__file__).parent


def context(*preloaded: str) -> BaseContext:
    """What makes such processes. preloaded: modules; they count for the first to ask for a server, which then serves all."""
    if sys.platform == "win32":
        return multiprocessing.get_context("spawn")
    forking = multiprocessing.get_context("forkserver")
    forking.set_forkserver_preload(list(preloaded))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(HERE), prepend=os.pathsep)  # Python 3.11 tells a server of no other path
        forkserver.ensure_running()
    return forking


class Program:
    """``lbam-fast`` with these arguments, used as a ``subprocess.Popen`` whose outputs are pipes of text.

    stdin: the end of a pipe that is its standard input. encoding: that of its console. log: the file that takes its standard
    error. before: called in its process, first.
    """

    def __init__(
        self,
        *arguments: object,
        stdin: Connection | None = None,
        encoding: str = "utf-8",
        log: Path | None = None,
        before: Callable[[], None] | None = None,
    ) -> None:
        self._encoding = encoding
        self._folder = tempfile.TemporaryDirectory()
        self._outputs = [Path(self._folder.name, "stdout"), log or Path(self._folder.name, "stderr")]
        start = context("lbam_fast.batch.filling", "lbam_fast.cli", "lbam_fast.inference").Process
        self._process = start(target=_run, args=(list(map(str, arguments)), stdin, self._outputs, encoding, before))
        self._process.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        if error is not None:
            self._process.kill()
        self._process.join()
        self._folder.cleanup()

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self._process.pid, number)

    def wait(self, timeout: float) -> int:
        self._process.join(timeout)
        assert self.returncode is not None, f"it still runs after {timeout} seconds"
        return self.returncode

    def communicate(self, timeout: float = 300) -> tuple[str, str]:
        self.wait(timeout)
        output, complaint = (path.read_text(self._encoding) for path in self._outputs)
        return output, complaint


def _run(
    arguments: list[str], stdin: Connection | None, outputs: list[Path], encoding: str, before: Callable[[], None] | None
) -> None:
    from lbam_fast.__main__ import main

    if stdin is not None:
        os.dup2(stdin.fileno(), 0)
    for number, path in enumerate(outputs, 1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), number)
    sys.stdout, sys.stderr = (os.fdopen(number, "w", encoding=encoding, closefd=False) for number in (1, 2))
    if before is not None:
        before()
    sys.argv = ["lbam-fast", *arguments]
    main()
