"""How long threads wait for the next loop of a kernel before they sleep, which decides what others get of the cores."""

import os

SPINS = "3000"
"""Looks for work, some 0.1 ms: longer than the gaps between the loops of a kernel. GNU OpenMP's own 300,000 keep cores from the
threads that read and write pictures."""


def share_cores() -> None:
    """Let threads of GNU OpenMP that wait for work sleep soon. To be called before PyTorch is imported, which brings it; what
    the environment says stays."""
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", SPINS)
