"""The ops on the compiled kernels for the CPU against ``ops.dispatch.eager`` in float64; what they keep, and until when."""

import copy
import resource
import threading
import weakref

import pytest
import torch
from golden import recipe
from networks import enliven, images, masks, network
from torch import Tensor, nn

import lbam_fast
from lbam_fast import LBAM, native, ops, reference
from lbam_fast.model.engine import Engine
from lbam_fast.ops import Affine, Gate, Regions, Session, Tracker, Wanted
from lbam_fast.ops.arguments import map_tensors
from lbam_fast.ops.backends import cpu, cpu_filters, eager
from lbam_fast.ops.runtime import memory, replay, session
from lbam_fast.ops.runtime.memory import Memory
from lbam_fast.reference import functional

pytestmark = pytest.mark.skipif(bool(native.unavailable()), reason=f"the compiled kernels are missing: {native.unavailable()}")

DTYPES = (torch.float32, torch.bfloat16)
SCALARS, ALPHA = torch.tensor([1.5, 1.1, 1.2, 0.7]), torch.tensor(0.8)
GATE = Gate(SCALARS, ALPHA)
SHAPES = [(1, 16, 24, 4, 6), (3, 5, 7, 2, 2), (3, 40, 33, 12, 20), (1, 64, 40, 32, 24)]  # batch, channels, outputs, height, width


@pytest.fixture(autouse=True, params=[2, 3, 0], ids=["winograd", "large tiles", "direct"])
def tile(request, monkeypatch):
    """Of results a side, where there is a choice."""
    monkeypatch.setattr(cpu_filters, "WINOGRAD_FROM", 1 if request.param else 10**9)
    if request.param == 3:
        monkeypatch.setattr(cpu_filters, "LARGE_TILES_FROM", 0)
        monkeypatch.setattr(cpu_filters, "LARGE_TILES_SIDE", 0)


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.from_numpy(recipe.rng(seed, str(shape)).normal(size=shape)).float()


def filters(*shape: int, fan: int, seed: int = 0) -> Tensor:
    return draw(*shape, seed=seed) * (2 / fan) ** 0.5


def check(name: str, arguments: tuple, dtype: torch.dtype, slack: float = 2e-5) -> None:
    """Twice what eager PyTorch loses in that dtype; Winograd's own roundings of its inputs count twice as many."""
    of_layer = map_tensors(lambda x: x.to(dtype) if x.dim() == 4 else x, arguments)
    exact, plain, found = (
        _results(getattr(module, name)(*(map_tensors(_double, of_layer) if wide else of_layer)))
        for module, wide in ((eager, True), (eager, False), (cpu, False))
    )
    loss = max(float((p.double() - e).abs().max() / e.abs().max()) for p, e in zip(plain, exact, strict=True) if e.numel())
    for result, truth, like in zip(found, exact, plain, strict=True):
        assert result.shape == truth.shape and result.dtype in (like.dtype, torch.float32)  # which maps are always in
        if truth.numel():
            assert result.isfinite().all()
            assert (result.double() - truth).abs().max() <= (4 * loss + slack) * truth.abs().max(), name


def _double(x: Tensor) -> Tensor:
    return x.double() if x.is_floating_point() else x


def _results(results: Tensor | tuple[Tensor, ...]) -> list[Tensor]:
    return [results] if isinstance(results, Tensor) else list(results)


def layer(batch: int, channels: int, outputs: int, height: int, width: int) -> tuple[Tensor, ...]:
    u = draw(batch, channels, height, width, seed=1).abs()
    weights = (
        filters(outputs, channels, 4, 4, fan=16 * channels),
        filters(outputs, channels, 4, 4, fan=16 * channels, seed=2).abs(),
    )
    return draw(batch, channels, height, width), u, *weights


def affine(channels: int, present: bool = True, slope: float = 0.2) -> Affine:
    return Affine(draw(channels, seed=3).exp(), draw(channels, seed=4), slope) if present else Affine(slope=slope)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("present", [True, False])
