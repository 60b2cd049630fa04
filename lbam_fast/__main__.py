"""``lbam-fast`` and ``python -m lbam_fast``: the command line, which Ctrl-C and SIGTERM end with one line at any time."""

import os
import signal
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_COMMANDS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "cli")


def main() -> None:
    """Run the command line; its exit code is 130 after Ctrl-C and 143 after SIGTERM."""
    _install(_end)
    from lbam_fast.cli import app

    try:
        app(prog_name="lbam-fast")
    finally:
        _install(_leave)


def _install(handler: object) -> None:
    for number in _SIGNALS:
        signal.signal(number, handler)  # type: ignore[arg-type]


def _end(number: int, frame: FrameType | None) -> None:
    """Let a command that is at work clean up. Else, and while libraries load, which is no safe time for errors, end at once."""
    _install(_leave)
    if _is_at_work(frame):
        raise KeyboardInterrupt(number)
    os.write(2, f"error: stopped by {signal.Signals(number).name}\n".encode())
    _leave(number)


def _leave(number: int, _: FrameType | None = None) -> None:
    os._exit(128 + number)


def _is_at_work(frame: FrameType | None) -> bool:
    within = False
    while frame is not None:
        file = frame.f_code.co_filename
        if file.startswith("<frozen importlib"):
            return False
        within = within or os.path.dirname(file) == _COMMANDS
        frame = frame.f_back
    return within


if __name__ == "__main__":
    main()
