"""Records as a page: the same figures, nothing dropped, the same bytes, and a check that notices."""

import re
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import typer
from page import ReportError, page_of, svg
from report import report
from rows import ABSENT, FAILED, WRONG, RecordError, Row, append_rows, read_rows
from typer.testing import CliRunner, Result

ROOT = Path(__file__).parent.parent
RECORDS, PAGE = ROOT / "benchmarks" / "records", ROOT / "docs" / "performance.md"
MACHINE = {"device": "Example 9000", "processor": "Example 9000", "threads": 2}
GPU = {"device": "Example GPU", "processor": "Example 9000", "threads": 2, "driver": "1.2"}
METHODS = {"published form": 1.0, "lbam_fast fp32": 4.0, "OpenVINO bf16": 8.0}


def row(suite, case, method, seconds, **changes):
    speed = METHODS.get(method, 1.0)
    made = Row(
        suite,
        case,
        method,
        "seconds",
        median=seconds / speed,
        q1=0.9 * seconds / speed,
        q3=1.25 * seconds / speed,
        rounds=5,
        ratio={"to": "published form", "median": speed, "q1": 0.875 * speed, "q3": 1.125 * speed},
        params={"height": 256, "width": 256, "batch": 1, "dtype": method[-4:] if "b" in method[-4:] else "fp32"},
        error={"max": 2.5e-6, "psnr": 110.0},
        extra={"flop": 2.0e10, "bytes": 1.5e8, "floor_seconds": 0.05, "fraction_of_floor": 0.05 * speed / seconds},
        machine=MACHINE,
        versions={"python": "3.11.7", "torch": "2.13.0"},
        commit="0123456789abcdef-dirty",
        date="2026-01-02",
    )
    return replace(made, **changes)


def records():
    """Every suite, two sizes, two machines, and all that can become of a row."""
    cases = [(256, 1.234567), (512, 4.9)]
    rows = [
        row("inference", f"{n}x{n} batch 1 fresh mask", method, seconds, params={**row("", "", method, 1).params, "height": n})
        for n, seconds in cases
        for method in METHODS
    ]
    rows = [replace(each, params={**each.params, "width": each.params["height"]}) for each in rows]
    layer = {"height": 256, "width": 256, "batch": 1, "dtype": "fp32", "layer": "enc1"}
    rows += [row("layers", "enc1 256x256 batch 1", method, 0.02, params=layer) for method in METHODS]
    memory = row("memory", "512x512 batch 1 fresh mask", "lbam_fast fp32", 1, metric="bytes", extra={}, error=None)
    rows.append(replace(memory, median=300 * 2**20, q1=300 * 2**20, q3=300 * 2**20))
    limits = (("copy", "bytes_per_second", 1.25e10), ("matrix product fp32", "flop_per_second", 9e10))
    for case, metric, rate in limits:
        rate_row = row("limits", case, "PyTorch", 1, metric=metric, ratio=None, extra={}, error=None)
        rows.append(replace(rate_row, median=rate, q1=rate, q3=rate))
    reasons = {WRONG: "largest error 0.5 against float64", ABSENT: "onnxruntime is not installed", FAILED: "KeyError: a | b"}
    nothing = {"median": None, "q1": None, "q3": None, "ratio": None, "error": None, "extra": {}}
    for status, note in reasons.items():
        rows.append(row("inference", "256x256 batch 1 fresh mask", f"peer {status}", 1, status=status, note=note, **nothing))
    return [*rows, row("latency", "256x256 batch 1", "lbam_fast fp32", 0.004, machine=GPU)]


def run(*arguments: object) -> Result:
    app = typer.Typer()
    app.command()(report)
    return CliRunner().invoke(app, [*map(str, arguments)])


def said(result: Result) -> str:
    return " ".join(result.stderr.split())


def table_row(text: str, heading: str, method: str) -> list[str]:
    section = text.split(f"#### {heading}\n", 1)[1].split("\n#", 1)[0]
    line = next(line for line in section.splitlines() if line.startswith(f"| {method} |"))
    return [cell.strip() for cell in line.strip("|").split("|")]


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("drawn")
    append_rows(folder / "records.jsonl", records())
    result = run(folder / "records.jsonl", "-o", folder / "docs" / "page.md")
    assert result.exit_code == 0, result.output
    return folder


