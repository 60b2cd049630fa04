"""The encoder's Triton kernel in the interpreter against the eager ops in float64."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product

import pytest
import torch
import torch.nn.functional as F
from golden import recipe
from interpreted import as_on_a_gpu  # noqa: F401 - applies itself
from networks import masks, one_thread  # noqa: F401
from torch import Tensor

from lbam_fast.kernels import encoder, epilogue
from lbam_fast.ops import Affine, Gate, Wanted
from lbam_fast.ops.backends import eager

DTYPES = (torch.float32, torch.float16)
SLACK = 2e-5
"""Of the result's scale, beside twice the error of eager PyTorch."""


@dataclass
class Layer:
    """Operands of one encoder layer."""

    x: Tensor
    u: Tensor
    weight: Tensor
    mask_weight: Tensor
    scalars: Tensor
    alpha: Tensor
    scale: Tensor | None
    shift: Tensor | None
    slope: float = 0.2

    def to(self, dtype: torch.dtype) -> "Layer":
        """The four tensors of the convolutions in ``dtype``; the rest in at least float32."""
        wide = torch.promote_types(dtype, torch.float32)
        narrow = {name: getattr(self, name).to(dtype) for name in ("x", "u", "weight", "mask_weight")}
        others = ((name, getattr(self, name)) for name in ("scalars", "alpha", "scale", "shift"))
        return replace(self, **narrow, **{name: None if each is None else each.to(wide) for name, each in others})

    @property
    def gate(self) -> Gate:
        return Gate(self.scalars, self.alpha)

    @property
    def affine(self) -> Affine:
        return Affine(self.scale, self.shift, self.slope)

    def encode(self, ops, update: bool = True, keep: bool = False, **options) -> tuple[Tensor, ...]:
        filters = (self.weight, self.mask_weight)
        return ops.encode(self.x, self.u, *filters, self.gate, self.affine, Wanted(update, keep), None, **options)

    def mask_step(self, ops, update: bool = True, keep: bool = False, **options) -> tuple[Tensor, ...]:
        return ops.mask_step(self.u, self.mask_weight, self.gate, Wanted(update, keep), None, **options)


def layer(
    x_channels: int,
    outputs: int,
    batch: int = 1,
    height: int = 8,
    width: int = 12,
    u_channels: int | None = None,
    kind: str = "irregular",
    affine: bool = False,
    mask_kernel: int = 4,
) -> Layer:
    """In float64, with every value exact in float16. The mask's channels are its first, ramped so that none equals another."""
    g = recipe.rng(x_channels * outputs, kind)
    u_channels = x_channels if u_channels is None else u_channels
    mask = masks(*[kind] * batch, height=height, width=width)[:, :1]
    ramp = torch.linspace(1, 0.5, u_channels, dtype=torch.float64).view(-1, 1, 1)
    tensors = {
        "x": torch.from_numpy(g.normal(size=(batch, x_channels, height, width))),
        "u": mask * ramp,
        "weight": torch.from_numpy(recipe.weight(0, "conv", (outputs, x_channels, 4, 4))),
        "mask_weight": torch.from_numpy(recipe.weight(0, "maskConv", (outputs, u_channels, mask_kernel, mask_kernel))),
    }
    norm = {name: torch.from_numpy(g.uniform(0.6, 1.4, outputs)) if affine else None for name in ("scale", "shift")}
    scalars = torch.tensor([1.5, 1.1, 1.2, 0.7], dtype=torch.float64)
    exact = {name: each.half().double() for name, each in tensors.items()}
    return Layer(**exact, scalars=scalars, alpha=torch.tensor(0.8, dtype=torch.float64), **norm)


def check(results: Sequence[Tensor], eagers: Sequence[Tensor], references: Sequence[Tensor]) -> None:
    """Every result within the error budget, in channels_last and of its operands' type; or empty where the reference is."""
    for result, plain, reference in zip(results, eagers, references, strict=True):
        assert result.shape == reference.shape and result.dtype == plain.dtype
        if reference.numel():
            assert result.dim() < 4 or result.is_contiguous(memory_format=torch.channels_last)
            assert result.isfinite().all()
            slack = SLACK * reference.abs().max()
            assert (result - reference).abs().max() <= 2 * (plain - reference).abs().max() + slack


