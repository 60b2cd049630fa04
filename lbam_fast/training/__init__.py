"""Training of networks that inpaint.

>>> fit(LBAM(LBAMConfig.preset("official", base_width=16)), Settings(photographs=Path("photos"), output=Path("run")))

Names are imported on first use: the settings, of which the command line makes its flags, need no PyTorch.
"""

from typing import TYPE_CHECKING

from lbam_fast.lazy import looked_up

if TYPE_CHECKING:
    from lbam_fast.training.losses import log_squared_error, reconstruction_loss, relative_error
    from lbam_fast.training.settings import RECIPES, RUN_ONLY, Settings, TrainingError, recipe
    from lbam_fast.training.trainer import Trainer, fit

__all__ = [
    "RECIPES",
    "RUN_ONLY",
    "Settings",
    "Trainer",
    "TrainingError",
    "fit",
    "log_squared_error",
    "recipe",
    "reconstruction_loss",
    "relative_error",
]

_MODULES = {
    "losses": ("log_squared_error", "reconstruction_loss", "relative_error"),
    "settings": ("RECIPES", "RUN_ONLY", "Settings", "TrainingError", "recipe"),
    "trainer": ("Trainer", "fit"),
}

if not TYPE_CHECKING:
    __getattr__ = looked_up(__name__, _MODULES)
