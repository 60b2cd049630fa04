"""The pipeline under ``lbam_fast.batch``: stages, windows, batches, and what it does without memory."""

import dataclasses
import os
import sys
import threading
import time

import numpy as np
import pytest
import torch
from networks import one_thread  # noqa: F401 - applies itself
from test_batch import events, outline
from test_cli_inpaint import files, load, pixels, save, save_mask, weights  # noqa: F401 - fixtures

import lbam_fast
from lbam_fast import Inpainter
from lbam_fast.batch import Failed, Filled, Filler, Job, JobError, filling, reading
from lbam_fast.batch import holes as batch_holes
from lbam_fast.batch.flight import Flight, raising
from lbam_fast.batch.once import Once
from lbam_fast.batch.planning import WINDOW, WINDOW_PIXELS, Batch, ends_window, planned
from lbam_fast.batch.stages import NICE, Ahead, Behind, prefetched
from lbam_fast.inference import Hands, InpaintError, OutOfMemoryError, find_hole
from lbam_fast.inference import hands as hands_module
from lbam_fast.inference.detail import Detailer
from lbam_fast.inference.hands import Room


@pytest.fixture
def filler(weights):  # noqa: F811
    return Filler(Inpainter.from_pretrained(weights, detail="off"))


def mixed(folder, sizes, masks=None):
    """Jobs of pictures of these heights and widths, each with a mask of its own unless ``masks`` says whose it has."""
    jobs = []
    for i, (height, width) in enumerate(sizes):
        image = save(folder / "p" / f"{i:02d}.png", pixels(i, height=height, width=width))
        box = (slice(5, 15 + i), slice(5, 20))
        mask = masks[i] if masks else save_mask(folder / "m" / f"{i:02d}.png", height, width, box=box)
        jobs.append(Job(image, mask, folder / "o" / image.name))
    return jobs


def test_what_a_hole_takes_to_know_is_known_before_its_turn(filler, tmp_path, monkeypatch):
    """On the threads that read: plan, texture and content of the second and third hole, while the first picture is filled."""
    jobs, begin, ready = mixed(tmp_path, [(40, 200), (40, 56), (140, 57)]), filler.inpainter.begin, []
    filler.inpainter.detailer = Detailer("auto", 64)

    def slow(pixels, holes):
        time.sleep(0.3)
        ready.append([hole in filler.inpainter._plans and {"content", "depth"} <= vars(hole).keys() for hole in holes])
        return begin(pixels, holes)

    monkeypatch.setattr(filler.inpainter, "begin", slow)
    monkeypatch.setattr(filling, "Hands", lambda inpainter, count=None: Hands(inpainter, 1))
    assert [type(event) for event in filler.fill(jobs, make_folders=True)].count(Filled) == 3
    assert ready == [[True]] * 3


def test_too_little_memory_to_look_at_a_hole_ahead_stops_nothing(filler, tmp_path, monkeypatch):
    def lacking(hole):
        raise MemoryError

    monkeypatch.setattr(filler.inpainter, "examine", lacking)
    found = [type(event) for event in filler.fill(mixed(tmp_path, [(40, 56)] * 2), make_folders=True)]
    assert found.count(Filled) == 2 and Failed not in found


# Stages


def ahead(work, items, threads=3, most=4, budget=100, first=0):
    return Ahead(work, items, threads=threads, most=most, budget=budget, cost=lambda result: result, first=first)


def test_results_come_in_order_whatever_order_they_are_made_in():
    def work(i):
        time.sleep(0.02 * (i % 3 == 0))
        return i

    with ahead(work, range(20)) as stage:
        assert [stage.take() for _ in range(20)] == list(range(20))


@pytest.mark.parametrize(("most", "budget", "expected"), [(4, 1e9, 4), (100, 10, 2)])
def test_no_more_is_begun_than_may_wait(most, budget, expected):
    begun = []
    with ahead(lambda i: begun.append(i) or 5, range(50), threads=1, most=most, budget=budget) as stage:
        time.sleep(0.2)
        assert len(begun) == expected
        stage.take()
        time.sleep(0.2)
        assert len(begun) == expected + 1
    assert len(begun) <= expected + 1


