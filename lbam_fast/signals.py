"""How Ctrl-C and SIGTERM end the command line: with one line at any time."""

import os
import signal
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_COMMANDS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "cli")
_received: list[int] = []


def end_commands() -> None:
    """From now on a signal raises KeyboardInterrupt with its number in a command that is at work, so that it can clean up.

    Before, while libraries load, which is no safe time for errors, and at a second signal, the process ends at once.
    """
    _install(_end)


def end_at_once() -> None:
    """From now on a signal ends the process at once."""
    _install(_leave)


def signal_behind(error: BaseException | None = None) -> int | None:
    """The number of the signal that was to end this command, if one was.

    error: what ended it. That need not be the KeyboardInterrupt: compiled libraries, where a signal may come at any time, make
    other errors of it or lose it.
    """
    if _received:
        return _received[0]
    if isinstance(error, KeyboardInterrupt):
        return error.args[0] if error.args else signal.SIGINT
    return None


def _install(handler: object) -> None:
    for number in _SIGNALS:
        signal.signal(number, handler)  # type: ignore[arg-type]


def _end(number: int, frame: FrameType | None) -> None:
    end_at_once()
    if _is_at_work(frame):
        _received.append(number)
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
