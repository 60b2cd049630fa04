"""How far it is from a user to a kernel: frames of Python, each of which costs time at every call, where calls are replayed."""

import sys
from contextlib import contextmanager

import numpy as np
import pytest
from networks import one_thread  # noqa: F401 - applies itself: with several, two batches are filled on threads of their own
from PIL import Image
from typer.testing import CliRunner

from lbam_fast import native
from lbam_fast.cli import app
from lbam_fast.inference import Inpainter
from lbam_fast.ops.runtime.replay import Tape

MOST = 9

pytestmark = pytest.mark.skipif(bool(native.unavailable()), reason=f"the compiled kernels are missing: {native.unavailable()}")


@pytest.fixture
def frames(monkeypatch):
    """For every kernel that is played, the names of the functions on the way to it, the nearest first."""
    found, right = [], Tape.loaded

    def counting(op, arguments):
        frame, names = sys._getframe(1), []
        while frame is not None:
            names.append(frame.f_code.co_name)
            frame = frame.f_back
        found.append(names)
        op(*arguments)

    @contextmanager
    def loaded(self, inputs):
        with right(self, inputs) as calls:
            yield [(counting, call) for call in calls]

    monkeypatch.setattr(Tape, "loaded", loaded)
    return found


def depth(names):
    """Up to the command's own function, the outermost of its name."""
    return len(names) - names[::-1].index("inpaint")


@pytest.fixture
def folder(tmp_path):
    """Photographs of one size with a mask each: three batches, of which the last is played."""
    rng = np.random.default_rng(0)
    for i in range(12):
        Image.fromarray(rng.integers(0, 256, (128, 128, 3), dtype=np.uint8)).save(tmp_path / f"{i}.png")
        mask = np.zeros((128, 128), np.uint8)
        mask[20 + i : 60, 30:50] = 255
        Image.fromarray(mask).save(tmp_path / f"{i}_mask.png")
    return tmp_path


def test_from_the_command_line(frames, folder):
    result = CliRunner().invoke(app, ["inpaint", str(folder), "-o", str(folder / "out"), "--detail", "off"])
    assert result.exit_code == 0, result.output
    assert len(frames) > 40
    assert max(depth(names) for names in frames) <= MOST, frames[0]


def test_a_frame_more_is_seen(frames, folder, monkeypatch):
    right = Inpainter.begin
    monkeypatch.setattr(Inpainter, "begin", lambda self, pictures, holes: right(self, pictures, holes))
    CliRunner().invoke(app, ["inpaint", str(folder), "-o", str(folder / "out"), "--detail", "off"])
    assert max(depth(names) for names in frames) > MOST
