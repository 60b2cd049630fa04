"""An evaluation into a folder: cases by methods, resumable, with its tables, sheet and plot."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lbam_fast.evaluation.cases import Case, CaseError
from lbam_fast.evaluation.fetched import frechet_distances
from lbam_fast.evaluation.figures import jpeg, plot, sheet
from lbam_fast.evaluation.judging import INPUT, TRUTH, Judge, Result, Task, judged, kept_path
from lbam_fast.evaluation.methods import Method
from lbam_fast.evaluation.metrics import Metric
from lbam_fast.evaluation.pictures import read_rgb
from lbam_fast.evaluation.quality import QualityRow, paper_rows
from lbam_fast.evaluation.report import results_csv, summary_json, tables
from lbam_fast.evaluation.store import Store
from lbam_fast.files import replace_file

SHOWN = 8
"""How many cases the contact sheet shows, evenly spaced among all."""
SHEET_HEIGHT = 256
PICTURES = "pictures"


@dataclass(frozen=True)
class Named:
    """A method as it is called in tables, and what it is known by: the same only for the same results."""

    method: Method
    key: str


@dataclass
class Evaluation:
    """Methods, the first of which the others are compared with, on cases, into a folder that exists.

    settings: what to say in the summary about the cases. notes: what the reader should know, such as metrics left out.
    save: whether every filled picture is kept, not those of the contact sheet alone. fid: whether the Fréchet distance is
    measured, for which all are kept.
    """

    folder: Path
    cases: Sequence[Case]
    methods: Mapping[str, Named]
    metrics: Sequence[Metric]
    seed: int = 0
    settings: Mapping[str, Any] = field(default_factory=dict)
    notes: Sequence[str] = ()
    save: bool = False
    fid: bool = False

    def __post_init__(self) -> None:
        self._store = Store(self.folder, {n: m.key for n, m in self.methods.items()}, [m.name for m in self.metrics])
        names = Counter(case.name for case in self.cases)
        if twice := [name for name, count in names.items() if count > 1]:
            raise CaseError(f"{len(twice)} cases share their name with another, as {twice[0]}; rename the pictures or masks")
        self._sheet = list(dict.fromkeys(self.cases[i * len(self.cases) // SHOWN] for i in range(SHOWN))) if self.cases else []

    def missing(self) -> list[Task]:
        """What is left to do."""
        tasks = []
        for case in self.cases:
            keep = self.folder / PICTURES if self.save or self.fid or case in self._sheet else None
            if methods := self._store.missing(case, keep):
                tasks.append(Task(case, methods, keep))
        return tasks

    def run(self, tasks: Sequence[Task], jobs: int = 1, tell: Callable[[Sequence[Result]], None] = lambda _: None) -> None:
        """Do the tasks of ``missing``; each task's results are kept, then told of. Raises OSError."""
        judge = Judge({name: named.method for name, named in self.methods.items()}, self.metrics)
        for task, results in zip(tasks, judged(judge, tasks, jobs), strict=True):
            self._store.add(task, results)
            tell(results)

    def write(self) -> list[QualityRow]:
        """Write results.csv, summary.json, tables.md, contact_sheet.jpg and plot.png; gives the rows. Raises OSError."""
        self._store.tidy()
        results = self._store.results(self.cases)
        rows = paper_rows(results, list(self.methods), self.metrics, self.seed)
        distances = self._distances(results) if self.fid else {}
        self._put("results.csv", results_csv(results, self.metrics).encode())
        self._put("summary.json", summary_json(rows, results, distances, self.settings, self.notes).encode())
        if rows:
            self._put("tables.md", tables(rows, self.metrics, distances, self.notes).encode())
            self._put("plot.png", plot(rows, self.metrics))
        self._draw_sheet()
        return rows

    def _put(self, name: str, content: bytes) -> None:
        replace_file(self.folder / name, content)

    def _draw_sheet(self) -> None:
        names = [INPUT, *self.methods, TRUTH]
        paths = [[kept_path(self.folder / PICTURES, case.name, name) for name in names] for case in self._sheet]
        lines = [[read_rgb(path) for path in line] for line in paths if all(path.is_file() for path in line)]
        if lines:
            self._put("contact_sheet.jpg", jpeg(sheet(lines, names, SHEET_HEIGHT)))

    def _distances(self, results: Sequence[Result]) -> dict[str, float]:
        """Over the cases that every method has filled."""
        failed = {result.case for result in results if result.error}
        whole = [case.name for case in self.cases if case.name not in failed]

        def of(name: str) -> list[Path]:
            return [kept_path(self.folder / PICTURES, case, name) for case in whole]

        filled = {name: map(read_rgb, of(name)) for name in self.methods}
        return frechet_distances(map(read_rgb, of(TRUTH)), filled)
