"""Every preset against a literal network, one line of the paper after the other, and against its table of facts."""

import dataclasses
import itertools

import pytest
import torch
import torch.nn.functional as F
from networks import PRESET_NAMES, images, masks, network, one_thread  # noqa: F401
from torch import Tensor

from lbam_fast import LBAM, PRESETS, ConfigError, LBAMConfig, LBAMModel
from lbam_fast.reference import correction_input


@dataclasses.dataclass(frozen=True)
class Facts:
    batch_norm: bool = False
    output: str = "half"
    channels: int = 4
    skip_first: bool = True
    reverse_start: tuple[float, ...] = (1.1, 1.0, 0.5, 0.5)
    gamma: tuple[float, float] = (0.5, 2.0)
    learned_alpha: bool = False
    attention: str = "gaussian"
    reverse: bool = True
    mask_size: int = 4
    base: str = "none"


SAME_START = (1.1, 2.0, 1.0, 1.0)
FACTS = {
    "official": Facts(),
    "official-2019": Facts(batch_norm=True, output="abs"),
    "paddle": Facts(batch_norm=True, output="abs", reverse_start=SAME_START, gamma=(1.0, 2.0), learned_alpha=True),
    "paper": Facts(batch_norm=True, channels=3, skip_first=False, reverse_start=SAME_START),
    "harmonic": Facts(base="harmonic", channels=6),
    "forward": Facts(reverse=False),
    "unlearned": Facts(attention="unlearned"),
    "sigmoid": Facts(attention="sigmoid"),
    "leaky_relu": Facts(attention="leaky_relu"),
    "relu": Facts(attention="relu"),
    "mask3x3": Facts(mask_size=3),
    "pconv": Facts(attention="partial", channels=3, reverse=False),
}
GAUSSIAN = [name for name in FACTS if FACTS[name].attention == "gaussian"]


def slope(x: Tensor) -> Tensor:
    return torch.maximum(x, 0.2 * x)


