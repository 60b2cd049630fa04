"""What can be set about a training: the one list that the configuration file, the flags and their help are made of.

Needs no PyTorch, so that the command line's help comes at once.
"""

from __future__ import annotations

import dataclasses
import difflib
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from lbam_fast.config import HoleColour
from lbam_fast.errors import LBAMError


class TrainingError(LBAMError, RuntimeError):
    """A training that cannot start or go on; the message says why and what to do."""


def _setting(default: Any, doc: str, *, run_only: bool = False) -> Any:
    """A field with its documentation; ``run_only``: it changes nothing of the result, so a resumed run may have another."""
    return dataclasses.field(default=default, metadata={"doc": doc, "run_only": run_only})


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Settings of one training. ``Settings.doc("crop")`` says what one means; ``recipe("paper")`` gives values that go together.

    Raises TrainingError for values that cannot be.
    """

    photographs: Path | None = _setting(None, "Folder of photographs, searched with its subfolders.", run_only=True)
    output: Path | None = _setting(None, "Folder for weights, checkpoint, log and settings.", run_only=True)
    dataset: Literal["folder", "paris", "places"] = _setting(
        "folder", "What the folder holds: any photographs, or Paris StreetView or Places in the paper's split."
    )
    held_out: int = _setting(20, "Every so many-th photograph of a folder is kept for validation; 0: none.")
    validation: Path | None = _setting(None, "Folder of photographs to validate with, in place of held-out ones.", run_only=True)
    masks: Path | None = _setting(None, "Folder of masks; random ones by default.", run_only=True)
    mask_pairs: Literal["any", "name"] = _setting("any", "Any mask for any photograph, or that of the photograph's name.")
    mask_ratio: str = _setting("", "Of NVIDIA's masks those whose holes take this share, as 0.1-0.3.")
    hole: HoleColour = _setting("white", "Colour of holes in masks from files.")
    preprocessing: Literal["zoom", "published", "centre"] = _setting(
        "zoom", "Random windows of any scale; 350x350 cropped at random, as published; the square in the middle."
    )
    crop: int = _setting(128, "Side of the crops in pixels, a multiple of 128.")
    crops_per_mask: int = _setting(1, "Crops of a batch that share a mask, which saves time.")

    preset: str = _setting("official", "Network to train.")
    base_width: int = _setting(64, "Channels of its first layer; 64 is the published network.")
    start_from: str = _setting("", 'Weights to start from, instead of random ones; "shipped": those of this package.')

    steps: int = _setting(20_000, "Optimiser steps.")
    batch_size: int = _setting(16, "Crops per step, over all devices.")
    accumulate: int = _setting(1, "Parts that a step's crops are taken in, one after the other, to save memory.")
    learning_rate: float = _setting(1e-3, "Adam's learning rate at its highest.")
    final_learning_rate: float = _setting(1e-5, "And at the end, along a half cosine.")
    warmup: int = _setting(200, "Steps in which it rises to its highest.")
    beta1: float = _setting(0.9, "Adam's decay of the mean gradient.")
    beta2: float = _setting(0.999, "Adam's decay of the mean squared gradient.")
    clip: float = _setting(1.0, "Largest norm of the gradient; inf: any.")
    ema: float = _setting(0.999, "Decay of the averaged weights, which are the ones saved; 0: the last ones are.")

    hole_loss: Literal["l1", "relative", "psnr"] = _setting(
        "l1", "Error in holes: absolute; relative to the harmonic fill's; the logarithm of the squared, as PSNR has it."
    )
    hole_weight: float = _setting(6.0, "Weight of the error in holes.")
    valid_weight: float = _setting(1.0, "Weight of the mean absolute error on known pixels.")
    total_variation: float = _setting(0.0, "Weight of the total variation in holes.")
    perceptual: float = _setting(0.0, "Weight of the distance of VGG16's features.")
    style: float = _setting(0.0, "Weight of the distance of their Gram matrices.")
    vgg: Path | None = _setting(None, "File of VGG16's weights; torchvision's by default.", run_only=True)
    critic: Literal["none", "wasserstein", "published", "hinge"] = _setting("none", "Adversarial loss; crops of 256 and more.")
    adversarial: float = _setting(0.1, "Weight of the adversarial loss.")
    penalty: float = _setting(10.0, "Weight of the critic's gradient penalty.")
    critic_learning_rate: float = _setting(1e-5, "The critic's, at its highest; it rises and falls as the network's.")
    critic_base_width: int = _setting(64, "Channels of the critic's first layer.")

    amp: Literal["fp32", "bf16", "fp16"] = _setting("fp32", "Precision.")
    seed: int = _setting(0, "Decides weights, crops and masks.")
    device: str = _setting("auto", "auto, cpu, cuda, cuda:1 ...", run_only=True)
    devices: int = _setting(1, "How many of them, or processes on a CPU, share each step.", run_only=True)
    workers: int = _setting(0, "Processes that read and crop pictures; 0: in the training process.", run_only=True)
    compile: bool = _setting(False, "Run the network through torch.compile.", run_only=True)
    checkpoint_every: int = _setting(500, "Steps between checkpoints.", run_only=True)
    log_every: int = _setting(50, "Steps between lines of the log.", run_only=True)
    validate_every: int = _setting(500, "Steps between validations.", run_only=True)

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            object.__setattr__(self, name, _taken_as(name, value, TYPES[name]))
        if self.crop < 128 or self.crop % 128:
            raise TrainingError(f"the crop is {self.crop}, expected a multiple of 128")
        if min(self.steps, self.batch_size, self.log_every, self.checkpoint_every, self.validate_every) < 1:
            raise TrainingError("steps, batch_size, log_every, checkpoint_every and validate_every must be at least 1")
        if min(self.accumulate, self.devices, self.critic_base_width) < 1:
            raise TrainingError("accumulate, devices and critic_base_width must be at least 1")
        if self.crops_per_mask < 1 or self.batch_size % self.crops_per_mask:
            raise TrainingError(
                f"crops_per_mask is {self.crops_per_mask}, expected a divisor of the batch size {self.batch_size}"
            )
        if self.batch_size % (self.crops_per_mask * self.accumulate * self.devices):
            raise TrainingError(
                f"the batch size is {self.batch_size}, expected a multiple of accumulate x devices x crops_per_mask, "
                f"{self.accumulate} x {self.devices} x {self.crops_per_mask}"
            )
        if self.held_out < 0 or self.held_out == 1:
            raise TrainingError(f"held_out is {self.held_out}, expected 0, or 2 and more: every so many-th photograph")
        if not (self.learning_rate > 0 and self.final_learning_rate >= 0 and self.clip > 0 and 0 <= self.ema < 1):
            raise TrainingError("learning_rate and clip must be above 0, final_learning_rate at least 0, and ema in [0, 1)")
        if min(self.warmup, self.workers, self.seed) < 0:
            raise TrainingError("warmup, workers and seed must be at least 0")
        if not (0 <= self.beta1 < 1 and 0 <= self.beta2 < 1 and self.critic_learning_rate > 0):
            raise TrainingError("beta1 and beta2 must lie in [0, 1), and critic_learning_rate above 0")
        if not all(0 <= weight < float("inf") for weight in (*self.weights.values(), self.adversarial, self.penalty)):
            raise TrainingError("the weights of losses must be at least 0, and finite")
        if not any(self.weights.values()) and self.critic == "none":
            raise TrainingError("the weights of all losses are 0: there is nothing to learn from")
        if self.critic != "none" and self.crop < 256:
            raise TrainingError(f"the critic {self.critic!r} needs crops of 256 and more: add crop=256, or critic=none")
        if self.mask_pairs == "name" and (self.masks is None or self.crops_per_mask > 1):
            raise TrainingError("mask_pairs=name needs a folder of masks, and crops_per_mask=1: each photograph has its own")
        if self.mask_ratio and (self.masks is None or self.mask_pairs == "name"):
            raise TrainingError("mask_ratio chooses among NVIDIA's masks: name their folder as masks, with mask_pairs=any")

    @property
    def weights(self) -> dict[str, float]:
        """Of every term over pictures, by its name in ``lbam_fast.training.losses``."""
        fidelity = {"l1": "hole", "relative": "relative", "psnr": "log_squared"}[self.hole_loss]
        others = {"valid": self.valid_weight, "total_variation": self.total_variation}
        return {fidelity: self.hole_weight, **others, "perceptual": self.perceptual, "style": self.style}

    @staticmethod
    def doc(name: str) -> str:
        """What a setting means."""
        text: str = FIELDS[name].metadata["doc"]
        return text

    def to_dict(self) -> dict[str, Any]:
        """Plain types only, as YAML and checkpoints carry them; the inverse of ``Settings(**values)``."""
        return {name: str(value) if isinstance(value, Path) else value for name, value in vars(self).items()}


FIELDS = {field.name: field for field in dataclasses.fields(Settings)}
TYPES = typing.get_type_hints(Settings)
RUN_ONLY = tuple(name for name, field in FIELDS.items() if field.metadata["run_only"])
"""Settings that change nothing of the result: a resumed run may have others."""

RECIPES: dict[str, dict[str, Any]] = {
    # Xie et al., ICCV 2019: 500 epochs of Paris StreetView, 48 a step; weights of the losses as in the published code.
    "paper": {
        "preset": "paper",
        "preprocessing": "published",
        "crop": 256,
        "steps": 155_000,
        "batch_size": 48,
        "learning_rate": 1e-4,
        "final_learning_rate": 1e-4,
        "warmup": 0,
        "beta1": 0.5,
        "beta2": 0.9,
        "clip": float("inf"),
        "ema": 0.0,
        "perceptual": 0.01,
        "style": 120.0,
        "critic": "wasserstein",
    },
    # The first run of the network that ships: docs/model-card.md.
    "narrow": {
        "preset": "harmonic",
        "base_width": 16,
        "steps": 6_500,
        "learning_rate": 2e-3,
        "hole_loss": "relative",
        "hole_weight": 1.0,
        "valid_weight": 0.0,
        "crops_per_mask": 4,
        "ema": 0.998,
        "workers": 1,
    },
    # From given weights on, for pictures of one's own.
    "fine-tune": {
        "start_from": "shipped",
        "steps": 2_000,
        "learning_rate": 3e-4,
        "warmup": 100,
        "hole_loss": "relative",
        "hole_weight": 1.0,
        "valid_weight": 0.0,
        "crops_per_mask": 4,
        "ema": 0.998,
        "checkpoint_every": 200,
        "validate_every": 200,
    },
}
"""Settings that go together; what a recipe leaves out has its default."""


def flag(name: str) -> str:
    """The command line's option for a setting."""
    return "--" + name.replace("_", "-")


