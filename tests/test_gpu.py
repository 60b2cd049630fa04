"""On an NVIDIA GPU: the network on all kernels against float64, in every dtype, in training, in a CUDA graph."""

import numpy as np
import pytest
import torch
from networks import images, masks, network

import lbam_fast
from lbam_fast import native, ops
from lbam_fast.inference import MaskOptions, find_hole
from lbam_fast.kernels import counters, split
from lbam_fast.ops import autotune, dispatch

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="PyTorch finds no CUDA device")]

PRESETS = ("official", "official-2019", "paddle", "paper", "harmonic")
DTYPES = (torch.float32, torch.float16, torch.bfloat16)
ROUTES = ("kernel", "cuda", "library", "measure")


def require_compiled():
    """That they are missing is said once, by ``test_the_compiled_kernels_are_there``."""
    if reason := native.unavailable("cuda"):
        pytest.skip(f"the compiled CUDA kernels are missing: {reason}")


@pytest.fixture(params=ROUTES)
def route(request, monkeypatch, tmp_path):
    if request.param == "cuda":
        require_compiled()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    autotune.forget()
    with autotune.route(request.param):
        yield request.param
    autotune.forget()


by_every_route = pytest.mark.usefixtures("route")
by_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: str(dtype).removeprefix("torch."))


def test_the_compiled_kernels_are_there():
    assert not native.unavailable("cuda")


@pytest.fixture(autouse=True)
def full_precision():
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    yield
    torch.backends.cudnn.allow_tf32 = before


def on_gpu(preset, dtype=torch.float32, width=16):
    return network(preset, width=width, dtype=dtype).cuda().to(memory_format=torch.channels_last)


def pictures(dtype=torch.float32, height=256, width=128):
    image = images(3, height, width).to("cuda", dtype)
    return image, masks("irregular", "box", "soft", height=height, width=width)[:, :1].to("cuda", dtype)


def in_dtype(dtype):
    return torch.autocast("cuda", dtype, enabled=dtype != torch.float32)


def error(output, exact):
    assert output.isfinite().all()
    return float((output.double() - exact).abs().max())


def inference_is_right(preset, dtype, width, backend):
    model, exact = on_gpu(preset, width=width), on_gpu(preset, torch.float64, width)
    image, mask = pictures()
    with torch.no_grad():
        truth = exact(image.double(), mask.double())
        with in_dtype(dtype):
            with lbam_fast.backend("reference"):
                allowed = 2 * error(model(image, mask), truth) + 2e-5
            assert ops.chosen(image.device, image.dtype) == "gpu"
            with lbam_fast.backend(backend):
                assert error(model(image, mask), truth) <= allowed
                assert error(model(image, maps=model.attention_maps(mask)), truth) <= allowed


@by_every_route
@by_dtype
def test_the_published_width_stays_within_twice_what_eager_loses(dtype):
    """64 channels and more: the tiles that users run."""
    inference_is_right("official", dtype, 64, "gpu")


@by_every_route
@pytest.mark.parametrize("preset", PRESETS)
@by_dtype
def test_inference_stays_within_twice_what_eager_loses(preset, dtype):
    inference_is_right(preset, dtype, 16, "gpu")


@pytest.mark.parametrize("preset", PRESETS)
@by_dtype
def test_inference_on_the_compiled_kernels_alone(preset, dtype):
    require_compiled()
    inference_is_right(preset, dtype, 16, "cuda")


@by_every_route
@pytest.mark.parametrize("preset", PRESETS)
@by_dtype
def test_gradients_stay_within_twice_what_eager_loses(preset, dtype):
    image, mask = pictures()

    def gradients(backend, weights, in_what):
        model = on_gpu(preset, weights).train()
        with lbam_fast.backend(backend), in_dtype(in_what):
            output = model(image.to(weights), mask.to(weights))
        ((output.to(weights) - image.to(weights)).square().mean() * 100).backward()
        return {name: p.grad.double() for name, p in model.named_parameters() if p.grad is not None}

    truth = gradients("reference", torch.float64, torch.float32)
    eager, ours = (gradients(backend, torch.float32, dtype) for backend in ("reference", "gpu"))
    assert ours.keys() == truth.keys()
    for name, gradient in truth.items():
        size = float(gradient.square().mean().sqrt())
        lost, found = (float((g[name] - gradient).square().mean().sqrt()) for g in (eager, ours))
        assert found <= 2 * lost + 1e-2 * size, name


