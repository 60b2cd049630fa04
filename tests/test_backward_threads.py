"""The choice of backend and route in the backward pass, which autograd runs in threads of its own for tensors on a GPU."""

import threading

import pytest
import torch

import lbam_fast
from lbam_fast.ops import Affine, Gate, Wanted, attend, autotune, dispatch, encode


def in_another_thread(function):
    failures = []

    def run():
        try:
            function()
        except Exception as error:
            failures.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert not failures


@pytest.fixture
def seen(monkeypatch):
    """The choices under which ops ask for the code that runs them."""
    found = []
    right = dispatch.implementation

    def spy(device, dtype):
        found.append(dispatch.choices())
        return right(device, dtype)

    monkeypatch.setattr("lbam_fast.ops.definitions.implementation", spy)
    return found


def tensors(*shapes):
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(*shape, generator=generator, requires_grad=True) for shape in shapes]


GATE = Gate(torch.tensor([1.3, 0.4, 1.2, 0.8]), torch.tensor(0.75))


def attended():
    return attend(*tensors((1, 4, 4, 4), (1, 4, 4, 4)), GATE, Affine(), True)[0].sum()


def encoded():
    """Whose backward pass has ops of its own: ``attend_backward`` and ``deconvolution``."""
    arguments = tensors((1, 4, 8, 8), (1, 4, 8, 8), (4, 4, 4, 4), (4, 4, 4, 4))
    return encode(*arguments, GATE, Affine(slope=0.2), Wanted(True, True), None)[0].sum()


@pytest.mark.parametrize("forward", [attended, encoded])
def test_backward_runs_on_the_backend_of_the_forward_pass(forward, seen):
    with lbam_fast.backend("eager"), autotune.route("library"):
        loss = forward()
    del seen[:]
    in_another_thread(loss.backward)
    assert seen and set(seen) == {("eager", "library")}


def test_without_a_choice_there_is_none(seen):
    loss = attended()
    del seen[:]
    with lbam_fast.backend("eager"):
        loss.backward()
        assert dispatch.choices() == ("eager", None)
    assert set(seen) == {(None, None)}
