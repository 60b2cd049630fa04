"""The adversarial terms against their formulas, and which second derivatives there are."""

import numpy as np
import pytest
import torch
from networks import enliven, images, masks, network, one_thread  # noqa: F401 - one_thread applies itself
from torch import nn

from lbam_fast import Discriminator, backend
from lbam_fast.training.adversarial import Adversary, AdversaryError, gradient_penalty

CLOSE = {"rtol": 1e-10, "atol": 1e-12}


class Quadratic(nn.Module):
    """A critic with two values a picture: sums of ``a x^2`` over the known pixels, and over the others."""

    def __init__(self, sigmoid=False):
        super().__init__()
        g = torch.Generator().manual_seed(0)
        self.a = nn.Parameter(torch.rand(3, 4, 5, generator=g, dtype=torch.float64) - 0.4)
        self.sigmoid = sigmoid

    def forward(self, image, known):
        weighted = self.a * image.square()
        value = torch.stack([(weighted * share).sum(dim=(1, 2, 3)) for share in (known, 1 - known)], dim=1)[:, None, None]
        return value.sigmoid() if self.sigmoid else value


def batch():
    """(truth, output, known): three pictures for ``Quadratic``."""
    g = torch.Generator().manual_seed(1)
    truth, output = (torch.rand(3, 3, 4, 5, generator=g, dtype=torch.float64) for _ in range(2))
    return truth, output, (torch.rand(3, 1, 4, 5, generator=g, dtype=torch.float64) > 0.5).double()


def values(critic, image, known):
    """[N, 2], by hand."""
    weighted = critic.a.detach().numpy() * image.numpy() ** 2
    found = np.stack([np.sum(weighted * share, axis=(1, 2, 3)) for share in (known.numpy(), 1 - known.numpy())], axis=1)
    return 1 / (1 + np.exp(-found)) if critic.sigmoid else found


def penalty(critic, truth, output, known, share):
    """By hand: the gradient of the mean of a picture's two values."""
    between = share * truth.numpy() + (1 - share) * output.numpy()
    slope = np.full((3, 2), 0.5)
    if critic.sigmoid:
        probability = values(critic, torch.from_numpy(between), known)
        slope = slope * probability * (1 - probability)
    each = slope[:, 0, None, None, None] * known.numpy() + slope[:, 1, None, None, None] * (1 - known.numpy())
    gradient = 2 * critic.a.detach().numpy() * between * each
    return np.mean([(np.sqrt(np.sum(g**2)) - 1) ** 2 for g in gradient])


@pytest.mark.parametrize("kind", ["wasserstein", "published", "hinge"])
def test_equals_its_formula(kind):
    adversary = Adversary(kind)
    critic, (truth, output, known) = Quadratic(adversary.sigmoid), batch()
    found = adversary.critic_terms(critic, truth, output, known, torch.Generator().manual_seed(7))
    real, filled = values(critic, truth, known), values(critic, output, known)
    expected = {
        "wasserstein": filled.mean() - real.mean(),
        "published": filled.mean() + real.mean(),
        "hinge": np.mean(np.maximum(1 - real, 0)) + np.mean(np.maximum(1 + filled, 0)),
    }
    np.testing.assert_allclose(found["critic"].item(), expected[kind], **CLOSE)
    term = adversary.generator_term(critic, output, known).item()
    np.testing.assert_allclose(term, filled.mean() if kind == "published" else -filled.mean(), **CLOSE)
    assert ("penalty" in found) == (kind != "hinge")
    if kind != "hinge":
        share = torch.rand(3, 1, 1, 1, generator=torch.Generator().manual_seed(7), dtype=torch.float64).numpy()
        np.testing.assert_allclose(found["penalty"].item(), penalty(critic, truth, output, known, share), **CLOSE)
        assert abs(penalty(critic, truth, output, known, 1 - share) - found["penalty"].item()) > 1e-4


@pytest.mark.parametrize("kind", ["wasserstein", "hinge"])
def test_critic_and_generator_pull_against_each_other(kind):
    """What lowers the generator's term raises the critic's."""
    adversary = Adversary(kind)
    critic, (truth, output, known) = Quadratic(), batch()
    output.requires_grad_()
    (wish,) = torch.autograd.grad(adversary.generator_term(critic, output, known), output)
    better = (output - 0.01 * wish).detach()
    terms = [adversary.critic_terms(critic, truth, each.detach(), known)["critic"] for each in (output, better)]
    assert terms[1] > terms[0]


