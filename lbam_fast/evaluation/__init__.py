"""Quality of filled pictures, measured."""

from lbam_fast.evaluation.holes import BUCKETS, HOLES, STROKES, Holes
from lbam_fast.evaluation.methods import RIVALS, Method, available_rivals, harmonic
from lbam_fast.evaluation.metrics import PSNR, SSIM, Metric, available_metrics, psnr, ssim
from lbam_fast.evaluation.pictures import evaluation_pictures, folder_pictures
from lbam_fast.evaluation.quality import QualityRow, markdown, quality_table
from lbam_fast.evaluation.stlpips import STLPIPS

__all__ = [
    "BUCKETS",
    "HOLES",
    "PSNR",
    "RIVALS",
    "SSIM",
    "STLPIPS",
    "STROKES",
    "Holes",
    "Method",
    "Metric",
    "QualityRow",
    "available_metrics",
    "available_rivals",
    "evaluation_pictures",
    "folder_pictures",
    "harmonic",
    "markdown",
    "psnr",
    "quality_table",
    "ssim",
]
