"""Modules with the published parameters."""

from lbam_fast.model.generator import LBAM, Generator, LBAMModel

__all__ = ["LBAM", "Generator", "LBAMModel"]
