"""The tests that need a GPU, as far as a CPU can tell: they must not fail there for reasons that have nothing to do with them."""

import ast
import contextlib
import re
import subprocess
from pathlib import Path
from types import SimpleNamespace

import peers
import pytest
import torch
import workload

HERE = Path(__file__).parent
FILES = sorted([*HERE.glob("*.py"), *(HERE.parent / "benchmarks").glob("*.py"), *(HERE.parent / "lbam_fast").rglob("*.py")])


def switches_cudnn_off(source: str) -> list[int]:
    """Lines that call ``cudnn.flags``, whose default is to switch it off, without saying whether it stays on."""
    tree = ast.parse(source if "cudnn.flags" in source else "")
    calls = (node for node in ast.walk(tree) if isinstance(node, ast.Call))
    named = (call for call in calls if ast.unparse(call.func).endswith("cudnn.flags"))
    return [call.lineno for call in named if not any(keyword.arg == "enabled" for keyword in call.keywords)]


def test_no_block_switches_cudnn_off_unasked():
    assert not {path.name: lines for path in FILES if (lines := switches_cudnn_off(path.read_text(encoding="utf-8")))}
    assert switches_cudnn_off("with torch.backends.cudnn.flags(deterministic=True):\n    pass") == [1]


def without_compiled_kernels(source: str) -> list[str]:
    """Tests that fail where the CUDA kernels were not built: they name that backend or route, and nothing skips them."""
    functions = [node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef)]
    texts = {function.name: ast.unparse(function) for function in functions}
    named = {name for name, text in texts.items() if re.search(r"(backend|inference_is_right)\([^)]*'cuda'\)", text)}
    return [name for name in named if name.startswith("test_") and "require_compiled()" not in texts[name]]


def test_a_failed_build_fails_one_test():
    source = (HERE / "test_gpu.py").read_text(encoding="utf-8")
    assert not without_compiled_kernels(source)
    assert "'cuda':\n        require_compiled()" in ast.unparse(ast.parse(source))
    planted = "def test_all():\n    with lbam_fast.backend('cuda'):\n        pass"
    assert without_compiled_kernels(planted) == ["test_all"]


@pytest.fixture
def streams(monkeypatch):
    """``torch.cuda`` as far as the peer needs it, writing down who waits for whom."""
    log = []

    class Stream:
        def __init__(self, name):
            self.name = name

        def wait_stream(self, other):
            log.append(f"{self.name} waits for {other.name}")

    fake = SimpleNamespace(
        Stream=lambda device=None: Stream("side"),
        current_stream=lambda device=None: Stream("current"),
        stream=lambda stream: contextlib.nullcontext(log.append(f"on {stream.name}")),
        synchronize=lambda: None,
        CUDAGraph=lambda: SimpleNamespace(replay=lambda: log.append("replay")),
        graph=lambda graph: contextlib.nullcontext(log.append("capture")),
    )
    monkeypatch.setattr(torch, "cuda", fake)
    return log


def test_the_graph_peer_waits_for_the_stream_of_its_inputs(streams, monkeypatch):
    monkeypatch.setattr(peers, "lbam_fast_call", lambda case, dtype: lambda image, mask: streams.append("call") or image)
    case = workload.Case(128, 128, 1, base_width=4)
    replay = peers.lbam_fast_graph(case, "fp32")
    assert streams == ["side waits for current", "on side", "call", "call", "call", "capture", "call"]
    image = torch.rand(1, 3, 128, 128)
    assert torch.equal(replay(image, torch.ones(1, 1, 128, 128)), image)


SESSION = HERE.parent / "benchmarks" / "gpu_session.sh"


class Collected:
    names: list[str]

    def pytest_collection_finish(self, session):
        self.names = [item.name for item in session.items]


def test_the_session_selects_tests_that_exist():
    """Names of tests and their parameters change; a selection that fits nothing would measure nothing."""
    found = Collected()
    pytest.main([str(HERE / "test_gpu.py"), "--collect-only", "-q", "-s", "-p", "no:cacheprovider"], plugins=[found])
    names = found.names
    selections = re.findall(r'(?:gpu_tests \d+|-W default) -k "([^"]+)"', SESSION.read_text(encoding="utf-8"))
    assert len(selections) == 5
    for selection in selections:
        wanted, unwanted = (re.findall(pattern, selection) for pattern in (r"(?<!not )\b(?!and|not)(\w+)", r"not (\w+)"))
        assert any(all(w in name for w in wanted) and not any(u in name for u in unwanted) for name in names), selection


def test_the_session_says_how_it_is_called(tmp_path):
    result = subprocess.run(["bash", str(SESSION), str(tmp_path / "out")], capture_output=True, text=True)
    assert result.returncode == 2 and "gpu_session.sh OUT 1" in result.stdout and not (tmp_path / "out").exists()
