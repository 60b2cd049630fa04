"""``lbam_fast.batch``: jobs in, events out; each mask's hole found once; few frames between the command and the network."""

import dataclasses
import re
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from networks import one_thread  # noqa: F401 - applies itself
from test_cli_inpaint import BOX, assert_filled, files, inpaint, load, pixels, save, save_mask, weights  # noqa: F401 - fixtures

from lbam_fast import LBAM, Inpainter, InpaintError
from lbam_fast.batch import Failed, Filled, Filler, Job, JobError, Started, pair_folder
from lbam_fast.batch import holes as batch_holes
from lbam_fast.inference import MaskOptions, find_hole
from lbam_fast.pictures import PictureError

PAGE = Path(__file__).parent.parent / "docs" / "batches.md"


@pytest.fixture
def filler(weights):  # noqa: F811
    return Filler(Inpainter.from_pretrained(weights))


def events(filler, *jobs, **options):
    """What happens, without a warning or a word of print."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return list(filler.fill(jobs, **options))


def outline(happened):
    return [(type(event).__name__, event.job.image.name) for event in happened]


@pytest.fixture
def folder(tmp_path):
    for i in range(5):
        save(tmp_path / "p" / f"{i}.png", pixels(i))
    save_mask(tmp_path / "m.png")
    return tmp_path


def jobs_of(folder, mask="m.png"):
    return [Job(path, folder / mask, folder / "o" / path.name) for path in sorted((folder / "p").iterdir())]


def test_each_job_starts_and_ends_and_prints_nothing(filler, folder, capsys):
    happened = events(filler, *jobs_of(folder), make_folders=True)
    for kind in ("Started", "Filled"):
        assert [each for each in outline(happened) if each[0] == kind] == [(kind, f"{i}.png") for i in range(5)]
    assert all(
        outline(happened).index(("Started", f"{i}.png")) < outline(happened).index(("Filled", f"{i}.png")) for i in range(5)
    )
    assert all(min(dataclasses.astuple(event.times)) > 0 for event in happened if isinstance(event, Filled))
    assert capsys.readouterr() == ("", "")
    for i in range(5):
        assert_filled(pixels(i), load(folder / "o" / f"{i}.png"))


def test_failures_stop_nothing(filler, folder):
    (folder / "p" / "0.png").write_text("no picture")
    save(folder / "p" / "2.png", pixels(height=30))
    happened = events(filler, *jobs_of(folder)[:4], make_folders=True)
    kinds = [("Failed", 0), ("Failed", 2), ("Started", 1), ("Started", 3), ("Filled", 1), ("Filled", 3)]
    assert outline(happened) == [(kind, f"{i}.png") for kind, i in kinds]
    assert [type(event.error) for event in happened[:2]] == [PictureError, InpaintError]
    assert files(folder / "o") == {"1.png", "3.png"}


def test_what_is_odd_about_a_hole_comes_with_the_start(filler, folder):
    save_mask(folder / "all.png", box=(slice(None), slice(None)))
    save_mask(folder / "none.png", box=(slice(0), slice(0)))
    started, filled = events(filler, jobs_of(folder, "all.png")[0], make_folders=True)
    assert isinstance(started, Started) and isinstance(filled, Filled)
    assert started.warnings == ("the whole picture is hole (white = hole): all of it is made up, from nothing",)
    started, filled = events(filler, jobs_of(folder, "none.png")[0])
    assert started.notes == ("the mask has no hole (white = hole): the picture is copied as it is",) and not started.warnings
    assert filled.job.output.read_bytes() == started.job.image.read_bytes()


def test_what_a_format_loses_comes_with_the_end(filler, folder):
    picture = save(folder / "a.jpg", pixels(), comment=b"(c) me")
    _, filled = events(filler, Job(picture, folder / "m.png", folder / "a.png"))
    assert filled.notes == ("The comment is not kept in PNG.",)


def test_a_network_without_memory_fails_the_pictures_with_their_names(filler, folder, monkeypatch):
    monkeypatch.setattr("lbam_fast.inference.memory._available", lambda: 1e3)
    happened = events(filler, *jobs_of(folder)[:2], make_folders=True)
    assert outline(happened) == [(kind, f"{i}.png") for kind in ("Started", "Failed") for i in range(2)]
    assert re.match(rf"{re.escape(str(folder / 'p' / '0.png'))}: out of memory on cpu", str(happened[2].error))


def test_a_folder_that_cannot_be_made_is_a_failed_job(filler, folder):
    (folder / "o").write_text("a file")
    *_, failed = events(filler, jobs_of(folder)[0], make_folders=True)
    assert isinstance(failed, Failed) and isinstance(failed.error, JobError)
    assert "this folder cannot be made" in str(failed.error)


def test_stopping_leaves_whole_groups(filler, folder):
    happened = events(filler, *jobs_of(folder), make_folders=True, stop=lambda: True)
    assert [event.job.image.name for event in happened if isinstance(event, Filled)] == [f"{i}.png" for i in range(4)]
    assert files(folder / "o") == {f"{i}.png" for i in range(4)}


def test_paths_that_do_not_go_together_raise(folder):
    with pytest.raises(JobError, match="holds the inputs"):
        pair_folder(folder / "p", folder / "m.png", folder / "p")


@pytest.mark.parametrize("mask", ["m.png", None])
def test_a_hole_is_found_once(filler, folder, monkeypatch, mask):
    """One that a mask draws for many pictures once for all of them, one of transparency once for each picture."""
    found = []
    monkeypatch.setattr(batch_holes, "find_hole", lambda *given: found.append(given) or find_hole(*given))
    given = pixels(channels=4)
    given[BOX][..., 3] = 0
    for path in (folder / "p").iterdir():
        save(path, given)
    happened = events(filler, *(Job(job.image, mask and folder / mask, job.output) for job in jobs_of(folder)), make_folders=True)
    assert sum(isinstance(event, Filled) for event in happened) == 5
    assert len(found) == (1 if mask else 5)


# The inpainter on holes that are found


def test_fill_is_what_a_call_does_between_reading_and_restoring(weights):  # noqa: F811
    inpainter = Inpainter.from_pretrained(weights, grow=3, feather=2)
    images, mask = [pixels(i) for i in range(3)], np.zeros(pixels().shape[:2], np.uint8)
    mask[BOX] = 255
    hole = find_hole(mask / np.float32(255), inpainter.options)
    before = [image.copy() for image in images]
    for mine, called, given, kept in zip(
        inpainter.fill(images, [hole] * 3), inpainter(images, mask), images, before, strict=True
    ):
        assert np.array_equal(mine, called)
        assert np.array_equal(given, kept) and not np.array_equal(mine, given)


@pytest.mark.parametrize(("passes", "calls"), [(1, 1), (4, 4)])
def test_fill_calls_the_network_once_a_pass(weights, monkeypatch, passes, calls):  # noqa: F811
    inpainter = Inpainter.from_pretrained(weights, passes=passes)
    counts, forward = [], inpainter.model.forward
    monkeypatch.setattr(
        inpainter.model, "forward", lambda image, *more, **named: counts.append(len(image)) or forward(image, *more, **named)
    )
    masks = np.zeros((9, *pixels().shape[:2]), np.float32)
    masks[:, 10:20, 10:20] = 1
    inpainter.fill([pixels(i) for i in range(9)], [find_hole(mask, MaskOptions()) for mask in masks])
    assert counts == [9] * calls


def test_fill_says_what_it_expects(weights):  # noqa: F811
    inpainter = Inpainter.from_pretrained(weights)
    hole = find_hole(np.ones(pixels().shape[:2], np.float32), MaskOptions())
    for pictures, holes in (
        ([pixels()], []),
        ([], []),
        ([pixels(), pixels(height=30)], [hole] * 2),
        ([pixels(width=30)], [hole]),
    ):
        with pytest.raises(InpaintError, match="expected a hole for each picture, all of one size"):
            inpainter.fill(pictures, holes)


# Frames


def test_four_frames_from_the_command_to_the_network(inpaint, folder, monkeypatch):  # noqa: F811
    """Every one costs time for each picture, and a place to look in when something is wrong."""
    stacks = []

    def seen(self, *given, forward=LBAM.forward, **more):
        frame, names = sys._getframe(1), []
        while frame is not None and names[-1:] != ["lbam_fast.cli.inpaint.inpaint"]:
            names.append(f"{frame.f_globals['__name__']}.{frame.f_code.co_name}")
            frame = frame.f_back
        stacks.append([name for name in reversed(names) if not name.startswith("torch.")])
        return forward(self, *given, **more)

    monkeypatch.setattr(LBAM, "forward", seen)
    assert inpaint(folder / "p", folder / "m.png", "-o", folder / "o").exit_code == 0
    command, batch, inference = "lbam_fast.cli.inpaint", "lbam_fast.batch.filling", "lbam_fast.inference.inpainter"
    assert stacks == [[f"{command}.inpaint", f"{command}._run", f"{batch}.fill", f"{inference}.begin"]] * 2


# The page


@pytest.mark.parametrize("example", re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL))
def test_the_examples_of_the_page_run(example, folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    (folder / "p").rename("photos")
    for i in range(4):
        save_mask(folder / "masks" / f"{i}.png")
    if "VideoJob" in example:
        pytest.importorskip("av")
        from test_video import MASK, clip, picture

        clip(folder / "clip.mp4", "libx264", "yuv420p")
        picture(folder / "mask.png", MASK)
    names = {}
    exec(example, names)
    if "VideoJob" in names:
        assert (folder / "filled.mp4").exists() and capsys.readouterr().out == "8 of about 8 frames\n"
    elif "Journal" in names:
        assert files(folder / "filled") == {".lbam-fast.jsonl", *(f"{i}.png" for i in range(4))}
        assert (folder / "report.json").exists()
    elif "find_hole" in names:
        assert names["filled"].shape == (90, 120, 3)
    else:
        assert files(folder / "filled") == {f"{i}.png" for i in range(4)}
        output = capsys.readouterr().out
        assert output.count(": written") == 4 and "4.png: there is no mask" in output
