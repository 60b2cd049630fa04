"""The settings of one LBAM network and the presets that name known ones."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from lbam_fast.errors import LBAMError

Attention = Literal["gaussian", "sigmoid", "leaky_relu", "relu", "reciprocal", "partial"]
Output = Literal["tanh", "abs"]
Base = Literal["none", "harmonic"]
Range = tuple[float, float]
HoleColour = Literal["white", "black"]
"""Of holes in a mask."""
MaskKind = Literal["noise", "thin", "medium", "thick", "scratches"]
"""Of random masks: blobs of smooth noise, as in LBAM; strokes, as in LaMa; thin straight lines."""


class ConfigError(LBAMError, ValueError):
    """A setting that no LBAM network can have; the message names the setting and what is allowed."""


class GaussianStart(NamedTuple):
    """Start values of the attention map's four learned scalars (Eqn. 9)."""

    a: float
    mu: float
    gamma_l: float
    gamma_r: float


@dataclass(frozen=True)
class LBAMConfig:
    """What distinguishes one LBAM network from another. The defaults are the preset ``official``.

    base_width       channels of the first layer; the seven levels have 1, 2, 4, 8, 8, 8, 8 times as many
    input_channels   4: ``cat(image * M, M[0])``; 3: ``image * M``; 6 where there is a base: see it
    base             ``"harmonic"``: the network corrects the harmonic fill of the known pixels, by ``2 y - 1`` for an output
                     ``y``, and reads how they differ from their trend, and how the fill does (``reference.correction_input``).
                     Its last layer starts at 0. ``"none"``: it makes the picture by itself, as published
    batch_norm       BatchNorm in every layer but the first encoder layer and the last decoder layer
    output           ``"tanh"``: ``(tanh + 1) / 2``; ``"abs"``: ``|tanh|``. Both lie in [0, 1]
    attention        the function of ``m`` that multiplies the features: ``"gaussian"`` is g_A (Eqn. 9);
                     ``"sigmoid"``, ``"leaky_relu"`` (slope 0.2) and ``"relu"`` stand in its place;
                     ``"reciprocal"`` is Eqn. 4 and 5 with fixed mean filters; ``"partial"`` are partial convolutions
    reverse          whether the reverse chain normalises the decoder's half (else that half is multiplied by 1)
    mask_kernel_size 4 or 3, of the mask convolutions (stride 2, padding 1)
    skip_first       order of concatenation in the decoder: encoder half and forward map first, or second
    alpha            exponent of the mask update g_M (Eqn. 8), its start value where it is learned
    alpha_range      ``None``: alpha is fixed; a range: alpha is learned within it
    forward_start, reverse_start   start values of both chains' g_A
    a_range, mu_range, gamma_range ranges that the learned scalars are kept in
    """

    base_width: int = 64
    input_channels: int = 4
    base: Base = "none"
    batch_norm: bool = False
    output: Output = "tanh"
    attention: Attention = "gaussian"
    reverse: bool = True
    mask_kernel_size: int = 4
    skip_first: bool = True
    alpha: float = 0.8
    alpha_range: Range | None = None
    forward_start: GaussianStart = GaussianStart(1.1, 2.0, 1.0, 1.0)
    reverse_start: GaussianStart = GaussianStart(1.1, 1.0, 0.5, 0.5)
    a_range: Range = (1.01, 6.0)
    mu_range: Range = (0.1, 3.0)
    gamma_range: Range = (0.5, 2.0)

    def __post_init__(self) -> None:
        _check("base_width", isinstance(self.base_width, int) and self.base_width >= 1, self.base_width, "an int >= 1")
        _check("base", self.base in ("none", "harmonic"), self.base, "'none' or 'harmonic'")
        if self.base == "none":
            _check("input_channels", self.input_channels in (3, 4), self.input_channels, "3 or 4")
        else:
            _check("input_channels", self.input_channels == 6, self.input_channels, "6 with a base")
            _check("output", self.output == "tanh", self.output, "'tanh' with a base, which it corrects both ways")
            _check("attention", self.attention != "partial", self.attention, "another one with a base")
        _check("output", self.output in ("tanh", "abs"), self.output, "'tanh' or 'abs'")
        kinds = Attention.__args__  # type: ignore[attr-defined]
        _check("attention", self.attention in kinds, self.attention, f"one of {', '.join(kinds)}")
        _check("mask_kernel_size", self.mask_kernel_size in (3, 4), self.mask_kernel_size, "3 or 4")
        if self.attention == "partial":
            _check("reverse", not self.reverse, self.reverse, "False with partial convolutions, which have one chain")
            _check("input_channels", self.input_channels == 3, self.input_channels, "3 with partial convolutions")
        if self.attention == "reciprocal":
            _check("mask_kernel_size", self.mask_kernel_size == 4, self.mask_kernel_size, "4 with the mean filters of Eqn. 4")
        for name in ("a_range", "mu_range", "gamma_range", *(["alpha_range"] if self.alpha_range is not None else [])):
            bounds = getattr(self, name)
            _check(name, _numbers(bounds, 2) and bounds[0] < bounds[1], bounds, "a pair (low, high) with low < high")
        low, high = self.alpha_range or (0.0, 1.0)
        in_range = _numbers((self.alpha,), 1) and self.alpha > 0 and low <= self.alpha <= high
        _check("alpha", in_range, self.alpha, f"a number above 0, from {low} to {high}")
        for name in ("forward_start", "reverse_start"):
            start = getattr(self, name)
            _check(name, _numbers(start, 4), start, "four numbers: a, mu, gamma_l, gamma_r")
            for value, field in zip(start, ("a_range", "mu_range", "gamma_range", "gamma_range"), strict=True):
                low, high = getattr(self, field)
                _check(name, low <= value <= high, start, f"{value} within {field}, {low} to {high}")

    @property
    def channels(self) -> tuple[int, ...]:
        """Output channels of the seven encoder levels."""
        return tuple(self.base_width * factor for factor in (1, 2, 4, 8, 8, 8, 8))

    @classmethod
    def preset(cls, name: str, /, **changes: Any) -> LBAMConfig:
        """The named preset with ``changes`` applied, e.g. ``LBAMConfig.preset("paper", base_width=16)``.

        Raises ConfigError for an unknown name or setting.
        """
        if name not in PRESETS:
            raise ConfigError(f"unknown preset {name!r}; the presets are {', '.join(PRESETS)}")
        try:
            return dataclasses.replace(PRESETS[name], **changes)
        except TypeError as error:
            fields = ", ".join(field.name for field in dataclasses.fields(cls))
            raise ConfigError(f"{error}; the settings are {fields}") from None

    @property
    def preset_name(self) -> str | None:
        """The preset that this is at its base width, or None."""
        return next(
            (name for name, preset in PRESETS.items() if dataclasses.replace(preset, base_width=self.base_width) == self), None
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain types only, so that JSON and ``torch.load(weights_only=True)`` can carry it."""
        return {name: list(v) if isinstance(v, tuple) else v for name, v in vars(self).items()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> LBAMConfig:
        """The inverse of ``to_dict``. Raises ConfigError for unknown settings."""
        if not isinstance(values, dict):
            raise ConfigError(f"the configuration is {values!r}, expected a mapping of settings to values")
        tuples = {name: tuple(v) if isinstance(v, list) else v for name, v in values.items()}
        config = cls.preset("official", **tuples)
        forward, reverse = (GaussianStart(*start) for start in (config.forward_start, config.reverse_start))
        return dataclasses.replace(config, forward_start=forward, reverse_start=reverse)


def _numbers(values: object, count: int) -> bool:
    return isinstance(values, tuple) and len(values) == count and all(isinstance(value, (int, float)) for value in values)


def _check(name: str, holds: bool, value: object, expected: str) -> None:
    if not holds:
        raise ConfigError(f"{name} is {value!r}, expected {expected}")


_PAPER_REVERSE = GaussianStart(1.1, 2.0, 1.0, 1.0)

PRESETS: dict[str, LBAMConfig] = {
    # Released networks.
    "official": LBAMConfig(),
    "official-2019": LBAMConfig(batch_norm=True, output="abs"),
    "paddle": LBAMConfig(
        batch_norm=True,
        output="abs",
        reverse_start=_PAPER_REVERSE,
        gamma_range=(1.0, 2.0),
        alpha_range=(0.6, 0.8),
    ),
    "paper": LBAMConfig(batch_norm=True, reverse_start=_PAPER_REVERSE, input_channels=3, skip_first=False),
    # Made here: the published network as a correction of the harmonic fill. The network that ships is of this kind.
    "harmonic": LBAMConfig(base="harmonic", input_channels=6),
    # Ablations of the paper and its supplement, on top of "official".
    "forward": LBAMConfig(reverse=False),
    "unlearned": LBAMConfig(attention="reciprocal"),
    "sigmoid": LBAMConfig(attention="sigmoid"),
    "leaky_relu": LBAMConfig(attention="leaky_relu"),
    "relu": LBAMConfig(attention="relu"),
    "mask3x3": LBAMConfig(mask_kernel_size=3),
    "pconv": LBAMConfig(attention="partial", reverse=False, input_channels=3),
}
"""Every preset by name. ``official``, ``official-2019``, ``paddle`` and ``paper`` fit released or published networks."""