@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize("shape", SHAPES)
def test_encode(shape, keep, present, dtype):
    check("encode", (*layer(*shape), GATE, affine(shape[2], present), Wanted(True, keep), None), dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_the_other_ops_of_the_encoder(shape, dtype):
    x, u, weight, mask_weight = layer(*shape)
    check("mask_step", (u, mask_weight, GATE, Wanted(True, False), None), dtype)
    check("mask_step", (u, mask_weight, GATE, Wanted(False, True), None), dtype)
    check("encode_with_statistics", (x, u, weight, mask_weight, SCALARS), dtype)
    for maps in (1, shape[0]):
        attention = draw(maps, shape[2], shape[3] // 2, shape[4] // 2, seed=5).abs()
        check("encode_with_map", (x, weight, attention, affine(shape[2], slope=1.0)), dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("skip_channels", [0, 24])
@pytest.mark.parametrize("shape", SHAPES)
def test_the_ops_of_the_decoder(shape, skip_channels, dtype):
    batch, channels, outputs, height, width = shape
    total, own = skip_channels + channels, draw(batch, channels, height, width)
    skip = draw(batch, skip_channels, height, width, seed=1) if skip_channels else None
    for out in (outputs, 3):
        own_weight = filters(channels, out, 4, 4, fan=4 * total)
        skip_weight = filters(skip_channels, out, 4, 4, fan=4 * total, seed=1) if skip_channels else None
        if out == 3 and skip_channels:
            for form in ("tanh", "abs"):
                check("reconstruct", (skip, own, skip_weight, own_weight, form), dtype)
            continue
        for maps in (1, batch):
            attention = draw(maps, out, 2 * height, 2 * width, seed=5).abs()
            check("decode_with_map", (skip, own, skip_weight, own_weight, attention, affine(out)), dtype)
        m = draw(batch, out, 2 * height, 2 * width, seed=5)
        check("decode_with_statistics", (skip, own, skip_weight, own_weight, m, SCALARS), dtype)


@pytest.mark.parametrize("channels", [(4, 1), (4, 3), (3, 1)])
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_first_layer(channels, dtype):
    x, u = draw(3, channels[0], 12, 8), masks("irregular", "soft", "pixel", height=12, width=8)[:, : channels[1]].float()
    weights = filters(16, channels[0], 4, 4, fan=64), filters(16, channels[1], 4, 4, fan=16).abs()
    check("encode", (x, u, *weights, GATE, Affine(slope=0.2), Wanted(True, False), None), dtype)


@pytest.mark.parametrize("autocast", [True, False])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_the_damaged_input_is_the_reference_to_the_bit(layout, dtype, autocast, monkeypatch):
    monkeypatch.setattr(reference, "damaged_input", lambda *given: pytest.fail("the reference ran"))
    for kind, count in (("soft", 1), ("per_channel", 3), ("box", 3)):
        image, mask = (
            images(3).to(dtype),
            masks(kind)[:, : 3 if kind == "per_channel" else 1].to(dtype)[:count].expand(count, -1, -1, -1),
        )
        image = torch.where(mask == 0, torch.nan, image).contiguous(memory_format=layout)[..., 3:-2]
        mask = mask.contiguous(memory_format=layout)[..., 3:-2]
        for channels in (3, 4):
            with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=autocast):
                found = ops.damaged_input(image, mask, channels)
            assert found.is_contiguous(memory_format=torch.channels_last)
            assert found.dtype == (torch.bfloat16 if autocast else dtype)
            assert torch.equal(found, functional.damaged_input(image, mask, channels).to(found.dtype))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", ["irregular", "box", "speckle", "known", "hole", "pixel", "soft", "per_channel"])
def test_what_regions_leave_out_changes_nothing(kind, dtype):
    mask = torch.cat([masks(kind, height=64, width=96), masks("irregular", height=64, width=96).flip(-1)]).float()
    first, second = filters(24, 3, 4, 4, fan=24).abs(), filters(40, 24, 4, 4, fan=192, seed=1).abs()
    tracker = Tracker(mask, [first, second], [ALPHA, ALPHA], dtype)
    for u, weight in ((mask, first), (eager.mask_step(mask, first, GATE, Wanted(True, False), None)[1], second)):
        check("mask_step", (u, weight, GATE, Wanted(True, False), tracker.step()), dtype)


def test_a_wrong_filter_and_a_wrong_kind_are_noticed(monkeypatch):
    x, _, weight, mask_weight = layer(3, 40, 33, 12, 20)
    right = cpu.packed
    monkeypatch.setattr(cpu, "packed", lambda dtype, first, weight, **how: right(dtype, first, weight.flip(0), **how))
    with pytest.raises(AssertionError):
        check("encode_with_map", (x, weight, draw(1, 33, 6, 10).abs(), Affine(slope=0.2)), torch.float32)
    monkeypatch.undo()
    mask = masks("box", height=64, width=96)[:, :1].float()
    order, kinds, constant = Tracker(mask, [mask_weight[:, :1]], [ALPHA], torch.float32).step()
    with pytest.raises(AssertionError):
        check(
            "mask_step",
            (mask, mask_weight[:, :1], GATE, Wanted(True, False), Regions(order, kinds.clamp(max=1), constant)),
            torch.float32,
        )


@pytest.mark.parametrize(("batch", "of", "to", "height", "width"), [(1, 1, 64, 32, 20), (3, 16, 33, 64, 40), (1, 3, 64, 16, 20)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_bare_convolutions(batch, of, to, height, width, dtype, monkeypatch):
    """The thin ones and, in float32, those of many windows by kernels of our own."""
    monkeypatch.setattr(cpu_filters, "WINOGRAD_ANEW_FROM", 128)
    x, weight, back = draw(batch, of, height, width), filters(to, of, 4, 4, fan=16 * of), filters(of, to, 4, 4, fan=4 * of)
    check("convolution", (x, weight), dtype)
    check("deconvolution", (None, x, None, back), dtype)
    check("deconvolution", (draw(batch, 8, height, width), x, filters(8, to, 4, 4, fan=32), back), dtype)


GRADIENTS = [(1, 16, 8, 2, 4), (3, 33, 40, 6, 10), (2, 140, 70, 4, 6), (1, 16, 24, 3, 5), (2, 64, 3, 8, 8)]
"""Batch, channels of both pictures, and the smaller one's size: the last two have an odd side and few channels."""


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("shape", GRADIENTS)
def test_gradients_of_filters(shape, layout, transposed, dtype, monkeypatch):
    batch, few, many, height, width = shape
    small, large = draw(batch, few, height, width), draw(batch, many, 2 * height, 2 * width, seed=1)
    weight = filters(few, many, 4, 4, fan=1).contiguous(memory_format=layout)
    check("filter_gradient", (small, large, weight, transposed), dtype)
    found = [cpu.filter_gradient(small, large, weight, transposed) for _ in range(2)]
    assert torch.equal(*found) and found[0].is_contiguous(memory_format=layout)
    right = eager.filter_gradient
    monkeypatch.setattr(eager, "filter_gradient", lambda small, *others: right(small.roll(1, 2), *others))
    with pytest.raises(AssertionError):
        check("filter_gradient", (small, large, weight, transposed), torch.float32)


def test_threads_change_no_bit_of_the_gradients():
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            small, large, weight = draw(3, 40, 8, 12), draw(3, 72, 16, 24, seed=1), filters(40, 72, 4, 4, fan=1)
            found.append(cpu.filter_gradient(small, large, weight, False))
            assert torch.equal(found[0], found[-1])
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("preset", ["official", "official-2019", "paper"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_sparing_memory_changes_little_and_no_maps(preset, dtype, monkeypatch):
    model, image, mask = network(preset, width=16, dtype=torch.float32), images(1).float(), masks("irregular")[:, :1].float()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
        expected = model(image, mask)
        maps = model.attention_maps(mask)
        kept = [x.clone() for x in (*maps.forward, *maps.reverse)]
        monkeypatch.setattr(session, "SMALL", 0)
        monkeypatch.setattr(session, "LARGE", dict.fromkeys(session.LARGE, 0))
        assert (model(image, mask) - expected).abs().max() < (1e-5 if dtype == torch.float32 else 4e-2)
        assert (model(image, maps=maps) - expected).abs().max() < (1e-5 if dtype == torch.float32 else 4e-2)
        assert all(map(torch.equal, kept, (*maps.forward, *maps.reverse)))


@pytest.mark.sampled("preset", "kind", "tile")
@pytest.mark.parametrize("preset", ["official", "official-2019", "paddle", "paper"])
@pytest.mark.parametrize("kind", ["irregular", "soft"])
def test_a_network_is_the_reference(preset, kind, thorough):
    width = 16 if thorough else 8
    model, exact = network(preset, width=width, dtype=torch.float32), network(preset, width=width)
    image, mask = images(3, 128, 256), masks(kind, "box", "pixel", height=128, width=256)
    with torch.no_grad():
        truth = exact(image, mask)
        given = image.float(), mask.float()
        assert (model(*given) - truth).abs().max() < 2e-5
        assert torch.equal(model(given[0], maps=model.attention_maps(given[1])), model(*given))
        assert (model(given[0], given[1][:1]) - exact(image, mask[:1])).abs().max() < 2e-5
        with lbam_fast.backend("reference"), torch.autocast("cpu", torch.bfloat16):
            plain = (model(*given).double() - truth).square().mean().sqrt()
        with torch.autocast("cpu", torch.bfloat16):
            assert (model(*given).double() - truth).square().mean().sqrt() < 1.2 * plain


def test_threads_change_no_bit():
    model, (image, mask) = network(width=16, dtype=torch.float32), (images(2).float(), masks("irregular", "box").float())
    before, found = torch.get_num_threads(), []
    for dtype in (None, torch.bfloat16):
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            with torch.no_grad(), torch.autocast("cpu", dtype, enabled=dtype is not None):
                found.append(model(image, mask))
        torch.set_num_threads(before)
        assert all(torch.equal(each, found[-1]) for each in found[-3:])


CHANGES = {
    "load_state_dict": lambda model, other: model.load_state_dict(other.state_dict()),
    "copy_": lambda model, other: [p.copy_(q) for p, q in zip(model.parameters(), other.parameters(), strict=True)],
    "mul_": lambda model, other: [p.mul_(1.1) for p in model.parameters()],
    "project_": lambda model, other: ([p.add_(3) for n, p in model.named_parameters() if n.endswith("mu")], model.project_()),
    "setattr": lambda model, other: setattr(model.ec3.conv.conv, "weight", other.ec3.conv.conv.weight),
}


@pytest.mark.sampled
class TestPrepared:
    """What is made of filters follows them."""

    @torch.no_grad()
    @pytest.mark.sampled("change")
    @pytest.mark.parametrize("change", CHANGES)
    def test_it_follows_changes(self, change):
        model, other = network(width=8, dtype=torch.float32), network(width=8, dtype=torch.float32, seed=1)
        image, mask = images(1).float(), masks("irregular").float()
        before = model(image, mask)
        CHANGES[change](model, other)
        with lbam_fast.backend("reference"):
            expected = model(image, mask)
        assert (expected - before).abs().max() > 1e-3
        assert torch.allclose(model(image, mask), expected, rtol=0, atol=2e-5)

    @torch.no_grad()
    def test_it_follows_to_and_back(self):
        model, image, mask = network(width=8, dtype=torch.float32), images(1).float(), masks("irregular").float()
        before = model(image, mask)
        narrow = model.to(torch.bfloat16)(image.bfloat16(), mask.bfloat16())
        assert narrow.dtype == torch.bfloat16
        rounded = model.to(torch.float32)(image, mask)  # on filters that have lost their last digits
        assert not torch.equal(rounded, before) and (rounded - before).abs().max() < 0.1

    @torch.no_grad()
    def test_it_follows_a_step_of_training(self):
        model, image, mask = network(width=8, dtype=torch.float32), images(1).float(), masks("irregular").float()
        model(image, mask)
        with torch.enable_grad():
            model.train()(image, mask).square().mean().backward()
        torch.optim.SGD(model.parameters(), lr=1.0).step()
        model.project_()
        model.eval()
        with lbam_fast.backend("reference"):
            expected = model(image, mask)
        assert torch.allclose(model(image, mask), expected, rtol=0, atol=2e-5)

    @torch.no_grad()
    def test_two_models_and_a_copy_keep_apart(self):
        models = [network(width=8, dtype=torch.float32, seed=seed) for seed in (0, 1)]
        models.append(copy.deepcopy(models[0]))
        enliven(models[2], seed=3)
        image, mask = images(1).float(), masks("irregular").float()
        for model in models * 2:
            with lbam_fast.backend("reference"):
                expected = model(image, mask)
            assert torch.allclose(model(image, mask), expected, rtol=0, atol=2e-5)

    def test_filters_in_halves_are_others(self):
        weight = filters(16, 3, 4, 4, fan=64)
        packed = [
            cpu_filters.packed(torch.bfloat16, None, weight, transposed=True, tile=0, in_halves=halves)
            for halves in (False, True, False)
        ]
        assert packed[0] is packed[2]
        assert (packed[1] is packed[0]) == (not cpu_filters._multiplies_bfloat16())

    def test_a_filter_is_packed_once(self, monkeypatch):
        made = []
        right = cpu_filters._panels
        monkeypatch.setattr(cpu_filters, "_panels", lambda *given: made.append(1) or right(*given))
        weight = filters(8, 8, 4, 4, fan=64)

        def pack():
            cpu_filters.packed(torch.float32, None, weight, transposed=False, tile=0)
            return len(made)

        assert [pack() for _ in range(3)] == [1, 1, 1]
        weight.mul_(2)
        assert pack() == 2
        with Session().active(spare=True):
            assert [pack(), pack()] == [3, 4]

    @torch.no_grad()
    def test_it_lets_go(self):
        """Of what was made of parameters that are gone, at once with the network; of the ops' own, when the next is made."""
        model, given = network(width=8, dtype=torch.float32), (images(1).float(), masks("irregular").float())
        for _ in range(3):
            model(*given)
        own = weakref.ref(model._session)
        assert len(own()._prepared._kept) > 20 and len(own()._tapes._tapes) == 1
        del model
        assert own() is None
        shared = session.current()._prepared
        shared.clear()
        for seed in range(3):
            cpu_filters.packed(torch.float32, None, filters(8, 8, 4, 4, fan=64, seed=seed), transposed=False, tile=0)
        assert len(shared._kept) == 1
        ops.clear()
        assert not shared._kept

    @torch.no_grad()
    def test_many_networks_leave_no_memory(self):
        given = images(1, 512, 512).float(), masks("irregular", height=512, width=512).float()
        sizes = []
        for _ in range(12):
            network(width=16, dtype=torch.float32)(*given)
            sizes.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
        assert sizes[-1] < sizes[3] + (64 << 10)  # KiB

    @torch.no_grad()
    def test_threads(self):
        ops.clear()
        model, image = network(width=8, dtype=torch.float32), images(1).float()
        given = [masks(kind).float() for kind in ("irregular", "box", "soft", "pixel")]
        expected, found = [model(image, mask) for mask in given], {}
        ops.clear()

        def work(i):
            with torch.no_grad():
                found[i] = [model(image, given[i]) for _ in range(3)]

        threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert all(torch.equal(result, expected[i]) for i in range(4) for result in found[i])


@pytest.mark.sampled
class TestTape:
    @staticmethod
    def recorded(model):
        return list(model._session._tapes._tapes.values())

    @pytest.mark.sampled("preset", "dtype")
    @pytest.mark.parametrize("preset", ["official", "official-2019", "paddle"])
    @pytest.mark.parametrize("dtype", DTYPES)
    @torch.no_grad()
    def test_it_gives_what_was_recorded_for_new_inputs(self, preset, dtype, monkeypatch):
        model = network(preset, width=8, dtype=torch.float32)
        given = [
            (images(i + 1)[i:].float(), masks(kind)[:, :1].float()) for i, kind in enumerate(("irregular", "box", "soft", "hole"))
        ]
        maps = model.attention_maps(given[0][1])

        def results():
            with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
                return [f(*x) for f in (model, lambda image, mask: model(image, maps=maps)) for x in given]

        found = results()
        assert [len(each._calls) for each in self.recorded(model)] == ([48, 20] if preset != "official" else [42, 14])
        monkeypatch.setattr(session, "SMALL", 0)
        assert all(map(torch.equal, found, results()))
        assert len({x.data_ptr() for x in found}) == len(found)

    @torch.no_grad()
    def test_it_follows_parameters_and_maps(self):
        model, image, mask = network(width=8, dtype=torch.float32), images(1).float(), masks("irregular")[:, :1].float()
        maps = model.attention_maps(mask)
        first = [model(image, maps=maps) for _ in range(3)][-1]
        assert torch.equal(first, [model(image, mask) for _ in range(3)][-1]) and len(self.recorded(model)) == 2
        maps.reverse[0].mul_(0.5)
        assert not torch.equal(model(image, maps=maps), first)
        for parameter in model.parameters():
            parameter.mul_(0.9)
        with lbam_fast.backend("reference"):
            expected = model(image, mask)
        assert (model(image, mask) - expected).abs().max() < 2e-5

    @pytest.mark.sampled("modes")
    @pytest.mark.parametrize("modes", [(torch.inference_mode, torch.no_grad), (torch.no_grad, torch.inference_mode)])
    def test_it_plays_in_inference_mode_and_outside(self, modes):
        model, image, mask = network(width=8, dtype=torch.float32), images(1).float(), masks("irregular")[:, :1].float()
        found = []
        for mode in modes:
            with mode():
                maps = model.attention_maps(mask)
                for _ in range(3):
                    found += [model(image, mask), model(image, maps=maps)]
        assert all(torch.equal(x, found[0]) for x in found)
        assert [x.is_inference() for x in found[5::6]] == [mode is torch.inference_mode for mode in modes]

    @torch.no_grad()
    def test_networks_in_one_memory_are_told_apart(self):
        models = [network(width=8, dtype=torch.float32) for _ in range(2)]
        for parameter in models[1].parameters():
            parameter.mul_(0.9)
        stacked, buffers_of_all = torch.func.stack_module_state(models)
        given = images(1).float(), masks("irregular")[:, :1].float()
        for i in (0, 0, 0, 1):
            state = {name: x[i] for name, x in (stacked | buffers_of_all).items()}
            assert torch.equal(torch.func.functional_call(models[0], state, given), models[i](*given))

    @torch.no_grad()
    def test_old_parameters_leave_nothing(self):
        model, given = network(width=8, dtype=torch.float32), (images(1).float(), masks("irregular")[:, :1].float())
        for _ in range(3):
            for parameter in model.parameters():
                parameter.mul_(0.99)
            for _ in range(2):
                model(*given)
        assert len(self.recorded(model)) == len(model._session._tapes._seen) == 1

    def test_threads_that_begin_together_still_record(self):
        model, given = network(width=8, dtype=torch.float32), (images(1).float(), masks("irregular")[:, :1].float())
        begin = threading.Barrier(2)

        def work():
            begin.wait()
            with torch.no_grad():
                model(*given)

        threads = [threading.Thread(target=work) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        with torch.no_grad():
            for _ in range(3):
                model(*given)
        assert len(self.recorded(model)) == 1

    @pytest.mark.sampled("name")
    @pytest.mark.parametrize("name", ["attend", "maps"])
    @torch.no_grad()
    def test_kernels_that_give_tensors_are_not_played(self, name):
        def run(x):
            arguments = {"attend": (x, x, SCALARS, ALPHA, None, None, 0.2, True), "maps": (x, SCALARS, ALPHA, False)}
            return getattr(cpu_filters.compiled(), name)(*arguments[name])[0]

        x = draw(1, 8, 4, 4).contiguous(memory_format=torch.channels_last)
        own = Session()
        for factor in range(1, 5):
            assert torch.equal(own.run("this", (), (), (factor * x,), run), run(factor * x))
        assert not own._tapes._tapes

    @torch.no_grad()
    def test_what_is_not_a_kernel_s_is_not_played(self):
        def run(x):
            return cpu.convolution(x, weight) + x.mean()

        x, weight = draw(1, 1, 8, 8), filters(4, 1, 4, 4, fan=16)
        own = Session()
        for factor in range(1, 5):
            assert torch.equal(own.run("this", (weight,), (), (factor * x,), run), run(factor * x))
        assert not own._tapes._tapes

    @torch.no_grad()
    def test_few_are_kept(self):
        model = network(width=8, dtype=torch.float32)
        for width in range(128, 128 * (replay.MOST + 3), 128):
            for _ in range(2):
                model(images(1, 128, width).float(), masks("box", height=128, width=width)[:, :1].float())
        assert len(self.recorded(model)) == replay.MOST

    def test_recording_does_not_import_the_compiler(self):
        """PyTorch wraps a mode's method in what does so at its first call: two seconds of the second picture."""
        assert not hasattr(replay._Watch.__torch_dispatch__, "__wrapped__")


@pytest.mark.sampled
class TestResults:
    """They are tensors like any others, however they came about and whatever was called before."""

    @pytest.mark.sampled("size")
    @pytest.mark.parametrize("size", [128, 640])
    def test_they_are_no_views_and_of_their_own_mode(self, size):
        model, weight = network(width=8, dtype=torch.float32), torch.ones(3, 1, 1, requires_grad=True)
        given = images(1, size, size).float(), masks("irregular", height=size, width=size)[:, :1].float()
        for _ in range(3):
            with torch.inference_mode():
                model(*given)
            with torch.no_grad():
                y, maps = model(*given), model.attention_maps(given[1])
            for x in (y, *maps.forward, *maps.reverse):
                assert not x.is_inference() and not x._is_view()
            y.mul_(weight).sum().backward()

    def test_defaults_of_others_change_nothing(self):
        model, given = network(width=8, dtype=torch.float32), (images(1).float(), masks("irregular")[:, :1].float())
        with torch.no_grad():
            expected = model(*given)
            ops.clear()
            torch.set_default_dtype(torch.float64)
            try:
                with torch.device("meta"):
                    assert torch.equal(model(*given), expected)
            finally:
                torch.set_default_dtype(torch.float32)


@pytest.mark.sampled
class TestBuffers:
    def test_memory_is_used_again_when_nothing_refers_to_it(self):
        buffers, fresh = Memory(), []
        first = buffers.empty((1, 64, 128, 256), torch.float32, fresh.append, False)
        assert first.is_contiguous(memory_format=torch.channels_last) and first.shape == (1, 64, 128, 256)
        at, part = first.data_ptr(), first[0, :2]
        del first
        second = buffers.empty((1, 64, 128, 256), torch.float32, fresh.append, False)
        assert second.data_ptr() != at and len(fresh) == 2
        del part
        assert buffers.empty((1, 64, 128, 200), torch.float32, fresh.append, False).data_ptr() == at and len(fresh) == 2

    def test_memory_that_something_else_holds_is_not_used_again(self):
        buffers = Memory()
        size = (1, 64, 128, 256)
        first = buffers.empty(size, torch.float32, lambda x: None, False)
        at, storage = first.data_ptr(), first.untyped_storage()
        del first
        assert buffers.empty(size, torch.float32, lambda x: None, False).data_ptr() != at
        del storage
        shared = buffers.empty(size, torch.float32, lambda x: None, False)
        shared.share_memory_()  # another process may hold it
        elsewhere = shared.data_ptr()
        del shared
        found = [buffers.empty(size, torch.float32, lambda x: None, False) for _ in range(3)]
        assert elsewhere not in [x.data_ptr() for x in found]

    def test_memory_is_in_use_before_another_thread_can_look(self):
        buffers = Memory()
        first, second = (buffers.flat(1 << 20, torch.float32, lambda x: None, False) for _ in range(2))
        assert first.data_ptr() != second.data_ptr()

    def test_memory_lies_at_other_places_of_a_page(self):
        """Buffers of one size at the same place would take each other's lines of the caches."""
        buffers = Memory()
        held = [buffers.flat(1 << 16, torch.float32, lambda x: None, False) for _ in range(4)]
        assert len({x.data_ptr() % 4096 for x in held}) == 4
        assert all(x.data_ptr() % 64 == 0 for x in held)
        for i, x in enumerate(held):
            x.fill_(i)
        assert all((x == i).all() for i, x in enumerate(held))

    def test_what_is_kept_is_bounded(self, monkeypatch):
        buffers = Memory()
        monkeypatch.setattr(memory, "MOST", 20 << 20)
        for width in range(256, 2048, 256):
            buffers.empty((1, 64, 128, width), torch.float32, lambda x: None, False)
        assert sum(x.memory.nbytes for x in buffers._kept[:-1]) <= 20 << 20

    @pytest.mark.parametrize("megabytes", [1, 16])
    def test_memory_long_of_no_use_is_given_back(self, megabytes):
        """Of results of ever other sizes, it would grow for thousands of them."""
        buffers, gone = Memory(), []
        buffers.flat(megabytes << 18, torch.float32, lambda x: weakref.finalize(x, gone.append, 1), False)
        held = buffers.flat(4 << 18, torch.float32, lambda x: None, False)
        for _ in range(memory.LONG):
            buffers.count_call()
            buffers.flat(8 << 18, torch.float32, lambda x: None, False)
        assert not gone
        buffers.count_call()
        assert gone
        assert [x.memory.data_ptr() for x in buffers._kept if not x.unused()] == [held.data_ptr()]

    @torch.no_grad()
    def test_results_are_the_caller_s(self):
        model, image = network(width=16, dtype=torch.float32), images(1, 512, 512).float()
        results = [model(image, masks(kind, height=512, width=512).float()) for kind in ("irregular", "box")]
        kept = [result.clone() for result in results]
        model(image, masks("hole", height=512, width=512).float())
        assert all(torch.equal(result, copy) for result, copy in zip(results, kept, strict=True))


def test_the_missing_library_is_said_once_and_the_reference_runs(monkeypatch):
    monkeypatch.setattr(ops.dispatch, "unavailable", lambda name: "it was not built" if name == "cpu" else "")
    ops.dispatch._say_once.cache_clear()
    model, image, mask = network(width=2, dtype=torch.float32), images(1).float(), masks("box").float()
    with pytest.warns(UserWarning, match="it was not built"), torch.no_grad():
        result = model(image, mask)
    with lbam_fast.backend("reference"), torch.no_grad():
        assert torch.equal(model(image, mask), result)
    with pytest.raises(lbam_fast.BackendError, match="it was not built"), lbam_fast.backend("cpu"):
        pass
    ops.dispatch._say_once.cache_clear()


def test_parameters_are_not_replaced_by_the_walk_through_them():
    model = LBAM(lbam_fast.LBAMConfig(base_width=2))
    assert {name: id(p) for name, p in model._state().items()} == {
        **{name: id(p) for name, p in model.named_parameters()},
        **{name: id(b) for name, b in model.named_buffers()},
    }
    assert isinstance(model, nn.Module)


@pytest.mark.sampled
class TestMapsOfManyPictures:
    """Those of a mask that the pictures of a batch share are kept for the next batch."""

    @pytest.fixture
    def made(self, monkeypatch):
        found, right = [], Engine._maps
        monkeypatch.setattr(Engine, "_maps", lambda self, *given: found.append(1) or right(self, *given))
        return found

    @torch.no_grad()
    @pytest.mark.sampled("size")
    @pytest.mark.parametrize("size", [128, 512])
    def test_they_are_made_once_and_change_no_bit(self, made, size):
        model, image = network(width=8, dtype=torch.float32), images(2, size, size).float()
        mask = masks("irregular", height=size, width=size)[:, :1].float()
        first = model(image, mask)
        assert torch.equal(model(image, mask.clone()), first) and len(made) == 1
        other = masks("box", height=size, width=size)[:, :1].float()
        assert not torch.equal(model(image, other), first) and len(made) == 2
        for parameter in model.parameters():
            parameter.mul_(0.9)
        with lbam_fast.backend("reference"):
            expected = model(image, mask)
        assert (model(image, mask) - expected).abs().max() < 2e-5 and len(made) == 3

    @torch.no_grad()
    def test_they_take_so_much_memory_and_no_more(self):
        model, image = network(width=8, dtype=torch.float32), images(2).float()
        kept = model._session._kept
        kept._most_bytes = 2 << 20
        for kind in ("irregular", "box", "soft", "pixel", "hole"):
            model(image, masks(kind)[:, :1].float())
        assert 0 < len(kept._values) < 5 and sum(each.nbytes for each in kept._values.values()) <= 2 << 20
        ops.clear()
        assert not kept._values
