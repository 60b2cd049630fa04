"""Modules with the published parameters."""

from lbam_fast.model.discriminator import Discriminator
from lbam_fast.model.generator import LBAM, Generator, LBAMModel

__all__ = ["LBAM", "Discriminator", "Generator", "LBAMModel"]
