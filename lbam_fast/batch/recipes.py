"""What makes the same ``Filler`` in any process."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import lbam_fast
from lbam_fast.batch.errors import JobError
from lbam_fast.batch.filling import Filler
from lbam_fast.inference import Inpainter
from lbam_fast.model import LBAM


@dataclass(frozen=True)
class Recipe:
    """A network, the options of an ``Inpainter``, and ``max_memory`` in bytes, as for a ``Filler``; to be pickled."""

    model: LBAM
    options: Mapping[str, Any] = field(default_factory=dict)
    max_memory: int | None = None
    version: str = lbam_fast.__version__

    @classmethod
    def from_pretrained(
        cls, path: str | Path | None = None, *, preset: str | None = None, max_memory: int | None = None, **options: Any
    ) -> Self:
        """With weights as for ``Inpainter.from_pretrained``, which only this process reads, and its options but for the device.

        Raises CheckpointError, InpaintError; warns as the inpainter does.
        """
        model = Inpainter.from_pretrained(path, preset=preset, device="cpu", **options).model
        return cls(model, options, max_memory)

    def filler(self, device: str, threads: int | None = None) -> Filler:
        """Raises ConfigError for the device, JobError where this process runs another version of the package."""
        if self.version != lbam_fast.__version__:
            raise JobError(
                f"a worker has lbam_fast {lbam_fast.__version__}, this run {self.version}: install one version everywhere"
            )
        return Filler(Inpainter(self.model, device=device, **self.options), threads=threads, max_memory=self.max_memory)
