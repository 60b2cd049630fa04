"""The fused ops and the network made of them, in plain PyTorch: against the reference, as torch ops, and what they keep."""

import warnings

import pytest
import torch
from networks import (
    enliven,
    images,
    masks,
    network,
    one_thread,  # noqa: F401 - applies itself
)
from published import Published
from torch import nn
from torch.autograd import gradcheck
from torch.autograd.gradcheck import GradcheckError

import lbam_fast
from lbam_fast import LBAM, PRESETS, ops
from lbam_fast.model.fused import covers
from lbam_fast.ops import Affine, Gate, Wanted, definitions, dispatch
from lbam_fast.ops.backends import eager

COVERED = [name for name, config in PRESETS.items() if covers(config)]


def draw(*shape, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)


def learned(x):
    return x.clone().requires_grad_()


SCALARS = torch.tensor([1.3, 0.4, 1.2, 0.8], dtype=torch.float64)
GATE = Gate(SCALARS, torch.tensor(0.75, dtype=torch.float64))


def layer(dtype=torch.float64):
    """Arguments of a small encoder layer: x, u, weight, mask_weight."""
    return [draw(2, 3, 4, 6, seed=i, dtype=dtype) if i < 2 else draw(5, 3, 4, 4, seed=i, dtype=dtype) / 4 for i in range(4)]


def decoder(dtype=torch.float64):
    """Arguments of a small decoder layer: skip, own, their filters, the map."""
    tensors = [draw(2, 3, 2, 3), draw(2, 4, 2, 3, seed=1), draw(3, 5, 4, 4, seed=2) / 4, draw(4, 5, 4, 4, seed=3) / 4]
    return [x.to(dtype) for x in (*tensors, draw(2, 5, 4, 6, seed=4).abs())]


def affine(channels=5, slope=0.2):
    return Affine(draw(channels, seed=8).abs() + 0.5, draw(channels, seed=9), slope)


def compared(preset, training, forward=lambda model, image, mask: model(image, mask)):
    """(outputs, models) of the reference and of the fused ops, after a backward pass."""
    found = []
    for name in ("reference", "eager"):
        model = network(preset).train(training)
        with lbam_fast.backend(name):
            output = forward(model, images(2), masks("irregular", "box")[:, :1])
            output.square().sum().backward()
        found.append((output.detach(), model))
    return found


def disagreement(first, second):
    """The largest difference of outputs, gradients and buffers, the gradients relative to their own size."""
    (a, model), (b, other) = first, second
    differences = [float((a - b).abs().max())]
    for p, q in zip(model.parameters(), other.parameters(), strict=True):
        if p.grad is not None or q.grad is not None:
            differences.append(float((p.grad - q.grad).abs().max() / p.grad.abs().max().clamp(min=1e-12)))
    differences += [float((p - q).abs().max()) for p, q in zip(model.buffers(), other.buffers(), strict=True)]
    return max(differences)


class TestNetwork:
    @pytest.mark.parametrize("training", [False, True])
    @pytest.mark.parametrize("preset", COVERED)
    def test_it_equals_the_reference_with_all_gradients(self, preset, training):
        assert disagreement(*compared(preset, training)) < 1e-8

    def test_a_wrong_derivative_is_seen(self, monkeypatch):
        right = eager._map_derivatives

        def wrong(m, scalars):
            attention, slope, by_scalar = right(m, scalars)
            return attention, -slope, by_scalar

        monkeypatch.setattr(eager, "_map_derivatives", wrong)
        assert disagreement(*compared("official", False)) > 1e-3

    @pytest.mark.parametrize("preset", COVERED)
    def test_without_gradients(self, preset):
        image, mask = images(2), masks("irregular", "box")[:, :1]
        model = network(preset)
        calls = {
            "fresh": lambda: model(image, mask),
            "one mask": lambda: model(image, mask[:1]),
            "maps": lambda: model(image, maps=model.attention_maps(mask)),
            "three channels": lambda: model(image, torch.cat([mask, 1 - mask, mask], dim=1)),
        }
        with torch.no_grad():
            for name, call in calls.items():
                expected = call()
                with lbam_fast.backend("eager"):
                    assert torch.allclose(call(), expected, rtol=0, atol=1e-12), name

    def test_a_mask_that_many_images_share_can_be_trained_with(self):
        first, second = compared("official", True, lambda model, image, mask: model(image, mask[:1]))
        assert disagreement(first, second) < 1e-8

    def test_garbage_in_holes_changes_nothing(self):
        image, mask = images(1), masks("irregular")[:, :1]
        spoilt = torch.where(mask > 0, image, float("nan"))
        model = network()
        with torch.no_grad(), lbam_fast.backend("eager"):
            assert torch.equal(model(image, mask), model(spoilt, mask))

    @pytest.mark.parametrize("name", ["forward", "unlearned", "sigmoid", "mask3x3", "pconv"])
    def test_other_networks_fall_back_with_one_notice(self, name):
        dispatch._say_once.cache_clear()
        image, mask = images(1), masks("irregular")[:, :1]
        model = network(name)
        with torch.no_grad():
            expected = model(image, mask)
            with lbam_fast.backend("eager"), warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                assert torch.equal(model(image, mask), expected)
                model(image, mask)
        assert [str(w.message) for w in caught] == [f"the preset {name!r} has no fused kernels; plain PyTorch runs instead"]


