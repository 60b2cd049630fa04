"""The logic of CUDA graphs on a CPU: what stands in for CUDA runs the call again where a graph would be played."""

import gc
import threading
import weakref
from contextlib import contextmanager

import pytest
import torch
from networks import images, masks, network, one_thread  # noqa: F401 - applies itself

import lbam_fast
from lbam_fast.model.engine import Engine
from lbam_fast.ops.runtime import graphs
from lbam_fast.ops.runtime.graphs import Captured
from lbam_fast.ops.runtime.session import Session


class Pretended:
    """Plays a call by making it anew into the result's memory, as a graph would; counts, and checks who waits for whom."""

    def __init__(self, nbytes=1000):
        self.captured, self.played, self.waited, self.marks, self.nbytes = 0, 0, [], 0, nbytes

    def capture(self, run, of):
        self.captured += 1
        output = torch.full_like(run(), torch.nan)  # capturing computes nothing

        def play():
            self.played += 1
            output.copy_(run())

        return Captured(play, output, self.nbytes)

    def mark(self, of):
        self.marks += 1
        return self.marks

    def wait(self, mark, of):
        self.waited.append(mark)


@pytest.fixture
def device(monkeypatch):
    monkeypatch.setattr(graphs, "wanted", lambda device: True)
    return Pretended()


def given(kind="irregular", width=128):
    return images(1, 128, width).float(), masks(kind, height=128, width=width)[:, :1].float()


def model_on(device, preset="official"):
    model = network(preset, dtype=torch.float32)
    model._session = Session(device)
    return model


@pytest.fixture(autouse=True)
def eagerly(monkeypatch):
    """The ops that a GPU would run, in plain PyTorch; sent through the session as on a GPU."""
    right = Engine.__init__

    def made(self, state, config, session):
        right(self, state, config, session)
        self._replays = True

    monkeypatch.setattr(Engine, "__init__", made)
    with torch.no_grad(), lbam_fast.backend("eager"):
        yield


@pytest.mark.parametrize("preset", ["official", "official-2019"])
def test_it_gives_the_same_bits_as_no_graph(preset, device, monkeypatch):
    model, pictures = model_on(device, preset), [given(kind) for kind in ("irregular", "box", "soft", "hole")]
    maps = model.attention_maps(pictures[0][1])
    found = [[model(image, mask), model(image, maps=maps)] for image, mask in pictures]
    assert device.captured == 2 and device.played == 6
    monkeypatch.setattr(graphs, "wanted", lambda device: False)
    for (image, mask), results in zip(pictures, found, strict=True):
        assert torch.equal(results[0], model(image, mask)) and torch.equal(results[1], model(image, maps=maps))
    assert device.played == 6


def test_changed_weights_are_captured_anew(device):
    model, (image, mask) = model_on(device), given()
    before = [model(image, mask) for _ in range(3)][-1]
    model.ec2.conv.conv.weight.mul_(1.5)
    after = [model(image, mask) for _ in range(3)]
    assert device.captured == 2 and all(torch.equal(x, after[0]) for x in after)
    assert not torch.equal(after[0], before)


def test_a_graph_for_each_shape_and_dtype_up_to_a_number_and_to_their_memory(device, monkeypatch):
    model = model_on(device)
    for width in (128, 256, 384):
        for _ in range(3):
            model(*given(width=width))
    with torch.autocast("cpu", torch.bfloat16):
        for _ in range(3):
            model(*given())
    kept = model._session._graphs
    assert device.captured == 4 == len(kept._tapes)
    kept._most = 2
    for _ in range(3):
        model(*given(width=512))
    assert len(kept._tapes) == 2
    kept._most, kept._most_bytes = 16, 1
    for _ in range(3):
        model(*given(width=640))
    assert len(kept._tapes) == 0


def test_each_play_waits_for_the_one_before(device):
    model, (image, mask) = model_on(device), given()
    for _ in range(4):
        model(image, mask)
    assert device.waited == [1, 2] and device.marks == 3


def test_threads_get_their_own_results(device):
    model, pictures = model_on(device), [given(kind) for kind in ("irregular", "box", "soft", "pixel")]
    expected, found = [model(*each) for each in pictures], {}
    model(*pictures[0])

    def work(i):
        with torch.no_grad(), lbam_fast.backend("eager"):
            found[i] = [model(*pictures[i]) for _ in range(5)]

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(torch.equal(result, expected[i]) for i in range(4) for result in found[i])


def test_it_dies_with_the_network(device):
    model = model_on(device)
    for _ in range(3):
        model(*given())
    session = weakref.ref(model._session)
    del model
    gc.collect()
    assert session() is None


def test_where_graphs_are_wanted(monkeypatch):
    monkeypatch.undo()
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
    cuda, cpu = torch.device("cuda", 0), torch.device("cpu")
    assert graphs.wanted(cuda) and not graphs.wanted(cpu)
    monkeypatch.setenv(graphs.VARIABLE, "0")
    assert not graphs.wanted(cuda)
    monkeypatch.delenv(graphs.VARIABLE)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    assert not graphs.wanted(cuda)


def test_a_play_that_forgets_its_inputs_is_noticed(device, monkeypatch):
    @contextmanager
    def stale(self, inputs):
        yield ((self._captured.play, ()),)

    monkeypatch.setattr(graphs.Graph, "loaded", stale)
    with pytest.raises(AssertionError):
        test_it_gives_the_same_bits_as_no_graph("official", device, monkeypatch)
