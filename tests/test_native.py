"""The compiled CPU kernels against ``ops.backends.eager`` in float64, on every instruction set of this processor."""

import json
import os
import re
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from golden import recipe
from torch import Tensor

from lbam_fast import native
from lbam_fast.ops.arguments import Affine, Gate, flatten
from lbam_fast.ops.backends import eager

ROOT = Path(__file__).parent.parent
built = pytest.mark.skipif(bool(native.unavailable()), reason=native.unavailable())
DTYPES = (torch.float32, torch.bfloat16)
CASES = {
    "one image": {"shape": (1, 12, 5, 7)},
    "a batch of three": {"shape": (3, 12, 4, 6)},
    "three channels": {"shape": (3, 3, 9, 5)},
    "several blocks": {"shape": (2, 64, 33, 35)},
    "wider than a piece": {"shape": (3, 300, 3, 5)},
    "one position": {"shape": (1, 12, 1, 1)},
    "one channel": {"shape": (2, 1, 5, 7)},
    "no activation": {"shape": (1, 12, 5, 7), "slope": 1.0},
    "no affine": {"shape": (3, 12, 5, 7), "affine": False},
    "no affine, no activation, no update": {"shape": (1, 12, 5, 7), "affine": False, "slope": 1.0, "update": False},
    "no update": {"shape": (1, 12, 5, 7), "update": False},
}
FUNCTIONS = ("attend", "attend_backward", "statistics", "statistics_backward")


class Inputs(NamedTuple):
    features: Tensor
    m: Tensor
    scalars: Tensor
    alpha: Tensor
    scale: Tensor | None
    shift: Tensor | None
    slope: float
    dy: Tensor
    du: Tensor | None
    dmean: Tensor
    dvariance: Tensor
    mean: Tensor

    def double(self) -> "Inputs":
        return Inputs(*(x.double() if isinstance(x, Tensor) else x for x in self))

    def run(self, function: str, module) -> tuple[Tensor, ...]:
        gate, affine = Gate(*self[2:4]), Affine(*self[4:7])
        arguments = {
            "attend": (*self[:2], gate, affine, self.du is not None),
            "attend_backward": (self.dy, self.du, *self[:2], gate, affine),
            "statistics": self[:3],
            "statistics_backward": (self.dmean, self.dvariance, self.mean, *self[:3]),
        }
        given = arguments[function]
        return getattr(module, function)(*(given if module is eager else flatten(given)))


def channels_last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last)


def inputs(shape, dtype=torch.float32, affine=True, slope=0.2, update=True) -> Inputs:
    """Values about mu on both sides; m has exact zeros, negative values and some exactly at mu."""
    g = recipe.rng(0, "native")

    def normal(*size, mean=0.0, std=1.0):
        return torch.from_numpy(g.normal(mean, std, size)).float()

    def image():
        return channels_last(normal(*shape).to(dtype))

    mu = 1.375  # representable in every dtype
    m, pick = normal(*shape, mean=1, std=1.2), torch.from_numpy(g.uniform(0, 1, shape))
    return Inputs(
        features=image(),
        m=channels_last(torch.where(pick < 0.1, 0, torch.where(pick > 0.9, mu, m)).to(dtype)),
        scalars=torch.tensor([1.3, mu, 1.1, 0.7]),
        alpha=torch.tensor(0.73),
        scale=normal(shape[1], mean=1, std=0.4) if affine else None,
        shift=normal(shape[1], std=0.3) if affine else None,
        slope=slope,
        dy=image(),
        du=image() if update else None,
        dmean=normal(shape[1]),
        dvariance=normal(shape[1]),
        mean=normal(shape[1]),
    )


def excess(found, plain, exact, spare: int = 8) -> list[str]:
    """Where a result is not finite or further from the exact one than twice what eager PyTorch loses in that dtype.

    On top come ``spare`` roundings of float32, of a sum as many times as chance adds up: the root of the number of its terms.
    """
    faults = []
    terms = max(x.numel() for x in exact)
    for i, (kernel, same, reference) in enumerate(zip(found, plain, exact, strict=True)):
        if kernel.shape != same.shape or kernel.dtype != same.dtype:
            faults.append(f"result {i} is {kernel.dtype} {tuple(kernel.shape)}: expected {same.dtype} {tuple(same.shape)}")
        elif kernel.ndim == 4 and not kernel.is_contiguous(memory_format=torch.channels_last):
            faults.append(f"result {i} has strides {kernel.stride()}: expected channels_last")
        elif reference.numel():
            size = reference.abs().max().item()
            lost = (same.double() - reference).abs().max().item()
            error = (kernel.double() - reference).abs().max().item()
            rounding = torch.finfo(torch.float32).eps * size * (terms / reference.numel()) ** 0.5
            if not error <= 2 * lost + spare * rounding:
                faults.append(f"result {i}: error {error:.2e}, eager PyTorch's {lost:.2e}, largest value {size:.2e}")
    return faults


