"""``python -m lbam_fast``: the command line."""

from lbam_fast.cli import app

app(prog_name="lbam-fast")
