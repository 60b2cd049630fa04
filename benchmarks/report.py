"""Turns records of benchmarks into a page in Markdown with tables and plots.

python benchmarks/report.py                     # all records, as docs/performance.md
python benchmarks/report.py RECORDS -o PAGE     # those records, as another page
python benchmarks/report.py --check             # whether the page is what the records give
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from page import ReportError, page_of, svg
from rows import read_rows

from lbam_fast.cli.common import SOME_FAILED, ArgumentError, failing_with_message, make_folder, print_error, print_note
from lbam_fast.files import replace_file

RECORDS = Path("benchmarks/records")
PAGE = Path("docs/performance.md")


def report(
    records: Annotated[list[Path] | None, typer.Argument(help=f"Files of records; else all {RECORDS}/*.jsonl.")] = None,
    output: Annotated[Path, typer.Option("-o", "--output", help="The page; its plots go to a folder beside it.")] = PAGE,
    check: Annotated[bool, typer.Option("--check", help="Write nothing; exit with 1 if the page is out of date.")] = False,
) -> None:
    """Turn records of benchmarks into a page in Markdown with tables and plots."""
    with failing_with_message():
        rows = [row for path in records or _all_records() for row in read_rows(path)]
        page = page_of(rows, folder=output.stem)
        if check:
            _compare(page.text, output)
            return
        files = {output.parent / output.stem / f"{plot.name}.svg": svg(plot) for plot in page.plots}
        for path, content in {**files, output: page.text.encode()}.items():
            _write(path, content)
        print_note(f"{output}: {len(rows)} rows of records, {len(files)} plots in {output.parent / output.stem}")


def _all_records() -> list[Path]:
    found = sorted(RECORDS.glob("*.jsonl"))
    if not found:
        raise ReportError(f"no records in {RECORDS}: name some, or run pytest benchmarks/ --record in the project's folder first")
    return found


def _compare(text: str, path: Path) -> None:
    """Exit with 1 and a sentence where the file does not hold the text."""
    there = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    wanted = text.splitlines()
    if there == wanted:
        print_note(f"{path} is what the records give")
        return
    pairs = enumerate(zip([*there, None], [*wanted, None], strict=False), start=1)
    line = next(number for number, (one, other) in pairs if one != other)
    where = f"first at line {line}" if there else "there is no such page"
    print_error(f"{path} is not what the records give ({where}): python benchmarks/report.py writes it anew")
    raise typer.Exit(SOME_FAILED)


def _write(path: Path, content: bytes) -> None:
    make_folder(path.parent)
    try:
        replace_file(path, content)
    except OSError as error:
        raise ArgumentError(f"cannot write {path} ({error.strerror}); choose another output") from error


if __name__ == "__main__":
    typer.run(report)
