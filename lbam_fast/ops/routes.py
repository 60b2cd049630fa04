"""The table of routes: which one an op takes for which call, what each took, and the file that remembers it."""

# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lbam_fast import native
from lbam_fast.files import replace_file
from lbam_fast.ops.arguments import flatten
from lbam_fast.ops.judge import Clock, NotFiniteError, Verdict, Way, fastest

FORMAT = 3
_CHOICES, _SECONDS, _REFUSED = "choices", "seconds", "refused"


class Routes:
    """What was chosen, by key, and the file that remembers it. Safe under threads. A file that cannot be used does no harm.

    choices  the route of every key
    seconds  of one call by every route that is right, by key and route
    refused  why a route may not run, by key and route
    """

    def __init__(self, path: Path, versions: Mapping[str, str]) -> None:
        self.path, self.versions = path, dict(versions)
        self._lock = threading.Lock()
        self.choices: dict[str, str]
        self.seconds: dict[str, dict[str, float]]
        self.refused: dict[str, str]
        self.choices, self.seconds, self.refused = self._read()
        self._too_large: set[str] = set()

    def choose(
        self,
        key: str,
        routes: Mapping[str, Way],
        arguments: Sequence[Any],
        plain: Way,
        clock: Clock,
        typical: Callable[[Sequence[Any]], Sequence[Any]] = lambda arguments: arguments,
    ) -> str | None:
        """The name of the route for that key: the one remembered, else the fastest of those that are right.

        plain    the op in plain PyTorch, which float64 and the error budget come from
        typical  what is timed in place of arguments whose values decide about the time

        None where no route can be judged: results are not finite, which is not remembered, or memory is short, which is
        remembered as long as the process lives. Raises RouteError where no route is right.
        """
        with self._lock:
            if self.choices.get(key) in routes:
                return self.choices[key]
            if key in self._too_large:
                return None
            try:
                verdict = fastest(routes, arguments, plain, clock, typical)
            except torch.OutOfMemoryError:  # float64 takes more than the call itself
                self._too_large.add(key)
                return None
            except NotFiniteError:
                return None
            self._add(key, verdict)
            self._write()
            return verdict.chosen

    def _add(self, key: str, verdict: Verdict) -> None:
        self.choices[key] = verdict.chosen
        self.seconds[key] = verdict.seconds
        self.refused |= {refusal(key, name): reason for name, reason in verdict.refused.items()}

    def _read(self) -> tuple[dict[str, str], dict[str, dict[str, float]], dict[str, str]]:
        try:
            found = json.loads(self.path.read_text(encoding="utf-8"))
            if found["format"] == FORMAT and found["versions"] == self.versions:
                choices, refused = ({str(k): str(v) for k, v in found[part].items()} for part in (_CHOICES, _REFUSED))
                seconds = {
                    str(key): {str(name): float(value) for name, value in each.items()} for key, each in found[_SECONDS].items()
                }
                return choices, seconds, refused
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            pass
        return {}, {}, {}

    def _write(self) -> None:
        """Whole or not at all, beside what other processes have found since."""
        choices, seconds, refused = self._read()
        contents = {
            "format": FORMAT,
            "versions": self.versions,
            _CHOICES: {**choices, **self.choices},
            _SECONDS: {**seconds, **self.seconds},
            _REFUSED: {**refused, **self.refused},
        }
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            replace_file(self.path, json.dumps(contents, indent=1, sort_keys=True).encode())
        except OSError:
            return


def key(op: str, arguments: Sequence[Any], *more: object) -> str:
    """Shapes, dtypes, strides and settings of a call, in words."""
    return " ".join([op, *map(_word, flatten(arguments)), *map(str, more)])


def refusal(key: str, name: str) -> str:
    """Under which a table says why a route is refused."""
    return f"{key}, {name}"


def versions() -> dict[str, str]:
    """Of all code that a measurement depends on."""
    import triton

    import lbam_fast

    cudnn = torch.backends.cudnn
    return {
        "lbam_fast": lbam_fast.__version__,
        "torch": torch.__version__,
        "triton": triton.__version__,
        "cuDNN": str(cudnn.version()) if cudnn.is_available() else "none",
        "kernels": digest(sorted((Path(lbam_fast.__file__).parent / "kernels").glob("*.py"))),
        "CUDA kernels": "none" if native.unavailable("cuda") else digest([native.FOLDER / "lbam_native_cuda.so"]),
    }


def digest(files: Iterable[Path]) -> str:
    """Of the contents of those files in that order."""
    return hashlib.sha256(b"".join(hashlib.sha256(file.read_bytes()).digest() for file in files)).hexdigest()[:16]


@cache
def device_name(device: torch.device) -> str:
    """What a device is called, be it the current one or not."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def _word(x: Any) -> str:
    if not isinstance(x, Tensor):
        return str(x)
    return f"{'x'.join(map(str, x.shape)) or 'scalar'}:{str(x.dtype).removeprefix('torch.')}{_layout(x)}"


def _layout(x: Tensor) -> str:
    """Of an ordinary tensor nothing."""
    if x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last):
        return ":nhwc"
    return "" if x.is_contiguous() else f":{'/'.join(map(str, x.stride()))}"