@pytest.fixture
def written(drawn: Path, tmp_path: Path) -> Path:
    """A page and its records, which a test may change."""
    return shutil.copytree(drawn, tmp_path, dirs_exist_ok=True)


def test_the_page_has_the_figures_of_the_records(written):
    text = (written / "docs" / "page.md").read_text()
    assert table_row(text, "256x256 batch 1 fresh mask", "lbam_fast fp32") == [
        "lbam_fast fp32",
        "fp32",
        "308.6",
        "277.8 to 385.8",
        "4.00 (3.50 to 4.50)",
        "16%",
        "2.5e-06",
    ]
    assert table_row(text, "512x512 batch 1 fresh mask", "OpenVINO bf16")[1:4] == ["bf16", "612.5", "551.2 to 765.6"]
    assert table_row(text.split("### Peak memory")[1], "512x512 batch 1 fresh mask", "lbam_fast fp32")[2] == "300"
    assert "12.5 GB/s" in text and "90 GFLOP/s" in text
    assert "commit 0123456789ab with changes" in text
    assert "torch 2.13.0" in text
    assert {line for line in text.splitlines() if line.startswith("## ")} == {
        "## Example 9000, 2 threads",
        "## Example GPU on Example 9000",
    }


@pytest.mark.parametrize(
    "words",
    [
        "- peer wrong: wrong: largest error 0.5 against float64",
        "- peer absent: absent: onnxruntime is not installed",
        "- peer failed: failed: KeyError: a \\| b",
    ],
)
def test_what_has_no_figure_is_listed_with_its_note(written, words):
    section = (written / "docs" / "page.md").read_text().split("#### 256x256 batch 1 fresh mask")[1].split("####")[0]
    assert words in section.splitlines()


def test_every_row_is_on_the_page():
    text = page_of(records()).text
    sections = "\n".join(re.findall(r"^(?:\| .*|- .*|\d+\. .*)$", text, flags=re.MULTILINE))
    for each in records():
        assert re.search(rf"^(- |\| (?:{re.escape(each.case)} \| )?){re.escape(each.method)}[ :]", sections, flags=re.MULTILINE)
    cells = [line for line in sections.splitlines() if line.startswith("| ") and "method |" not in line]
    assert len(cells) + len(re.findall(r"^- ", sections, flags=re.MULTILINE)) == len(records())


def test_every_plot_is_drawn_and_shown(written):
    text = (written / "docs" / "page.md").read_text()
    shown = re.findall(r"!\[.+\]\((.+)\)", text)
    assert {name.rpartition("-")[2] for name in shown} == {
        f"{w}.svg" for w in ["time", "ratio", "layers", "floor", "roofline", "memory"]
    }
    assert sorted(shown) == sorted(f"page/{path.name}" for path in (written / "docs" / "page").iterdir())
    for name in shown:
        drawing = (written / "docs" / name).read_text()
        assert drawing.startswith("<?xml")
        assert "lbam_fast fp32" in drawing


def test_the_same_records_give_the_same_bytes(written):
    first, second = page_of(records()), page_of(records())
    assert first.text == second.text
    drawn = (written / "docs" / "page").iterdir()
    assert sorted(map(svg, second.plots)) == sorted(path.read_bytes() for path in drawn)


def test_settings_of_the_user_change_no_plot():
    import matplotlib

    plot = page_of(records()).plots[0]
    before = svg(plot)
    with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "red", "svg.hashsalt": None}):
        assert svg(plot) == before


def test_the_latest_counts():
    case, method = "256x256 batch 1 fresh mask", "lbam_fast fp32"
    old = row("inference", case, method, 4.0, date="2026-01-01")
    new = row("inference", case, method, 8.0, date="2026-02-01", commit="fedcba9876543210")
    assert page_of([old, new]).text == page_of([new, old]).text == page_of([new]).text
    same_day = replace(old, date=new.date)
    assert table_row(page_of([new, same_day]).text, case, method)[2] == "1000"
    elsewhere = replace(new, machine=GPU)
    assert page_of([old, elsewhere]).text.count(f"| {method} |") == 2
    gone = replace(new, status=ABSENT, median=None, q1=None, q3=None, ratio=None, note="removed")
    assert f"- {method}: absent" in page_of([old, gone]).text
    assert f"| {method} |" not in page_of([old, gone]).text


