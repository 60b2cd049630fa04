"""The CUDA kernels, run on the CPU thread by thread, against ``ops.backends.eager`` in float64; and again under sanitizers."""

import ctypes
import os
import subprocess
import sys
from pathlib import Path

import emulated
import pytest
import torch
import torch.nn.functional as F
from emulated import Emulated
from golden import recipe
from test_kernels_pointwise import FUNCTIONS, excess, inputs

from lbam_fast.ops.arguments import Affine, Gate, Wanted, map_tensors
from lbam_fast.ops.backends import eager

pytestmark = pytest.mark.skipif(emulated.COMPILER is None or sys.platform != "linux", reason="the emulator needs g++ on Linux")
SANITIZED = bool(os.environ.get("LBAM_CUDA_ON_CPU"))
FLOAT, HALF, BFLOAT16 = torch.float32, torch.float16, torch.bfloat16
RUNS = (Emulated(), Emulated(descending=True), Emulated(unaligned=True))
if SANITIZED and os.environ.get("LBAM_TEST_ALL") != "1":
    RUNS = RUNS[2:]  # a sanitizer sees in any order what the comparison of two sees


def found(compute):
    """The results, which neither the order of the threads nor a second run may change; nor, but by rounding, the alignment."""
    *aligned, unaligned = map(compute, RUNS)
    for second in aligned[1:]:
        assert all(map(torch.equal, aligned[0], second))
    return *aligned[:1], unaligned


def check(compute, plain, exact, spare=4):
    for results in found(compute):
        assert not excess(results, plain, exact, spare)


ATTENDED = {
    "odd batch": {"shape": (3, 8, 5, 7)},
    "64 channels, half": {"shape": (1, 64, 6, 9), "dtype": HALF},
    "72 channels, bfloat16": {"shape": (3, 72, 2, 2), "dtype": BFLOAT16},
    "7 channels, bfloat16": {"shape": (3, 7, 4, 9), "dtype": BFLOAT16, "affine": False},
    "3 channels, half": {"shape": (1, 3, 2, 2), "dtype": HALF, "update": False},
    "1 channel, no activation": {"shape": (1, 1, 9, 31), "slope": 1.0},
    "wider than a block": {"shape": (1, 264, 3, 2), "dtype": HALF, "affine": False, "slope": 1.0, "update": False},
}


@pytest.mark.sampled("case", "function")
@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("case", ATTENDED.values(), ids=ATTENDED.keys())
def test_pointwise(case, function):
    given = inputs(**case)
    compute = getattr(type(given), function)
    check(lambda run: compute(given, run), compute(given, eager), compute(given.double(), eager))


@pytest.mark.parametrize("value", [0.0, 1.375, -1.0, 1e-30])
def test_one_value_of_m_everywhere(value):
    """All hole, at mu, below zero, barely known."""
    given = inputs((1, 8, 6, 4))
    given = given._replace(m=torch.full_like(given.m, value))
    for function in FUNCTIONS:
        compute = getattr(type(given), function)
        check(lambda run, compute=compute: compute(given, run), compute(given, eager), compute(given.double(), eager))


def test_one_mask_for_a_batch():
    given = inputs((7, 8, 3, 5), BFLOAT16)
    one = given._replace(m=given.m[:1], du=None)
    all_ = given._replace(m=one.m.expand_as(given.m), du=None)
    check(lambda run: one.attend(run), all_.attend(eager), all_.double().attend(eager))


def test_statistics_far_from_zero():
    """A variance that squares would lose in the mean."""
    given = inputs((3, 8, 16, 16))
    given = given._replace(m=torch.full_like(given.m, 50), features=given.features + 1000)
    check(given.statistics, given.statistics(eager), given.double().statistics(eager), spare=64)


def double(arguments):
    return map_tensors(lambda x: x.double(), arguments)


def normal(*shape, dtype=FLOAT, std=1.0, seed=0):
    return torch.from_numpy(recipe.rng(seed, str(shape)).normal(0, std, shape)).to(dtype)


def masks(kind, batch, channels, height, width, dtype):
    if kind == "hole":
        return torch.zeros(batch, channels, height, width, dtype=dtype)
    if kind == "known":
        return torch.ones(batch, channels, height, width, dtype=dtype)
    values = torch.from_numpy(recipe.rng(3, kind).uniform(-0.4, 1.4, (batch, channels, height, width)))
    if kind == "soft":
        return values.clamp(0, 1).to(dtype)
    return (F.avg_pool2d(values, 3, 1, 1) > 0.4).to(dtype)


