"""Lightning Fabric as trainings use it: devices, precision, processes, and checkpoints that are written whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins import MixedPrecision, Precision, TorchCheckpointIO
from lightning_fabric.strategies import DDPStrategy

from lbam_fast.devices import resolve_device
from lbam_fast.files import replacing
from lbam_fast.training.settings import Settings

_MIXED: Any = {"bf16": "bf16-mixed", "fp16": "16-mixed"}


class _Autocast(MixedPrecision):  # type: ignore[misc]
    """Mixed precision that leaves pictures and masks as they are: a network casts what it multiplies, not what it corrects."""

    def convert_input(self, data: Any) -> Any:
        return data


class _WholeFiles(TorchCheckpointIO):  # type: ignore[misc]
    """Checkpoints that take the place of the last one when they are complete."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        with replacing(Path(path)) as temporary:
            torch.save(checkpoint, temporary)


def make_fabric(settings: Settings) -> Fabric:
    """A Fabric for these settings, its processes launched. Raises ConfigError for a device that cannot be used."""
    device = resolve_device(settings.device)
    precision = Precision() if settings.amp == "fp32" else _Autocast(_MIXED[settings.amp], device.type)
    fabric = Fabric(
        accelerator=device.type,
        devices=settings.devices if settings.devices > 1 or device.index is None else [device.index],
        strategy=DDPStrategy() if settings.devices > 1 else "auto",
        plugins=[precision, _WholeFiles()],
    )
    fabric.launch()
    return fabric
