"""Which cases ``make test`` runs: no function and no named value is lost, planted faults always run, what is left out is said."""

import ast
import itertools
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import conftest
import pytest

HERE = Path(__file__).parent


class Case:
    """As much of a test as the rule looks at."""

    def __init__(self, function, names, values):
        self.nodeid = f"{function}[{'-'.join(map(str, values.values()))}]"
        self.function, self.names, self.callspec = function, names, SimpleNamespace(params=values)

    def iter_markers(self, name):
        return [] if self.names is None else [SimpleNamespace(args=self.names)]

    def get_closest_marker(self, name):
        return next(iter(self.iter_markers(name)), None)


def family(function, names, **values):
    """Cases of all combinations; ``names`` of None is without the mark."""
    return [Case(function, names, dict(zip(values, each, strict=True))) for each in itertools.product(*values.values())]


DTYPES, SIZES = ("float32", "float16", "bfloat16"), range(10)
CASES = [
    *family("test_named", ("dtype", "name"), size=SIZES, dtype=DTYPES, name=("avx2", "avx512")),
    *family("test_any", (), size=SIZES),
    *family("test_first", None, size=SIZES[:1]),
    *family("test_first", (), size=SIZES[1:]),
    *family("test_first_dtype", None, dtype=DTYPES[:1]),
    *family("test_first_dtype", ("dtype",), dtype=DTYPES[1:]),
    *family("test_all", None, size=SIZES),
]
NAMED = {"test_named": ("dtype", "name"), "test_first_dtype": ("dtype",)}


def lost(rule):
    """Functions without a case, and values without one of parameters that are named."""

    def shown(cases):
        values = {(case.function, name, case.callspec.params[name]) for case in cases for name in NAMED.get(case.function, ())}
        return values | {case.function for case in cases}

    return shown(CASES) - shown(rule(CASES))


def test_no_function_and_no_named_value_is_lost():
    kept = conftest.sample(CASES)
    assert not lost(conftest.sample)
    assert Counter(case.function for case in kept) == {
        "test_named": 3,
        "test_any": 1,
        "test_first": 1,
        "test_first_dtype": 3,
        "test_all": 10,
    }
    assert kept == [case for case in CASES if case in kept]
    assert set(kept) == set(conftest.sample(CASES[::-1]))


def test_a_rule_that_loses_something_is_caught():
    """Planted faults: nothing that is marked runs, and one case of each function."""
    assert lost(lambda cases: [case for case in cases if case.names is None]) >= {"test_any", "test_named"}
    ones = lost(lambda cases: {case.function: case for case in cases}.values())
    assert ones >= {("test_named", "dtype", "float16"), ("test_first_dtype", "dtype", "float32")}


PLANTED = re.compile(r"lanted fault|(caught|noticed|_seen|can_fail|catches_a_fault)(_|$)", re.MULTILINE)


def marked_faults(source):
    """Tests that hold a fault, by their names or docstrings, and are marked."""
    functions = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef)]
    marked = [node for node in functions if any("sampled" in ast.unparse(each) for each in node.decorator_list)]
    return [node.name for node in marked if PLANTED.search(f"{node.name}\n{ast.get_docstring(node)}")]


def test_planted_faults_are_not_sampled():
    assert not [name for path in HERE.rglob("test_*.py") for name in marked_faults(path.read_text(encoding="utf-8"))]


@pytest.mark.parametrize(
    "test", ["test_a_wrong_sum_is_noticed(): pass", 'test_sums():\n "Planted fault: one off."'], ids=["name", "docstring"]
)
def test_a_sampled_fault_is_caught(test):
    assert marked_faults(f"@pytest.mark.sampled\ndef {test}") == [test.partition("(")[0]]


def printed(folder, *options, **variables):
    """By pytest, of 20 cases of which 10 are marked."""
    (folder / "test_it.py").write_text(
        "import pytest\n"
        "@pytest.mark.parametrize('one', range(10))\n"
        "def test_all(one): pass\n"
        "@pytest.mark.sampled('two')\n"
        "@pytest.mark.parametrize(('one', 'two'), [(i, i % 3) for i in range(10)])\n"
        "def test_some(one, two): pass\n"
    )
    (folder / "pytest.ini").write_text("[pytest]\nmarkers = sampled\n")
    (folder / "torch.py").write_text("class cuda:\n is_available = bool\n")  # all that is asked of PyTorch, which takes its time
    ours = {name: value for name, value in os.environ.items() if name != "LBAM_TEST_ALL" and not name.startswith("PYTEST_")}
    command = [sys.executable, "-m", "pytest", "-p", "conftest", "-p", "xdist", "-p", "no:cacheprovider", *options]
    environment = {
        **ours,
        "PYTHONPATH": os.pathsep.join([str(folder), str(HERE)]),
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        **variables,
    }
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False).stdout


def test_what_is_left_out_is_said(tmp_path):
    out = printed(tmp_path, "--numprocesses", "1")
    assert "13 passed" in out and "sampled: 7 cases were left out; make test-all runs them" in out


def test_make_test_all_leaves_nothing_out(tmp_path):
    out = printed(tmp_path, LBAM_TEST_ALL="1")
    assert "20 passed" in out and "left out" not in out


def test_cases_that_are_asked_for_run(tmp_path):
    assert "2 passed" in printed(tmp_path, "-k", "test_some and (7-1 or 8-2)")
