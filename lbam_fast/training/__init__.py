"""Training of LBAM networks."""

from lbam_fast.training.losses import log_squared_error, reconstruction_loss, relative_error
from lbam_fast.training.trainer import TrainConfig, Trainer, TrainingError

__all__ = ["TrainConfig", "Trainer", "TrainingError", "log_squared_error", "reconstruction_loss", "relative_error"]
