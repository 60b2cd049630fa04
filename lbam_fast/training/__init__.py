"""Training of LBAM networks."""

from lbam_fast.training.trainer import TrainConfig, Trainer, TrainingError, log_squared_error, reconstruction_loss

__all__ = ["TrainConfig", "Trainer", "TrainingError", "log_squared_error", "reconstruction_loss"]
