"""Weights in files: safetensors by default, PyTorch's own formats read and written too."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialised
from torch import Tensor

from lbam_fast.config import PRESETS, LBAMConfig
from lbam_fast.errors import LBAMError
from lbam_fast.files import replacing
from lbam_fast.model import LBAM, Generator

CONFIG_KEY = "lbam_config"
PTH_SUFFIXES = (".pth", ".pt", ".bin")
_WRAPPERS = ("state_dict", "average", "model", "generator")
_PREFIXES = re.compile(r"^(module\.|_orig_mod\.)+")
# The last layer of either chain updates no mask, so a learned exponent there has no use, but files may have it.
_UNUSED = ("ec7.conv.updateMask.alpha", "reverseConv6.updateMask.alpha")


class CheckpointError(LBAMError, ValueError):
    """A weights file that cannot be read, or that does not fit; the message names the keys and the preset that would fit."""


def save_checkpoint(model: Generator, path: str | Path, dtype: torch.dtype | None = None) -> None:
    """Write the model's weights, floating ones in ``dtype`` if given; by suffix: .safetensors (with the configuration) or .pth.

    A .pth holds the bare state dict under the published keys, as the published code reads it. Raises CheckpointError.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if not path.parent.is_dir():
        raise CheckpointError(f"cannot write {path}: there is no folder {path.parent}; create it or choose another one")
    state = {
        name: tensor.detach().to("cpu", dtype if tensor.is_floating_point() else None).contiguous()
        for name, tensor in model.state_dict().items()
    }
    try:
        with replacing(path) as temporary:
            if suffix == ".safetensors":
                metadata = {"format": "pt", CONFIG_KEY: json.dumps(model.config.to_dict())}
                temporary.write_bytes(serialised(state, metadata))  # save_file would let no other user read it
            elif suffix in PTH_SUFFIXES:
                torch.save(state, temporary)
            else:
                raise CheckpointError(f"cannot tell the format of {path}: expected .safetensors or .pth")
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"cannot write {path}: {error}") from error


def load_checkpoint(path: str | Path, preset: str | None = None) -> LBAM:
    """The model in a weights file, on the CPU, in float32 and ``eval()``, its learned scalars within their ranges.

    Safetensors files of this project carry their configuration. For others it is recognised from the keys and shapes, unless
    ``preset`` names it. Prefixes ``module.`` and wrappings ``{"state_dict": ...}`` are removed.
    Raises CheckpointError, or ConfigError for an unknown preset.
    """
    path = Path(path)
    state, config = read_state(path)
    if preset is not None:
        config = LBAMConfig.preset(preset, base_width=_base_width(state, path))
    elif config is None:
        config = recognise(state, path)
    model = LBAM(config)
    problems = mismatches(state, model.state_dict())
    if problems:
        raise CheckpointError(f"{path} does not fit {_named(config)}: {problems}.{_suggestion(state)}")
    model.load_state_dict(state)
    model.project_()
    return model.eval()


def read_state(path: Path) -> tuple[dict[str, Tensor], LBAMConfig | None]:
    """The state dict in a file, and its configuration if the file carries one. Raises CheckpointError."""
    if not path.is_file():
        raise CheckpointError(f"no weights file at {path}")
    try:
        if path.suffix.lower() == ".safetensors":
            with safe_open(path, "pt") as file:
                metadata = file.metadata() or {}
                state: object = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
            config = LBAMConfig.from_dict(json.loads(metadata[CONFIG_KEY])) if CONFIG_KEY in metadata else None
        else:
            state, config = torch.load(path, map_location="cpu", weights_only=True), None
    except UnpicklingError as error:
        raise CheckpointError(
            f"{path} holds more than tensors, or is no weights file; expected a state dict: "
            "save model.state_dict(), not the model, with torch.save"
        ) from error
    except MemoryError:
        raise
    except Exception as error:  # the unpickler meets damaged files with errors of many kinds
        raise CheckpointError(f"cannot read {path} as weights; it is damaged or of another kind: {error}") from error
    return unwrapped(state, path), config


def unwrapped(state: object, path: Path) -> dict[str, Tensor]:
    """The state dict itself: without ``{"state_dict": ...}`` around it, prefixes of its keys, and exponents that nothing uses."""
    while isinstance(state, Mapping) and (inner := next((state[key] for key in _WRAPPERS if _is_mapping(state.get(key))), None)):
        state = inner
    if not isinstance(state, Mapping) or not all(isinstance(v, Tensor) for v in state.values()):
        raise CheckpointError(f"{path} does not hold a state dict (a mapping of names to tensors)")
    named = {_PREFIXES.sub("", str(name)): tensor for name, tensor in state.items()}
    return {name: tensor for name, tensor in named.items() if name not in _UNUSED}


def _is_mapping(value: object) -> bool:
    return isinstance(value, Mapping)


def mismatches(state: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> str:
    """What keeps ``state`` from loading into a model with the state dict ``expected``, in words; empty if nothing does."""
    found = {
        "missing": [name for name in expected if name not in state],
        "unexpected": [name for name in state if name not in expected],
        "mis-shaped": [
            f"{name} {list(state[name].shape)} instead of {list(tensor.shape)}"
            for name, tensor in expected.items()
            if name in state and state[name].shape != tensor.shape
        ],
    }
    return "; ".join(f"{kind}: {_shortened(names)}" for kind, names in found.items() if names)


def fitting_presets(state: Mapping[str, Tensor]) -> list[str]:
    """The presets whose networks have exactly this state's keys and shapes, at the state's own base width."""
    first = state.get("ec1.conv.conv.weight")
    if first is None or first.dim() != 4:
        return []
    fitting = []
    for name in PRESETS:
        with torch.device("meta"):
            expected = LBAM(LBAMConfig.preset(name, base_width=first.shape[0])).state_dict()
        if not mismatches(state, expected):
            fitting.append(name)
    return fitting


def recognise(state: Mapping[str, Tensor], path: Path) -> LBAMConfig:
    """The configuration of the one preset that fits a state dict. Raises CheckpointError where none or several do."""
    fitting = fitting_presets(state)
    if len(fitting) == 1:
        return LBAMConfig.preset(fitting[0], base_width=_base_width(state, path))
    if fitting:
        raise CheckpointError(f"{path} fits several presets, {', '.join(fitting)}: name the one it was trained as")
    width = _base_width(state, path)
    with torch.device("meta"):
        expected = LBAM(LBAMConfig.preset("official", base_width=width)).state_dict()
    raise CheckpointError(f"{path} fits no preset. Compared with 'official' at base width {width}: {mismatches(state, expected)}")


def _base_width(state: Mapping[str, Tensor], path: Path) -> int:
    first = state.get("ec1.conv.conv.weight")
    if first is None or first.dim() != 4:
        raise CheckpointError(
            f"{path} holds no LBAM generator: it has no ec1.conv.conv.weight; its keys: {_shortened(list(state))}"
        )
    return first.shape[0]


def _shortened(names: list[str], most: int = 6) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _named(config: LBAMConfig) -> str:
    name = config.preset_name
    return f"the preset {name!r} at base width {config.base_width}" if name else "its own configuration"


def _suggestion(state: Mapping[str, Tensor]) -> str:
    fitting = fitting_presets(state)
    return f" It fits the preset {' or '.join(map(repr, fitting))}" if fitting else " No preset fits it"
