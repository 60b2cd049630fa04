"""What tells calls and machines apart, so that a choice of route is used again where it holds, and only there."""

import bookkeeping
import pytest
import route_rows
import torch

import lbam_fast
from lbam_fast import native
from lbam_fast.ops import autotune, routes
from lbam_fast.ops.arguments import Affine, Gate, Wanted
from lbam_fast.ops.autotune import Measured


def nhwc(x):
    return x.contiguous(memory_format=torch.channels_last)


def test_keys_tell_calls_apart():
    x = torch.zeros(2, 4, 8, 8)
    keys = [
        routes.key("op", [x, None, 0.2]),
        routes.key("op", [x.half(), None, 0.2]),
        routes.key("op", [x[..., :4].contiguous(), None, 0.2]),
        routes.key("op", [x, x, 0.2]),
        routes.key("other", [x, None, 0.2]),
        routes.key("op", [x, None, 0.2], "tf32=True"),
        routes.key("op", [nhwc(x), None, 0.2]),
        routes.key("op", [x.transpose(2, 3), None, 0.2]),
    ]
    assert len(set(keys)) == len(keys)


def test_a_key_names_the_device_of_the_tensors(monkeypatch):
    """Not the current one, which may be another card."""
    names = {0: "one card", 1: "another card"}
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device=None: names[device.index if device else 0])
    assert routes.device_name.__wrapped__(torch.device("cuda", 1)) == "another card"
    assert routes.device_name.__wrapped__(torch.device("cpu")) == "cpu"
    assert autotune.measured("convolution", {"kernel": print}).key([torch.zeros(1, 4, 8, 8)]).startswith("cpu: convolution ")


def test_versions_follow_the_code(tmp_path, monkeypatch):
    """A changed kernel must be measured again, though nobody has counted up the package's version."""
    found = routes.versions()
    assert set(found) == {"lbam_fast", "torch", "triton", "cuDNN", "kernels", "CUDA kernels"}
    (tmp_path / "kernels").mkdir()
    (tmp_path / "kernels" / "encoder.py").write_text("BLOCK = 32")
    monkeypatch.setattr(lbam_fast, "__file__", str(tmp_path / "__init__.py"))
    (tmp_path / "lbam_native_cuda.so").write_bytes(b"code")
    monkeypatch.setattr(native, "FOLDER", tmp_path)
    monkeypatch.setattr(native, "unavailable", lambda device: "")
    before = routes.versions()
    (tmp_path / "kernels" / "encoder.py").write_text("BLOCK = 64")
    kernels = routes.versions()
    assert {name for name in before if before[name] != kernels[name]} == {"kernels"}
    (tmp_path / "lbam_native_cuda.so").write_bytes(b"other code")
    assert routes.versions()["CUDA kernels"] != kernels["CUDA kernels"]