def check_forward(case: Layer, dtype: torch.dtype, update: bool = True, keep: bool = False) -> None:
    low = case.to(dtype)
    check(*(each.encode(ops, update, keep) for each, ops in ((low, encoder), (low, eager), (case, eager))))


def check_mask(case: Layer, dtype: torch.dtype, update: bool = True, keep: bool = False) -> None:
    low = case.to(dtype)
    check(*(each.mask_step(ops, update, keep) for each, ops in ((low, encoder), (low, eager), (case, eager))))


@pytest.fixture(autouse=True)
def poisoned(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fresh memory holds NaN: an element that is not written shows."""
    empty = torch.empty
    monkeypatch.setattr(torch, "empty", lambda *args, **options: empty(*args, **options).fill_(torch.nan))


@pytest.mark.sampled("channels", "dtype")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("channels", "outputs", "batch", "height", "width"),
    [(4, 8, 3, 12, 8), (8, 16, 3, 8, 12), (16, 32, 1, 4, 6), (32, 24, 3, 2, 2), (20, 72, 1, 6, 10), (64, 8, 1, 4, 6)],
)
def test_layers(channels, outputs, batch, height, width, dtype):
    check_forward(layer(channels, outputs, batch, height, width), dtype)


@pytest.mark.sampled("channels", "dtype", "crowded")
@pytest.mark.parametrize("crowded", [False, True])
@pytest.mark.parametrize("channels", [4, 8])
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_tile_for_many_positions(channels, dtype, crowded, monkeypatch):
    tile, few = (encoder.choose_tile("bf16", channels, channels, positions, 512, crowded) for positions in (65536, 16))
    assert crowded or tile.block_m > few.block_m
    monkeypatch.setattr(encoder, "choose_tile", lambda *_: tile)
    check_forward(layer(channels, 72, batch=3, height=10, width=20), dtype)


@pytest.mark.parametrize("precision", ["fp32", "tf32", "fp16", "bf16"])
def test_no_tile_has_more_warps_than_the_loop_bears(precision):
    for channels, mask_channels, positions, crowded in product((0, 4, 64), (0, 4, 64), (16, 65536), (False, True)):
        assert encoder.choose_tile(precision, channels, mask_channels, positions, 512, crowded).num_warps <= 4


@pytest.mark.sampled("kind", "channels", "dtype")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", ["hole", "known", "pixel", "soft"])
@pytest.mark.parametrize("channels", [4, 8])
def test_masks(kind, channels, dtype):
    check_forward(layer(channels, 8, kind=kind), dtype)
    check_mask(layer(channels, 8, kind=kind), dtype)


@pytest.mark.sampled("update", "keep", "affine", "slope", "dtype")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("update", "keep", "affine", "slope"),
    [(True, False, True, 0.2), (False, True, False, 0.2), (True, True, True, 1.0), (False, False, False, 1.0)],
)
def test_options(update, keep, affine, slope, dtype):
    case = replace(layer(8, 16, affine=affine), slope=slope)
    check_forward(case, dtype, update, keep)
    check_mask(case, dtype, update, keep)


@pytest.mark.sampled("x_channels", "u_channels", "dtype")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("x_channels", "u_channels"), [(4, 1), (4, 3), (3, 1), (3, 3), (6, 1), (6, 3)])
def test_thin_layers(x_channels, u_channels, dtype):
    case = layer(x_channels, 16, batch=3, u_channels=u_channels)
    check_forward(case, dtype, keep=True)
    check_mask(case, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("x_channels", "u_channels"), [(8, 3), (64, 7)])
def test_channels_of_both_halves_may_differ(x_channels, u_channels, dtype):
    check_forward(layer(x_channels, 16, height=4, width=6, u_channels=u_channels, affine=True), dtype, keep=True)


@pytest.mark.sampled("x_channels", "dtype")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("x_channels", "u_channels"), [(4, 1), (4, 3), (8, 8)])
def test_mask_filters_of_3x3(x_channels, u_channels, dtype):
    case = layer(x_channels, 8, batch=3, u_channels=u_channels, mask_kernel=3)
    check_forward(case, dtype, keep=True)
    check_mask(case, dtype)


def statistics(case: Layer, ops) -> tuple[Tensor, ...]:
    return ops.encode_with_statistics(case.x, case.u, case.weight, case.mask_weight, case.scalars)


@pytest.mark.sampled("channels", "dtype")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("channels", "outputs", "batch", "height", "width"),
    [
        (8, 16, 3, 8, 12),
        (4, 8, 3, 20, 30),
        (16, 72, 1, 2, 2),
    ],  # within a block, over several of which the last is short, one value
)
def test_statistics(channels, outputs, batch, height, width, dtype):
    case = layer(channels, outputs, batch, height, width)
    check(*(statistics(each, ops) for each, ops in ((case.to(dtype), encoder), (case.to(dtype), eager), (case, eager))))


def test_statistics_far_from_zero():
    """A mean that is large beside the spread, where a sum of squares would lose all digits."""
    case = layer(8, 8, 3, 20, 30, kind="known")
    case = replace(case, x=1000 + case.x / 100, weight=case.weight.abs())
    low, exact = statistics(case.to(torch.float32), encoder), statistics(case, eager)
    assert (low[3] - exact[3]).abs().max() < 1e-3 * exact[3].abs().max()


def test_blocks_counted_wrongly_are_noticed(monkeypatch):
    monkeypatch.setattr(encoder, "blocks_of", lambda values, block, device: torch.full((-(-values // block),), float(block)))
    with pytest.raises(AssertionError):
        test_statistics(4, 8, 3, 20, 30, torch.float32)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("channels", [3, 8])
def test_bare_convolution(channels, dtype):
    case = layer(channels, 16, batch=3)
    low = case.to(dtype)
    check(*([ops.convolution(each.x, each.weight)] for each, ops in ((low, encoder), (low, eager), (case, eager))))


def eager_with_map(case: Layer, attention: Tensor) -> Tensor:
    product = eager.convolution(case.x, case.weight) * attention
    if case.scale is not None and case.shift is not None:
        product = product * case.scale.view(-1, 1, 1) + case.shift.view(-1, 1, 1)
    return F.leaky_relu(product, case.slope).to(case.x.dtype)


@pytest.mark.sampled("channels", "shared", "affine", "dtype")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("channels", [3, 16])
@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("affine", [True, False])
def test_features_with_a_map(channels, shared, affine, dtype):
    case = layer(channels, 8, batch=3, kind="soft", affine=affine)
    low = case.to(dtype)
    attention = replace(low, u=low.u[:1] if shared else low.u).mask_step(eager, update=False)[0]
    result = encoder.encode_with_map(low.x, low.weight, attention, low.affine)
    check([result], [eager_with_map(low, attention)], [eager_with_map(case, attention.double())])


def strided(x: Tensor) -> Tensor:
    """The same values, every second of a wider tensor's."""
    return torch.stack([x, x + 1], dim=-1).flatten(-2)[..., ::2]


@pytest.mark.sampled("channels", "layout")
@pytest.mark.parametrize(
    "layout", [strided, lambda x: x.contiguous(memory_format=torch.channels_last), lambda x: x.mT.contiguous().mT]
)
@pytest.mark.parametrize(("channels", "u_channels"), [(4, 1), (8, 8)])
def test_any_layout_gives_the_same_bits(channels, u_channels, layout):
    low = layer(channels, 8, batch=3, u_channels=u_channels, affine=True).to(torch.float32)
    moved = replace(low, x=layout(low.x), u=layout(low.u), weight=layout(low.weight), mask_weight=layout(low.mask_weight))
    results, again = (each.encode(encoder, keep=True) for each in (low, moved))
    assert all(torch.equal(one, other) for one, other in zip(results, again, strict=True))


def test_an_empty_batch():
    low = layer(8, 8).to(torch.float32)
    for result in replace(low, x=low.x[:0], u=low.u[:0]).encode(encoder, keep=True):
        assert result.shape == (0, 8, 4, 6)


def test_tf32_is_an_option():
    low = layer(8, 8).to(torch.float32)
    for result, plain in zip(low.encode(encoder, tf32=True), low.encode(eager), strict=True):
        torch.testing.assert_close(result, plain, rtol=1e-2, atol=1e-2)


def test_garbage_beyond_the_picture_is_not_read():
    """A picture in the middle of NaN: bounds that are off by one would let them in."""
    case = layer(4, 8, batch=2)
    wide = torch.full((4, 4, 8, 12), torch.nan, dtype=torch.float32).contiguous(memory_format=torch.channels_last)
    wide[1:3] = case.x
    around = replace(case.to(torch.float32), x=wide[1:3])
    assert around.x.is_contiguous(memory_format=torch.channels_last)
    check(around.encode(encoder), case.to(torch.float32).encode(eager), case.encode(eager))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["attention_map", "mask_update", "activation"])
