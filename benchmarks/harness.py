"""From methods to figures: build each, hold it to the correctness gate, time those that pass in interleaved rounds."""

# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

import gc
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from gate import NO_SLACK, OUTPUT_SLACK, Error, budget, error_of, refusal
from nvml import Sampler
from rows import ABSENT, FAILED, OK, WRONG, Row
from timing import Clock, Quartiles, Run, Schedule, device_clock, interleave, ratios
from torch import Tensor
from workload import Case, Inputs, inputs

BASELINE = "published form"


@dataclass(frozen=True)
class Candidate:
    """A method made ready for one case: ``run`` is timed, ``output`` is what the gate compares (of the first inputs)."""

    run: Run
    output: Callable[[], Tensor]


def never_absent(case: Case) -> str:
    """For methods that PyTorch alone provides."""
    return ""


@dataclass(frozen=True)
class Method:
    """One way to do the work.

    build   makes it ready for a case and its inputs
    absent  why it cannot run here; empty where it can
    ours    this package, rather than a peer: then being wrong or failing fails the test
    layout  of the images and features that it is given or keeps
    eager   plain eager PyTorch in its dtype: its error sets the budget of the others
    quick   whether it is in the quick set
    """

    name: str
    dtype: str
    build: Callable[[Case, Inputs], Candidate]
    absent: Callable[[Case], str] = never_absent
    ours: bool = False
    layout: Literal["NCHW", "channels_last"] = "NCHW"
    eager: bool = False
    quick: bool = True


@dataclass(frozen=True)
class Figure:
    """What became of one method in one case: its row for the records, and the rounds behind it."""

    row: Row
    rounds: list[float] = field(default_factory=list)
    ours: bool = False


Feed = Callable[[Figure], None]
"""Passes a figure's rounds through pytest-benchmark; the fixture of that name in ``conftest``."""
Work = Callable[[Case, str], dict[str, float]]
"""What is known of a case in a dtype beside its time: "flop", "bytes", "floor_seconds", as far as they are."""


@dataclass(frozen=True)
class Suite:
    """Cases, the methods that do them, and how they are judged.

    truth      the right output in float64 for the first inputs
    yardstick  what eager PyTorch gives for them in a dtype: the error budget is twice its error
    clock      makes the clock for a device
    work       what there is to do, hence the floor
    gpu        cases that the whole grid has on a GPU alone
    slack      an error that is allowed in fp32 even where eager PyTorch's is less than half of it
    """

    name: str
    quick: tuple[Case, ...]
    full: tuple[Case, ...]
    methods: Callable[[Case], Sequence[Method]]
    truth: Callable[[Case, Inputs], Tensor]
    yardstick: Callable[[Case, Inputs, str], Tensor]
    clock: Callable[[str], Clock] = device_clock
    inputs: Callable[[Case], Inputs] = inputs
    work: Work = lambda case, dtype: {}
    schedule: Schedule = Schedule()
    slack: Error = OUTPUT_SLACK
    gpu: tuple[Case, ...] = ()
    measure: Callable[[Suite, Case, Sequence[Method]], dict[str, Figure]] | None = None


@dataclass(frozen=True)
class Verdict:
    """The error of a candidate, why it is refused (empty if it passes), and the seconds of the call that was judged."""

    error: Error
    reason: str
    seconds: float


class Judge:
    """The gate for one case; computes the truth, and the budgets of dtypes that no eager method has set, when first needed."""

    def __init__(self, suite: Suite, case: Case, pool: Inputs) -> None:
        self._suite, self._case, self._pool = suite, case, pool
        self._truth: Tensor | None = None
        self._budgets: dict[str, Error] = {}

    def __call__(self, method: Method, candidate: Candidate) -> Verdict:
        if self._truth is None:
            self._truth = self._suite.truth(self._case, self._pool)
        start = time.perf_counter()
        output = candidate.output()
        seconds = time.perf_counter() - start
        error = error_of(output, self._truth)
        if method.dtype not in self._budgets:
            eager = error if method.eager else error_of(self._suite.yardstick(self._case, self._pool, method.dtype), self._truth)
            self._budgets[method.dtype] = budget(eager, self._suite.slack if method.dtype == "fp32" else NO_SLACK)
        return Verdict(error, refusal(error, self._budgets[method.dtype]), seconds)


