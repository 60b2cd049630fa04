"""Image inpainting with Learnable Bidirectional Attention Maps (ICCV 2019)."""

from lbam_fast.config import PRESETS, ConfigError, GaussianStart, LBAMConfig
from lbam_fast.model import LBAM, LBAMModel
from lbam_fast.reference import AttentionMaps

__version__ = "0.1.0"

__all__ = ["LBAM", "PRESETS", "AttentionMaps", "ConfigError", "GaussianStart", "LBAMConfig", "LBAMModel"]