def test_two_backward_passes_agree_to_the_bit(route):
    if route not in ("kernel", "cuda"):
        pytest.skip("the library chooses its own algorithms")
    found = []
    for _ in range(2):
        model = on_gpu("official-2019").train()
        with torch.backends.cudnn.flags(enabled=True, deterministic=True, benchmark=False, allow_tf32=False):
            model(*pictures()).square().mean().backward()
        found.append([p.grad for p in model.parameters() if p.grad is not None])
    assert all(torch.equal(p, q) for p, q in zip(*found, strict=True))


class Shared:
    """The published width at batch 1, whose deep layers are shared by many programs: two pictures by turns, so that nothing left
    from one call passes for the result of the next, against the bits that each gave first."""

    def __init__(self, dtype, preset="official"):
        self.model, self.dtype = on_gpu(preset, width=64), dtype
        self.pictures = images(2, 256, 256).to("cuda", torch.float32).split(1)
        self.image = self.pictures[0].clone()
        self.mask = masks("irregular", height=256, width=256)[:, :1].to("cuda", torch.float32)
        self.wrong = torch.zeros((), dtype=torch.int64, device="cuda")
        self.expected = []
        for picture in self.pictures:
            self.image.copy_(picture)
            self.expected.append(self.run())
        assert all(each.isfinite().all() for each in self.expected) and not torch.equal(*self.expected)

    def run(self):
        with torch.no_grad(), in_dtype(self.dtype):
            return self.model(self.image, self.mask)

    def check(self, turn, run):
        """Counts the calls with any wrong bit, without waiting for them."""
        self.image.copy_(self.pictures[turn % 2])
        self.wrong += run().ne(self.expected[turn % 2]).any()