def discriminator(width=1):
    torch.manual_seed(0)
    return enliven(Discriminator(sigmoid=False, base_width=width)).double()


def test_the_penalty_passes_gradcheck_in_the_critics_parameters():
    """Its first derivatives are the critic's second ones, through convolutions, BatchNorm and LeakyReLU."""
    critic, truth, output = discriminator().train(), images(2, 256, 256), images(2, 256, 256, seed=5)
    known = masks("irregular", "box", height=256, width=256)[:, :1]
    names, parameters = zip(*critic.named_parameters(), strict=True)

    def function(*given):
        state = dict(zip(names, given, strict=True))
        return gradient_penalty(
            lambda *x: torch.func.functional_call(critic, state, x), truth, output, known, torch.Generator().manual_seed(0)
        )

    assert torch.autograd.gradcheck(function, parameters, fast_mode=True, rtol=1e-3)


def test_the_critic_passes_gradgradcheck():
    critic, known = discriminator().eval(), masks("irregular", height=256, width=256)[:, :1]
    image = images(1, 256, 256).requires_grad_()
    assert torch.autograd.gradgradcheck(lambda x: critic(x, known), image, fast_mode=True)


def test_the_generator_needs_no_second_derivatives():
    """The penalty of what fused ops have made reaches the critic alone, and their second derivatives are refused."""
    generator, image = network("official", width=2, dtype=torch.float32).train(), images(1, 256, 256, dtype=torch.float32)
    known = masks("irregular", height=256, width=256, dtype=torch.float32)[:, :1]
    critic = discriminator().float()
    output = generator(image, known)
    sum(Adversary().critic_terms(critic, image, output, known).values()).backward()
    assert all(parameter.grad is None for parameter in generator.parameters())
    assert all(parameter.grad.isfinite().all() for parameter in critic.parameters())
    weight = generator.get_parameter("dc7.weight")
    with pytest.raises(RuntimeError, match=r'first derivatives alone.*backend\("reference"\)'), backend("eager"):
        torch.autograd.grad(generator(image, known).sum(), weight, create_graph=True)
    with backend("reference"):
        torch.autograd.grad(generator(image, known).square().sum(), weight, create_graph=True)[0].square().sum().backward()
    assert weight.grad.isfinite().all()


def test_the_generators_term_leaves_the_critic_alone():
    critic, (_, output, known) = Quadratic(), batch()
    Adversary().generator_term(critic, output.requires_grad_(), known).backward()
    assert output.grad.any()
    assert critic.a.grad is None
    assert critic.a.requires_grad


def test_the_penalty_is_repeated_by_its_generator():
    critic, (truth, output, known) = Quadratic(), batch()
    first, again, other = (
        gradient_penalty(critic, truth, output, known, torch.Generator().manual_seed(seed)) for seed in (3, 3, 4)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_autocast_rounds_no_penalty():
    critic, known = discriminator().float(), masks("box", height=256, width=256, dtype=torch.float32)[:, :1]
    truth, output = images(1, 256, 256, dtype=torch.float32), images(1, 256, 256, seed=5, dtype=torch.float32)
    critic.eval()
    plain = gradient_penalty(critic, truth, output, known, torch.Generator().manual_seed(0))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(plain, gradient_penalty(critic, truth, output, known, torch.Generator().manual_seed(0)))
        rounded = critic(truth, known)
    assert not torch.equal(rounded.float(), critic(truth, known)), "autocast would show"


@pytest.mark.parametrize(("kind", "sigmoid"), [("wasserstein", True), ("hinge", True), ("published", False)])
def test_a_critic_of_the_wrong_form_is_refused(kind, sigmoid):
    with pytest.raises(AdversaryError, match=f"{kind!r} needs a critic {'without' if sigmoid else 'with'} a sigmoid"):
        Adversary(kind).critic_terms(Quadratic(sigmoid), *batch())


def test_an_unknown_kind_is_refused():
    with pytest.raises(AdversaryError, match="no adversary 'vanilla', expected one of wasserstein, published, hinge"):
        Adversary("vanilla")
