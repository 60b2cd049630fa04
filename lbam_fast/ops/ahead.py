"""Triton kernels compiled on all cores, ahead of the calls that need them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any


@contextmanager
def compiling_together(threads: int | None = None) -> Iterator[list[str]]:
    """Inside the block Triton's kernels are not run but compiled, side by side; at its end they are ready. Gives their names.

    What the block computes is worthless, and whatever it keeps of that has to go with it. A kernel that does not compile says so
    when it is run. For one thread at a time: others must not run kernels meanwhile.
    """
    from triton.runtime import _async_compile, jit

    launch, compiled = jit.JITFunction.run, []

    def compile_only(self: Any, *arguments: Any, grid: Any, warmup: bool, **named: Any) -> Any:
        compiled.append(str(self.__name__))
        return launch(self, *arguments, grid=grid, warmup=True, **named)

    jit.JITFunction.run = compile_only
    try:
        with ThreadPoolExecutor(threads or os.cpu_count()) as pool, _async_compile.AsyncCompileMode(pool, ignore_errors=True):
            yield compiled
    finally:
        jit.JITFunction.run = launch