def recipe(name: str, /, **changes: Any) -> Settings:
    """The settings of a recipe with ``changes`` applied. Raises TrainingError for unknown names."""
    return Settings(**known({**recipe_values(name), **changes}))


def read_settings(path: Path, chosen: str | None = None) -> dict[str, Any]:
    """The settings of a YAML file; under what it says itself those of the recipe ``chosen``, else of its own ``recipe: NAME``.

    Raises TrainingError for a file that cannot be read, an unknown recipe or key.
    """
    try:
        import yaml
    except ImportError as error:
        raise TrainingError("a configuration file is read by PyYAML: pip install 'lbam-fast[train]'") from error
    try:
        values = yaml.safe_load(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise TrainingError(f"{path}: this configuration cannot be read ({error})") from error
    if values is None:
        values = {}
    if not isinstance(values, dict):
        raise TrainingError(f"{path}: expected lines such as 'steps: 1000', a setting and its value each")
    values = {str(name).replace("-", "_"): value for name, value in values.items()}
    own = values.pop("recipe", None)
    chosen = chosen or (None if own is None else str(own))
    return {**(recipe_values(chosen) if chosen else {}), **known(values, str(path))}


def known(values: Mapping[str, Any], where: str = "") -> dict[str, Any]:
    """The same values. Raises TrainingError for names that are no settings, with the nearest that are."""
    for name in values:
        if name not in FIELDS:
            near = _nearest(name, [*FIELDS, "recipe"])
            raise TrainingError(f"{where + ': ' if where else ''}there is no setting {name!r}{near}")
    return dict(values)


def recipe_values(name: str) -> dict[str, Any]:
    """What a recipe sets. Raises TrainingError for an unknown name."""
    if name not in RECIPES:
        raise TrainingError(f"unknown recipe {name!r}{_nearest(name, list(RECIPES))}; the recipes are {', '.join(RECIPES)}")
    return dict(RECIPES[name])


def _nearest(name: str, names: list[str]) -> str:
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    return f", did you mean {close[0]!r}?" if close else ""


def _taken_as(name: str, value: Any, wanted: Any) -> Any:
    """The value in the type of its field: YAML takes 1e-4 for a word, and knows no paths."""
    choices = typing.get_args(wanted)
    if typing.get_origin(wanted) is Literal:
        if value not in choices:
            raise TrainingError(f"{name} is {value!r}, expected {', '.join(choices[:-1])} or {choices[-1]}")
        return value
    if type(None) in choices:
        return None if value in (None, "", "None") else Path(value)
    right = {
        bool: isinstance(value, bool),
        int: isinstance(value, int) and not isinstance(value, bool),
        float: isinstance(value, (int, float)) and not isinstance(value, bool),
        str: True,
    }[wanted]
    if wanted is float and isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            right = False
    if not right:
        kind = {bool: "true or false", int: "a whole number", float: "a number"}[wanted]
        raise TrainingError(f"{name} is {value!r}, expected {kind}")
    return "" if value is None else wanted(value)