@pytest.mark.parametrize("first", [0, 3, 6, 50])
def test_the_first_are_begun_by_twice_as_many(first):
    """Two at once, of which each waits for the other, as far as they are among the first; one by one after them."""
    both, alone = threading.Barrier(2), []

    def work(i):
        if i < min(first, 20) // 2 * 2:
            both.wait(60)
        elif first < i:  # the one that begins the last of the first may still be at it
            alone.append(i)
            time.sleep(0.01)
            assert alone[-1] == i
        return i

    with ahead(work, range(20), threads=1, most=8, budget=1e9, first=first) as stage:
        assert [stage.take() for _ in range(20)] == list(range(20))


def test_a_result_beyond_the_budget_stops_nothing():
    with ahead(lambda i: 1000, range(5), budget=10) as stage:
        assert [stage.take() for _ in range(5)] == [1000] * 5


def test_an_error_comes_where_its_result_would():
    def work(i):
        if i == 1:
            raise InpaintError("no")
        return i

    with ahead(work, range(3)) as stage:
        assert stage.take() == 0
        with pytest.raises(InpaintError):
            stage.take()
        assert stage.take() == 2


def test_calls_are_finished_in_order_and_bounded():
    release = threading.Event()
    with Behind(threads=2, most=2, budget=100) as stage:
        stage.add("a", release.wait, cost=1)
        stage.add("b", lambda: "done", cost=1)
        assert list(stage.finished()) == []
        release.set()
        stage.add("c", lambda: "done", cost=1)
        names = [item for item, _ in stage.finished()]
        assert names[:1] == ["a"]
        assert names + [item for item, _ in stage.finished(all_of_them=True)] == ["a", "b", "c"]


@pytest.mark.skipif(sys.platform != "linux", reason="threads have no priority of their own")
def test_who_reads_and_writes_steps_back():
    """For the threads of kernels, which have the priority that they had."""

    def priority(*_):
        return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    own = priority()
    with ahead(priority, range(3)) as stage, Behind(threads=1, most=2, budget=9) as behind:
        behind.add("a", priority, cost=1)
        ((_, written),) = behind.finished(all_of_them=True)
        found = [*(stage.take() for _ in range(3)), written.result(), *prefetched(map(priority, range(2)), 1)]
    assert set(found) == {min(19, own + NICE)} and priority() == own


def test_what_waits_is_bounded_by_its_cost():
    with Behind(threads=1, most=100, budget=10) as stage:
        for name in "abc":
            stage.add(name, lambda: time.sleep(0.05), cost=8)
        assert len(list(stage.finished())) >= 2


@pytest.mark.parametrize("fails", [False, True])
def test_a_value_that_several_ask_for_is_made_once(fails):
    made, once, found = [], Once(2), []

    def make():
        made.append(1)
        time.sleep(0.1)
        if fails:
            raise InpaintError("no")
        return object()

    def ask():
        try:
            found.append(once.get("key", make))
        except InpaintError as error:
            found.append(error)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1 and len(set(map(id, found))) == 1
    ask()
    assert len(made) == 1 + fails


# Batches


class Plain:
    """Groups as an inpainter with so many at once does."""

    def batches(self, holes):
        return Inpainter.batches(self, holes)

    batch_size = 4
    device = type("Device", (), {"type": "cuda"})
    _at_once = Inpainter._at_once


def work(height, width, found=None, empty=False):
    mask = np.zeros((height, width), np.float32)
    mask[2:9, 3:9] = not empty
    hole = find_hole(mask, reading.MaskOptions())
    picture = type("Picture", (), {"pixels": np.zeros((height, width, 3), np.uint8)})
    return reading.Work(None, picture, found or reading.Found(hole))


def test_batches_are_of_one_padded_size_in_the_order_of_their_first():
    works = [work(*size) for size in [(100, 100), (300, 100), (128, 20), (257, 128), (90, 90), (20, 20), (30, 30)]]
    found = [[works.index(each) for each in batch.works] for batch in planned(works, Plain())]
    assert found == [[0, 2, 4, 5], [1, 3], [6]]