FIRST = {
    "a tile and more": {"size": (1, 20, 36), "channels": (4, 1, 64), "mask": "binary"},
    "more tiles than blocks": {"size": (3, 36, 68), "channels": (4, 3, 8), "mask": "soft", "dtype": HALF},
    "2x2": {"size": (3, 2, 2), "channels": (3, 1, 72), "mask": "binary", "dtype": BFLOAT16},
    "all hole": {"size": (1, 8, 6), "channels": (3, 3, 7), "mask": "hole"},
    "all known": {"size": (1, 6, 8), "channels": (4, 1, 3), "mask": "known", "dtype": HALF},
    "one channel, one mask": {"size": (3, 10, 12), "channels": (4, 1, 1), "mask": "soft", "masks": 1},
    "one mask": {"size": (3, 18, 6), "channels": (4, 3, 16), "mask": "binary", "masks": 1, "dtype": BFLOAT16},
    "plain": {"size": (1, 12, 10), "channels": (4, 1, 64), "mask": "binary", "affine": False, "slope": 1.0, "outputs": False},
}


def first_inputs(case):
    (batch, height, width), (image, mask, channels), dtype = case["size"], case["channels"], case.get("dtype", FLOAT)
    affine, outputs = case.get("affine", True), case.get("outputs", True)
    arguments = (
        normal(batch, image, height, width, dtype=dtype),
        masks(case["mask"], case.get("masks", batch), mask, height, width, dtype),
        normal(channels, image, 4, 4, dtype=dtype, std=0.2),
        normal(channels, mask, 4, 4, dtype=dtype, std=0.4, seed=1),
        Gate(torch.tensor([1.3, 0.375, 1.1, 0.7]), torch.tensor(0.73)),
        Affine(
            normal(channels, std=0.4) + 1 if affine else None,
            normal(channels, std=0.3, seed=1) if affine else None,
            case.get("slope", 0.2),
        ),
    )
    return arguments, (Wanted(outputs, outputs), None)


def encode(rest, image, mask, *others):
    """In plain PyTorch, which knows no mask for many images."""
    results = eager.encode(image, mask.expand(len(image), -1, -1, -1), *others, *rest)
    return tuple(x[: len(mask)] if i in (1, 3) and x.dim() == 4 else x for i, x in enumerate(results))


@pytest.mark.parametrize("case", FIRST.values(), ids=FIRST.keys())
def test_first_layer(case):
    tensors, rest = first_inputs(case)
    check(lambda run: run.encode(*tensors, *rest), encode(rest, *tensors), encode(rest, *double(tensors)))


LAST = {
    "a tile and more": {"size": (1, 18, 34), "channels": (16, 24)},
    "odd batch, half": {"size": (3, 5, 3), "channels": (64, 64), "dtype": HALF},
    "bfloat16": {"size": (3, 2, 6), "channels": (8, 8), "dtype": BFLOAT16},
    "one pixel in, abs": {"size": (1, 1, 1), "channels": (7, 3), "form": "abs"},
    "no skip": {"size": (1, 3, 40), "channels": (0, 20), "form": "abs"},
}


def last_inputs(case):
    (batch, height, width), (skip, own), dtype = case["size"], case["channels"], case.get("dtype", FLOAT)
    inputs = (
        normal(batch, skip, height, width, dtype=dtype) if skip else None,
        normal(batch, own, height, width, dtype=dtype, seed=1),
        normal(skip, 3, 4, 4, dtype=dtype, std=0.1) if skip else None,
        normal(own, 3, 4, 4, dtype=dtype, std=0.1, seed=1),
    )
    return inputs, case.get("form", "tanh")


@pytest.mark.parametrize("case", LAST.values(), ids=LAST.keys())
def test_last_layer(case):
    tensors, form = last_inputs(case)
    exact, plain = eager.reconstruct(*double(tensors), form), eager.reconstruct(*tensors, form)
    check(lambda run: (run.reconstruct(*tensors, form),), (plain,), (exact,))


