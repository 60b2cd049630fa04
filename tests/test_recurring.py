"""Masks that come again: whose attention maps are kept, until when, and that results are the same to the bit."""

import copy
import pickle

import numpy as np
import pytest
import torch
from networks import images, masks, network

import lbam_fast
from lbam_fast import LBAM, Inpainter, LBAMConfig, native, ops
from lbam_fast.inference import MaskOptions, find_hole
from lbam_fast.inference.inpainter import SHARING_ON_CPU
from lbam_fast.inference.recurring import MOST, Recurring
from lbam_fast.model.engine import Engine
from lbam_fast.ops import Session
from lbam_fast.ops.runtime import kept
from lbam_fast.ops.runtime.session import LARGE

pytestmark = pytest.mark.skipif(bool(native.unavailable()), reason=f"the compiled kernels are missing: {native.unavailable()}")

SIDE = 200
"""Of pictures that are padded to 256, so small that their calls are recorded and played."""


@pytest.fixture
def made(monkeypatch):
    """One entry for each time that maps are made to be kept."""
    found, right = [], Engine._maps
    monkeypatch.setattr(Engine, "_maps", lambda self, *given: found.append(1) or right(self, *given))
    return found


def inpainter(**options):
    return Inpainter(network(width=8, dtype=torch.float32), **{"detail": "off", "device": "cpu", **options})


def picture(seed=0, side=SIDE):
    return np.random.default_rng(seed).integers(0, 256, (side, side, 3), np.uint8)


def mask(kind="box", side=SIDE):
    drawn = np.zeros((side, side), np.uint8)
    rows, columns = {"box": (slice(40, 90), slice(30, 120)), "bar": (slice(100, 110), slice(5, side - 5))}[kind]
    drawn[rows, columns] = 255
    return drawn


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(("passes", "expected"), [(1, 1), (2, 2)])
def test_maps_are_made_for_the_second_call_and_change_no_bit(made, dtype, passes, expected):
    """A mask is known by its content: each call is given another array."""
    ours, fresh = (inpainter(dtype=dtype, passes=passes, keep_maps=keep) for keep in (True, False))
    for turn in range(4):
        assert np.array_equal(ours(picture(turn), mask()), fresh(picture(turn), mask()))
        assert len(made) == (0 if turn == 0 else expected)
    assert not np.array_equal(ours(picture(), mask("bar")), ours(picture(), mask()))
    assert len(made) == expected, "another mask has come but once"


def test_pictures_that_share_a_mask_find_the_maps_of_those_before(made):
    ours = inpainter()
    hole = find_hole(mask() / np.float32(255), MaskOptions())
    shared = ours.fill([picture(i) for i in range(3)], [hole] * 3)
    assert len(made) == 1
    for i, result in enumerate(shared):
        again = ours.fill([picture(i)], [find_hole(mask() / np.float32(255), MaskOptions())])[0]
        assert np.abs(again.astype(int) - result).max() <= 1 and len(made) == 1  # of another batch: within a rounding
    ours.fill([picture(0), picture(1)], [hole, find_hole(mask("bar") / np.float32(255), MaskOptions())])
    assert len(made) == 1, "several masks in a call are not kept"


def test_parts_of_large_frames_find_theirs(made):
    """Boxes are cut anew from every frame."""
    ours, fresh = (inpainter(strategy="crop", keep_maps=keep) for keep in (True, False))
    for turn in range(3):
        frame, drawn = picture(turn, 700), mask(side=700)
        assert ours.plan(find_hole(drawn / np.float32(255), MaskOptions())).strategy == "crop"
        assert np.array_equal(ours(frame, drawn), fresh(frame, drawn))
    assert len(made) == 1


def test_other_weights_make_them_anew(made):
    ours = inpainter()
    first = [ours(picture(), mask()) for _ in range(3)][-1]
    with torch.no_grad():
        for parameter in ours.model.parameters():
            parameter.mul_(0.9)
    assert not np.array_equal(ours(picture(), mask()), first) and len(made) == 2
    ours.free_memory()
    assert not ours.model._session._kept._values


