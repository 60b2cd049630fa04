"""A few hundred mutated files on every run; minutes in ``make test-all``, more with ``python tests/fuzz.py``."""

import time

import fuzz
import pytest

from lbam_fast.pictures import reading


@pytest.fixture
def seconds(thorough):
    return 180 if thorough else 6


def test_mutated_pictures_are_read_or_refused(tmp_path, seconds):
    sources = list(fuzz.pictures())
    assert len(sources) > 25
    assert fuzz.run(fuzz.read_one_picture, sources, tmp_path, 0, 10**9, time.monotonic() + seconds) > len(sources)


def test_mutated_checkpoints_are_read_or_refused(tmp_path, seconds):
    sources = list(fuzz.checkpoints(tmp_path))
    fuzz.read_one_checkpoint(tmp_path / "seed.pth")  # loads what PyTorch loads but once
    assert fuzz.run(fuzz.read_one_checkpoint, sources, tmp_path, 0, 10**9, time.monotonic() + seconds) > 10


def test_a_file_comes_of_its_seed_alone():
    (_, data), *_ = fuzz.pictures()
    once, again, other = (fuzz.mutated(data, fuzz.random.Random(seed)) for seed in ("0 1", "0 1", "0 2"))
    assert once == again != other


def test_a_reader_that_lets_an_error_through_is_caught(tmp_path, monkeypatch):
    """Planted fault: a reader that gives pixels in place of a picture."""
    monkeypatch.setattr(reading, "_decode", lambda path, data, most: reading._open(path, data).load())
    with pytest.raises(AssertionError, match=r"0-\d+-"):
        fuzz.run(fuzz.read_one_picture, list(fuzz.pictures()), tmp_path, 0, 400)


def test_a_reader_that_takes_too_long_is_caught(tmp_path, monkeypatch):
    monkeypatch.setattr(fuzz, "SLOW", 0.01)
    with pytest.raises(AssertionError, match="takes"):
        fuzz.run(lambda path: time.sleep(0.02), list(fuzz.pictures()), tmp_path, 0, 1)
