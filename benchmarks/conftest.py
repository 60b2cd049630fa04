"""``pytest benchmarks/``: a quick set for this machine by default, the whole grid with ``--full``; tables at the end."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import limits
import machine
import pytest
import torch
from harness import BASELINE, Feed, Figure, Method, Suite, measure
from rich.console import Console
from rows import ABSENT, OK, Row, append_rows, read_rows
from tables import case_tables, compare, comparison_table
from workload import Case

from lbam_fast.devices import resolve_device

RECORDS = Path(__file__).parent / "records"
_NONE = ""


class ReplayClock:
    """Gives rounds that were measured already to pytest-benchmark, which asks its timer before and after each."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        """One round has passed."""
        self.now += seconds


class State:
    """What one run of pytest has measured."""

    def __init__(self, config: pytest.Config) -> None:
        self.full: bool = config.getoption("--full")
        self.device = str(resolve_device(config.getoption("--device")))
        self.cases = [words for words in config.getoption("--case").split(",") if words]
        self.dtypes = [name for name in config.getoption("--dtype").split(",") if name]
        self.clock = ReplayClock()
        self.figures: dict[tuple[str, str], dict[str, Figure]] = {}
        self.recorded: list[Row] = []
        record = config.getoption("--record")
        self.record = None if record is None else Path(record) if record else RECORDS / f"{_slug(self.device)}.jsonl"


STATE = pytest.StashKey[State]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("lbam_fast benchmarks")
    group.addoption("--full", action="store_true", help="run the whole grid instead of the quick set")
    group.addoption("--record", nargs="?", const=_NONE, default=None, metavar="FILE", help="append the figures to a record")
    group.addoption("--compare", metavar="RECORD", help="say what got slower or faster than in this record")
    group.addoption("--device", default="auto", help="auto, cpu or cuda (default: the GPU where there is one)")
    group.addoption("--base-width", type=int, default=64, help="of the networks (default: 64, as published)")
    group.addoption("--case", default="", help='only cases with one of these words, e.g. "256x256 batch 1,1024x1024"')
    group.addoption("--dtype", default="", help="only methods in these dtypes, e.g. fp32,bf16 (the published form always runs)")


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    if not config.getoption("benchmark_verbose", False):
        config.option.benchmark_quiet = True  # our tables say the same with ratios and errors
    for marker in ("inference", "latency", "training", "layers", "memory", "batch"):
        config.addinivalue_line("markers", f"{marker}: this suite of benchmarks")
    config.stash[STATE] = State(config)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "figure" not in metafunc.fixturenames:
        return
    state, suite = metafunc.config.stash[STATE], _suite(metafunc.module)
    parameters = []
    whole = suite.full + (suite.gpu if state.device.startswith("cuda") else ())
    for case in whole if state.full else suite.quick:
        if not _named(case, state):
            continue
        case = replace(case, device=state.device, base_width=metafunc.config.getoption("--base-width"))
        for method in suite.methods(case):
            if _selected(method, state):
                parameters.append(pytest.param(case, method, id=f"{case.name}, {method.name}"))
    metafunc.parametrize(("case", "method"), parameters)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        if "figure" in getattr(item, "fixturenames", ()):
            group = f"{_suite(item.module).name}: {item.callspec.params['case'].name}"  # type: ignore[attr-defined]
            item.add_marker(pytest.mark.benchmark(group=group, timer=config.stash[STATE].clock))


@pytest.fixture
def case() -> Case:
    """The work at hand; set by parametrisation."""
    raise NotImplementedError


@pytest.fixture
def method() -> Method:
    """The method at hand; set by parametrisation."""
    raise NotImplementedError


@pytest.fixture
def figure(request: pytest.FixtureRequest, case: Case, method: Method) -> Figure:
    """The method's figure. The first request measures all selected methods of the case, interleaved."""
    state, suite = request.config.stash[STATE], _suite(request.module)
    key = (suite.name, case.name)
    if key not in state.figures:
        chosen = [
            cast(Method, item.callspec.params["method"])
            for item in request.session.items
            if isinstance(item, pytest.Function) and item.module is request.module and item.callspec.params.get("case") == case
        ]
        if not any(each.name == BASELINE for each in chosen):
            chosen = [each for each in suite.methods(case) if each.name == BASELINE] + chosen
        state.figures[key] = (suite.measure or measure)(suite, case, chosen)
        rows = [each.row for each in state.figures[key].values()]
        if state.record is not None and not state.recorded:
            rows = limits.rows(state.device) + rows
        rows = machine.signed(rows, state.device)
        if state.record is not None:
            append_rows(state.record, rows)
        state.recorded += rows
    return state.figures[key][method.name]


@pytest.fixture
def feed(request: pytest.FixtureRequest) -> Feed:
    """Passes a figure's rounds through pytest-benchmark; skips what is absent, fails what is wrong or failed.

    A peer that is wrong or fails is reported without failing the run.
    """

    def pass_on(figure: Figure) -> None:
        row = figure.row
        if row.status == ABSENT:
            pytest.skip(row.note)
        if row.status != OK:
            (pytest.fail if figure.ours else pytest.xfail)(f"{row.status}: {row.note}")
        if not figure.rounds:
            return
        benchmark: Any = request.getfixturevalue("benchmark")
        benchmark.extra_info.update({"params": row.params, "error": row.error, "ratio": row.ratio, **row.extra})
        rounds: Iterator[float] = iter(figure.rounds)
        clock = request.config.stash[STATE].clock
        benchmark.pedantic(lambda: clock.advance(next(rounds)), rounds=len(figure.rounds), iterations=1)

    return pass_on


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    state = config.stash[STATE]
    if not state.recorded:
        return
    console = Console(file=terminalreporter._tw._file, width=None if terminalreporter.isatty else 150)
    about = machine.machine(state.device)
    console.print(
        f"\n{about['device']}, {about['threads']} threads, torch {torch.__version__}; times in ms: median and quartiles"
    )
    console.print(
        f"ratio: median over rounds of the time of the {BASELINE!r} (of folders, 'one at a time') over the method's; "
        "above 1 is faster\n"
    )
    for table in case_tables(state.recorded):
        console.print(table)
    if (source := config.getoption("--compare")) is not None:
        console.print(comparison_table(compare(read_rows(Path(source)), state.recorded), source))
    if state.record is not None:
        console.print(f"recorded in {state.record}")


def _suite(module: Any) -> Suite:
    suite: Suite = module.SUITE
    return suite


def _named(case: Case, state: State) -> bool:
    """Whole words: "batch 1" is not in "batch 16"."""
    return not state.cases or any(f" {words.strip()} " in f" {case.name} " for words in state.cases)


def _selected(method: Method, state: State) -> bool:
    if method.name == BASELINE:
        return True
    return (state.full or method.quick) and (not state.dtypes or method.dtype in state.dtypes)


def _slug(device: str) -> str:
    words = machine.machine(device)["device"].lower()
    return "-".join("".join(letter if letter.isalnum() else " " for letter in words).split())