class TestKeptBytes:
    def kept(self, module, *arguments):
        """Bytes of the storages that autograd keeps, parameters left out."""
        own = {p.untyped_storage().data_ptr() for p in module.parameters()}
        alive, sizes = [], {}

        def pack(x):
            alive.append(x)
            storage = x.untyped_storage()
            if storage.data_ptr() not in own:
                sizes[storage.data_ptr()] = storage.nbytes()
            return x

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
            module(*arguments)
        return sum(sizes.values())

    def test_less_than_a_third_of_the_published_form(self):
        """And the reference, which keeps its maps, would miss the mark."""
        model = LBAM().train()
        published = Published(model.config)
        image, mask = images(1, 256, 256).float(), masks("irregular", height=256, width=256)[:, :1].float()
        whole = self.kept(published, image, mask)
        assert whole == pytest.approx(236e6, rel=0.01)
        with lbam_fast.backend("eager"):
            assert self.kept(model, image, mask) < 0.32 * whole
        with lbam_fast.backend("reference"):
            assert self.kept(model, image, mask) > 0.5 * whole


class TestAutocast:
    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
    def test_activations_are_kept_in_the_low_dtype_and_parameters_stay(self, dtype):
        model = network(dtype=torch.float32).train()
        kept = []
        image, mask = (x.float() for x in (images(2), masks("irregular", "box")[:, :1]))
        hooks = torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x) or x, lambda x: x)
        with lbam_fast.backend("eager"), torch.autocast("cpu", dtype), hooks:
            output = model(image, mask)
        assert output.dtype == dtype
        assert {x.dtype for x in kept if x.dim() == 4 and x.shape[1] > 4 and x.shape[-1] != 4} == {dtype}
        scaler = torch.amp.GradScaler("cpu")
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
        scaler.scale((output.float() - image).square().mean()).backward()
        scaler.step(optimizer)
        scaler.update()
        assert {p.dtype for p in model.parameters()} == {torch.float32}
        assert all(p.grad is not None and p.grad.isfinite().all() for n, p in model.named_parameters() if "ec7" not in n)

    def test_it_loses_no_more_than_the_reference(self):
        model, truth = network(dtype=torch.float32), network()
        image, mask = images(2), masks("irregular", "box")[:, :1]
        with torch.no_grad():
            exact = truth(image, mask)
            errors = []
            for name in ("reference", "eager"):
                with lbam_fast.backend(name), torch.autocast("cpu", torch.bfloat16):
                    errors.append(float((model(image.float(), mask.float()).double() - exact).square().mean().sqrt()))
        assert 0 < errors[1] < 1.2 * errors[0]


