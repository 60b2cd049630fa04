"""What every command shares: consoles, devices, and errors that end in a sentence and exit code 2."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import typer
from rich.console import Console

from lbam_fast.errors import LBAMError
from lbam_fast.signals import signal_behind

SOME_FAILED, BAD_INPUT, BY_SIGNAL = 1, 2, 128
"""Exit codes; that of a signal is added to the last."""


class _Console(Console):
    """A console whose reader may go away."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


console = _Console(soft_wrap=True, highlight=False)
errors = _Console(stderr=True, soft_wrap=True, highlight=False)


class ArgumentError(LBAMError, ValueError):
    """Arguments of a command that do not go together; the message says what was expected."""


@contextlib.contextmanager
def failing_with_message() -> Iterator[None]:
    """Turn the package's own errors into a line on stderr and exit code 2; other errors are bugs and keep their traceback.

    Ctrl-C is a line and exit code 130, SIGTERM one and 143.
    """
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # names may hold what the console's encoding lacks
    try:
        yield
    except typer.Exit:
        raise
    except (KeyboardInterrupt, Exception) as error:
        if (number := signal_behind(error)) is not None:
            print_error(f"stopped by {signal.Signals(number).name}")
            raise typer.Exit(BY_SIGNAL + number) from None
        if not isinstance(error, LBAMError):
            raise
        print_error(str(error))
        raise typer.Exit(BAD_INPUT) from None


@contextlib.contextmanager
def finishing_on_signal(stop: Callable[[], None] = lambda: None) -> Iterator[list[int]]:
    """Let Ctrl-C and SIGTERM end no work at hand: ``stop`` is called, and the signal's number put into the list that this gives.

    A second one stops at once.
    """
    received: list[int] = []
    previous = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def restore() -> None:
        for number, handler in previous.items():
            signal.signal(number, handler)

    def handle(number: int, _: object) -> None:
        restore()
        received.append(number)
        stop()

    for number in previous:
        signal.signal(number, handle)
    try:
        yield received
    finally:
        restore()


def print_error(message: str) -> None:
    _say(errors, f"[bold red]error:[/] {escaped(message)}")


def print_warning(message: str) -> None:
    _say(errors, f"[bold yellow]warning:[/] {escaped(message)}")


def print_note(message: str) -> None:
    _say(console, escaped(message))


def _say(target: Console, markup: str) -> None:
    """Print, and go on without a word where nobody can read it: into a closed pipe, onto a full disk."""
    try:
        target.print(markup)
    except (OSError, ValueError):
        target.quiet = True
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), target.file.fileno())  # else Python would fail at its end


def escaped(text: str) -> str:
    """Text whose square brackets Rich prints as they are."""
    from rich.markup import escape

    return escape(text)


def make_folder(folder: Path) -> None:
    """Make the folder and those above it, where they do not exist. Raises ArgumentError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ArgumentError(f"{folder}: this folder cannot be made ({error.strerror}); choose another one") from error


def bytes_of(size: str | None) -> int | None:
    """The bytes that "2GB", "800 MB" or "1.5GiB" mean. Raises ArgumentError."""
    if size is None:
        return None
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?)(i?)B?\s*", size, re.IGNORECASE)
    if found is None:
        raise ArgumentError(f"--max-memory is {size!r}, expected a size such as 2GB, 800MB or 1.5GiB")
    number, unit, binary = found.groups()
    return int(float(number) * (1024 if binary else 1000) ** " KMGT".index(unit.upper() or " "))


def set_threads(count: int | None) -> None:
    """Set PyTorch's CPU threads. Raises ConfigError below 1."""
    if count is None:
        return
    import torch

    from lbam_fast.config import ConfigError

    if count < 1:
        raise ConfigError(f"--threads is {count}, expected at least 1")
    torch.set_num_threads(count)