def test_pictures_under_one_mask_stay_together_and_those_without_a_hole_alone():
    shared = work(100, 100).found
    works = [work(100, 100), work(100, 100, shared), work(100, 100, empty=True), work(100, 100), work(100, 100, shared)]
    batches = planned(works, Plain())
    assert [[works.index(each) for each in batch.works] for batch in batches] == [[0, 3], [1, 4], [2]]
    assert [batch.empty for batch in batches] == [False, False, True]


def test_windows_end_by_number_and_by_pixels():
    assert [ends_window(WINDOW - 1, 0), ends_window(2 * WINDOW, 0), ends_window(1, WINDOW_PIXELS)] == [False, True, True]


def test_smaller_batches_end_with_none():
    first = Batch(list("abc"))
    (again,) = first.smaller()
    assert again.works == first.works
    assert [batch.works for batch in again.smaller()] == [["a"], ["b", "c"]]
    assert again.smaller()[0].smaller() == []


def test_mixed_sizes_in_one_batch_give_what_each_alone_gives(filler, tmp_path, monkeypatch):
    sizes = [(40, 56), (100, 128), (41, 57), (130, 40), (128, 30), (40, 57)]
    jobs, calls, begin = mixed(tmp_path, sizes), [], filler.inpainter.begin
    with monkeypatch.context() as patch:
        patch.setattr(filler.inpainter, "begin", lambda images, holes: calls.append(len(images)) or begin(images, holes))
        happened = events(filler, *jobs, make_folders=True)
    assert sum(isinstance(event, Filled) for event in happened) == 6 and sorted(calls) == [1, 1, 4]
    for job in jobs:
        alone = filler.inpainter(load(job.image), load(job.mask))
        assert np.abs(load(job.output).astype(int) - alone).max() <= 1


def test_masks_of_the_same_bytes_are_one(filler, tmp_path, monkeypatch):
    """A mask file for every frame, all alike: the hole is found once and shared."""
    sizes = [(40, 56)] * 5
    for i in range(5):
        save_mask(tmp_path / "m" / f"{i}.png")
    jobs, shared, begin = mixed(tmp_path, sizes, [tmp_path / "m" / f"{i}.png" for i in range(5)]), [], filler.inpainter.begin
    found = []
    monkeypatch.setattr(batch_holes, "find_hole", lambda *given: found.append(given) or find_hole(*given))
    monkeypatch.setattr(
        filler.inpainter, "begin", lambda images, holes: shared.append(len(set(map(id, holes)))) or begin(images, holes)
    )
    events(filler, *jobs, make_folders=True)
    assert len(found) == 1 and shared == [1, 1]


def test_a_mask_that_changes_is_read_again(filler, tmp_path):
    job = mixed(tmp_path, [(40, 56)])[0]
    events(filler, job, make_folders=True)
    save_mask(job.mask, box=(slice(0), slice(0)))
    events(filler, job)
    assert np.array_equal(load(job.output), load(job.image))


# Without memory


def without_memory(monkeypatch, inpainter, most, times=1 << 30):
    """``begin`` fails for more than ``most`` pictures at once, the first so many times; returns the sizes of its calls."""
    calls, begin = [], inpainter.begin

    def limited(images, holes, window=None):
        calls.append(len(images))
        if len(images) > most and sum(size > most for size in calls) <= times:
            raise OutOfMemoryError("out of memory")
        return begin(images, holes)

    monkeypatch.setattr(inpainter, "begin", limited)
    return calls


def test_a_batch_without_memory_is_tried_again_then_halved(filler, tmp_path, monkeypatch):
    calls = without_memory(monkeypatch, filler.inpainter, most=1)
    happened = events(filler, *mixed(tmp_path, [(40, 56)] * 4), make_folders=True)
    assert calls == [4, 4, 2, 1, 1, 2, 1, 1]
    started, filled = ([name for kind, name in outline(happened) if kind == wanted] for wanted in ("Started", "Filled"))
    assert started == filled == [f"{i:02d}.png" for i in range(4)]