@torch.no_grad()
def test_maps_long_of_no_use_are_given_up(made):
    model, image = network(width=8, dtype=torch.float32), images(1, 128, 128).float()
    known, other = (masks(kind)[:, :1].float() for kind in ("irregular", "box"))
    model(image, known, mask_key="a")
    for turn in range(kept.LONG):
        model(image, other, mask_key=("b", turn % 2))
        assert "a" in [key for key, *_ in model._session._kept._values]
    model(image, other)
    assert "a" not in [key for key, *_ in model._session._kept._values]
    model(image, known, mask_key="a")
    assert len(made) == 4


@torch.no_grad()
def test_a_key_stands_for_the_mask(made):
    model, image = network(width=8, dtype=torch.float32), images(1, 128, 128).float()
    known = masks("irregular")[:, :1].float()
    first = model(image, known, mask_key="a")
    assert torch.equal(model(image, known, mask_key="a"), first) and len(made) == 1
    assert torch.equal(model(image, known), first) and len(made) == 1, "without a key, as ever"
    assert not torch.equal(model(image, masks("box")[:, :1].float(), mask_key="b"), first) and len(made) == 2
    with lbam_fast.backend("reference"):
        assert (model(image, known, mask_key="a") - first).abs().max() < 2e-5


def test_large_calls_keep_none(made, monkeypatch):
    monkeypatch.setattr(ops.runtime.session, "LARGE", dict.fromkeys(LARGE, 128 * 128))
    ours = inpainter()
    for _ in range(3):
        ours(picture(), mask())
    assert not made


def test_more_pictures_go_together_under_one_mask(monkeypatch):
    """As many as do not make the kernels spare memory, and 8 by default for a wide network."""
    hole, other = (find_hole(np.ones((512, 512), np.float32), MaskOptions()) for _ in range(2))

    def counts(holes, width=8, **options):
        ours = Inpainter(LBAM(LBAMConfig(base_width=width)), detail="off", device="cpu", **options)
        return [len(batch) for batch in ours.batches(holes)]

    assert counts([hole] * 10, batch_size=100) == [8, 2]
    assert counts([hole, other] * 5, batch_size=100) == counts([hole] * 10, batch_size=100, keep_maps=False) == [3, 3, 3, 1]
    assert counts([hole] * 10) == [4, 4, 2] and counts([hole] * 10, width=64) == [8, 2]
    assert counts([hole] * 10, width=64, batch_size=2) == [2] * 5
    monkeypatch.setattr("lbam_fast.inference.inpainter.usable_memory", lambda device: 1 << 30)
    assert counts([hole] * 10, width=64) == [3, 3, 3, 1], "the estimate for 8 is beyond this memory"
    x = torch.empty(1, 1, 1, 1).expand(8, 6, 512, 512)
    assert x[:, 0].numel() <= SHARING_ON_CPU
    assert Session.is_large(x) and Session.is_large(x, maps=8) and not Session.is_large(x, maps=1)


def test_few_are_kept(made):
    """However little they take: of masks that change all the time only those of the last."""
    ours = inpainter()
    for top in range(MOST + 4):
        drawn = mask()
        drawn[top] = 255
        ours.fill([picture(0), picture(1)], [find_hole(drawn / np.float32(255), MaskOptions())] * 2)
    assert len(made) == MOST + 4 and len(ours.model._session._kept._values) == kept.MOST


def test_only_the_last_masks_are_remembered():
    seen = Recurring()
    assert [seen(key) for key in ("a", "b", "a")] == [False, False, True]
    assert [seen(key) for key in range(MOST - 1)] == [False] * (MOST - 1)
    assert seen("a") and not seen("b")


def test_holes_are_alike_by_size_and_content():
    one, same, other = (find_hole(mask(kind) / np.float32(255), MaskOptions()) for kind in ("box", "box", "bar"))
    turned = find_hole(np.zeros((2, 8), np.float32), MaskOptions()), find_hole(np.zeros((4, 4), np.float32), MaskOptions())
    assert one.content == same.content != other.content and turned[0].content != turned[1].content


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_copies_fill_the_same(again):
    ours = inpainter()
    expected = ours(picture(), mask())
    assert np.array_equal(again(ours)(picture(), mask()), expected)
