"""How routes are timed: a device at work, a cold cache, a mask as people draw them; and on a CPU, by a clock made for it."""

import contextlib
from types import SimpleNamespace

import pytest
import torch

from lbam_fast.ops import judge, stopwatch
from lbam_fast.ops.arguments import Gate, Regions, Wanted
from lbam_fast.ops.backends import eager
from lbam_fast.ops.judge import fastest
from lbam_fast.ops.stopwatch import CALLS, Stopwatch
from lbam_fast.ops.typical import HOLES, mask_like, regions_like, typical


class Simulated:
    """A device whose time goes on as its work says; what is read again from a warm cache takes a tenth."""

    FLUSH = 3.0

    def __init__(self):
        self.now, self.warm, self.log = 0.0, None, []

    def work(self, name, seconds):
        def run():
            self.log.append(name)
            self.now += seconds / 10 if self.warm == name else seconds
            self.warm = name

        return run

    def recorded(self, work):
        self.log.append("recorded")
        return work

    def flush(self):
        self.now += self.FLUSH
        self.warm = None

    def seconds(self, work):
        start = self.now
        work()
        return self.now - start


def test_a_lap_is_one_call_with_a_cold_cache():
    device = Simulated()
    lap = Stopwatch(device)(device.work("a", 2.0))
    assert device.log == ["recorded", "recorded"]
    assert [lap(), lap()] == pytest.approx([2.0, 2.0])
    assert device.log.count("a") == 2 * CALLS


def test_a_warm_cache_is_noticed():
    """Planted fault: a device whose flush does nothing but take its time."""
    device = Simulated()
    device.flush = lambda: setattr(device, "now", device.now + Simulated.FLUSH)
    lap = Stopwatch(device)(device.work("a", 2.0))
    lap()
    assert lap() == pytest.approx(0.2)


class FakeCuda:
    """``torch.cuda`` as far as the stopwatch needs it, writing down what happens in which order, on which device."""

    def __init__(self, cache=50 << 20, captures=True):
        self.log, self.current, self.captures, self.cache = [], 0, captures, cache

    def get_device_properties(self, device):
        return SimpleNamespace(L2_cache_size=self.cache) if self.cache else SimpleNamespace()

    @contextlib.contextmanager
    def device(self, device):
        before, self.current = self.current, device.index
        yield
        self.current = before

    @contextlib.contextmanager
    def stream(self, stream):
        yield

    def _say(self, word):
        self.log.append((word, self.current))

    def Stream(self):  # noqa: N802
        return SimpleNamespace(wait_stream=lambda other: self._say("side waits"))

    def current_stream(self):
        return SimpleNamespace(wait_stream=lambda other: self._say("main waits"))

    def CUDAGraph(self):  # noqa: N802
        def end():
            if not self.captures:
                raise RuntimeError("operation not permitted when stream is capturing")

        return SimpleNamespace(
            capture_begin=lambda capture_error_mode: self._say("capture"), capture_end=end, replay=lambda: self._say("replay")
        )

    def Event(self, enable_timing):  # noqa: N802
        return SimpleNamespace(record=lambda: self._say("event"), synchronize=lambda: None, elapsed_time=lambda other: 1500.0)


@pytest.fixture
def cuda(monkeypatch):
    made = []
    fillers = SimpleNamespace(zero_=lambda: fake._say("flush"))
    fake = FakeCuda()
    monkeypatch.setattr(torch, "cuda", fake)
    monkeypatch.setattr(torch, "empty", lambda size, dtype, device: made.append((size, device)) or fillers)
    fake.made = made
    return fake


def test_graphs_are_replayed_on_the_device_of_the_tensors(cuda):
    device = stopwatch.Cuda(torch.device("cuda", 1))
    assert cuda.made == [(100 << 20, torch.device("cuda", 1))], "larger than the cache, on the card that is timed"
    replay = device.recorded(lambda: cuda._say("work"))
    assert cuda.log == [("side waits", 1), ("capture", 1), ("work", 1), ("main waits", 1)]
    cuda.log.clear()
    assert device.seconds(replay) == 1.5
    assert cuda.log == [("flush", 1), ("event", 1), ("replay", 1), ("event", 1)], "the stream is at work when it is timed"
    assert cuda.current == 0


def test_what_cannot_be_captured_is_timed_by_events(cuda):
    cuda.captures = False
    device = stopwatch.Cuda(torch.device("cuda", 0))
    work = lambda: cuda._say("work")  # noqa: E731
    assert device.recorded(work) is work


def test_a_device_that_tells_no_cache_has_a_large_one(cuda):
    cuda.cache = 0
    stopwatch.Cuda(torch.device("cuda", 0))
    assert cuda.made[0][0] >= 64 << 20


def test_a_stopwatch_that_is_not_used_costs_nothing(cuda):
    clock = stopwatch.of(torch.device("cuda", 1))
    assert not cuda.made and not cuda.log
    assert clock(lambda: None)() == 0.0
    clock(lambda: None)
    assert len(cuda.made) == 1


def layer(side=64, channels=1):
    u = torch.ones(1, channels, 2 * side, 2 * side)
    gate = Gate(torch.tensor([1.3, 0.4, 1.2, 0.8]), torch.tensor(0.75))
    _, order, in_order = eager.spread(eager.classify(u))
    return u, torch.ones(8, channels, 4, 4), gate, Wanted(True, False), Regions(order, in_order, torch.ones(8))


def shares(regions):
    return [float((regions.kinds == kind).float().mean()) for kind in (eager.ZERO, eager.KNOWN, eager.MIXED)]


def test_a_typical_mask_has_holes_and_known_areas_and_borders():
    assert 1 - mask_like(2, 256, 384, torch.device("cpu")).mean() == pytest.approx(HOLES, abs=0.02)
    *_, regions = layer()
    assert shares(regions)[eager.KNOWN] > 0.9, "nothing but known, as it came first"
    for channels in (1, 64):
        found = regions_like(regions, torch.ones(1, channels, 256, 256), 0 if channels == 1 else 2)
        zero, known, mixed = shares(found)
        assert zero > 0.1 and known > 0.3 and mixed > 0.02
        assert found.order.sort().values.equal(torch.arange(128 * 128, dtype=torch.int32))
        assert found.kinds.diff().ge(0).all() and found.constant is regions.constant


def test_skipping_is_timed_on_a_typical_mask_and_judged_on_the_given_one():
    """The first mask that comes may let everything be skipped, or nothing."""
    arguments = layer()
    seen = []

    def skipping(u, weight, gate, wanted, regions):
        seen.append(regions)
        return eager.mask_step(u, weight, gate, wanted, regions)

    def clock(work):
        return lambda: work() and 1.0

    fastest({"kernel": skipping}, arguments, eager.mask_step, clock, typical)
    judged, timed = seen[: 1 + 2 * judge.REPEATS], seen[1 + 2 * judge.REPEATS :]
    assert all(each.order is arguments[-1].order for each in judged)
    assert timed and all(0.1 < shares(each)[eager.ZERO] < 0.5 for each in timed)


def test_what_cannot_skip_is_timed_as_it_is():
    arguments = (*layer()[:-1], None)
    assert typical(arguments) is arguments