@pytest.fixture
def shared_layers(monkeypatch, tmp_path):
    """By the Triton kernels, without graphs of our own; a partial sum that is read too early is NaN."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("LBAM_GRAPHS", "0")
    workspace, made = split.workspace, []

    def poisoned(*arguments):
        made.append(arguments)
        given = workspace(*arguments)
        given["partial"].fill_(torch.nan)
        return given

    monkeypatch.setattr(split, "workspace", poisoned)
    autotune.forget()
    with autotune.route("kernel"):
        yield
    assert made
    autotune.forget()


@pytest.mark.usefixtures("shared_layers")
@by_dtype
def test_shared_layers_give_the_same_bits_a_thousand_times(dtype):
    shared = Shared(dtype)
    for turn in range(1000 if dtype == torch.bfloat16 else 100):
        shared.check(turn, shared.run)
    assert not int(shared.wrong)


@pytest.mark.usefixtures("shared_layers")
def test_shared_layers_on_two_streams_at_once():
    both = [Shared(torch.bfloat16), Shared(torch.float16, "official-2019")]
    streams = [torch.cuda.Stream() for _ in both]
    torch.cuda.synchronize()
    for turn in range(200):
        for shared, stream in zip(both, streams, strict=True):
            with torch.cuda.stream(stream):
                shared.check(turn, shared.run)
    torch.cuda.synchronize()
    assert not any(int(shared.wrong) for shared in both)


@pytest.mark.usefixtures("shared_layers")
def test_shared_layers_in_two_graphs_at_once():
    both = [Shared(torch.bfloat16), Shared(torch.bfloat16, "official-2019")]
    streams = [torch.cuda.Stream() for _ in both]

    def captured(shared):
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            output = shared.run()
        return lambda: graph.replay() or output

    replays = [captured(shared) for shared in both]
    torch.cuda.synchronize()
    for turn in range(1000):
        for shared, replay, stream in zip(both, replays, streams, strict=True):
            with torch.cuda.stream(stream):
                shared.check(turn, replay)
    torch.cuda.synchronize()
    assert not any(int(shared.wrong) for shared in both)


@pytest.mark.usefixtures("shared_layers")
def test_shared_layers_notice_a_program_that_is_not_the_last(monkeypatch):
    """Planted: counters begin one too high, so the last but one finishes, and what it adds may not be there yet."""
    shared, zeros = Shared(torch.bfloat16), counters.zeros
    monkeypatch.setattr(counters, "zeros", lambda *given: zeros(*given).fill_(1))
    for turn in range(50):
        shared.check(turn, shared.run)
    assert int(shared.wrong)


@by_every_route
@pytest.mark.parametrize("skip_from", [0, dispatch.SKIP_FROM])
def test_a_cuda_graph_replays_with_new_inputs(skip_from, monkeypatch):
    monkeypatch.setattr(dispatch, "SKIP_FROM", skip_from)
    model = on_gpu("official")
    image, mask = pictures()
    new_image, new_mask = image.flip(0).clone(), mask.flip(0).clone()
    with torch.no_grad():
        expected = model(new_image, new_mask)
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            model(image, mask)
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            output = model(image, mask)
        image.copy_(new_image)
        mask.copy_(new_mask)
        graph.replay()
    assert torch.allclose(output, expected, rtol=0, atol=1e-6)


@by_every_route
@pytest.mark.parametrize("preset", PRESETS)
@by_dtype
def test_leaving_out_what_is_known_changes_nothing(preset, dtype, monkeypatch):
    model = on_gpu(preset)
    image, mask = pictures()
    with torch.no_grad(), in_dtype(dtype):
        whole = model(image, mask)
        monkeypatch.setattr(dispatch, "SKIP_FROM", 0)
        assert torch.allclose(model(image, mask), whole, rtol=0, atol=1e-5 if dtype == torch.float32 else 2e-2)


@by_every_route
def test_training_with_a_grad_scaler_lowers_the_loss():
    model = on_gpu("official").train()
    image, mask = pictures()
    optimizer, scaler = torch.optim.Adam(model.parameters(), lr=1e-3), torch.amp.GradScaler("cuda")
    losses = []
    for _ in range(10):
        with torch.autocast("cuda", torch.float16):
            output = model(image, mask)
        loss = (output.float() - image).abs().mean()
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        model.project_()
        losses.append(float(loss))
    assert losses[-1] < losses[0]


def test_batches_that_are_begun_before_others_end_are_the_same_to_the_bit():
    rng = np.random.default_rng(0)
    inpainter = lbam_fast.Inpainter(network("official", width=16), device="cuda", detail="off")
    given = [[rng.integers(0, 256, (200, 300, 3), np.uint8) for _ in range(3)] for _ in range(4)]
    holes = [find_hole((rng.random((200, 300)) < 0.2).astype(np.float32), MaskOptions()) for _ in range(3)]
    one_by_one = [inpainter.fill(pixels, holes) for pixels in given]
    begun = [inpainter.begin(pixels, holes) for pixels in given]
    for alone, finish in zip(one_by_one, begun, strict=True):
        assert all(np.array_equal(first, second) for first, second in zip(alone, finish(), strict=True))


@by_every_route
@pytest.mark.parametrize("kind", ["fresh", "soft"])
def test_large_pictures(kind):
    """Half a billion elements in the first layer: offsets past 2^31 bytes."""
    model, exact = on_gpu("official", torch.bfloat16, 64), on_gpu("official", torch.float32, 64)
    image = images(1, 512, 512).to("cuda", torch.bfloat16).repeat(1, 1, 8, 8)
    mask = masks("irregular", height=512, width=512)[:, :1].to("cuda", torch.bfloat16).repeat(1, 1, 8, 8)
    if kind == "soft":
        mask = mask * 0.75
    with torch.no_grad():
        ours = model(image, mask)
        with lbam_fast.backend("reference"):
            expected = exact(image.float(), mask.float())
    assert (ours.float() - expected).square().mean().sqrt() < 0.02