def test_what_memory_fits_for_once_it_is_free_is_the_same_to_the_bit(filler, tmp_path, monkeypatch):
    jobs, freed = mixed(tmp_path, [(40, 56)] * 4), []
    events(filler, *jobs, make_folders=True)
    expected = [load(job.output) for job in jobs]
    calls = without_memory(monkeypatch, filler.inpainter, most=1, times=1)
    monkeypatch.setattr(filler.inpainter, "free_memory", lambda: freed.append(1))
    events(filler, *jobs)
    assert calls == [4, 4] and freed == [1]
    assert all(np.array_equal(load(job.output), each) for job, each in zip(jobs, expected, strict=True))


def test_the_picture_that_fails_does_not_fail_those_beside_it(filler, tmp_path, monkeypatch):
    jobs, begin = mixed(tmp_path, [(40, 56), (40, 57), (40, 58)]), filler.inpainter.begin

    def failing(images, holes, window=None):
        if any(image.shape[1] == 57 for image in images):
            raise InpaintError("no numbers")
        return begin(images, holes)

    monkeypatch.setattr(filler.inpainter, "begin", failing)
    happened = events(filler, *jobs, make_folders=True)
    assert [event.job for event in happened if isinstance(event, Failed)] == jobs[1:2]
    assert files(tmp_path / "o") == {"00.png", "02.png"}


@pytest.mark.parametrize("where", ["read", "write"])
def test_memory_that_lacks_elsewhere_fails_the_picture_alone(filler, tmp_path, monkeypatch, where):
    jobs = mixed(tmp_path, [(40, 56)] * 3)

    def lacking(*given, right):
        if jobs[1].image.name in str(given[0] if where == "read" else given[0].job.image):
            raise MemoryError
        return right(*given)

    if where == "read":
        right = filler._reader._read_picture
        monkeypatch.setattr(filler._reader, "_read_picture", lambda *given: lacking(*given, right=right))
    else:
        right_write = filling.write_outputs
        monkeypatch.setattr(filling, "write_outputs", lambda *given: lacking(*given, right=right_write))
    failed = [event for event in events(filler, *jobs, make_folders=True) if isinstance(event, Failed)]
    assert [event.job for event in failed] == jobs[1:2] and "too little memory" in str(failed[0].error)
    assert files(tmp_path / "o") == {"00.png", "02.png"}


def test_an_error_that_nobody_expects_is_raised_and_leaves_whole_files(filler, tmp_path, monkeypatch):
    jobs, right = mixed(tmp_path, [(40, 56)] * 8), filler._reader.read

    def failing(job):
        if job == jobs[5]:
            raise RuntimeError("a bug")
        return right(job)

    monkeypatch.setattr(filler._reader, "read", failing)
    with pytest.raises(RuntimeError, match="a bug"):
        events(filler, *jobs, make_folders=True)
    assert all(load(path).shape == (40, 56, 3) for path in (tmp_path / "o").glob("*"))


def test_leaving_the_loop_ends_the_threads(filler, tmp_path):
    before = threading.active_count()
    for _ in filler.fill(mixed(tmp_path, [(40, 56)] * 40), make_folders=True):
        break
    assert threading.active_count() == before


def test_at_least_one_thread(weights):  # noqa: F811
    with pytest.raises(JobError, match="expected at least 1"):
        Filler(Inpainter.from_pretrained(weights), threads=0)


# Batches in flight


def landing(filler, monkeypatch, most):
    """How many batches are begun before each is finished, in order, if so many may stay begun."""
    heights, begun, begin = [], [0], filler.inpainter.begin

    def counting(images, holes, window=None):
        begun[0] += 1
        finish = begin(images, holes)

        def finished():
            heights.append(begun[0])
            begun[0] -= 1
            return finish()

        return finished

    monkeypatch.setattr(filler.inpainter, "begin", counting)
    monkeypatch.setattr(filling, "Flight", lambda hands: Flight(hands, most))
    return heights


@pytest.mark.parametrize(("most", "expected"), [(0, [1, 1, 1, 1]), (1, [2, 2, 2, 1]), (2, [3, 3, 2, 1])])
def test_batches_are_begun_before_those_before_them_are_finished(filler, tmp_path, monkeypatch, most, expected):
    jobs = mixed(tmp_path, [(40, 56)] * 4 + [(130, 56)] + [(40, 130)] + [(130, 130)])
    events(filler, *jobs, make_folders=True)
    results = [load(job.output) for job in jobs]
    heights = landing(filler, monkeypatch, most)
    happened = events(filler, *jobs)
    assert heights == expected
    assert [event.job for event in happened if isinstance(event, Filled)] == jobs
    assert all(np.array_equal(load(job.output), result) for job, result in zip(jobs, results, strict=True))


