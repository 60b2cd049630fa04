"""The choice of route by measurement: right before fast, remembered, and never half written."""

import json
import re
import threading

import pytest
import torch

from lbam_fast.ops import autotune
from lbam_fast.ops.judge import RouteError
from lbam_fast.ops.routes import Routes

VERSIONS = {"lbam_fast": "0", "device": "none"}


def plain(x, y):
    return x @ y


def scripted(durations):
    """A clock by the route's name, read off what the work returns."""

    def clock(work):
        return lambda: durations[work().route]

    return clock


def way(name, wrong=0.0, fails=False):
    def run(x, y):
        if fails:
            raise RuntimeError("it does not compile")
        result = plain(x, y) + wrong
        result.route = name
        return result

    return run


@pytest.fixture
def arguments():
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(8, 8, generator=generator) for _ in range(2)]


def choose(table, ways, arguments, durations, key="k"):
    return table.choose(key, ways, arguments, plain, scripted(durations))


def test_the_fastest_wins(tmp_path, arguments):
    ways = {"a": way("a"), "b": way("b"), "c": way("c")}
    assert choose(Routes(tmp_path / "r.json", VERSIONS), ways, arguments, {"a": 3.0, "b": 1.0, "c": 2.0}) == "b"
    assert Routes(tmp_path / "r.json", VERSIONS).seconds == {"k": {"a": 3.0, "b": 1.0, "c": 2.0}}


@pytest.mark.parametrize("bad", [{"wrong": 1e-3}, {"wrong": float("nan")}, {"fails": True}])
def test_a_faster_one_that_is_wrong_loses_and_is_named(tmp_path, arguments, bad):
    ways = {"quick": way("quick", **bad), "right": way("right")}
    table = Routes(tmp_path / "r.json", VERSIONS)
    assert choose(table, ways, arguments, {"quick": 0.1, "right": 1.0}) == "right"
    for each in (table, Routes(table.path, VERSIONS)):
        assert list(each.refused) == ["k, quick"]
        assert re.search("differs from float64|RuntimeError: it does not compile", each.refused["k, quick"])


def test_none_that_is_right_is_an_error_that_says_why(tmp_path, arguments):
    table = Routes(tmp_path / "r.json", VERSIONS)
    with pytest.raises(RouteError, match=r"differs from float64 by .*LBAM_ROUTES"):
        choose(table, {"quick": way("quick", wrong=1.0)}, arguments, {})
    assert not table.path.exists()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_what_is_not_finite_judges_no_route(tmp_path, arguments, value):
    """A run that diverges, or a scaled loss in float16, must not end in words about routes."""
    table, ways = Routes(tmp_path / "r.json", VERSIONS), {"a": way("a"), "b": way("b")}
    sound = [x.clone() for x in arguments]
    arguments[0][0, 0] = value
    assert choose(table, ways, arguments, {}) is None
    assert not table.path.exists()
    assert choose(table, ways, sound, {"a": 2.0, "b": 1.0}) == "b"


def test_lack_of_memory_is_remembered_while_the_process_lives(tmp_path, arguments):
    calls = []

    def short(x, y):
        calls.append(1)
        raise torch.OutOfMemoryError("CUDA out of memory")

    table, ways = Routes(tmp_path / "r.json", VERSIONS), {"a": way("a"), "b": way("b")}
    for _ in range(3):
        assert table.choose("k", ways, arguments, short, None) is None
    assert len(calls) == 1
    assert not table.path.exists()
    assert choose(Routes(table.path, VERSIONS), ways, arguments, {"a": 1.0, "b": 2.0}) == "a"


def test_lack_of_memory_in_one_route_is_no_fault_of_it(tmp_path, arguments):
    def short(x, y):
        raise torch.OutOfMemoryError("CUDA out of memory")

    table = Routes(tmp_path / "r.json", VERSIONS)
    assert choose(table, {"quick": short, "right": way("right")}, arguments, {"right": 1.0}) is None
    assert not table.path.exists() and not table.refused


@pytest.mark.parametrize(("setting", "allowed"), [("ieee", False), ("tf32", True)])
def test_tf32_by_the_setting_of_convolutions(setting, allowed):
    """PyTorch's older name for it, ``allow_tf32``, raises once this one was set."""
    convolutions = torch.backends.cudnn.conv
    before = convolutions.fp32_precision
    convolutions.fp32_precision = setting
    try:
        assert autotune.allows_tf32() is allowed
    finally:
        convolutions.fp32_precision = before


def test_tf32_by_the_older_name():
    for allowed in (False, True):
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=allowed):
            assert autotune.allows_tf32() is allowed


def test_it_is_measured_once_and_remembered(tmp_path, arguments):
    path = tmp_path / "deep" / "r.json"
    ways = {"a": way("a"), "b": way("b")}
    assert choose(Routes(path, VERSIONS), ways, arguments, {"a": 1.0, "b": 2.0}) == "a"
    unmeasured = {}
    assert choose(Routes(path, VERSIONS), ways, arguments, unmeasured) == "a"
    assert choose(Routes(path, {**VERSIONS, "device": "another"}), ways, arguments, {"a": 2.0, "b": 1.0}) == "b"


def test_a_broken_file_is_as_good_as_none(tmp_path, arguments):
    for contents in ("", "{", "[]", '{"format": 99}', '{"format": 3, "versions": 3, "choices": []}'):
        path = tmp_path / "r.json"
        path.write_text(contents)
        assert choose(Routes(path, VERSIONS), {"a": way("a")}, arguments, {"a": 1.0}) == "a"
        assert json.loads(path.read_text())["choices"] == {"k": "a"}


def test_a_folder_that_cannot_be_written_does_no_harm(tmp_path, arguments):
    (tmp_path / "file").write_text("")
    assert choose(Routes(tmp_path / "file" / "r.json", VERSIONS), {"a": way("a")}, arguments, {"a": 1.0}) == "a"


def test_processes_add_to_one_file(tmp_path, arguments):
    path = tmp_path / "r.json"
    first, second = Routes(path, VERSIONS), Routes(path, VERSIONS)
    choose(first, {"a": way("a")}, arguments, {"a": 1.0}, "one")
    choose(second, {"a": way("a")}, arguments, {"a": 1.0}, "two")
    assert Routes(path, VERSIONS).choices == {"one": "a", "two": "a"}
    assert [entry.name for entry in tmp_path.iterdir()] == ["r.json"]


def test_threads_measure_a_key_once(tmp_path, arguments):
    table, calls = Routes(tmp_path / "r.json", VERSIONS), []
    ways = {"a": lambda x, y: calls.append(1) or plain(x, y)}
    threads = [
        threading.Thread(target=table.choose, args=("k", ways, arguments, plain, lambda work: lambda: 1.0)) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(calls) == 1