def window_classes(classes):
    batch, height, width = classes.shape
    windows = F.unfold(classes[:, None].float(), 4, padding=1, stride=2).view(batch, 16, height // 2, width // 2)
    return torch.where((windows == 0).all(1), 0, torch.where((windows == 1).all(1), 1, 2)).byte()


CLASSIFIED = {
    "packs": ((3, 24, 16), 1, BFLOAT16, "binary"),
    "packs of floats, several turns": ((3, 32, 40), 1, FLOAT, "soft"),
    "three channels, odd sizes": ((3, 7, 9), 3, HALF, "soft"),
    "soft": ((1, 6, 4), 1, HALF, "soft"),
    "all hole": ((1, 16, 8), 3, BFLOAT16, "hole"),
    "all known": ((3, 8, 24), 1, FLOAT, "known"),
}


@pytest.mark.sampled("channels", "dtype")
@pytest.mark.parametrize(("size", "channels", "dtype", "kind"), CLASSIFIED.values(), ids=CLASSIFIED.keys())
def test_classes(size, channels, dtype, kind):
    batch, height, width = size
    mask = masks(kind, batch, channels, height, width, dtype)
    expected = torch.where((mask == 0).all(1), 0, torch.where((mask == 1).all(1), 1, 2)).byte()
    for run in RUNS:
        classes, wanted = run.classify_mask(mask), expected
        while True:
            assert torch.equal(classes, wanted)
            kinds, order = wanted.flatten().sort(stable=True)
            assert all(map(torch.equal, run.sorted_positions(classes), (order.int(), kinds)))
            if min(wanted.shape[1:]) < 2:
                break
            classes, wanted = run.classify_next(classes), window_classes(wanted)


def test_classes_tell_what_a_mask_chain_holds():
    mask = torch.zeros(1, 1, 64, 64)
    mask[:, :, :, 29:] = 1
    run, u = Emulated(), mask.double()
    classes = run.classify_mask(mask)
    for level in range(3):
        u = F.conv2d(u, normal(4, u.shape[1], 4, 4, seed=level).double(), stride=2, padding=1).relu()
        classes = run.classify_next(classes)
        holes, known = (u[0, :, (classes == value)[0]] for value in (0, 1))
        assert holes.numel() and known.numel()
        assert not holes.any()
        assert (known - known[:, :1]).abs().max() < 1e-12


def test_unknown_arguments_are_refused():
    for op, name in [
        (emulated.Attend(type=9, parts=1, positions=1, channels=1), "attend"),
        (emulated.Encode(), "encode"),
    ]:
        with pytest.raises(RuntimeError, match="status 1"):
            emulated.call(op, name)


def test_nothing_of_nothing():
    empty = torch.empty(0, 8, 4, 4)
    gate = Gate(torch.tensor([1.3, 1.0, 1.1, 0.7]), torch.tensor(0.8))
    run = Emulated()
    assert run.reconstruct(None, empty, None, normal(8, 3, 4, 4), "tanh").shape == (0, 3, 8, 8)
    assert run.attend_backward(empty, None, empty, empty, gate, Affine(slope=0.2))[2].tolist() == [0, 0, 0, 0]


def fault(name, descending=False):
    """Status and results of a kernel with a planted fault."""
    size = 128
    x = (ctypes.c_float * size)(*range(size))
    emulated.library().cuda_on_cpu_descending(ctypes.c_bool(descending))
    status = getattr(emulated.library(), f"fault_{name}")(x, size)
    return status, list(x)


@pytest.mark.skipif(SANITIZED, reason="planted faults end a sanitized process")
def test_planted_faults_are_caught():
    right = (0, [i + (i // 64 * 64 + (i + 1) % 64) for i in range(128)])
    assert fault("none") == fault("none", descending=True) == right
    ahead = [fault("missing_barrier_ahead", descending) for descending in (False, True)]
    behind = [fault("missing_barrier_behind", descending) for descending in (False, True)]
    assert ahead[0] != ahead[1]
    assert behind[0] != behind[1]
    assert fault("never_written")[1][1] != fault("never_written")[1][1]  # NaN
    assert fault("divided_barrier")[0] == 719


SEEN_BY = {
    "missing_barrier_ahead": ("thread", "data race"),
    "missing_barrier_behind": ("thread", "data race"),
    "beyond_the_end": ("address", "heap-buffer-overflow"),
    "out_of_shared": ("address", "index 64 out of bounds"),
}


@pytest.mark.skipif(SANITIZED, reason="starts such processes")
@pytest.mark.parametrize(("name", "sanitizer", "words"), [(name, *seen) for name, seen in SEEN_BY.items()])
def test_planted_faults_are_caught_by_sanitizers(name, sanitizer, words):
    assert words in faulty(name, sanitizer).stderr
    assert faulty("none", sanitizer).returncode == 0


def faulty(name, sanitizer):
    program = f"import ctypes, os; x = (ctypes.c_float * 128)(); ctypes.CDLL(os.environ['LBAM_CUDA_ON_CPU']).fault_{name}(x, 128)"
    environment = emulated.sanitized(sanitizer, kernels=False)
    return subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)


@pytest.mark.sampled
@pytest.mark.skipif(SANITIZED, reason="starts such processes")
@pytest.mark.parametrize("sanitizer", emulated.SANITIZERS)
def test_all_this_under_a_sanitizer(sanitizer):
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-s", "-p", "no:cacheprovider", Path(__file__)]
    environment = {**emulated.sanitized(sanitizer), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    result = subprocess.run(list(map(str, command)), env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout[-4000:] + result.stderr[-4000:]
