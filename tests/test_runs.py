"""Runs of ``lbam-fast inpaint`` on folders: resumed, reported, one at a time, in a precision of choice."""

import json
import os
import subprocess
import sys
import time

import pytest
from test_cli_inpaint import files, inpaint, load, pixels, save, save_mask, weights  # noqa: F401 - fixtures
from test_pipeline import mixed

from lbam_fast import Inpainter
from lbam_fast.batch import Filled, Filler, Job, JobError, Journal, Report, Skipped, fingerprint, locked, remove_leftovers
from lbam_fast.batch.journal import NAME
from lbam_fast.cli.outputs import held
from lbam_fast.inference import InpaintError, precision
from lbam_fast.inference.precision import Chosen, resolve_precision

LEFTOVER = f".{'0af' * 10}12.png"


@pytest.fixture
def folder(tmp_path):
    mixed(tmp_path, [(40, 56), (100, 128), (40, 57), (130, 40), (40, 58)])
    return tmp_path


@pytest.fixture
def run(inpaint, folder):  # noqa: F811
    def call(*options, expected=0):
        result = inpaint(folder / "p", folder / "m", "-o", folder / "o", "--detail", "off", *options)
        assert result.exit_code == expected, result.output
        return result

    return call


def contents(folder):
    return {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.glob("[0-9]*")}


# Resuming


def test_what_is_done_is_not_done_again(run, folder):
    assert "5 filled, 0 skipped" in run("--resume").stdout
    before = contents(folder / "o")
    assert "0 filled, 5 skipped" in run("--resume").stdout
    assert contents(folder / "o") == before


@pytest.mark.parametrize("change", ["picture", "mask", "result gone", "result changed", "time"])
def test_what_has_changed_is_done_again_to_the_same_bits(run, folder, change):
    run("--resume")
    before = contents(folder / "o")
    path = {"picture": folder / "p" / "02.png", "mask": folder / "m" / "02.png", "time": folder / "p" / "02.png"}.get(change)
    if change == "result gone":
        (folder / "o" / "02.png").unlink()
    elif change == "result changed":
        (folder / "o" / "02.png").write_bytes(b"half")
    elif change == "time":
        os.utime(path, ns=(1, 1))
    elif change == "picture":
        save(path, pixels(77, height=40, width=57))
    else:
        save_mask(path, 40, 57, box=(slice(1, 30), slice(1, 9)))
    assert "1 filled, 4 skipped" in run("--resume").stdout
    after = contents(folder / "o")
    assert {name for name in after if after[name][1] != before[name][1]} == {"02.png"}
    assert (after["02.png"][0] == before["02.png"][0]) == (change not in ("picture", "mask"))


def test_other_options_do_all_again(run):
    run("--resume")
    assert "5 filled, 0 skipped" in run("--resume", "--grow", 2).stdout
    assert "5 filled, 0 skipped" in run("--resume").stdout


def test_a_journal_cut_short_loses_its_last_line_alone(run, folder):
    run("--resume")
    journal = folder / "o" / NAME
    journal.write_bytes(journal.read_bytes()[:-20] + b"\xff{")
    assert "1 filled, 4 skipped" in run("--resume").stdout
    assert "0 filled, 5 skipped" in run("--resume").stdout


def test_what_failed_is_tried_again(run, folder):
    good = (folder / "p" / "01.png").read_bytes()
    (folder / "p" / "01.png").write_bytes(good[:100])
    assert "4 filled, 0 skipped, 1 failed" in run("--resume", expected=1).stdout
    (folder / "p" / "01.png").write_bytes(good)
    assert "1 filled, 4 skipped, 0 failed" in run("--resume").stdout


def test_without_resume_there_is_no_journal(run, folder):
    run()
    assert files(folder / "o") == {f"{i:02d}.png" for i in range(5)}


