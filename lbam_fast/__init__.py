"""Image inpainting with Learnable Bidirectional Attention Maps (ICCV 2019).

Names are imported on first use, so that importing the package, and the command line's help, needs no PyTorch.
"""

from typing import TYPE_CHECKING

from lbam_fast.lazy import looked_up

if TYPE_CHECKING:
    from lbam_fast.checkpoints import CheckpointError, load_checkpoint, save_checkpoint
    from lbam_fast.config import PRESETS, ConfigError, GaussianStart, LBAMConfig
    from lbam_fast.errors import LBAMError
    from lbam_fast.inference import Inpainter, InpaintError
    from lbam_fast.model import LBAM, Discriminator, LBAMModel
    from lbam_fast.ops import BackendError, backend
    from lbam_fast.reference import AttentionMaps

__version__ = "0.1.0"

__all__ = [
    "LBAM",
    "PRESETS",
    "AttentionMaps",
    "BackendError",
    "CheckpointError",
    "ConfigError",
    "Discriminator",
    "GaussianStart",
    "InpaintError",
    "Inpainter",
    "LBAMConfig",
    "LBAMError",
    "LBAMModel",
    "backend",
    "load_checkpoint",
    "save_checkpoint",
]

_MODULES = {
    "checkpoints": ("CheckpointError", "load_checkpoint", "save_checkpoint"),
    "config": ("PRESETS", "ConfigError", "GaussianStart", "LBAMConfig"),
    "errors": ("LBAMError",),
    "inference": ("InpaintError", "Inpainter"),
    "model": ("LBAM", "Discriminator", "LBAMModel"),
    "ops": ("BackendError", "backend"),
    "reference": ("AttentionMaps",),
}

if not TYPE_CHECKING:
    __getattr__ = looked_up(__name__, _MODULES)

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