def test_a_wrong_formula_is_noticed(name, dtype, monkeypatch):
    right = getattr(epilogue, name)
    monkeypatch.setattr(epilogue, name, lambda value, *others: right(value, *others) * 1.01)
    with pytest.raises(AssertionError):
        check_forward(layer(8, 16), dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("operand", ["x", "u", "weight", "mask_weight", "scalars"])
def test_a_wrong_operand_is_noticed(operand, dtype):
    case = layer(8, 16)
    wrong = replace(case, **{operand: getattr(case, operand).flip(-1)}).to(dtype)
    with pytest.raises(AssertionError):
        check(wrong.encode(encoder), case.to(dtype).encode(eager), case.encode(eager))


def test_an_element_left_out_is_noticed(monkeypatch):
    low = layer(8, 16, batch=3).to(torch.float32)
    complete = low.encode(eager)
    monkeypatch.setattr(encoder.triton, "cdiv", lambda a, b: max(a // b - 1, 1))
    with pytest.raises(AssertionError):
        check(low.encode(encoder), complete, complete)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"u": (1, 8, 8, 12)}, "alike in batch"),
        ({"u": (2, 8, 8, 10)}, "alike in batch"),
        ({"mask_weight": (8, 8, 4, 4)}, "equally many outputs"),
        ({"weight": (16, 8, 3, 3)}, "does not fit"),
        ({"mask_weight": (16, 8, 5, 5)}, "does not fit"),
        ({"mask_weight": (16, 4, 4, 4)}, "does not fit"),
        ({"x": (2, 8, 7, 12), "u": (2, 8, 7, 12)}, "must be even"),
    ],
)
def test_operands_that_do_not_fit(change, message):
    low = layer(8, 16, batch=2).to(torch.float32)
    wrong = replace(low, **{name: torch.zeros(shape) for name, shape in change.items()})
    with pytest.raises(ValueError, match=message):
        wrong.encode(encoder)


def test_types_that_do_not_fit():
    case = layer(8, 16)
    with pytest.raises(ValueError, match="float32, float16 or bfloat16"):
        case.encode(encoder)
    with pytest.raises(ValueError, match="float32, float16 or bfloat16"):
        replace(case.to(torch.float32), weight=case.weight.half()).encode(encoder)
    low = case.to(torch.float32)
    with pytest.raises(ValueError, match="one type"):
        replace(low, u=low.u.half(), mask_weight=low.mask_weight.half()).encode(encoder)
    with pytest.raises(ValueError, match="does not fit"):
        encoder.encode_with_map(low.x, low.weight, low.x, Affine(slope=0.2))


def test_shipped_configurations_are_whole():
    assert len({each.name for each in encoder.SHIPPED}) == len(encoder.SHIPPED)
    for each in encoder.SHIPPED:
        assert {*each.signature, *each.constants} == set(each.kernel.arg_names)
        assert not set(each.signature) & set(each.constants) and set(each.aligned) <= set(each.signature)