def test_stopped_at_any_batch_and_resumed_the_bits_are_the_same(weights, folder, tmp_path):  # noqa: F811
    filler = Filler(Inpainter.from_pretrained(weights, detail="off", batch_size=2))
    jobs = mixed(tmp_path, [(40, 50 + i % 7) for i in range(20)])
    assert sum(isinstance(event, Filled) for event in filler.fill(jobs, make_folders=True)) == 20
    whole = {name: content for name, (content, _) in contents(tmp_path / "o").items()}
    for after in (1, 3, 8):
        again = [Job(job.image, job.mask, tmp_path / str(after) / job.output.name) for job in jobs]
        (tmp_path / str(after)).mkdir()
        asked = iter(range(100))
        with Journal(tmp_path / str(after), "x") as journal:
            list(filler.fill(again, stop=lambda asked=asked, after=after: next(asked) >= after, journal=journal))
        with Journal(tmp_path / str(after), "x") as journal:
            happened = list(filler.fill(again, journal=journal))
        assert any(isinstance(event, Skipped) for event in happened) and any(isinstance(event, Filled) for event in happened)
        assert {name: content for name, (content, _) in contents(tmp_path / str(after)).items()} == whole


def test_a_journal_that_cannot_be_written_fails_the_picture_with_a_reason(tmp_path):
    (job,) = mixed(tmp_path, [(40, 56)])
    save(job.output, pixels())
    with Journal(tmp_path / "o", "x") as journal:
        journal.add(job, (56, 40), journal.stamps(job))
        journal._file, right = os.open(job.image, os.O_RDONLY), journal._file
        with pytest.raises(JobError, match="the journal cannot be written"):
            journal.add(job, (56, 40), journal.stamps(job))
        os.close(right)
    with Journal(tmp_path / "o", "x") as journal:
        assert journal.size(job) == (56, 40)


def test_a_fingerprint_is_of_values_and_of_the_bytes_of_files(tmp_path):
    one, other = tmp_path / "a", tmp_path / "b"
    one.write_bytes(b"1")
    other.write_bytes(b"1")
    assert fingerprint({"x": 1, "w": one}) == fingerprint({"w": other, "x": 1}) != fingerprint({"x": 2, "w": one})
    other.write_bytes(b"2")
    assert fingerprint({"x": 1, "w": one}) != fingerprint({"x": 1, "w": other})
    with pytest.raises(JobError):
        fingerprint({"w": tmp_path / "none"})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--resume", "--skip-existing"), "expected one of them"),
        (("--dtype", "float32", "--precision", "auto"), "expected one of them"),
        (("--report", "nowhere/report.json"), "expected a file in a folder that exists"),
    ],
)
def test_options_that_do_not_go_together(run, folder, options, message):
    assert message in " ".join(run(*options, expected=2).stderr.split())
    assert not (folder / "o").exists()


def test_resume_is_for_folders(inpaint, folder):  # noqa: F811
    result = inpaint(folder / "p" / "00.png", folder / "m" / "00.png", "-o", folder / "x.png", "--resume")
    assert result.exit_code == 2 and "goes with a folder" in result.stderr


# One at a time


def test_a_second_run_on_the_same_folder_is_refused(run, folder):
    (folder / "o").mkdir()
    with locked(folder / "o"):
        assert "another run is writing into this folder" in run(expected=2).stderr
    assert files(folder / "o") == set()
    run()


@pytest.mark.skipif(os.name == "nt", reason="SIGKILL")
def test_a_killed_run_leaves_no_lock(tmp_path):
    code = f"from lbam_fast.batch import locked\nimport time\nfrom pathlib import Path\nwith locked(Path({str(tmp_path)!r})):\n"
    code += "    print('held', flush=True)\n    time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        with pytest.raises(JobError, match="another run"), locked(tmp_path):
            pass
        process.kill()
    with locked(tmp_path):
        pass


def test_what_a_lost_process_of_this_run_left_half_written_is_removed(tmp_path):
    job, half = Job(tmp_path / "a.png", None, tmp_path / "o" / "a.png"), tmp_path / "o" / f".{'0' * 32}.png"
    with held(tmp_path / "o", [job]):
        half.write_bytes(b"half")
        job.output.write_bytes(b"whole")
    assert files(tmp_path / "o") == {"a.png"}


def test_what_a_killed_run_left_half_written_is_removed(run, folder):
    save(folder / "o" / LEFTOVER, pixels())
    (folder / "o" / ".hidden.png").write_bytes(b"")
    assert "1 half-written files of an earlier run were removed" in " ".join(run().stderr.split())
    assert files(folder / "o") == {f"{i:02d}.png" for i in range(5)} | {".hidden.png"}


