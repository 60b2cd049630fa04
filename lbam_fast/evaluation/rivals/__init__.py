"""Networks of others that LBAM is compared with: plain PyTorch, published weights, one convention."""

from lbam_fast.evaluation.rivals.adapter import NetworkMethod, Rival, RivalError
from lbam_fast.evaluation.rivals.checkpoints import load_rival
from lbam_fast.evaluation.rivals.dialects import DIALECTS, METHODS, Dialect
from lbam_fast.evaluation.rivals.global_local import GlobalLocalDiscriminator, around_hole

__all__ = [
    "DIALECTS",
    "METHODS",
    "Dialect",
    "GlobalLocalDiscriminator",
    "NetworkMethod",
    "Rival",
    "RivalError",
    "around_hole",
    "load_rival",
]