def check(function: str, given: Inputs, spare: int = 8) -> list[str]:
    found = given.run(function, torch.ops.lbam_native)
    return excess(found, given.run(function, eager), given.double().run(function, eager), spare)


@built
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("function", FUNCTIONS)
def test_equal_to_the_eager_op(function, case, dtype):
    assert not check(function, inputs(dtype=dtype, **CASES[case]))


@built
@pytest.mark.parametrize("narrow", [False, True])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_maps(dtype, narrow):
    given = inputs((2, 12, 5, 7), dtype)
    result = torch.bfloat16 if narrow else torch.float32

    def maps(m, scalars, alpha):
        return eager.attention_map(m, *scalars), eager.mask_update(m, alpha)

    found = torch.ops.lbam_native.maps(given.m, given.scalars, given.alpha, narrow)
    plain = [x.to(result) for x in maps(given.m.float(), given.scalars, given.alpha)]
    assert not excess(found, plain, maps(given.m.double(), given.scalars.double(), given.alpha.double()))
    alone, none = torch.ops.lbam_native.maps(given.m, given.scalars, None, narrow)
    assert torch.equal(alone, found[0]) and none.numel() == 0
    none, alone = torch.ops.lbam_native.maps(given.m, None, given.alpha, narrow)
    assert torch.equal(alone, found[1]) and none.numel() == 0


@built
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_one_mask_for_many(dtype):
    given = inputs((3, 12, 4, 6), dtype)
    assert not check("attend", given._replace(m=given.m[1:2]))


@built
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("function", FUNCTIONS)
def test_positions_and_channels(function, dtype):
    """[positions, channels] in place of [N, C, H, W]."""
    given = inputs((3, 12, 4, 6), dtype)
    flat = Inputs(*(x.permute(0, 2, 3, 1).flatten(0, 2) if isinstance(x, Tensor) and x.ndim == 4 else x for x in given))
    pairs = zip(flat.run(function, torch.ops.lbam_native), given.run(function, torch.ops.lbam_native), strict=True)
    for found, expected in pairs:
        assert torch.equal(found, expected.permute(0, 2, 3, 1).flatten(0, 2) if expected.ndim == 4 else expected)


@built
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("function", FUNCTIONS)
def test_threads_change_no_bit(function, dtype):
    given = inputs((2, 64, 64, 65), dtype)
    threads = torch.get_num_threads()
    results = []
    for count in (1, 2, 3):
        torch.set_num_threads(count)
        results.append(given.run(function, torch.ops.lbam_native))
    torch.set_num_threads(threads)
    for other in results[1:]:
        assert all(map(torch.equal, results[0], other))


@built
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("factor", [1e-6, 1e4])
@pytest.mark.parametrize("function", FUNCTIONS)
def test_values_of_any_size(function, factor, dtype):
    given = inputs((1, 12, 5, 7), dtype)
    assert not check(function, given._replace(m=given.m * factor), spare=16)


@built
def test_nothing_at_all():
    """A batch of none has results as eager has: no element, sums of 0."""
    given = inputs((2, 12, 5, 7))
    empty = Inputs(*(x[:0] if isinstance(x, Tensor) and x.ndim == 4 else x for x in given))
    for function in ("attend", "attend_backward"):
        for found, expected in zip(empty.run(function, torch.ops.lbam_native), empty.run(function, eager), strict=True):
            assert torch.equal(found, expected)


@built
@pytest.mark.parametrize(
    ("message", "change"),
    [
        ("float32 or bfloat16", lambda x: {"features": x.features.half()}),
        ("float32 or bfloat16", lambda x: {"m": x.m.double()}),
        ("features: expected a dense channels_last", lambda x: {"features": x.features.contiguous()}),
        ("features: expected a dense channels_last", lambda x: {"features": x.features[:, :, ::2], "m": x.m[:, :, ::2]}),
        ("features: expected a dense channels_last", lambda x: {"features": x.features[0]}),
        ("m: expected the shape", lambda x: {"m": x.m[:2]}),
        ("m: expected the shape", lambda x: {"m": channels_last(x.m[:, :4])}),
        ("scalars: expected", lambda x: {"scalars": x.scalars[:3]}),
        ("scalars: expected", lambda x: {"scalars": x.scalars.double()}),
        ("alpha: expected", lambda x: {"alpha": x.scalars}),
        ("scale, shift: expected", lambda x: {"shift": None}),
        ("scale, shift: expected", lambda x: {"scale": x.scale[:5]}),
    ],
)
@pytest.mark.parametrize("function", ["attend", "attend_backward"])
def test_what_does_not_fit_is_refused(function, message, change):
    given = inputs((3, 12, 4, 6))
    with pytest.raises(ValueError, match=message):
        given._replace(**change(given)).run(function, torch.ops.lbam_native)


