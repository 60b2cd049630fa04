"""What every command shares: consoles, devices, and errors that end in a sentence and exit code 2."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import typer
from rich.console import Console

console = Console()
errors = Console(stderr=True)
BAD_INPUT = 2


@contextlib.contextmanager
def failing_with_message() -> Iterator[None]:
    """Turn the package's own errors into a line on stderr and exit code 2; anything else is a bug and keeps its traceback."""
    try:
        yield
    except user_errors() as error:
        errors.print(f"[bold red]error:[/] {escaped(str(error))}", soft_wrap=True)
        raise typer.Exit(BAD_INPUT) from None


def user_errors() -> tuple[type[Exception], ...]:
    """The errors whose message is meant for the user."""
    from lbam_fast.checkpoints import CheckpointError
    from lbam_fast.config import ConfigError
    from lbam_fast.pictures import PictureError
    from lbam_fast.training import TrainingError

    return (CheckpointError, ConfigError, PictureError, TrainingError)


def escaped(text: str) -> str:
    """Text whose square brackets Rich prints as they are."""
    from rich.markup import escape

    return escape(text)


def resolve_device(name: str) -> str:
    """ "auto" becomes "cuda" where there is a GPU, else "cpu". Raises ConfigError for a device that is not there."""
    import torch

    from lbam_fast.config import ConfigError

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(f"the device {name!r} cannot be used: {str(error).splitlines()[0]}; use auto, cpu or cuda") from None
    return name


def set_threads(count: int | None) -> None:
    """Set PyTorch's CPU threads. Raises ConfigError below 1."""
    if count is None:
        return
    import torch

    from lbam_fast.config import ConfigError

    if count < 1:
        raise ConfigError(f"--threads is {count}, expected at least 1")
    torch.set_num_threads(count)
