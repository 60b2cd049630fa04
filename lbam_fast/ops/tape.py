"""Calls of the CPU's kernels, recorded once and played again: between short kernels Python and PyTorch take their time.

A tape is for one network as it is now, for inputs of those shapes, and for one use at a time. What it plays is what was called:
nothing but kernels that write into tensors may compute while it is recorded, else it is thrown away.
"""

# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode

from lbam_fast.ops.prepared import identity

MOST = 4
"""Tapes that are kept, those that were played last. Each has memory for all results of its kernels."""

MOST_SEEN = 64
"""Calls of which it is known that they were made once."""

Run = Callable[..., Tensor]
Versions = tuple[int, ...]

_lock = threading.Lock()
_tapes: OrderedDict[Hashable, tuple[Versions, Tape]] = OrderedDict()
"""By what they are for, those played last at the end."""
_seen: OrderedDict[Hashable, tuple[Versions, bool]] = OrderedDict()
"""What was run before, and whether it can be recorded as far as is known."""
_recording: ContextVar[Recorder | None] = ContextVar("lbam_recording", default=None)


class Recorder:
    """The ops, each call of which is written down."""

    def __init__(self, ops: Any) -> None:
        self._ops = ops
        self.calls: list[tuple[Callable[..., Any], tuple[Any, ...]]] = []
        self.complete = True

    def __getattr__(self, name: str) -> Callable[..., Any]:
        op: Callable[..., Any] = getattr(self._ops, name).default
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

    def __init__(self, run: Run, inputs: Sequence[Tensor], ops: Any, parameters: Sequence[Tensor]) -> None:
        recorder = Recorder(ops)
        token = _recording.set(recorder)
        try:
            with torch.inference_mode(False), torch.no_grad():  # its tensors are written to in either mode
                self.inputs = [x.clone(memory_format=torch.preserve_format) for x in inputs]
                with _Watch() as watch:
                    self.output = run(*self.inputs)
        finally:
            _recording.reset(token)
        self.usable = recorder.complete and not watch.seen
        self.calls = recorder.calls
        self.owners = [StorageWeakRef(x.untyped_storage()) for x in parameters]
        self.busy = threading.Lock()

    def play(self, inputs: Sequence[Tensor]) -> Tensor | None:
        """The result, in memory of its own; None while another thread plays."""
        if not self.busy.acquire(blocking=False):
            return None
        try:
            for own, given in zip(self.inputs, inputs, strict=True):
                own.copy_(given)
            for op, arguments in self.calls:
                op(*arguments)
            return self.output.clone(memory_format=torch.preserve_format)
        finally:
            self.busy.release()


class _Watch(TorchDispatchMode):
    """Sees which of PyTorch's own ops compute or copy anything."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_dispatch__(self, function: Any, types: Any, arguments: Any = (), keywords: Any = None) -> Any:
        if not function.is_view and not function.name().startswith(_HARMLESS):
            self.seen.append(function.name())
        return function(*arguments, **(keywords or {}))


_HARMLESS = ("lbam_native::", "aten::empty", "aten::new_empty", "aten::set_", "aten::promote_types")


def played(
    kind: Hashable, parameters: Sequence[Tensor], maps: Sequence[Tensor], inputs: Sequence[Tensor], ops: Any, run: Run
) -> Tensor:
    """``run(*inputs)``: as it was recorded in the second call, if that is remembered.

    kind        what ``run`` depends on beside tensors
    parameters  what it depends on as it is now
    maps        what kernels read where it is; a tape keeps it
    inputs      of which shapes and dtypes alone matter
    """
    if any(x.is_inference() for x in parameters):  # which have no version
        return run(*inputs)
    key = (kind, *((x.shape, x.dtype) for x in inputs), *map(identity, (*parameters, *maps)))
    versions = tuple(x._version for x in parameters)
    with _lock:
        of, tape = _tapes.get(key, (versions, None))
        before, recordable = _seen.get(key, (None, True))
        if tape is not None and of == versions:
            _tapes.move_to_end(key)
    if tape is not None and of == versions:
        result = tape.play(inputs)
        return run(*inputs) if result is None else result
    if before != versions or not recordable:
        result = run(*inputs)
        with _lock:
            _seen[key] = versions, before != versions
            _seen.move_to_end(key)
            if len(_seen) > MOST_SEEN:
                _seen.popitem(last=False)
        return result
    tape = Tape(run, inputs, ops, parameters)
    with _lock:
        for old in [old for old, (_, its) in _tapes.items() if any(owner.expired() for owner in its.owners)]:
            del _tapes[old]
        _seen[key] = versions, tape.usable
        if tape.usable:
            _tapes[key] = versions, tape
            if len(_tapes) > MOST:
                evicted, _ = _tapes.popitem(last=False)
                _seen.pop(evicted, None)
    return tape.output.clone(memory_format=torch.preserve_format)


def recording() -> Recorder | None:
    """What stands in for the ops while they are recorded."""
    return _recording.get()


def forget() -> None:
    with _lock:
        _tapes.clear()
        _seen.clear()