def samples():
    """Every op with bundled arguments."""
    x, u, weight, mask_weight = layer()
    skip, own, skip_weight, own_weight, attention = decoder()
    features, m = draw(2, 5, 2, 3), draw(2, 5, 2, 3, seed=1)
    yield definitions.attend, (features, m, GATE, affine(), True)
    yield definitions.attend, (features, m, GATE, Affine(), False)
    yield definitions.encode_with_statistics, (x, u, weight, mask_weight, SCALARS)
    yield definitions.decode_with_statistics, (skip, own, skip_weight, own_weight, draw(2, 5, 4, 6), SCALARS)
    yield definitions.decode_with_statistics, (None, own, None, own_weight, draw(2, 5, 4, 6), SCALARS)
    yield definitions.convolution, (x, weight)
    yield definitions.deconvolution, (skip, own, skip_weight, own_weight)
    yield definitions.deconvolution, (None, own, None, own_weight)
    yield definitions.encode, (x, u, weight, mask_weight, GATE, affine(), Wanted(True, True), None)
    yield definitions.mask_step, (u, mask_weight, GATE, Wanted(True, True), None)
    yield definitions.encode_with_map, (x, weight, draw(1, 5, 2, 3), affine())
    yield definitions.decode_with_map, (skip, own, skip_weight, own_weight, attention, affine())
    yield definitions.decode_with_map, (None, own, None, own_weight, attention, Affine(slope=0.2))
    yield definitions.reconstruct, (skip, own, skip_weight[:, :3], own_weight[:, :3], "tanh")


SAMPLES = [(op.overload.name(), op, bundled) for op, bundled in samples()]


def gradients_agree(op, bundled, fast_mode):
    """Analytic and numerical ones of every tensor; in the fast mode their projection on a random direction."""
    arguments = op.signature.flatten(bundled)
    positions = [i for i, x in enumerate(arguments) if isinstance(x, torch.Tensor)]

    def call(*tensors):
        filled = list(arguments)
        for i, x in zip(positions, tensors, strict=True):
            filled[i] = x
        results = op.overload(*filled)
        return tuple(y for y in ([results] if isinstance(results, torch.Tensor) else results) if y.numel())

    return gradcheck(call, [learned(arguments[i]) for i in positions], fast_mode=fast_mode)


class TestTorchOps:
    @pytest.mark.sampled("name", "learns")
    @pytest.mark.parametrize("learns", [False, True])
    @pytest.mark.parametrize(("name", "op", "bundled"), SAMPLES, ids=[name for name, *_ in SAMPLES])
    def test_opcheck(self, name, op, bundled, learns):
        flat = op.signature.flatten(bundled)
        torch.library.opcheck(op.overload, tuple(learned(x) if learns and isinstance(x, torch.Tensor) else x for x in flat))

    @pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
    def test_opcheck_of_a_filters_gradient(self, layout):
        x, _, weight, _ = layer()
        filters = weight.contiguous(memory_format=layout)
        torch.library.opcheck(definitions.filter_gradient.overload, (draw(2, 5, 2, 3), x, filters, False))

    def test_results_without_gradients_are_channels_last(self):
        x, u, weight, mask_weight = layer()
        arguments = (x, u, weight, mask_weight, GATE, Affine(slope=0.2), Wanted(True, False), None)
        torch.library.opcheck(definitions.encode.overload, tuple(definitions.encode.signature.flatten(arguments)))
        y, new, *absent = definitions.encode(*arguments)
        assert y.is_contiguous(memory_format=torch.channels_last) and new.is_contiguous(memory_format=torch.channels_last)
        assert [x.numel() for x in absent] == [0, 0]

    def test_gradients_are_refused_where_nothing_was_kept(self):
        x, u, weight, mask_weight = layer()
        with pytest.raises(RuntimeError, match="keep=True"):
            ops.encode(learned(x), u, weight, mask_weight, GATE, Affine(slope=0.2), Wanted(True, False), None)
        with pytest.raises(RuntimeError, match="keep=True"):
            ops.mask_step(learned(u), mask_weight, GATE, Wanted(True, False), None)

    @pytest.mark.sampled("name")
    @pytest.mark.parametrize(("name", "op", "bundled"), SAMPLES, ids=[name for name, *_ in SAMPLES])
    def test_gradcheck(self, name, op, bundled, thorough):
        assert gradients_agree(op, bundled, fast_mode=not thorough)

    def test_a_wrong_gradient_is_caught(self, monkeypatch):
        """Planted fault, which the fast mode sees too: the gradient of the features is off by a hundredth."""
        right = eager.attend_backward

        def wrong(*arguments):
            gradient, *others = right(*arguments)
            return 1.01 * gradient, *others

        monkeypatch.setattr(eager, "attend_backward", wrong)
        op, bundled = next(samples())
        with pytest.raises(GradcheckError, match="Jacobian mismatch"):
            gradients_agree(op, bundled, fast_mode=True)

    def test_two_backward_passes_agree_to_the_bit(self):
        gradients = []
        for _ in range(2):
            model = network(dtype=torch.float32).train()
            with lbam_fast.backend("eager"):
                model(*(x.float() for x in (images(2), masks("irregular", "box")[:, :1]))).sum().backward()
            gradients.append([p.grad for p in model.parameters() if p.grad is not None])
        assert all(torch.equal(p, q) for p, q in zip(*gradients, strict=True))

    @pytest.mark.filterwarnings("ignore")  # of the compiler
    @pytest.mark.parametrize(
        ("training", "backend"),
        [
            (False, "eager"),
            *(pytest.param(*case, marks=pytest.mark.sampled) for case in [(False, "auto"), (True, "eager"), (True, "auto")]),
        ],
    )
    def test_the_network_compiles_as_one_graph(self, training, backend):
        model = network("official-2019", dtype=torch.float32).train(training)
        image, mask = (x.float() for x in (images(2), masks("irregular", "box")[:, :1]))
        with lbam_fast.backend(backend), torch.set_grad_enabled(training):
            expected = model(image, mask)
            compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
            assert torch.allclose(compiled(image, mask), expected, rtol=0, atol=1e-4)
        torch._dynamo.reset()