class Literal:
    """A network of the given facts, written from the formulas with nothing saved, shared or reordered."""

    def __init__(self, facts: Facts, state: dict[str, Tensor], training: bool) -> None:
        self.facts, self.state, self.training = facts, state, training

    def __call__(self, image: Tensor, mask: Tensor) -> Tensor:
        if self.facts.base == "harmonic":
            x, base = correction_input(image, mask)  # tests/test_harmonic.py
            return torch.clamp(base + torch.tanh(self.lbam(x, mask)), 0, 1)
        if self.facts.attention == "partial":
            y = self.partial(image, mask)
        else:
            x = image * mask
            y = self.lbam(torch.cat([x, mask[:, :1]], dim=1) if self.facts.channels == 4 else x, mask)
        return (torch.tanh(y) + 1) / 2 if self.facts.output == "half" else torch.tanh(y).abs()

    def lbam(self, x: Tensor, mask: Tensor) -> Tensor:
        forward = self.chain(mask, "ec{}.conv", "maskConv", 7)
        reverse = self.chain(1 - mask, "reverseConv{}", "reverseMaskConv", 6) if self.facts.reverse else None
        features = []
        for i in range(1, 8):
            features.append(F.conv2d(x, self.state[f"ec{i}.conv.conv.weight"], stride=2, padding=1))
            x = slope(self.normalised(f"ec{i}.bn", features[-1] * forward[i - 1]))
        for i in range(1, 7):
            skip = 6 - i
            own = F.conv_transpose2d(x, self.state[f"dc{i}.conv.weight"], stride=2, padding=1)
            parts = [features[skip], own]
            maps = [forward[skip], torch.ones_like(own) if reverse is None else reverse[skip]]
            if not self.facts.skip_first:
                parts, maps = parts[::-1], maps[::-1]
            x = slope(self.normalised(f"dc{i}.bn", torch.cat(parts, dim=1) * torch.cat(maps, dim=1)))
        return F.conv_transpose2d(x, self.state["dc7.weight"], stride=2, padding=1)

    def chain(self, u: Tensor, block: str, filter_name: str, depth: int) -> list[Tensor]:
        maps = []
        for i in range(1, depth + 1):
            prefix = block.format(i)
            if self.facts.attention == "unlearned":
                c_in, c_out = u.shape[1], self.state[f"ec{i}.conv.conv.weight"].shape[0]
                weight = torch.full((c_out, c_in, 4, 4), 1 / (16 * c_in), dtype=u.dtype)
            else:
                weight = self.state[f"{prefix}.{filter_name}.weight"]
                assert weight.shape[-1] == self.facts.mask_size
            m = F.conv2d(u, weight, stride=2, padding=1)
            maps.append(self.attention(prefix, m))
            if self.facts.attention == "unlearned":
                u = (m > 0).to(m.dtype)
            elif i < depth:
                alpha = self.state[f"{prefix}.updateMask.alpha"] if self.facts.learned_alpha else 0.8
                u = torch.where(m > 0, m.abs() ** alpha, 0)
        return maps

    def attention(self, prefix: str, m: Tensor) -> Tensor:
        match self.facts.attention:
            case "unlearned":
                return torch.where(m > 0, 1 / m, 0)
            case "sigmoid":
                return 1 / (1 + torch.exp(-m))
            case "leaky_relu":
                return slope(m)
            case "relu":
                return m * (m > 0)
        names = ("a", "mu", "sigma1", "sigma2")
        a, mu, gamma_l, gamma_r = (self.state[f"{prefix}.activationFuncG_A.{name}"] for name in names)
        left = a * torch.exp(-gamma_l * (m - mu) ** 2)
        right = 1 + (a - 1) * torch.exp(-gamma_r * (m - mu) ** 2)
        return left * (m < mu) + right * (m >= mu)

    def normalised(self, name: str, x: Tensor) -> Tensor:
        if not self.facts.batch_norm or name == "ec1.bn":
            return x
        if self.training:
            mean, var = x.mean(dim=(0, 2, 3)), x.var(dim=(0, 2, 3), unbiased=False)
        else:
            mean, var = self.state[f"{name}.running_mean"], self.state[f"{name}.running_var"]
        columns = (mean, var, self.state[f"{name}.weight"], self.state[f"{name}.bias"])
        mean, var, weight, bias = (column[:, None, None] for column in columns)
        return (x - mean) / torch.sqrt(var + 1e-5) * weight + bias

    def partial(self, image: Tensor, mask: Tensor) -> Tensor:
        features, known = [image], [mask]
        for i in range(1, 8):
            x, m = self.partial_convolution(features[-1], known[-1], self.state[f"ec{i}.conv.conv.weight"], stride=2)
            features.append(slope(x))
            known.append(m)
        x, m = features[-1], known[-1]
        for i in range(1, 8):
            x, m = (t.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3) for t in (x, m))
            x, m = torch.cat([features[7 - i], x], dim=1), torch.cat([known[7 - i], m], dim=1)
            weight = self.state["dc7.weight" if i == 7 else f"dc{i}.conv.weight"]
            x, m = self.partial_convolution(x, m, weight, stride=1)
            x = x if i == 7 else slope(x)
        return x

    @staticmethod
    def partial_convolution(x: Tensor, mask: Tensor, weight: Tensor, stride: int) -> tuple[Tensor, Tensor]:
        total = F.conv2d(mask, torch.ones_like(weight), stride=stride, padding=1)
        new = total.clamp(0, 1)
        ratio = weight[0].numel() / (total + 1e-8) * new
        return F.conv2d(x * mask, weight, stride=stride, padding=1) * ratio, new


def test_every_preset_has_its_facts():
    assert tuple(FACTS) == PRESET_NAMES


@pytest.mark.sampled("name", "training")
@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize("name", PRESET_NAMES)
def test_arithmetic(name, training):
    model = network(name).train(training)
    image, mask = images(3, 128, 256), masks("irregular", "box", "per_channel", height=128, width=256)
    state = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    with torch.no_grad():
        result, expected = model(image, mask), Literal(FACTS[name], state, training)(image, mask)
    torch.testing.assert_close(result, expected, rtol=0, atol=1e-9)
    assert expected.std() > 0.02, "the signal has died: any comparison would pass"


@pytest.mark.parametrize("name", [name for name in PRESET_NAMES if name != "pconv"])
def test_arithmetic_of_soft_masks(name):
    model, image, mask = network(name, seed=1), images(1), masks("soft")
    with torch.no_grad():
        torch.testing.assert_close(model(image, mask), Literal(FACTS[name], model.state_dict(), False)(image, mask))


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("official", {"output": "abs"}),
        ("official", {"skip_first": False}),
        ("paper", {"skip_first": True}),
        ("official-2019", {"batch_norm": False}),
        ("paddle", {"learned_alpha": False}),
        ("sigmoid", {"attention": "relu"}),
        ("leaky_relu", {"attention": "relu"}),
    ],
)
def test_a_wrong_fact_is_seen(name, wrong):
    model, image, mask = network(name), images(1), masks("irregular")
    facts = dataclasses.replace(FACTS[name], **wrong)
    with torch.no_grad():
        difference = model(image, mask) - Literal(facts, model.state_dict(), False)(image, mask)
    assert difference.abs().max() > 1e-4


