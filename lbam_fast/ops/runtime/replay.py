"""Calls of the CPU's kernels, recorded once and played again: between short kernels Python and PyTorch take their time.

A tape is for one network as it is now, for inputs of those shapes, and for one use at a time. What it plays is what was called:
nothing but kernels that write into tensors may compute while it is recorded, else it is thrown away.
"""

# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from lbam_fast.ops.runtime.prepared import Marks

MOST = 4
"""Tapes that are kept, those that were played last. Each has memory for all results of its kernels."""

MOST_SEEN = 64
"""Calls of which it is known that they were made once."""

Run = Callable[..., Tensor]
Call = tuple[Callable[..., Any], tuple[Any, ...]]
Record = Callable[[Run, Sequence[Tensor], Sequence[Tensor]], "Playable"]


class Playable(Protocol):
    """A call that can be made again for other inputs: a ``Tape`` or a ``graphs.Graph``."""

    usable: bool

    @property
    def nbytes(self) -> int: ...

    def loaded(self, inputs: Sequence[Tensor]) -> AbstractContextManager[Sequence[Call]]: ...

    def result(self) -> Tensor: ...


_recording: ContextVar[Recorder | None] = ContextVar("lbam_recording", default=None)


class Recorder:
    """The ops, each call of which is written down."""

    def __init__(self, ops: Any) -> None:
        self._ops = ops
        self.calls: list[Call] = []
        self.complete = True

    def __getattr__(self, name: str) -> Callable[..., Any]:
        op: Callable[..., Any] = getattr(self._ops, name).default._op  # without PyTorch's frame of Python around it
        if name == "in_large_pages":  # once for all
            return op
        if name == "pack":  # what others may keep, and no work for every time
            self.complete = False

        def call(*arguments: Any) -> Any:
            result = op(*arguments)
            if result is None:  # it has written somewhere
                self.calls.append((op, arguments))
            elif not isinstance(result, (int, bool)):
                self.complete = False
            return result

        return call


class Tape:
    """``run(*inputs)`` as recorded."""

    def __init__(self, run: Run, inputs: Sequence[Tensor], ops: Any) -> None:
        recorder = Recorder(ops)
        token = _recording.set(recorder)
        try:
            with torch.inference_mode(False), torch.no_grad():  # its tensors are written to in either mode
                self._inputs = [x.clone(memory_format=torch.preserve_format) for x in inputs]
                with _Watch() as watch:
                    self._output = run(*self._inputs)
        finally:
            _recording.reset(token)
        self.usable = recorder.complete and not watch.seen
        self._calls = recorder.calls
        self._busy = threading.Lock()

    @contextmanager
    def loaded(self, inputs: Sequence[Tensor]) -> Iterator[Sequence[Call]]:
        """The calls to play for those inputs; none while another thread plays them."""
        if not self._busy.acquire(blocking=False):
            yield ()
            return
        try:
            for own, given in zip(self._inputs, inputs, strict=True):
                own.copy_(given)
            yield self._calls
        finally:
            self._busy.release()

    @property
    def nbytes(self) -> int:
        """Memory that is not worth counting: pictures are small."""
        return 0

    def result(self) -> Tensor:
        """The result of what was played last, in memory of its own."""
        return self._output.clone(memory_format=torch.preserve_format)


class Tapes:
    """Which calls have a tape, for weights as they are now. Safe under threads.

    record      makes the tape of ``run(*inputs)``, which reads ``maps`` too
    most        tapes that are kept, those that were played last, as far as ``most_bytes`` allow
    """

    def __init__(self, record: Record, most: int = MOST, most_bytes: float = float("inf")) -> None:
        self.record, self._most, self._most_bytes = record, most, most_bytes
        self._lock = threading.Lock()
        self._tapes: OrderedDict[Hashable, Playable] = OrderedDict()  # those played last at the end
        self._seen: OrderedDict[Hashable, bool] = OrderedDict()  # what was run before: whether it can be recorded
        self._marks = Marks()

    def find(self, key: Hashable, weights: Sequence[Tensor]) -> Playable | None:
        """The tape of that call, made with ``weights`` as they are now."""
        with self._lock:
            if self._marks.changed(weights):
                self._tapes.clear()
                self._seen.clear()
            if (tape := self._tapes.get(key)) is not None:
                self._tapes.move_to_end(key)
            return tape

    def wants(self, key: Hashable) -> bool:
        """Whether the call shall be recorded this time: it was made before, and nothing is known to be in the way."""
        with self._lock:
            return self._seen.get(key, False)

    def note(self, key: Hashable) -> None:
        """The call was made, so that the next one of its kind may be recorded."""
        with self._lock:
            self._seen.setdefault(key, True)
            self._seen.move_to_end(key)
            if len(self._seen) > MOST_SEEN:
                self._seen.popitem(last=False)

    def keep(self, key: Hashable, tape: Playable) -> None:
        """Keep the tape for its next use, if it can be played."""
        with self._lock:
            self._seen[key] = tape.usable
            if tape.usable:
                self._tapes[key] = tape
                while len(self._tapes) > self._most or sum(each.nbytes for each in self._tapes.values()) > self._most_bytes:
                    evicted, _ = self._tapes.popitem(last=False)
                    self._seen.pop(evicted, None)

    def clear(self) -> None:
        with self._lock:
            self._tapes.clear()
            self._seen.clear()


class _Watch(TorchDispatchMode):
    """Sees which of PyTorch's own ops compute or copy anything."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Else PyTorch imports its compiler, two seconds, at the first op that is seen."""
        return False

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_dispatch__(self, function: Any, types: Any, arguments: Any = (), keywords: Any = None) -> Any:
        if not function.is_view and not function.name().startswith(_HARMLESS):
            self.seen.append(function.name())
        return function(*arguments, **(keywords or {}))


_HARMLESS = ("lbam_native::", "aten::empty", "aten::new_empty", "aten::set_", "aten::promote_types")


def recording() -> Recorder | None:
    """What stands in for the ops while they are recorded."""
    return _recording.get()