@pytest.mark.parametrize("backend", ["auto", "eager"])
@pytest.mark.parametrize("preset", ["official", "official-2019"])
def test_an_image_has_a_gradient_though_all_parameters_are_frozen(preset, backend):
    model = network(preset, dtype=torch.float32).requires_grad_(False)
    image, mask = images(2).float(), masks("irregular", "box")[:, :1].float()
    found = []
    for name in ("reference", backend):
        x = image.clone().requires_grad_()
        with lbam_fast.backend(name):
            model(x, mask).square().mean().backward()
        found.append(x.grad)
    assert torch.allclose(*found, rtol=1e-3, atol=1e-7) and found[0].abs().max() > 1e-6


class TestBackends:
    def test_a_wrong_name_is_refused(self, monkeypatch):
        with pytest.raises(lbam_fast.BackendError, match="expected one of auto"), lbam_fast.backend("cuda12"):
            pass
        monkeypatch.setenv("LBAM_BACKEND", "tritn")
        with pytest.raises(lbam_fast.BackendError, match="LBAM_BACKEND"):
            network()(images(1), masks("irregular")[:, :1])

    def test_one_that_cannot_be_loaded_is_refused_by_name_and_replaced_otherwise(self, monkeypatch):
        monkeypatch.setattr(dispatch, "unavailable", lambda name: "no such thing" if name == "triton" else "")
        with pytest.raises(lbam_fast.BackendError, match="no such thing"), lbam_fast.backend("triton"):
            pass
        dispatch._say_once.cache_clear()
        monkeypatch.setattr(dispatch, "unavailable", lambda name: {"gpu": "no Triton", "cuda": "not built"}.get(name, ""))
        with pytest.warns(
            UserWarning, match=r"the Triton kernels .*no Triton.*the CUDA kernels .*not built.*; plain PyTorch instead"
        ):
            assert ops.chosen(torch.device("cuda"), torch.float32) == "reference"
        monkeypatch.setattr(dispatch, "unavailable", lambda name: "no Triton" if name == "gpu" else "")
        with pytest.warns(UserWarning, match=r"the Triton kernels .*no Triton.*; CUDA kernels instead"):
            assert ops.chosen(torch.device("cuda"), torch.float32) == "cuda"

    def test_the_choice(self, monkeypatch):
        cuda, cpu = torch.device("cuda"), torch.device("cpu")
        monkeypatch.setattr(dispatch, "unavailable", lambda name: "")
        assert ops.chosen(cuda, torch.bfloat16) == "gpu" and ops.chosen(cpu, torch.bfloat16) == "cpu"
        assert ops.chosen(cuda, torch.float64) == "reference"
        with lbam_fast.backend("reference"):
            assert ops.chosen(cuda, torch.float32) == "reference"
        monkeypatch.setenv("LBAM_BACKEND", "eager")
        assert ops.chosen(cpu, torch.float32) == "eager"


def test_batch_norm_of_single_values_is_refused_as_pytorch_does():
    model = enliven(network("official-2019", dtype=torch.float32)).train()
    assert isinstance(model, nn.Module)
    with lbam_fast.backend("eager"), pytest.raises(ValueError, match="more than one value per channel"):
        model(*(x.float() for x in (images(1), masks("irregular")[:, :1])))