def measure(suite: Suite, case: Case, methods: Sequence[Method], schedule: Schedule | None = None) -> dict[str, Figure]:
    """A figure for every method, by name. Those that are absent, fail or are wrong have a reason in place of a time."""
    pool = suite.inputs(case)
    judge = Judge(suite, case, pool)
    rows: dict[str, Row] = {}
    runs: dict[str, Run] = {}
    warm: dict[str, float] = {}
    for method in methods:
        rows[method.name], admitted = _admit(suite, case, method, pool, judge)
        if admitted is not None:
            runs[method.name], warm[method.name] = admitted
    schedule = schedule or suite.schedule
    on_gpu = case.device.startswith("cuda")
    if on_gpu:
        schedule = replace(schedule, warmup=min(schedule.warmup, 0.2))  # sessions on a GPU are short
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of compilers and peers, which warn as they like
        seconds = interleave(runs, suite.clock(case.device), schedule, warm)
    energies = {name: _energy(run, case) for name, run in runs.items()} if on_gpu else {}
    figures = {}
    for method in methods:
        row, rounds = rows[method.name], seconds.get(method.name, [])
        if rounds:
            row = timed(row, rounds, seconds.get(BASELINE))
            row = replace(row, extra={**_shares(row, suite.work(case, method.dtype)), **energies.get(method.name, {})})
        figures[method.name] = Figure(row, rounds, method.ours)
    del runs
    release(case.device)
    return figures


def empty_row(suite: Suite, case: Case, method: Method, metric: str = "seconds") -> Row:
    """A row with all but the figure and the machine."""
    params = {
        "height": case.height,
        "width": case.width,
        "batch": case.batch,
        "mask": case.mask,
        "layer": case.layer,
        "dtype": method.dtype,
        "layout": method.layout,
        "device": case.device,
        "preset": case.preset,
        "base_width": case.base_width,
    }
    given = {key: value for key, value in params.items() if value != ""}
    return Row(suite=suite.name, case=case.name, method=method.name, metric=metric, params=given)


def timed(row: Row, rounds: Sequence[float], baseline: Sequence[float] | None) -> Row:
    """The row with its figure: quartiles of the rounds, and of their ratio to the baseline's rounds if there are any."""
    median, q1, q3 = Quartiles.of(rounds)
    ratio = {"to": BASELINE, **ratios(rounds, baseline)._asdict()} if baseline else None
    return replace(row, status=OK, median=median, q1=q1, q3=q3, rounds=len(rounds), ratio=ratio)


def release(device: str) -> None:
    """Give back what the methods of one case held."""
    torch._dynamo.reset()
    gc.collect()
    if device.startswith("cuda"):
        torch.cuda.empty_cache()


def _admit(suite: Suite, case: Case, method: Method, pool: Inputs, judge: Judge) -> tuple[Row, tuple[Run, float] | None]:
    """The row so far and, if the method may be timed, what to run and for how many seconds it has run already."""
    row = empty_row(suite, case, method)
    if reason := method.absent(case):
        return replace(row, status=ABSENT, note=reason), None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            candidate = method.build(case, pool)
            verdict = judge(method, candidate)
    except Exception as failure:  # whatever a peer raises is a result to report
        lines = str(failure).strip().splitlines() or [""]
        return replace(row, status=FAILED, note=f"{type(failure).__name__}: {lines[0]}"[:300]), None
    row = replace(row, error=verdict.error.row())
    if verdict.reason:
        return replace(row, status=WRONG, note=verdict.reason), None
    return row, (candidate.run, verdict.seconds)


def _shares(row: Row, work: dict[str, float]) -> dict[str, Any]:
    if "floor_seconds" not in work or row.median is None:
        return dict(work)
    return {**work, "fraction_of_floor": work["floor_seconds"] / row.median}


def _energy(run: Run, case: Case, seconds: float = 0.3) -> dict[str, Any]:
    """Clocks, power and energy per image while one method alone runs for about ``seconds``."""
    calls, start = 0, time.perf_counter()
    with Sampler(torch.device(case.device).index or 0) as sampler:
        while time.perf_counter() - start < seconds:
            run(calls)
            calls += 1
            torch.cuda.synchronize()
    summary = sampler.summary()
    if "joules" in summary:
        summary["joules_per_image"] = summary.pop("joules") / (calls * case.batch)
    return summary
