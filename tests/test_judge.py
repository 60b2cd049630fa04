"""The budget of results that are sums: what rounding can do to that many terms, not what it happened to do once."""

import pytest
import torch

from lbam_fast.ops.arguments import Affine, Gate
from lbam_fast.ops.backends import eager
from lbam_fast.ops.judge import RouteError, fastest


def clock(work):
    return lambda: 1.0


def attend_backward_call(seed=0, dtype=torch.float32):
    """Whose sums all but cancel: the second half of the positions has the first one's gradients turned round, nearly."""
    generator = torch.Generator().manual_seed(seed)
    dy, du, features, m = (torch.randn(2, 8, 16, 16, generator=generator) for _ in range(4))
    dy[1], du[1] = -dy[0], -du[0]
    features[1], m[1] = features[0], m[0]
    gate = Gate(torch.tensor([1.3, 0.4, 1.2, 0.8]), torch.tensor(0.75))
    affine = Affine(torch.rand(8, generator=generator) + 0.5, torch.zeros(8), 1.0)
    return *(x.to(dtype) for x in (dy, du, features, m)), gate, affine


def statistics_backward_call(seed=0):
    generator = torch.Generator().manual_seed(seed)
    features, m = (torch.randn(2, 8, 16, 16, generator=generator) for _ in range(2))
    features[1], m[1] = -features[0], m[0]
    scalars = torch.tensor([1.3, 0.4, 1.2, 0.8])
    return torch.randn(8, generator=generator), torch.zeros(8), torch.zeros(8), features, m, scalars


CALLS = {"attend_backward": attend_backward_call, "statistics_backward": statistics_backward_call}


def in_another_order(name):
    """A right route: it adds up the same terms from the other end, in pieces."""
    op = getattr(eager, name)

    def turned(x):
        return x.flip(2, 3).roll(5, 3) if isinstance(x, torch.Tensor) and x.dim() == 4 else x

    def back(x):
        return x.roll(-5, 3).flip(2, 3) if x.dim() == 4 else x

    return lambda *arguments: tuple(map(back, op(*map(turned, arguments))))


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("seed", range(4))
def test_another_order_of_summation_is_right(name, seed):
    """Where the terms cancel, eager may be right to the bit by chance, and no other order is."""
    verdict = fastest({"kernel": in_another_order(name)}, CALLS[name](seed), getattr(eager, name), clock)
    assert verdict.chosen == "kernel"


def scaled(name, index, factor):
    op = getattr(eager, name)

    def run(*arguments):
        results = list(op(*arguments))
        results[index] = results[index] * factor
        return results

    return run


def without_terms(name, index, count):
    """So many positions of the first picture are left out."""
    op = getattr(eager, name)

    def run(*arguments):
        dropped = [x.clone() if isinstance(x, torch.Tensor) and x.dim() == 4 else x for x in arguments]
        for x in dropped:
            if isinstance(x, torch.Tensor) and x.dim() == 4:
                x[0, :, 0, :count] = 0
        results = list(op(*arguments))
        results[index] = op(*dropped)[index]
        return results

    return run


def test_bits_that_change_are_refused():
    """Planted fault: now and then a part of the result is what the call before left there."""
    call, op, left = attend_backward_call(), eager.attend_backward, []

    def run(*arguments):
        results = list(op(*arguments))
        left.append(results[0].clone())
        if len(left) % 5 == 0:
            results[0][0, 0] = left[-2][0, 0]
        return results

    with pytest.raises(RouteError, match="other bits from call to call"):
        fastest({"kernel": run}, call, op, clock)
    assert fastest({"kernel": run, "library": op}, call, op, clock).chosen == "library"


def test_libraries_may_add_in_any_order():
    call, op, calls = attend_backward_call(), eager.attend_backward, []

    def run(*arguments):
        calls.append(arguments)
        return [x * (1 + len(calls) * 1e-7) for x in op(*arguments)]

    assert fastest({"library": run}, call, op, clock).chosen == "library"


@pytest.mark.parametrize(("name", "results"), [("attend_backward", 6), ("statistics_backward", 3)])
def test_wrong_kernels_are_refused(name, results):
    """Planted faults: any result a thousandth too large; any sum without four of its 512 positions."""
    call = CALLS[name]()
    ordinary = list(call)
    generator = torch.Generator().manual_seed(7)
    for i, x in enumerate(call):
        if isinstance(x, torch.Tensor) and x.dim() == 4:
            ordinary[i] = torch.randn(x.shape, generator=generator)
    for index in range(results):
        with pytest.raises(RouteError, match=f"result {index} differs"):
            fastest({"kernel": scaled(name, index, 1.001)}, ordinary, getattr(eager, name), clock)
        for arguments in (call, ordinary):
            with pytest.raises(RouteError, match=f"result {index} differs"):
                fastest({"kernel": without_terms(name, index, 4)}, arguments, getattr(eager, name), clock)