def test_what_is_newer_than_the_run_is_left_alone(tmp_path):
    save(tmp_path / LEFTOVER, pixels())
    assert remove_leftovers([tmp_path], before=time.time() - 60) == []
    assert [path.name for path in remove_leftovers([tmp_path, tmp_path / "none"])] == [LEFTOVER]


def test_a_folder_made_for_nothing_is_removed(inpaint, tmp_path):  # noqa: F811
    (tmp_path / "p").mkdir()
    (tmp_path / "p" / "a.png").write_text("no picture")
    save_mask(tmp_path / "m.png")
    assert inpaint(tmp_path / "p", tmp_path / "m.png", "-o", tmp_path / "a" / "b").exit_code == 2
    assert not (tmp_path / "a").exists()


# The report


def test_the_report_tells_of_every_file(run, folder):
    (folder / "p" / "01.png").write_text("no picture")
    save(folder / "p" / "lonely.png", pixels())
    run("--report", folder / "report.json", expected=1)
    report = json.loads((folder / "report.json").read_text())
    assert {"filled": 4, "skipped": 0, "failed": 1, "unfinished": 0}.items() <= report["totals"].items()
    assert report["device"] == "cpu" and report["dtype"] == "float32" and report["ended_by"] is None
    assert {"lbam_fast", "python", "torch", "numpy"} <= report["versions"].keys()
    assert len(report["problems"]) == 1 and "lonely.png" in report["problems"][0]
    by_name = {os.path.basename(file["image"]): file for file in report["files"]}
    assert "is not a picture" in by_name["01.png"]["error"] and by_name["01.png"]["status"] == "failed"
    good = by_name["02.png"]
    assert (good["status"], good["width"], good["height"], good["hole"]) == ("filled", 57, 40, round(12 * 15 / (40 * 57), 6))
    assert all(seconds > 0 for seconds in good["seconds"].values())
    assert good["strategy"] == "whole"
    assert good["bytes_written"] == (folder / "o" / "02.png").stat().st_size


def test_the_report_comes_however_the_run_ends(run, folder, monkeypatch):
    def broken(self, images, holes, window=None):
        raise RuntimeError("a bug")

    monkeypatch.setattr(Inpainter, "begin", broken)
    run("--report", folder / "report.json", expected=1)
    report = json.loads((folder / "report.json").read_text())
    assert report["ended_by"] == "RuntimeError: a bug" and report["totals"]["unfinished"] == 5


def test_a_report_that_cannot_be_written_says_so(tmp_path):
    with pytest.raises(JobError, match="the report cannot be written"):
        Report([]).write(tmp_path / "no" / "report.json")


# Precision


@pytest.mark.parametrize(("name", "dtype"), [("fp32", "float32"), ("bf16", "bfloat16"), ("fp16", "float16")])
def test_a_precision_by_name(name, dtype):
    assert resolve_precision(name, "cpu").dtype == dtype


@pytest.mark.parametrize(
    ("instructions", "missing", "expected"),
    [("avx2", "", "float32"), ("avx512", "", "float32"), ("avx512bf16", "", "bfloat16"), ("", "not built", "float32")],
)
def test_auto_on_a_cpu_goes_by_its_instructions(monkeypatch, instructions, missing, expected):
    monkeypatch.setattr(precision.native, "unavailable", lambda device: missing)
    monkeypatch.setattr(precision.native, "instruction_set", lambda: instructions)
    assert resolve_precision("auto", "cpu").dtype == expected


@pytest.mark.parametrize(
    ("capability", "expected"), [((6, 1), "float32"), ((7, 5), "float16"), ((8, 0), "bfloat16"), ((10, 0), "bfloat16")]
)
def test_auto_on_a_gpu_goes_by_its_capability(capability, expected):
    chosen = precision._on_gpu(capability, "a GPU")
    assert chosen == Chosen(expected, f"auto: a GPU, compute capability {capability[0]}.{capability[1]}")


def test_unknown_precisions_are_refused():
    with pytest.raises(InpaintError, match="precision is 'int8', expected one of auto, fp32"):
        resolve_precision("int8")


def test_the_precision_is_named(run, folder):
    assert "precision: bfloat16 (as asked for)" in run("--precision", "bf16").stdout
    assert load(folder / "o" / "00.png").shape == (40, 56, 3)
