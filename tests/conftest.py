"""Before any test module is imported: where there is no GPU, Triton interprets its kernels.

Then, which cases run. After all: the time of each part, and how many cases were left out.
"""

import gc
import os
from collections import defaultdict
from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path

import pytest
import torch

gc.disable()  # until all is imported and collected: see pytest_collection_finish

# Triton's own library is decorated when Triton is first imported, which PyTorch's compiler may do before a test gets to it.
if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"

THOROUGH = os.environ.get("LBAM_TEST_ALL") == "1"
LEFT_OUT = pytest.StashKey[int]()

PARTS = {
    "interpreter": (
        "test_kernels_encoder",
        "test_kernels_decoder",
        "test_kernels_pointwise",
        "test_kernels_split",
        "test_on_triton",
    ),
    "ahead of time": ("test_machine_code", "test_cuda_code"),
    "C++": ("test_build", "test_cuda_on_cpu", "test_binding"),
}
"""Test modules; all others are Python's on the CPU."""
FIRST = (
    "test_build",
    "test_training_runs",
    "test_clusters",
    "test_golden",
    "test_benchmarks",
    "test_cuda_on_cpu",
    "test_machine_code",
    "test_ops",
    "test_on_cpu",
    "test_on_triton",
    "test_model",
    "test_cli_users",
    "test_training",
    "test_page",
    "test_service",
    "test_service_fuzz",
    "test_embedded",
)
"""The longest, which are begun before the others so that none is waited for at the end."""


@pytest.fixture(scope="session")
def thorough() -> bool:
    """Whether every case runs, for a test whose length is not one of cases."""
    return THOROUGH


def sample(items: Iterable[pytest.Item]) -> list[pytest.Item]:
    """The rule of ``make test``: the cases that run, where not all of them do.

    Cases without the mark ``sampled`` run. Marked ones run where they are needed: some case of each function must run, and some
    case with each value of each parameter that the mark names. The case with most of what is missing is taken until nothing
    is; among equals that whose id has the smallest checksum.
    """
    functions = defaultdict(list)
    for item in items:
        functions[item.nodeid.partition("[")[0]].append(item)
    taken = set()
    for cases in functions.values():
        names = {name for case in cases for mark in case.iter_markers("sampled") for name in mark.args}
        shown = {case: {"it runs", *((name, repr(case.callspec.params[name])) for name in names)} for case in cases}
        marked = [case for case in cases if case.get_closest_marker("sampled")]
        marked.sort(key=lambda case: sha256(case.nodeid.encode()).digest())
        chosen = [case for case in cases if case not in marked]
        while missing := set().union(*shown.values()).difference(*(shown[case] for case in chosen)):
            chosen.append(max(marked, key=lambda case: len(shown[case] & missing)))
        taken.update(chosen)
    return [item for item in items if item in taken]


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config, items):
    """After ``-k`` and ``-m``: whatever is asked for by name has a case."""
    items.sort(key=lambda item: FIRST.index(item.path.stem) if item.path.stem in FIRST else len(FIRST))
    left_out = set() if THOROUGH else set(items).difference(sample(items))
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in left_out]
    config.stash[LEFT_OUT] = len(left_out)
    if hasattr(config, "workeroutput"):
        config.workeroutput["left out"] = len(left_out)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node):
    """All workers leave out the same."""
    node.config.stash[LEFT_OUT] = getattr(node, "workeroutput", {}).get("left out", 0)


def pytest_collection_finish(session):
    """Modules and cases live as long as the process: looking through them again and again takes a seventh of the tests' time."""
    gc.freeze()
    gc.enable()


def pytest_terminal_summary(terminalreporter, config):
    if left_out := config.stash.get(LEFT_OUT, 0):
        terminalreporter.line(f"sampled: {left_out} cases were left out; make test-all runs them")
    seconds = defaultdict(float)
    for reports in terminalreporter.stats.values():
        for report in reports:
            if hasattr(report, "duration"):
                name = Path(report.nodeid.partition("::")[0]).stem
                seconds[next((part for part, names in PARTS.items() if name in names), "CPU")] += report.duration
    if sum(seconds.values()) > 60:
        terminalreporter.line("time: " + ", ".join(f"{part} {total:.0f} s" for part, total in sorted(seconds.items())))
