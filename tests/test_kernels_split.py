"""Layers whose inner axis is split, in the interpreter: every op against the eager ops in float64, as where it is whole."""

from dataclasses import replace

import pytest
import torch
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

from lbam_fast.kernels import decoder, encoder, split
from lbam_fast.ops import Regions
from lbam_fast.ops.backends import eager

DTYPES = (torch.float32, torch.float16)


@pytest.fixture(autouse=True)
def splits(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Layers are split into shares of 48 and more; into how many shares each was."""
    counts: list[int] = []
    add = split.add_partial_sums

    def counted(partial: torch.Tensor, *arguments: object, **options: object) -> None:
        counts.append(len(partial))
        add(partial, *arguments, **options)

    monkeypatch.setattr(split, "LEAST_SHARE", 48)
    monkeypatch.setattr(split, "LEAST_SAVED", 1)
    monkeypatch.setattr(split, "add_partial_sums", counted)
    return counts


def test_the_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    assert split.splits_for(16, 16384, 132) == 8  # a level of 8x8, 4x4 or 2x2 positions with 512 channels, features and mask
    assert split.splits_for(8, 8192, 132) == 16  # its mask alone
    assert split.splits_for(64, 16384, 132) == 2
    assert split.splits_for(64, 2048, 132) == 1  # shorter than what a second kernel costs
    assert split.splits_for(67, 16384, 132) == 1  # more than half of the multiprocessors are busy
    assert split.splits_for(16, 16384, 16) == 1
    assert split.splits_for(1, 1024, 132) == 1
    assert split.multiprocessors_of(torch.device("cpu")) == split.MULTIPROCESSORS


DEEP = {
    "a_share_of_a_row": layer(16, 24, 3, 4, 6),
    "several_columns": layer(8, 72, 1, 6, 6),
    "one_position": layer(20, 8, 1, 2, 2),
    "more_shares_than_steps": layer(8, 16, 3, 4, 2, mask_kernel=3),
}


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


def test_two_runs_give_the_same_bits() -> None:
    low = DEEP["several_columns"].to(torch.float16)
    assert all(map(torch.equal, low.encode(encoder, keep=True), low.encode(encoder, keep=True)))
    arguments = cast(REVERSE["two_inputs"], torch.float16)
    assert torch.equal(decoder.decode_with_map(*arguments), decoder.decode_with_map(*arguments))


def leave_out_a_sum(monkeypatch: pytest.MonkeyPatch) -> None:
    right = split.sum_of
    monkeypatch.setattr(split, "sum_of", lambda *arguments: right(*arguments[:-1], arguments[-1] - 1))


def leave_out_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    right = split.share_of
    for kernels in (encoder, decoder):
        monkeypatch.setattr(kernels, "share_of", lambda steps: right(steps - 1))


def add_a_step_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    right = split.share_of
    for kernels in (encoder, decoder):
        monkeypatch.setattr(kernels, "share_of", lambda steps: (right(steps)[0] * 0, right(steps)[1]))


@pytest.mark.parametrize("fault", [leave_out_a_sum, leave_out_a_step, add_a_step_twice])
def test_faults_are_noticed(fault, monkeypatch: pytest.MonkeyPatch) -> None:
    fault(monkeypatch)
    with pytest.raises(AssertionError):
        check_forward(DEEP["a_share_of_a_row"], torch.float32)
    got = decoder.decode_with_map(*cast(REVERSE["two_inputs"], torch.float32))
    assert excess(got, "decode_with_map", REVERSE["two_inputs"], torch.float32) > 1


def test_shipped_configurations_are_whole() -> None:
    assert len({each.name for each in split.SHIPPED}) == len(split.SHIPPED)
    for each in split.SHIPPED:
        assert {*each.signature, *each.constants} == set(each.kernel.arg_names)
        assert not set(each.signature) & set(each.constants) and set(each.aligned) <= set(each.signature)