def test_what_fails_in_flight_fails_by_itself(filler, tmp_path, monkeypatch):
    """At its beginning for want of memory, at its end for bad numbers: those begun before and after it are filled."""
    jobs = mixed(tmp_path, [(40, 56)] * 2 + [(130, 56)] * 2 + [(40, 130)])
    landing(filler, monkeypatch, 1)
    begin, lacks = filler.inpainter.begin, [True]

    def failing(images, holes, window=None):
        if images[0].shape[0] == 130 and lacks:
            lacks.clear()
            raise OutOfMemoryError("out of memory")
        finish = begin(images, holes)
        return raising(InpaintError("no numbers")) if images[0].shape[1] == 130 else finish

    monkeypatch.setattr(filler.inpainter, "begin", failing)
    happened = events(filler, *jobs, make_folders=True)
    assert [event.job for event in happened if isinstance(event, Failed)] == jobs[4:]
    assert [event.job for event in happened if isinstance(event, Filled)] == jobs[:4]


class Watch:
    """Fills of an inpainter that wait until so many run at once, or a moment; how many did, and by which backend."""

    def __init__(self, monkeypatch, inpainter, wanted, fails=lambda call: False, slow=lambda call: False):
        self.most = self.now = self.calls = 0
        self.backends, self._right, self._wanted, self._fails, self._slow = set(), inpainter.fill, wanted, fails, slow
        self._change = threading.Condition()
        monkeypatch.setattr(inpainter, "fill", self._fill)

    def _fill(self, pictures, holes):
        with self._change:
            self.calls, self.now = self.calls + 1, self.now + 1
            call, self.most = self.calls, max(self.most, self.now)
            self.backends.add(lbam_fast.ops.chosen(torch.device("cpu"), torch.float32))
            self._change.notify_all()
            self._change.wait_for(lambda: self.most >= self._wanted, timeout=0.5)
        try:
            if self._slow(call):
                time.sleep(0.5)
            if self._fails(call):
                raise OutOfMemoryError("out of memory")
            return self._right(pictures, holes)
        finally:
            with self._change:
                self.now -= 1


SIZES = [(40, 56), (130, 56), (40, 130), (130, 130), (40, 260), (260, 40)]


@pytest.fixture
def two_hands(monkeypatch):
    monkeypatch.setattr(filling, "Hands", lambda inpainter, count: Hands(inpainter, 2))


def test_two_batches_are_filled_at_once_and_are_the_same_to_the_bit(filler, tmp_path, monkeypatch, request):
    jobs = mixed(tmp_path, SIZES)
    events(filler, *jobs, make_folders=True)
    expected = [load(job.output) for job in jobs]
    request.getfixturevalue("two_hands")
    watch = Watch(monkeypatch, filler.inpainter, wanted=2)
    happened = events(filler, *jobs)
    assert (watch.most, watch.calls) == (2, len(SIZES))
    assert [event.job for event in happened if isinstance(event, Filled)] == jobs
    assert all(np.array_equal(load(job.output), each) for job, each in zip(jobs, expected, strict=True))


def test_hands_use_the_backend_of_their_caller(filler, tmp_path, monkeypatch, two_hands):
    watch = Watch(monkeypatch, filler.inpainter, wanted=2)
    with lbam_fast.backend("reference"):
        events(filler, *mixed(tmp_path, SIZES[:2]), make_folders=True)
    assert watch.backends == {"reference"} != {lbam_fast.ops.chosen(torch.device("cpu"), torch.float32)}


def test_without_memory_for_two_one_is_filled_at_a_time(filler, tmp_path, monkeypatch):
    watch = Watch(monkeypatch, filler.inpainter, wanted=2)
    needed = filler.inpainter.memory_needed([work(40, 56).found.hole])
    monkeypatch.setattr(hands_module, "usable_memory", lambda device: 3 * needed)
    monkeypatch.setattr(filling, "Hands", lambda inpainter, count: Hands(inpainter, 2))
    events(filler, *mixed(tmp_path, SIZES[:3]), make_folders=True)
    assert (watch.most, watch.calls) == (1, 3)


