"""Means of the terms between lines of the log, and the first of them that was not finite."""

from __future__ import annotations

import torch
from torch import Tensor

_NEVER = 2**60


class Tally:
    """Adds up terms on their device, without waiting for it."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.clear()

    def clear(self) -> None:
        self.names: tuple[str, ...] = ()
        self.steps = 0
        self._sums: Tensor | None = None
        self._first_bad: Tensor | None = None

    def add(self, step: int, terms: dict[str, Tensor]) -> None:
        """The scalars of a step."""
        values = torch.stack([value.detach().float() for value in terms.values()])
        if self._sums is None or self._first_bad is None:
            self.names, self._sums = tuple(terms), torch.zeros_like(values)
            self._first_bad = torch.full(values.shape, _NEVER, dtype=torch.int64, device=values.device)
        self._sums += values
        bad = torch.where(values.isfinite(), _NEVER, step)
        self._first_bad = torch.minimum(self._first_bad, bad)
        self.steps += 1

    def tensors(self) -> tuple[Tensor, Tensor]:
        """(means, first steps that were not finite), a value a name; to be combined over processes."""
        assert self._sums is not None
        assert self._first_bad is not None
        return self._sums / self.steps, self._first_bad

    def first_bad(self, steps: Tensor) -> tuple[str, int] | None:
        """The name and the step of what was the first that was not finite, if anything was."""
        where = int(steps.argmin())
        step = int(steps[where])
        return None if step == _NEVER else (self.names[where], step)