@pytest.mark.parametrize("name", ["official-2019", "paddle", "paper"])
def test_running_statistics_move_by_the_momentum(name):
    model, image, mask = network(name).train(), images(3), masks("irregular", "box", "speckle")
    before = {key: tensor.clone() for key, tensor in model.named_buffers()}
    literal = Literal(FACTS[name], model.state_dict(), True)
    seen = {}
    normalised = literal.normalised
    literal.normalised = lambda key, x: seen.__setitem__(key, x) or normalised(key, x)
    with torch.no_grad():
        literal(image, mask)
        model(image, mask)
    seen.pop("ec1.bn")
    assert len(seen) == 12
    for key, x in seen.items():
        mean, var = x.mean(dim=(0, 2, 3)), x.var(dim=(0, 2, 3))
        for leaf, statistic in (("running_mean", mean), ("running_var", var)):
            expected = 0.9 * before[f"{key}.{leaf}"] + 0.1 * statistic
            torch.testing.assert_close(model.get_buffer(f"{key}.{leaf}"), expected)
        assert model.get_buffer(f"{key}.num_batches_tracked") == before[f"{key}.num_batches_tracked"] + 1


@pytest.mark.parametrize("name", PRESET_NAMES)
def test_tabulated_facts(name):
    facts, model = FACTS[name], LBAM(LBAMConfig.preset(name, base_width=2))
    config, state = model.config, model.state_dict()
    assert config.base == facts.base
    assert config.channels == (2, 4, 8, 16, 16, 16, 16)
    assert state["ec1.conv.conv.weight"].shape[1] == config.input_channels == facts.channels
    assert (config.a_range, config.mu_range, config.gamma_range) == ((1.01, 6.0), (0.1, 3.0), facts.gamma)
    assert (config.alpha, config.alpha_range) == (0.8, (0.6, 0.8) if facts.learned_alpha else None)
    assert (config.skip_first, config.output) == (facts.skip_first, {"half": "tanh"}.get(facts.output, facts.output))

    normed = {key.rsplit(".", 1)[0] for key in state if "running_mean" in key}
    expected = {*(f"ec{i}.bn" for i in range(2, 8)), *(f"dc{i}.bn" for i in range(1, 7))} if facts.batch_norm else set()
    assert normed == expected

    filters = {key: tensor for key, tensor in state.items() if "maskconv" in key.lower()}
    learned = facts.attention not in ("unlearned", "partial")
    assert len(filters) == (7 + 6 * facts.reverse if learned else 0)
    assert {tensor.shape[-1] for tensor in filters.values()} <= {facts.mask_size}

    starts = {"ec": SAME_START, "re": facts.reverse_start}
    scalars = {key: tensor for key, tensor in state.items() if "activationFuncG_A" in key}
    assert len(scalars) == 4 * len(filters) * (facts.attention == "gaussian")
    for key, tensor in scalars.items():
        leaf = ("a", "mu", "sigma1", "sigma2").index(key.rsplit(".", 1)[-1])
        assert tensor.item() == pytest.approx(starts[key[:2]][leaf])
    alphas = [tensor.item() for key, tensor in state.items() if key.endswith("alpha")]
    assert bool(alphas) == facts.learned_alpha and alphas == pytest.approx([0.8] * len(alphas))


@pytest.mark.parametrize("batch_norm", [False, True])
def test_the_published_size_and_keys(batch_norm):
    with torch.device("meta"):
        model, drop_in = LBAM(LBAMConfig(batch_norm=batch_norm)), LBAMModel(4, 3, batch_norm=batch_norm)
    assert round(sum(p.numel() for p in LBAMModel.parameters(model)) / 1e6, 1) == 68.3
    assert model.state_dict().keys() == drop_in.state_dict().keys()
    scalars = ("a", "mu", "sigma1", "sigma2")
    expected = {f"ec{i}.conv.{leaf}.weight" for i in range(1, 8) for leaf in ("conv", "maskConv")}
    expected |= {f"ec{i}.conv.activationFuncG_A.{leaf}" for i in range(1, 8) for leaf in scalars}
    expected |= {f"reverseConv{i}.reverseMaskConv.weight" for i in range(1, 7)}
    expected |= {f"reverseConv{i}.activationFuncG_A.{leaf}" for i in range(1, 7) for leaf in scalars}
    expected |= {f"dc{i}.conv.weight" for i in range(1, 7)} | {"dc7.weight"}
    if batch_norm:
        leaves = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
        expected |= {f"ec{i}.bn.{leaf}" for i in range(2, 8) for leaf in leaves}
        expected |= {f"dc{i}.bn.{leaf}" for i in range(1, 7) for leaf in leaves}
    assert set(model.state_dict()) == expected


