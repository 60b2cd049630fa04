"""Quality of filled pictures, measured."""

from lbam_fast.evaluation.metrics import psnr
from lbam_fast.evaluation.quality import BUCKETS, CLASSICAL, Row, evaluation_pictures, markdown, quality_table

__all__ = ["BUCKETS", "CLASSICAL", "Row", "evaluation_pictures", "markdown", "psnr", "quality_table"]
