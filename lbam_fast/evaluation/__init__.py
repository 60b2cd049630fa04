"""Quality of filled pictures, measured."""

from lbam_fast.evaluation.cases import Case, CaseError, cases_of_drawn, cases_of_pairs, cases_of_set
from lbam_fast.evaluation.fetched import fid_needs, frechet_distances
from lbam_fast.evaluation.figures import sheet
from lbam_fast.evaluation.holes import BUCKETS, HOLES, STROKES, Holes, samples
from lbam_fast.evaluation.judging import Judge, MethodError, Result, Task, judged, with_hole
from lbam_fast.evaluation.methods import RIVALS, Method, available_rivals, harmonic
from lbam_fast.evaluation.metrics import L1, L1_IN_HOLE, PSNR, SSIM, Metric, available_metrics, mean_l1, psnr, ssim
from lbam_fast.evaluation.pictures import evaluation_files, evaluation_pictures, folder_pictures
from lbam_fast.evaluation.quality import QualityRow, markdown, paper_rows, quality_table
from lbam_fast.evaluation.run import Evaluation, Named
from lbam_fast.evaluation.stlpips import STLPIPS

__all__ = [
    "BUCKETS",
    "HOLES",
    "L1",
    "L1_IN_HOLE",
    "PSNR",
    "RIVALS",
    "SSIM",
    "STLPIPS",
    "STROKES",
    "Case",
    "CaseError",
    "Evaluation",
    "Holes",
    "Judge",
    "Method",
    "MethodError",
    "Metric",
    "Named",
    "QualityRow",
    "Result",
    "Task",
    "available_metrics",
    "available_rivals",
    "cases_of_drawn",
    "cases_of_pairs",
    "cases_of_set",
    "evaluation_files",
    "evaluation_pictures",
    "fid_needs",
    "folder_pictures",
    "frechet_distances",
    "harmonic",
    "judged",
    "markdown",
    "mean_l1",
    "paper_rows",
    "psnr",
    "quality_table",
    "samples",
    "sheet",
    "ssim",
    "with_hole",
]