def test_what_lacks_memory_is_tried_again_when_nothing_else_runs(filler, tmp_path, monkeypatch, two_hands):
    """The second fill lasts until the first, which lacks memory, has had time to free some."""
    watch = Watch(monkeypatch, filler.inpainter, wanted=2, fails=lambda call: call == 1, slow=lambda call: call == 2)
    jobs, running = mixed(tmp_path, SIZES), []
    monkeypatch.setattr(filler.inpainter, "free_memory", lambda: running.append(watch.now))
    happened = events(filler, *jobs, make_folders=True)
    assert running == [0] and watch.calls == len(SIZES) + 1
    assert [event.job for event in happened if isinstance(event, Filled)] == jobs


def test_what_is_left_early_ends_its_hands(filler, tmp_path, two_hands):
    before, happened = threading.active_count(), filler.fill(mixed(tmp_path, SIZES), make_folders=True)
    assert any(isinstance(event, Filled) for event in happened)  # and no further
    assert any(thread.name.startswith("lbam-fill") for thread in threading.enumerate())
    happened.close()
    assert threading.active_count() == before


@pytest.mark.parametrize(("threads", "width", "count"), [(1, 16, 1), (2, 16, 2), (8, 16, 2), (8, 64, 1)])
def test_several_cores_have_two_hands_for_narrow_networks(filler, monkeypatch, threads, width, count):
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    filler.inpainter.model.config = dataclasses.replace(filler.inpainter.model.config, base_width=width)
    with Hands(filler.inpainter) as hands:
        assert hands.count == count
        assert Flight(hands)._most == (count if count > 1 else 0)


@pytest.mark.parametrize("threads", [1, 8])
@pytest.mark.parametrize(("width", "counts"), [(16, [1] * 5), (64, [3, 2])])
def test_batches_are_smaller_where_there_may_be_two_hands(filler, monkeypatch, threads, width, counts):
    """Whether there are or not, so that results are the same to the bit on every machine."""
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    inpainter = filler.inpainter
    inpainter.model.config = dataclasses.replace(inpainter.model.config, base_width=width)
    works = [work(500, 500) for _ in range(5)]
    assert [len(batch.works) for batch in planned(works, inpainter)] == counts
    assert [len(batch) for batch in inpainter.batches([each.found.hole for each in works])] == [3, 2]


def test_a_limit_of_memory_has_one(filler, tmp_path, monkeypatch):
    given = []
    monkeypatch.setattr(filling, "Hands", lambda inpainter, count: given.append(count) or Hands(inpainter, count))
    for limit in (None, 1 << 34):
        events(Filler(filler.inpainter, max_memory=limit), *mixed(tmp_path, SIZES[:1]), make_folders=True)
    assert given == [None, 1]


def test_who_wants_much_room_gets_it_before_those_who_came_later(monkeypatch):
    """Two threads that take a part again as soon as they have given it back never leave all of it at once."""
    monkeypatch.setattr(hands_module, "usable_memory", lambda device: 200)
    room, over = Room(torch.device("cpu")), threading.Event()

    def take():
        while not over.is_set():
            with room.taken(50):
                time.sleep(0.01)

    threads = [threading.Thread(target=take) for _ in range(2)]
    got = threading.Event()

    def take_all():
        with room.taken(1000):
            got.set()

    threads.append(threading.Thread(target=take_all))
    for thread in threads:
        thread.start()
    in_time = got.wait(5)
    over.set()
    for thread in threads:
        thread.join(5)
    assert in_time


def test_a_picture_in_parts_needs_the_memory_of_its_parts(filler):
    hole = np.zeros((4000, 3000), np.float32)
    hole[100:150, 100:150] = 1
    found = find_hole(hole, reading.MaskOptions())
    assert filler.inpainter.plan(found).strategy == "crop"
    whole = Inpainter(filler.inpainter.model, strategy="whole", detail="off")
    assert filler.inpainter.memory_needed([found]) < whole.memory_needed([found])
