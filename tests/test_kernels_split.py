"""Layers whose inner axis is split, in the interpreter: every op against the eager ops in float64, as where it is whole."""

import random
from dataclasses import replace
from functools import cache
from itertools import product
from typing import Any

import pytest
import torch
import triton
import triton.language as tl
from interpreted import as_on_a_gpu  # noqa: F401 - applies itself
from networks import one_thread  # noqa: F401
from test_kernels_decoder import BARE, REVERSE, cast, excess, reverse_case, statistics_errors
from test_kernels_encoder import (
    check,
    check_forward,
    check_mask,
    eager_with_map,
    layer,
    poisoned,  # noqa: F401 - applies itself
    statistics,
)
from triton.runtime import interpreter

from lbam_fast.kernels import counters, decoder, encoder, split
from lbam_fast.ops import Regions
from lbam_fast.ops.backends import eager

DTYPES = (torch.float32, torch.float16)


@pytest.fixture(autouse=True)
def splits(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Layers are split into shares of 48 and more; into how many shares each was."""
    counts: list[int] = []
    workspace = split.workspace

    def counted(programs: int, splits: int, *arguments: Any) -> dict[str, torch.Tensor]:
        counts.append(splits)
        return workspace(programs, splits, *arguments)

    monkeypatch.setattr(split, "LEAST_SHARE", 48)
    monkeypatch.setattr(split, "workspace", counted)
    return counts


@pytest.fixture
def another_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """The interpreter runs the programs of a grid in an order of chance, where it would run them one row after the other."""
    builder, generator = interpreter.interpreter_builder, random.Random(0)
    set_grid_idx = builder.set_grid_idx
    waiting: list[tuple[int, int, int]] = []

    def at_random(*_: int) -> None:
        if not waiting:
            waiting.extend(product(*map(range, builder.grid_dim)))
            generator.shuffle(waiting)
        set_grid_idx(*waiting.pop())

    monkeypatch.setattr(builder, "set_grid_idx", at_random)


def test_the_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    assert split.splits_for(16, 16384, 132) == 8  # a level of 8x8, 4x4 or 2x2 positions with 512 channels, features and mask
    assert split.splits_for(8, 8192, 132) == 16  # its mask alone
    assert split.splits_for(64, 16384, 132) == 2
    assert split.splits_for(64, 1024, 132) == 2
    assert split.splits_for(64, 1023, 132) == 1  # too short to be shared
    assert split.splits_for(67, 16384, 132) == 1  # more than half of the multiprocessors are busy
    assert split.splits_for(16, 16384, 16) == 1
    assert split.splits_for(1, 1024, 132) == 2
    assert split.multiprocessors_of(torch.device("cpu")) == split.MULTIPROCESSORS


DEEP = {
    "a_share_of_a_row": layer(16, 24, 3, 4, 6),
    "several_columns": layer(8, 72, 1, 6, 6),
    "one_position": layer(20, 8, 1, 2, 2),
    "more_shares_than_steps": layer(8, 16, 3, 4, 2, mask_kernel=3),
}


@pytest.mark.sampled("case", "dtype")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", DEEP)
def test_layers(case: str, dtype: torch.dtype, splits: list[int]) -> None:
    check_forward(DEEP[case], dtype)
    check_mask(DEEP[case], dtype)
    assert len(splits) == 2 and min(splits) > 1


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("update", "keep", "affine", "slope"), [(True, False, True, 0.2), (True, True, True, 1.0), (False, False, False, 1.0)]
)
def test_options(update: bool, keep: bool, affine: bool, slope: float, dtype: torch.dtype, splits: list[int]) -> None:
    case = replace(layer(8, 16, 3, affine=affine), slope=slope)
    check_forward(case, dtype, update, keep)
    check_mask(case, dtype, update, keep)
    assert len(splits) == 2


@pytest.mark.parametrize("dtype", DTYPES)
def test_bare_convolution(dtype: torch.dtype, splits: list[int]) -> None:
    case = layer(16, 16, batch=3)
    low = case.to(dtype)
    check(*([ops.convolution(each.x, each.weight)] for each, ops in ((low, encoder), (low, eager), (case, eager))))
    assert splits == [4]


@pytest.mark.sampled("shared", "affine", "dtype")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("affine", [True, False])
def test_features_with_a_map(shared: bool, affine: bool, dtype: torch.dtype, splits: list[int]) -> None:
    case = layer(16, 8, batch=3, kind="soft", affine=affine)
    low = case.to(dtype)
    attention = replace(low, u=low.u[:1] if shared else low.u).mask_step(eager, update=False)[0]
    result = encoder.encode_with_map(low.x, low.weight, attention, low.affine)
    check([result], [eager_with_map(low, attention)], [eager_with_map(case, attention.double())])
    assert splits == [4]


@pytest.mark.parametrize("dtype", DTYPES)
def test_statistics(dtype: torch.dtype, splits: list[int]) -> None:
    case = layer(8, 72, 3, 6, 10)
    check(*(statistics(each, ops) for each, ops in ((case.to(dtype), encoder), (case.to(dtype), eager), (case, eager))))
    *inputs, attention, _ = reverse_case(1, 32, 16, 40, 3, 5)
    scalars = torch.tensor([1.5, 1.1, 1.2, 0.7], dtype=torch.float64)
    assert max(statistics_errors((*inputs, attention, scalars), dtype)) <= 1
    assert len(splits) == 2


@pytest.mark.sampled("case", "dtype")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", ["one_position_two_inputs", "two_inputs", "affine", "shared_map", "several_blocks"])
def test_decode_with_map(case: str, dtype: torch.dtype, splits: list[int]) -> None:
    got = decoder.decode_with_map(*cast(REVERSE[case], dtype))
    assert excess(got, "decode_with_map", REVERSE[case], dtype) <= 1
    assert len(splits) == 1 and got.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("dtype", DTYPES)
def test_deconvolution(dtype: torch.dtype, splits: list[int]) -> None:
    got = decoder.deconvolution(*cast(BARE["two_inputs"], dtype))
    assert excess(got, "deconvolution", BARE["two_inputs"], dtype) <= 1
    assert len(splits) == 1


def test_regions_are_left_out(splits: list[int]) -> None:
    low = layer(8, 16).to(torch.float32)
    wrong = Regions(torch.zeros(24, dtype=torch.int32), torch.ones(24, dtype=torch.uint8), torch.full((16,), torch.nan))
    filters = (low.weight, low.mask_weight)
    results = encoder.encode(low.x, low.u, *filters, low.gate, low.affine, encoder.Wanted(True, False), wrong)
    assert all(map(torch.equal, results, low.encode(encoder)))
    assert len(splits) == 2


def results_of_a_layer() -> tuple[torch.Tensor, ...]:
    low = DEEP["a_share_of_a_row"].to(torch.float32)
    arguments = cast(REVERSE["one_position_two_inputs"], torch.float32)
    return *low.encode(encoder, keep=True), decoder.decode_with_map(*arguments)


@cache
def in_order() -> tuple[torch.Tensor, ...]:
    return results_of_a_layer()


@pytest.fixture
def in_the_usual_order() -> tuple[torch.Tensor, ...]:
    return in_order()


@pytest.mark.usefixtures("in_the_usual_order", "another_order")
def test_any_order_gives_the_same_bits() -> None:
    assert all(map(torch.equal, results_of_a_layer(), in_order()))


@triton.jit
def sum_from_the_last(partial, half, halves: tl.constexpr, at, inside, size, splits: tl.constexpr):
    """Planted fault: it begins with the sum of the program itself."""
    total = tl.zeros(at.shape, tl.float32)
    for step in range(splits):
        split = (tl.program_id(1) + step) % splits
        total += tl.load(partial + (split * halves + half) * size + at, mask=inside, other=0.0)
    return total


@pytest.mark.usefixtures("in_the_usual_order", "another_order")
def test_sums_that_depend_on_the_order_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    for kernels in (encoder, decoder):
        monkeypatch.setattr(kernels, "sum_of", sum_from_the_last)
    assert not all(map(torch.equal, results_of_a_layer(), in_order()))


def test_parts_of_a_pass_are_apart() -> None:
    """No launch meets what another has counted; a pass fills once, as long as there is room."""
    device = torch.device("cpu")
    with counters.one_pass():
        parts = [counters.zeros(count, device) for count in (3, 8, 1)]
        for part in parts:
            part += 1
        assert [len(part) for part in parts] == [4, 8, 4]
        assert len({part.untyped_storage().data_ptr() for part in parts}) == 1
        assert not {part.data_ptr() % 16 for part in parts} - {0}
        whole = counters.zeros(counters.MOST, device)
        assert len(whole) == counters.MOST and not whole.any()
        with counters.one_pass():
            inner = counters.zeros(4, device)
        assert not inner.any() and inner.untyped_storage().data_ptr() != whole.untyped_storage().data_ptr()
    assert not counters.zeros(4, device).any()


def test_another_stream_or_graph_has_zeros_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    device, places = torch.device("cpu"), iter([(0, False), (0, False), (1, True), (0, False)])
    monkeypatch.setattr(counters, "_place", lambda device: (device, *next(places)))
    with counters.one_pass():
        first, same, captured, after = (counters.zeros(4, device).untyped_storage().data_ptr() for _ in range(4))
    assert first == same and len({first, captured, after}) >= 2 and captured != first


def leave_out_a_sum(monkeypatch: pytest.MonkeyPatch) -> None:
    right = split.sum_of
    for kernels in (encoder, decoder):
        monkeypatch.setattr(kernels, "sum_of", lambda *arguments: right(*arguments[:-1], arguments[-1] - 1))


def finish_too_early(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first to arrive adds up sums that are not there."""
    for kernels in (encoder, decoder):
        monkeypatch.setattr(kernels, "is_last", lambda arrived: tl.atomic_add(arrived + tl.program_id(0), 1) == 0)


def leave_out_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    right = split.share_of
    for kernels in (encoder, decoder):
        monkeypatch.setattr(kernels, "share_of", lambda steps: right(steps - 1))


def add_a_step_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    right = split.share_of
    for kernels in (encoder, decoder):
        monkeypatch.setattr(kernels, "share_of", lambda steps: (right(steps)[0] * 0, right(steps)[1]))


@pytest.mark.parametrize("fault", [leave_out_a_sum, finish_too_early, leave_out_a_step, add_a_step_twice])
def test_faults_are_noticed(fault, monkeypatch: pytest.MonkeyPatch) -> None:
    fault(monkeypatch)
    with pytest.raises(AssertionError):
        check_forward(DEEP["a_share_of_a_row"], torch.float32)
    case = REVERSE["one_position_two_inputs"]
    got = decoder.decode_with_map(*cast(case, torch.float32))
    assert not excess(got, "decode_with_map", case, torch.float32) <= 1  # it may be NaN
