"""The folder of a run: settings, versions, log, weights and the checkpoint to resume from."""

from __future__ import annotations

import json
import math
import pickle
import platform
import re
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save as serialised
from torch import nn

from lbam_fast.checkpoints import CheckpointError, save_checkpoint
from lbam_fast.data.protocols import Split, listed
from lbam_fast.files import replace_file
from lbam_fast.model import Generator
from lbam_fast.training.settings import FIELDS, Settings, TrainingError

WEIGHTS_FILE, BEST_FILE, STATE_FILE, LOG_FILE = "weights.safetensors", "best.safetensors", "training.pt", "log.jsonl"
SETTINGS_FILE, VERSIONS_FILE, SPLIT_FILE, GRID_FILE = "settings.yaml", "versions.json", "split.tsv", "grid.png"
LIBRARIES = ("lbam-fast", "torch", "lightning-fabric", "numpy", "opencv-python-headless", "pillow", "triton")

_TEMPORARY = re.compile(r"\.[0-9a-f]{32}(\.\w+)?")


class RunFolder:
    """Files of a run below ``path``, each replaced whole or not at all."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def refuse_used(self) -> None:
        """Raises TrainingError where the folder holds a run."""
        if (self.path / STATE_FILE).exists():
            raise TrainingError(f"{self.path} holds a training already: add --resume to go on with it, or choose another folder")

    def begin(self, settings: Settings, split: Split, step: int) -> None:
        """Make the folder, say what runs in it, and drop what a run that was killed left half done. Raises TrainingError."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise TrainingError(f"the folder {self.path} cannot be made ({error.strerror}); choose another one") from error
        for path in self.path.iterdir():
            if _TEMPORARY.fullmatch(path.name):
                path.unlink()
        self.write(SETTINGS_FILE, _as_yaml(settings))
        self.write(SPLIT_FILE, listed(split))
        self.write(VERSIONS_FILE, json.dumps(_versions(), indent=1) + "\n")
        self._trim_log(step)

    def write(self, name: str, content: str | bytes) -> None:
        """A file in the folder, whole or not at all. Raises TrainingError."""
        try:
            replace_file(self.path / name, content.encode() if isinstance(content, str) else content)
        except OSError as error:
            raise self.unwritable(error) from error

    def log(self, row: dict[str, float]) -> None:
        """Add a line to the log. Raises TrainingError."""
        try:
            with (self.path / LOG_FILE).open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
        except OSError as error:
            raise self.unwritable(error) from error

    def save_weights(self, network: nn.Module, name: str) -> None:
        """The network's weights, with its configuration where it is one of this project's. Raises TrainingError."""
        if isinstance(network, Generator):
            try:
                save_checkpoint(network, self.path / name)
            except CheckpointError as error:
                raise self.unwritable(error) from error
        else:
            state = {key: tensor.detach().cpu().contiguous() for key, tensor in network.state_dict().items()}
            self.write(name, serialised(state, {"format": "pt"}))

    def load_state(self) -> dict[str, Any]:
        """What the run's checkpoint holds. Raises TrainingError where there is none, or one that cannot be read."""
        path = self.path / STATE_FILE
        if not path.is_file():
            raise TrainingError(f"nothing to resume: there is no {STATE_FILE} in {self.path}")
        try:
            state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        except (RuntimeError, EOFError, OSError, pickle.UnpicklingError) as error:
            raise TrainingError(f"cannot read {path}: {error}; start again from {WEIGHTS_FILE} in another folder") from error
        return state

    def unwritable(self, error: Exception) -> TrainingError:
        return TrainingError(f"cannot write to {self.path} ({error}); free some space, then resume")

    def _trim_log(self, step: int) -> None:
        """Drop the rows of steps that will be done again, or that an earlier run left."""
        path = self.path / LOG_FILE
        if path.is_file():
            rows = path.read_text("utf-8").splitlines(keepends=True)
            kept = [row for row in rows if row.endswith("\n") and json.loads(row)["step"] <= step]
            self.write(LOG_FILE, "".join(kept))


def _as_yaml(settings: Settings) -> str:
    """Every setting with what it means, as ``lbam-fast train --config`` reads it."""
    lines = []
    for name, value in settings.to_dict().items():
        text = ".inf" if isinstance(value, float) and math.isinf(value) else json.dumps(value, ensure_ascii=False)
        lines.append(f"# {FIELDS[name].metadata['doc']}\n{name}: {text}\n")
    return "".join(lines)


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version(), "machine": platform.platform()}
    for name in LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "absent"
    return found
