"""Each fault a few times; ``python tests/faults.py`` does it often."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(os.name == "nt", reason="no fork")


@pytest.mark.sampled
@pytest.mark.parametrize("seed", range(2))
def test_runs_survive_faults(seed):
    command = [sys.executable, str(Path(__file__).parent / "faults.py"), "--times", "1", "--seed", str(seed)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    assert len(result.stdout.splitlines()) == (7 if sys.platform == "linux" else 6)
