"""The decoder's Triton kernels in the interpreter against the eager ops in float64; not in bf16, where its products err."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from interpreted import as_on_a_gpu  # noqa: F401 - applies itself
from networks import one_thread  # noqa: F401
from torch import Tensor

from lbam_fast.kernels import decoder
from lbam_fast.ops import Affine
from lbam_fast.ops.arguments import map_tensors
from lbam_fast.ops.backends import eager

DTYPES = (torch.float32, torch.float16)
SLACK = {torch.float32: 2e-5, torch.float16: 0.0}


Arguments = tuple[object, ...]
Op = Callable[..., Tensor]
Draw = Callable[..., Tensor]


def drawn(seed: int) -> Draw:
    generator = np.random.default_rng(seed)
    return lambda *shape, spread=1.0: torch.from_numpy(generator.normal(0, spread, shape))


def weights(draw: Draw, channels: int, total: int, channels_out: int) -> Tensor:
    """Rows of a filter with ``total`` input channels that keep the signal's size."""
    return draw(channels, channels_out, 4, 4, spread=(2 / (4 * total)) ** 0.5).contiguous(memory_format=torch.channels_last)


def reverse_case(
    batch: int,
    skip: int,
    own: int,
    out: int,
    height: int,
    width: int,
    affine: bool = False,
    map_batch: int = 1,
    slope: float = 0.2,
) -> Arguments:
    """Arguments in float64; ``skip`` of 0 channels is none."""
    draw = drawn(batch + skip + own)
    return (
        draw(batch, skip, height, width) if skip else None,
        draw(batch, own, height, width),
        weights(draw, skip, skip + own, out) if skip else None,
        weights(draw, own, skip + own, out),
        draw(map_batch, out, 2 * height, 2 * width).abs(),
        Affine(draw(out).exp(), draw(out), slope) if affine else Affine(slope=slope),
    )


def reconstruct_case(batch: int, skip: int, own: int, height: int, width: int, form: str = "tanh") -> Arguments:
    """As above."""
    draw = drawn(batch + skip + own)
    return (
        draw(batch, skip, height, width) if skip else None,
        draw(batch, own, height, width),
        weights(draw, skip, skip + own, 3) if skip else None,
        weights(draw, own, skip + own, 3),
        form,
    )


def cast(arguments: Arguments, dtype: torch.dtype) -> Arguments:
    """Vectors (a folded BatchNorm) stay at least float32."""
    wide = torch.promote_types(dtype, torch.float32)
    return tuple(map_tensors(lambda x: x.to(wide if x.dim() == 1 else dtype), arguments))


def excess(got: Tensor, name: str, arguments: Arguments, dtype: torch.dtype) -> float:
    """The largest error against float64, over what is allowed: 1 and less is in the budget; NaN in, NaN out."""
    op: Op = getattr(eager, name)
    rounded = cast(arguments, dtype)
    exact = op(*cast(rounded, torch.float64))
    allowed = 2 * (op(*rounded).double() - exact).abs().max() + SLACK[dtype] * exact.abs().max()
    return float((got.double() - exact).abs().max() / allowed)


def check(name: str, arguments: Arguments, dtype: torch.dtype) -> Tensor:
    got: Tensor = getattr(decoder, name)(*cast(arguments, dtype))
    assert got.dtype == dtype and got.is_contiguous(memory_format=torch.channels_last)
    assert excess(got, name, arguments, dtype) <= 1
    return got


