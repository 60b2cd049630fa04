"""The page that a first run on a GPU will be held against: of the network's shapes, and nobody's typing."""

import dataclasses

import predict
import pytest

H100, H200 = predict.GPUS


def test_the_page_is_what_the_shapes_give():
    assert predict.PAGE.read_text(encoding="utf-8") == predict.page()


def test_every_table_has_its_place():
    assert "<" not in predict.page().replace("<=", "")


@pytest.mark.parametrize(("size", "milliseconds"), [((256, 256, 1), 0.063), ((256, 256, 16), 0.47), ((256, 256, 64), 1.85)])
def test_the_floors_are_those_of_the_accounting(size, milliseconds):
    assert sum(op.floor(H100) for op in predict.ops(*size)) * 1e3 == pytest.approx(milliseconds, rel=0.01)


def test_all_fused_ops_are_there():
    names = [op.name for op in predict.ops(256, 256, 1)]
    assert len(names) == len(set(names)) == 20
    maps = predict.with_maps(predict.ops(256, 256, 1), 256, 256, 1)
    assert len(maps) == 14 and sum(op.flop for op in maps) < 0.61 * sum(op.flop for op in predict.ops(256, 256, 1))


@pytest.mark.parametrize("size", predict.SIZES)
def test_nothing_is_expected_below_its_floor(size):
    for gpu in predict.GPUS:
        for op in predict.ops(*size):
            assert op.expected(gpu) > op.floor(gpu)
            assert op.expected(dataclasses.replace(gpu, product=gpu.product / 10)) >= op.expected(gpu)


def test_deep_levels_share_out_their_taps_and_large_ones_do_not():
    small, large = ({op.name: op.splits(H200) for op in predict.ops(256, 256, batch)} for batch in (1, 64))
    assert small["ec7"] > 1 and small["ec1"] == 1 and large["ec4"] == 1
