"""Training of LBAM networks."""

from lbam_fast.training.trainer import TrainConfig, Trainer, TrainingError, reconstruction_loss

__all__ = ["TrainConfig", "Trainer", "TrainingError", "reconstruction_loss"]