BARE = {
    "one_input": reverse_case(3, 0, 4, 8, 3, 5)[:4],
    "two_inputs": reverse_case(1, 32, 16, 8, 5, 4)[:4],
    "picture": reconstruct_case(3, 8, 4, 5, 4)[:4],
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", BARE)
def test_deconvolution(case: str, dtype: torch.dtype) -> None:
    check("deconvolution", BARE[case], dtype)


def statistics_errors(arguments: Arguments, dtype: torch.dtype) -> list[float]:
    """As ``excess``, of all three results."""
    rounded = cast(arguments, dtype)
    exact, plain = (eager.decode_with_statistics(*cast(rounded, each)) for each in (torch.float64, dtype))
    errors = []
    for got, right, lossy in zip(decoder.decode_with_statistics(*rounded), exact, plain, strict=True):
        assert got.shape == right.shape and got.dtype == lossy.dtype
        allowed = 2 * (lossy.double() - right).abs().max() + 2e-5 * right.abs().max()
        errors.append(float((got.double() - right).abs().max() / allowed))
    return errors


@pytest.mark.sampled("sizes", "dtype")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("sizes", [(3, 0, 4, 8, 3, 5), (1, 32, 16, 40, 10, 13), (1, 8, 8, 4, 1, 1)])
def test_decode_with_statistics(sizes: tuple[int, ...], dtype: torch.dtype) -> None:
    *inputs, attention, _ = reverse_case(*sizes, map_batch=sizes[0])
    scalars = torch.tensor([1.5, 1.1, 1.2, 0.7], dtype=torch.float64)
    assert max(statistics_errors((*inputs, attention, scalars), dtype)) <= 1


def test_blocks_counted_wrongly_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoder, "blocks_of", lambda values, block, device: torch.full((-(-values // block),), float(block)))
    with pytest.raises(AssertionError):
        test_decode_with_statistics((1, 32, 16, 40, 10, 13), torch.float32)


REVERSE = {
    "one_position": reverse_case(1, 0, 16, 16, 1, 1),
    "one_position_two_inputs": reverse_case(3, 8, 16, 32, 1, 1, affine=True),
    "one_row": reverse_case(1, 4, 8, 4, 1, 5),
    "one_column": reverse_case(3, 4, 4, 8, 4, 1, map_batch=3),
    "one_input": reverse_case(3, 0, 4, 8, 3, 5, map_batch=3),
    "two_inputs": reverse_case(3, 32, 16, 32, 5, 4, map_batch=3),
    "affine": reverse_case(1, 8, 32, 8, 4, 7, affine=True),
    "shared_map": reverse_case(3, 16, 16, 8, 3, 4, affine=True),
    "several_blocks": reverse_case(3, 24, 16, 40, 5, 6),
    "no_activation": reverse_case(1, 8, 8, 8, 3, 2, slope=1.0),
}


@pytest.mark.sampled("case", "dtype")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", REVERSE)
def test_decode_with_map(case: str, dtype: torch.dtype) -> None:
    check("decode_with_map", REVERSE[case], dtype)


@pytest.mark.sampled
@pytest.mark.parametrize("block", decoder.BLOCKS["fp16"], ids=lambda block: f"{block.positions}x{block.channels_out}")
def test_every_block_gives_the_same_result(block: decoder.Block, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(decoder.BLOCKS, "fp32", (block,))
    check("decode_with_map", reverse_case(1, 0, 72, block.channels_out + 8, 10, 13, affine=True), torch.float32)


RECONSTRUCT = {
    "one_position": reconstruct_case(1, 16, 16, 1, 1),
    "one_row": reconstruct_case(3, 4, 4, 1, 6, "abs"),
    "one_input": reconstruct_case(1, 0, 8, 3, 4),
    "plain": reconstruct_case(3, 8, 4, 5, 4),
    "abs": reconstruct_case(1, 32, 32, 4, 6, "abs"),
    "two_inputs": reconstruct_case(3, 8, 8, 4, 5),
    "several_blocks": reconstruct_case(1, 72, 8, 9, 8),
}


@pytest.mark.sampled("case", "dtype")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", RECONSTRUCT)
def test_reconstruct(case: str, dtype: torch.dtype) -> None:
    got = check("reconstruct", RECONSTRUCT[case], dtype)
    assert got.min() >= 0 and got.max() <= 1


@pytest.mark.parametrize("form", ["tanh", "abs"])
def test_large_features_saturate(form: str) -> None:
    skip, own, skip_weight, own_weight, *rest = cast(reconstruct_case(1, 4, 4, 3, 3, form), torch.float32)
    got = decoder.reconstruct(1e4 * skip, 1e4 * own, skip_weight, own_weight, *rest)
    assert torch.equal(got, eager.reconstruct(1e4 * skip, 1e4 * own, skip_weight, own_weight, *rest))
    assert set(got.unique().tolist()) <= {0.0, 1.0}


def strewn(x: object) -> object:
    """The same values with gaps between them in memory."""
    if not isinstance(x, Tensor) or x.dim() != 4:
        return x
    wide = torch.full((*x.shape[:3], 2 * x.shape[3]), torch.nan, dtype=x.dtype)
    wide[..., ::2] = x
    return wide[..., ::2]


@pytest.mark.sampled("name", "layout")
@pytest.mark.parametrize("layout", [strewn, lambda x: x.contiguous() if isinstance(x, Tensor) else x], ids=["strewn", "nchw"])
@pytest.mark.parametrize(
    ("name", "arguments"),
    [("decode_with_map", REVERSE["two_inputs"]), ("reconstruct", RECONSTRUCT["two_inputs"])],
    ids=["reverse", "last"],
)
def test_any_layout(name: str, arguments: Arguments, layout: Callable[[object], object]) -> None:
    op: Op = getattr(decoder, name)
    arguments = cast(arguments, torch.float32)
    assert torch.equal(op(*map(layout, arguments)), op(*arguments))


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("decode_with_map", REVERSE["one_position_two_inputs"]),
        ("decode_with_map", REVERSE["several_blocks"]),
        ("reconstruct", RECONSTRUCT["several_blocks"]),
    ],
    ids=["one_position", "several_blocks", "last"],
)
def test_every_element_is_written(name: str, arguments: Arguments, monkeypatch: pytest.MonkeyPatch) -> None:
    empty, allocated = torch.empty, []

    def poisoned(*shape: object, **options: object) -> Tensor:
        allocated.append(empty(*shape, **options).fill_(torch.nan))
        return allocated[-1]

    with monkeypatch.context() as patch:
        patch.setattr(torch, "empty", poisoned)
        got = getattr(decoder, name)(*cast(arguments, torch.float32))
    assert any(got is each for each in allocated)
    assert got.isfinite().all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_comparison_catches_a_fault(dtype: torch.dtype) -> None:
    """One weight of the own input moved by the size of a weight; the other phases' filters are untouched."""
    skip, own, skip_weight, own_weight, *rest = REVERSE["two_inputs"]
    faulty = own_weight.clone()
    faulty[3, 5, 1, 2] += 0.1
    got = decoder.decode_with_map(*cast((skip, own, skip_weight, faulty, *rest), dtype))
    assert excess(got, "decode_with_map", REVERSE["two_inputs"], dtype) > 1


def test_blocks() -> None:
    """Large layers get large blocks, thin and small ones the small."""
    largest, *_, smallest = decoder.BLOCKS["bf16"]
    assert decoder.block_for("bf16", 64 * 64 * 64, 128) == largest
    assert decoder.block_for("bf16", 1, 512) == smallest
    assert decoder.block_for("bf16", 2**20, 4) == smallest
    assert decoder.block_for("bf16", 2**20, 64).channels_out == 64


def test_no_block_has_more_warps_than_the_loop_bears() -> None:
    blocks = [*decoder.THIN_BLOCKS.values(), *(block for blocks in decoder.BLOCKS.values() for block in blocks)]
    assert max(block.num_warps for block in blocks) <= 4


def test_shipped_names_are_unique() -> None:
    assert len({s.name for s in decoder.SHIPPED}) == len(decoder.SHIPPED)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"own": torch.zeros(3, 16, 5, 4, dtype=torch.float64)}, "float64"),
        ({"own_weight": torch.zeros(16, 32, 3, 3)}, "does not fit"),
        ({"skip": torch.zeros(3, 32, 5, 5)}, "do not fit"),
        ({"skip_weight": torch.zeros(32, 31, 4, 4)}, "equally many"),
        ({"attention": torch.zeros(2, 32, 10, 8)}, "map"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_what_does_not_fit_is_refused(changed: dict[str, Tensor], message: str) -> None:
    names = ("skip", "own", "skip_weight", "own_weight", "attention", "affine")
    given = dict(zip(names, cast(REVERSE["two_inputs"], torch.float32), strict=True))
    with pytest.raises(ValueError, match=message):
        decoder.decode_with_map(**{**given, **changed})


def test_a_picture_has_three_channels() -> None:
    skip, own, skip_weight, own_weight, form = cast(RECONSTRUCT["two_inputs"], torch.float32)
    with pytest.raises(ValueError, match="3 channels"):
        decoder.reconstruct(skip, own, skip_weight[:, :2], own_weight[:, :2], form)