@built
def test_a_mask_of_one_has_no_backward():
    given = inputs((3, 12, 4, 6))
    for function in FUNCTIONS[1:]:
        with pytest.raises(ValueError, match="m: expected the shape of features"):
            given._replace(m=given.m[:1]).run(function, torch.ops.lbam_native)


@built
@pytest.mark.parametrize("fault", ["an exponent", "a sign", "a NaN", "a dtype", "a layout"])
def test_the_comparison_catches_a_fault(fault):
    given = inputs((1, 12, 5, 7))
    plain, exact = given.run("attend_backward", eager), given.double().run("attend_backward", eager)
    wrong = {
        "an exponent": given._replace(alpha=given.alpha * (1 + 1e-5)),
        "a sign": given._replace(scale=-given.scale),
        "a NaN": given._replace(dy=given.dy.clone().index_fill_(3, torch.tensor(2), float("nan"))),
        "a dtype": given._replace(features=given.features.bfloat16()),
        "a layout": given,
    }
    found = wrong[fault].run("attend_backward", torch.ops.lbam_native)
    if fault == "a layout":
        assert not excess(found, plain, exact)
        found = [x.contiguous() for x in found]
    assert excess(found, plain, exact)


@cache
def told_of_an_unknown_set() -> subprocess.CompletedProcess[str]:
    """What names those that this processor has."""
    return run("-c", "from lbam_fast import native; print(native.unavailable()); native.ops()", LBAM_CPU="sse9")


@built
@pytest.mark.parametrize("name", native.INSTRUCTION_SETS)
def test_every_instruction_set(name):
    """The one that runs here is tested by the other tests; the rest in a process of their own."""
    if name == native.instruction_set() or "LBAM_CPU" in os.environ:
        return
    known = re.search("this processor has (.*)", told_of_an_unknown_set().stdout)[1]
    if name not in re.findall(r"\w+", known):
        pytest.skip(f"this processor has no {name}")
    tests = run("-m", "pytest", "-q", "-p", "no:cacheprovider", __file__, "-k", "not unavailable", LBAM_CPU=name)
    assert tests.returncode == 0, tests.stdout


@built
def test_the_named_instruction_set_runs():
    assert native.instruction_set() == os.environ.get("LBAM_CPU", native.instruction_set())


@built
def test_an_unknown_instruction_set_is_unavailable():
    result = told_of_an_unknown_set()
    assert result.stdout.startswith("the environment variable LBAM_CPU is 'sse9': this processor has plain")
    assert "NativeError: the compiled CPU kernels cannot be used: the environment variable LBAM_CPU" in result.stderr


def run(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", **variables}
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False, env=environment, cwd=ROOT)


@pytest.mark.parametrize(
    ("status", "library", "reason"),
    [
        (None, None, "they were not built; install lbam-fast"),
        ({"cpu": "no C++ compiler was found; install one", "cuda": ""}, None, "no C\\+\\+ compiler was found; install one"),
        ({"cpu": "", "cuda": ""}, None, "Could not load this library"),
        ({"cpu": "", "cuda": ""}, b"not a library", "Could not load this library: .*(invalid|too short|not a)"),
    ],
)
def test_unavailable_kernels_say_why(status, library, reason, tmp_path, monkeypatch):
    monkeypatch.setattr(native, "FOLDER", tmp_path)
    monkeypatch.setattr(native, "unavailable", native.unavailable.__wrapped__)
    if status is not None:
        (tmp_path / "status.json").write_text(json.dumps(status))
    if library is not None:
        (tmp_path / "lbam_native_cpu.so").write_bytes(library)
    for use in (native.ops, native.ops, native.instruction_set):
        with pytest.raises(native.NativeError, match=f"the compiled CPU kernels cannot be used: {reason}"):
            use()


def test_importing_native_loads_no_torch_and_unavailable_kernels_are_no_error():
    assert run("-c", "import sys, lbam_fast.native; print('torch' in sys.modules)").stdout == "False\n"
