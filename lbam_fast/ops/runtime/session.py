"""What is kept for a network from call to call, and goes with it: prepared parameters, memory of results, recorded calls."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

from lbam_fast import native
from lbam_fast.kernels import counters
from lbam_fast.ops.runtime import graphs
from lbam_fast.ops.runtime.kept import Kept
from lbam_fast.ops.runtime.memory import Fresh, Memory
from lbam_fast.ops.runtime.prepared import Prepared, have_versions
from lbam_fast.ops.runtime.replay import Run, Tape, Tapes

SMALL = 1 << 17
"""Pixels of a call on a CPU up to which its kernels are recorded and played again: beyond, Python's share is below 1 %."""
LARGE = {torch.float32: 1 << 20, torch.bfloat16: 1 << 22}
"""Pixels of a call on a CPU, by its dtype, from which memory is spared at the cost of a little time: docs/architecture.md."""
SHARE_MORE = 2.25
"""So many times as many where pictures share maps that are given, each of which takes two thirds of the memory: at full width
eight of 512x512, the faster together, take some 350 MB more than the three that may go with masks of their own."""


Value = TypeVar("Value")


class _Running(NamedTuple):
    session: Session
    spares: bool


_running: ContextVar[_Running | None] = ContextVar("lbam_session", default=None)
_all: weakref.WeakSet[Session] = weakref.WeakSet()


class Session:
    """Of one network, whose calls it runs. Safe under threads; copies of it begin anew."""

    def __init__(self, device: graphs.Device | None = None) -> None:
        """device: what stands in for CUDA in tests."""
        cuda = device or graphs.Cuda()
        self._prepared, self._memory, self._kept = Prepared(), Memory(), Kept()
        self._tapes = Tapes(lambda run, inputs, maps: Tape(run, inputs, native.ops()))
        self._graphs = Tapes(lambda run, inputs, maps: graphs.Graph(run, inputs, maps, cuda), graphs.MOST, graphs.MOST_BYTES)
        _all.add(self)

    def __deepcopy__(self, memo: dict[int, Any]) -> Session:
        return Session()

    def __reduce__(self) -> tuple[type[Session], tuple[()]]:
        return Session, ()

    @contextmanager
    def active(self, spare: bool = False) -> Iterator[None]:
        """What backends keep inside the block, they keep here; for kernels it is one pass. spare: memory is spared at the cost of
        a little time."""
        token = _running.set(_Running(self, spare))
        try:
            with counters.one_pass():
                yield
        finally:
            _running.reset(token)

    def run(
        self,
        name: Hashable,
        weights: Sequence[Tensor],
        maps: Sequence[Tensor],
        inputs: Sequence[Tensor],
        function: Run,
    ) -> Tensor:
        """``function(*inputs)``, from its third call on as it was recorded in the second: small pictures on the kernels for
        the CPU, pictures of any size on a GPU.

        name     what the function depends on beside tensors
        weights  what it depends on as it is now
        maps     what its kernels read where it is; a tape keeps it
        inputs   [N, C, H, W], contiguous in any memory format; of which shapes and dtypes alone matter
        """
        for kept in (self._kept, self._memory):
            kept.count_call()
        tapes = self._tapes_for(inputs[0])
        if tapes is None or not have_versions(weights):
            with self.active(self.is_large(inputs[0], len(maps[0]) if maps else None)):
                return function(*inputs)
        key = (name, *((x.shape, x.dtype) for x in inputs), *((x.data_ptr(), x.shape, x.dtype) for x in maps))
        tape = tapes.find(key, weights)
        if tape is not None:
            with tape.loaded(inputs) as calls:
                for op, arguments in calls:
                    op(*arguments)
                if calls:
                    return tape.result()
        with self.active():
            if tape is not None or not tapes.wants(key):
                result = function(*inputs)
                tapes.note(key)
                return result
            tape = tapes.record(function, inputs, maps)
        result = tape.result()
        tapes.keep(key, tape)
        return result

    def _tapes_for(self, x: Tensor) -> Tapes | None:
        if graphs.wanted(x.device):
            return self._graphs
        return self._tapes if x.device.type == "cpu" and _pixels(x) <= SMALL else None

    @staticmethod
    def is_large(x: Tensor, maps: int | None = None) -> bool:
        """Whether a call for that input [N, C, H, W] spares memory; ``maps``: of how many masks, if they are given."""
        if x.device.type != "cpu" or x.dtype not in LARGE:
            return False
        shared = maps is not None and maps < len(x)
        return _pixels(x) >= (SHARE_MORE if shared else 1) * LARGE[x.dtype]

    def kept(self, key: Hashable, weights: Sequence[Tensor], make: Callable[[], Value], nbytes: Callable[[Value], int]) -> Value:
        """``make()``, or what it gave for that key with the weights as they are now, within some 256 MB."""
        if not have_versions(weights):
            return make()
        value: Value = self._kept.get(key, weights, make, nbytes)
        return value

    def prepared(self, kind: str, make: Callable[..., Tensor], *parameters: Tensor) -> Tensor:
        """``make(*parameters)``, or what it gave for these very tensors. ``kind`` names it. Without gradients."""
        return self._prepared.get(kind, make, *parameters)

    def empty(self, shape: tuple[int, int, int, int], dtype: torch.dtype, fresh: Fresh) -> Tensor:
        """A result [N, C, H, W] in channels_last on the CPU, uninitialised."""
        return self._memory.empty(shape, dtype, fresh, spares())

    def flat(self, count: int, dtype: torch.dtype, fresh: Fresh) -> Tensor:
        """[count] elements on the CPU, uninitialised."""
        return self._memory.flat(count, dtype, fresh, spares())

    def clear(self) -> None:
        """Free everything that nothing uses; it comes again when it is needed."""
        for kept in (self._prepared, self._memory, self._kept, self._tapes, self._graphs):
            kept.clear()


def _pixels(x: Tensor) -> int:
    return x.shape[0] * x.shape[2] * x.shape[3]


_shared = Session()


def current() -> Session:
    """The session that runs, or the process's own, for ops that are called without one."""
    running = _running.get()
    return _shared if running is None else running.session


def spares() -> bool:
    """Whether memory is spared: filters packed for every use, idle memory given back."""
    running = _running.get()
    return running is not None and running.spares


def clear() -> None:
    """``Session.clear`` of every session: call it after writing to parameters through ``.data`` or NumPy, which goes unseen."""
    for session in list(_all):
        session.clear()