def test_rows_of_several_runs_say_which():
    case = "256x256 batch 1 fresh mask"
    old = row("inference", case, "published form", 4.0)
    new = row("inference", case, "lbam_fast fp32", 4.0, date="2026-02-01", commit="fedcba9876543210")
    text = page_of([new, old]).text
    assert [table_row(text, case, each.method)[-1] for each in (old, new)] == ["1", "2"]
    assert "1. 2026-01-02, commit 0123456789ab" in text
    assert "2. 2026-02-01, commit fedcba987654;" in text


def test_check_notices_a_changed_figure(written):
    """Planted faults: one digit on the page; one more row in the records."""
    page, arguments = written / "docs" / "page.md", (written / "records.jsonl", "-o", written / "docs" / "page.md", "--check")
    assert run(*arguments).exit_code == 0
    text = page.read_text()
    page.write_text(text.replace("| 308.6 |", "| 308.5 |"))
    line = page.read_text()[: page.read_text().index("308.5")].count("\n") + 1
    result = run(*arguments)
    assert result.exit_code == 1
    assert f"is not what the records give (first at line {line})" in said(result)
    assert "308.5" in page.read_text()

    page.write_text(text)
    append_rows(written / "records.jsonl", [row("inference", "256x256 batch 1 fresh mask", "lbam_fast fp32", 9.0)])
    assert run(*arguments).exit_code == 1


@pytest.mark.parametrize("change", [lambda text: text + "more\n", lambda text: text[: len(text) // 2], lambda text: ""])
def test_check_notices_a_page_that_is_longer_or_shorter(written, change):
    page = written / "docs" / "page.md"
    page.write_text(change(page.read_text()))
    assert run(written / "records.jsonl", "-o", page, "--check").exit_code == 1


def test_check_without_a_page(tmp_path):
    append_rows(tmp_path / "records.jsonl", records())
    result = run(tmp_path / "records.jsonl", "-o", tmp_path / "page.md", "--check")
    assert result.exit_code == 1
    assert "there is no such page" in said(result)
    assert [path.name for path in tmp_path.iterdir()] == ["records.jsonl"]


def test_all_records_of_the_current_folder_are_read(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    here = row("latency", "256x256 batch 1", "lbam_fast fp32", 0.004)
    for name, machine in (("b", GPU), ("a", MACHINE)):
        append_rows(tmp_path / "benchmarks" / "records" / f"{name}.jsonl", [replace(here, machine=machine)])
    assert run().exit_code == 0
    text = (tmp_path / "docs" / "performance.md").read_text()
    assert text.index("## Example 9000, 2 threads") < text.index("## Example GPU on Example 9000")
    assert "](performance/example-gpu-on-example-9000-floor.svg)" in text


def test_without_records(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = run()
    assert result.exit_code == 2
    assert "no records in benchmarks" in said(result)
    (tmp_path / "empty.jsonl").touch()
    (tmp_path / "text.jsonl").write_text("no row")
    messages = {
        "missing.jsonl": "no records at missing.jsonl",
        "empty.jsonl": "there are no rows",
        "text.jsonl": "line 1 is not a row",
    }
    for name, message in messages.items():
        result = run(name)
        assert result.exit_code == 2
        assert message in said(result)
    assert not (tmp_path / "docs").exists()
    with pytest.raises(ReportError):
        page_of([])
    with pytest.raises(RecordError):
        read_rows(tmp_path / "text.jsonl")


def test_without_matplotlib(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    append_rows(tmp_path / "records.jsonl", records())
    result = run(tmp_path / "records.jsonl", "-o", tmp_path / "docs" / "page.md")
    assert result.exit_code == 2
    assert "pip install 'lbam-fast[report]'" in said(result)
    assert not (tmp_path / "docs").exists()


def test_a_page_that_cannot_be_written(written):
    (written / "taken.md").mkdir()
    append_rows(written / "one.jsonl", records()[:1])
    result = run(written / "one.jsonl", "-o", written / "taken.md")
    assert result.exit_code == 2
    assert "cannot write" in said(result)


def test_the_committed_page_is_up_to_date(monkeypatch):
    monkeypatch.chdir(ROOT)
    if not list(RECORDS.glob("*.jsonl")):
        assert not PAGE.exists()
        return
    result = run("--check")
    assert result.exit_code == 0, result.output
    assert all((PAGE.parent / name).is_file() for name in re.findall(r"!\[.+\]\((.+)\)", PAGE.read_text(encoding="utf-8")))
