"""Adam on a CPU, fused, for any order in which parameters and gradients lie."""

import pytest
import torch

from lbam_fast.training.optimizer import Adam

NCHW, NHWC = torch.contiguous_format, torch.channels_last


def updated(kind, of_parameter, of_gradient, fused=True):
    """A filter and a scalar after three steps from the same values, and the optimiser's state of the filter."""
    generator = torch.Generator().manual_seed(0)

    def draw(layout):
        return torch.randn(6, 5, 4, 4, generator=generator).contiguous(memory_format=layout)

    filter, scalar = torch.nn.Parameter(draw(of_parameter)), torch.nn.Parameter(torch.ones(()))
    optimizer = kind([filter, scalar], lr=1e-2, fused=fused)
    for _ in range(3):
        filter.grad, scalar.grad = draw(of_gradient), torch.ones(())
        optimizer.step()
    return filter.detach(), scalar.detach(), optimizer.state[filter]


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("of_gradient", [NCHW, NHWC])
@pytest.mark.parametrize("of_parameter", [NCHW, NHWC])
def test_it_is_adam_in_any_order(of_parameter, of_gradient, fused):
    expected = updated(torch.optim.Adam, of_parameter, of_gradient, fused=False)
    found = updated(Adam, of_parameter, of_gradient, fused)
    for one, other in zip(found[:2], expected[:2], strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-6)
    assert found[0].is_contiguous(memory_format=of_parameter)
    for name in ("exp_avg", "exp_avg_sq"):
        torch.testing.assert_close(found[2][name], expected[2][name], rtol=1e-5, atol=1e-7)
        assert found[2][name].stride() == expected[2][name].stride()


def test_nothing_is_copied():
    filter = torch.nn.Parameter(torch.randn(6, 5, 4, 4).contiguous(memory_format=NHWC))
    optimizer = Adam([filter], lr=1e-2, fused=True)
    filter.grad = torch.ones_like(filter)
    optimizer.step()
    with torch.profiler.profile() as profile:
        optimizer.step()
    assert "aten::_fused_adam_" in {event.name for event in profile.events()}
    assert "aten::clone" not in {event.name for event in profile.events()}