def out_of_range(model: LBAM, low: bool) -> dict[str, tuple[float, float]]:
    """Push every learned scalar out of its range; where they are now, and the nearest allowed value."""
    config, moved = model.config, {}
    ranges = {"a": config.a_range, "mu": config.mu_range, "sigma1": config.gamma_range, "sigma2": config.gamma_range}
    ranges["alpha"] = config.alpha_range
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() == 0:
                bound = ranges[name.rsplit(".", 1)[-1]][0 if low else 1]
                parameter.fill_(bound - 0.05 if low else bound + 0.05)
                moved[name] = (parameter.item(), bound)
    return moved


@pytest.mark.sampled("name", "low")
@pytest.mark.parametrize("low", [True, False], ids=["too low", "too high"])
@pytest.mark.parametrize("name", GAUSSIAN)
def test_scalars_out_of_range_act_from_the_edge_and_still_learn(name, low):
    model, image, mask = network(name), images(2), masks("irregular", "soft")
    moved = out_of_range(model, low)
    state = model.state_dict()
    at_edge = state | {key: torch.tensor(edge, dtype=torch.float64) for key, (_, edge) in moved.items()}
    outside = model(image, mask)
    with torch.no_grad():
        torch.testing.assert_close(outside, Literal(FACTS[name], at_edge, False)(image, mask))
        raw = Literal(FACTS[name], state, False)(image, mask)
    assert (raw - outside).abs().max() > 1e-6

    parameters = dict(model.named_parameters())
    outside.square().sum().backward()
    grads = {key: parameters[key].grad.clone() for key in moved}
    assert {key: parameters[key].item() for key in moved} == {key: value for key, (value, _) in moved.items()}

    model.zero_grad()
    model.project_()
    assert all(parameters[key].item() == pytest.approx(edge) for key, (_, edge) in moved.items())
    model(image, mask).square().sum().backward()
    for key, grad in grads.items():
        torch.testing.assert_close(grad, parameters[key].grad)
    assert any(grad.item() for grad in grads.values())


def test_project_leaves_allowed_values_and_filters_alone():
    model = network("paddle")
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    model.project_()
    assert all(torch.equal(tensor, before[key]) for key, tensor in model.state_dict().items())


@pytest.mark.parametrize("name", PRESET_NAMES)
def test_config_survives_its_dictionary(name):
    config = LBAMConfig.preset(name, base_width=16)
    assert config.base_width == 16
    assert LBAMConfig.from_dict(config.to_dict()) == config
    assert dataclasses.replace(config, base_width=64) == PRESETS[name]


def test_presets_differ():
    assert all(a != b for a, b in itertools.combinations(PRESETS.values(), 2))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"base_width": 0}, "base_width is 0"),
        ({"base_width": 1.5}, "base_width is 1.5"),
        ({"input_channels": 5}, "input_channels is 5, expected 3 or 4"),
        ({"base": "linear"}, "base is 'linear', expected 'none' or 'harmonic'"),
        ({"base": "harmonic"}, "input_channels is 4, expected 6 with a base"),
        ({"base": "harmonic", "input_channels": 6, "output": "abs"}, "output is 'abs'"),
        ({"output": "relu"}, "output is 'relu', expected 'tanh' or 'abs'"),
        ({"attention": "softmax"}, "attention is 'softmax', expected one of gaussian"),
        ({"mask_kernel_size": 5}, "mask_kernel_size is 5"),
        ({"alpha": 0}, "alpha is 0"),
        ({"gamma_range": (2.0, 1.0)}, "gamma_range"),
        ({"attention": "partial"}, "reverse is True, expected False"),
        ({"depth": 7}, "depth.*the settings are base_width"),
    ],
)
def test_wrong_settings_are_named(change, message):
    with pytest.raises(ConfigError, match=message):
        LBAMConfig.preset("official", **change)
    with pytest.raises(ConfigError, match=message):
        LBAMConfig.from_dict(change)


def test_unknown_preset():
    with pytest.raises(ConfigError, match="unknown preset 'oficial'; the presets are official, official-2019"):
        LBAMConfig.preset("oficial")


def test_the_drop_in_has_three_output_channels():
    with pytest.raises(ValueError, match="outputChannels is 4"):
        LBAMModel(4, 4)


@pytest.mark.parametrize(
    "settings",
    [
        {"attention": "partial", "reverse": False, "input_channels": 4},
        {"attention": "reciprocal", "mask_kernel_size": 3},
        {"alpha": 0.9, "alpha_range": (0.6, 0.8)},
        {"alpha": "0.8"},
        {"a_range": 3},
        {"a_range": None},
        {"forward_start": (1.1, 2.0)},
    ],
    ids=str,
)
def test_settings_that_cannot_work_are_refused(settings):
    with pytest.raises(ConfigError):
        LBAMConfig(**settings)