@pytest.fixture
def op(monkeypatch, tmp_path):
    """``convolution`` with two ways that say who they are."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("LBAM_ROUTES", raising=False)
    autotune.forget()
    yield Measured("convolution", {"kernel": lambda *_: "kernel", "library": lambda *_: "library"})
    autotune.forget()


def convolved(dtype=torch.float32, channels=4, layout=nhwc):
    return layout(torch.zeros(1, channels, 8, 8, dtype=dtype)), layout(torch.zeros(8, channels, 4, 4, dtype=dtype))


def test_no_words_where_a_choice_is_known(op, monkeypatch):
    """Words cost ten times what the call may: once for each kind of call, never again."""
    monkeypatch.setattr(autotune, "measurable", lambda device: True)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
    monkeypatch.setattr(autotune.stopwatch, "of", lambda device: None)
    asked = []
    monkeypatch.setattr(autotune.Routes, "choose", lambda self, key, *_: asked.append(key) or "library")
    kinds = [convolved(), convolved(torch.bfloat16), convolved(channels=8), convolved(layout=torch.clone)]
    for _ in range(5):
        assert {op(*kind) for kind in kinds} == {"library"}
    assert len(asked) == len(set(asked)) == len(kinds)


def test_what_could_not_be_judged_is_asked_again(op, monkeypatch):
    monkeypatch.setattr(autotune, "measurable", lambda device: True)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
    monkeypatch.setattr(autotune.stopwatch, "of", lambda device: None)
    answers = iter((None, "kernel"))
    monkeypatch.setattr(autotune.Routes, "choose", lambda *_: next(answers))
    assert [op(*convolved()) for _ in range(3)] == ["library", "kernel", "kernel"]


def test_while_a_graph_is_captured_the_default_runs(op, monkeypatch):
    """Nothing can be measured then; what was measured before holds, what was refused does not run."""
    monkeypatch.setattr(autotune, "measurable", lambda device: True)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    monkeypatch.setattr(autotune, "capability", lambda device: 9)
    half = convolved(torch.bfloat16)
    fused = Measured("encode_with_map", op.ways)
    attention = torch.zeros(1, 8, 4, 4, dtype=torch.bfloat16)
    assert op(*half) == "library" and fused(*half, attention, Affine()) == "kernel"
    autotune.remembered().refused[routes.refusal(fused.key((*half, attention, Affine())), "kernel")] = "wrong"
    assert fused(*half, attention, Affine()) == "library"
    autotune.remembered().choices[op.key(half)] = "kernel"
    assert op(*half) == "kernel"


@pytest.mark.parametrize("named", ["kernel", "library"])
def test_a_route_is_forced_inside_a_block_or_by_the_variable(op, named, monkeypatch):
    with autotune.route(named):
        assert op(*convolved()) == named
    assert op(*convolved()) == "kernel"
    monkeypatch.setenv("LBAM_ROUTES", named)
    autotune.forget()
    assert op(*convolved()) == named


def test_every_op_with_routes_has_a_tag():
    from lbam_fast.ops.backends.gpu import ROUTES

    assert ROUTES.keys() <= autotune.TAGS.keys()


def test_a_tag_tells_what_decides_about_the_time():
    x, u, weight = torch.zeros(1, 4, 8, 8), torch.zeros(1, 1, 8, 8), torch.zeros(8, 4, 4, 4)
    gate, wanted = Gate(torch.zeros(4), torch.zeros(())), Wanted(True, False)
    scaled = Affine(torch.ones(8), torch.zeros(8))
    calls = [
        (x, u, weight, weight[:, :1], gate, Affine(), wanted, None),
        (x.half(), u, weight, weight[:, :1], gate, Affine(), wanted, None),
        (nhwc(x), u, weight, weight[:, :1], gate, Affine(), wanted, None),
        (x, u, nhwc(weight), weight[:, :1], gate, Affine(), wanted, None),
        (x, x[:, :3], weight, weight[:, :3], gate, Affine(), wanted, None),
        (x, u, weight, weight[:, :1], gate, scaled, wanted, None),
        (x, u, weight, weight[:, :1], gate, Affine(), Wanted(False, False), None),
        (x, u, weight, weight[:, :1], gate, Affine(), wanted, object()),
        (x, u, weight[:, :, :3, :3].contiguous(), weight[:, :1], gate, Affine(), wanted, None),
    ]
    tags = [autotune.TAGS["encode"](*call) for call in calls]
    assert len(set(tags)) == len(tags)
    before = torch.backends.cudnn.conv.fp32_precision
    try:
        torch.backends.cudnn.conv.fp32_precision = "ieee" if before != "ieee" else "tf32"
        assert autotune.TAGS["encode"](*calls[0]) not in tags
    finally:
        torch.backends.cudnn.conv.fp32_precision = before


def test_the_seconds_of_every_route_go_into_a_record(tmp_path):
    table = routes.Routes(tmp_path / "routes.json", {})
    table.choices["a call"], table.seconds["a call"] = "kernel", {"kernel": 1e-3, "library": 2e-3}
    table.refused[routes.refusal("a call, b", "cuda")] = "result 0 differs"
    rows = list(route_rows.rows_of(table))
    assert [(row.case, row.method, row.status, row.median, row.extra.get("chosen")) for row in rows] == [
        ("a call", "kernel", "ok", 1e-3, True),
        ("a call", "library", "ok", 2e-3, False),
        ("a call, b", "cuda", "wrong", None, None),
    ]


@pytest.mark.parametrize(("name", "arguments"), [*bookkeeping.calls(torch.bfloat16)])
def test_what_bookkeeping_costs_can_be_measured(name, arguments, monkeypatch):
    """The figure itself depends on the machine: python benchmarks/bookkeeping.py prints it."""
    monkeypatch.setattr(bookkeeping, "REPEATS", 3)
    assert 0 < bookkeeping.microseconds(name, arguments) < 1000
