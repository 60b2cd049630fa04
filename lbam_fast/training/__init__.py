"""Training of LBAM networks."""

from lbam_fast.training.losses import log_squared_error, reconstruction_loss, relative_error
from lbam_fast.training.trainer import RUN_ONLY, TrainConfig, Trainer, TrainingError

__all__ = ["RUN_ONLY", "TrainConfig", "Trainer", "TrainingError", "log_squared_error", "reconstruction_loss", "relative_error"]
