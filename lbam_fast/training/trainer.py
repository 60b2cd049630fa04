"""The training loop: deterministic, resumable to the bit, with everything about it in one folder."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from lbam_fast.config import LBAMConfig
from lbam_fast.data import PhotographCrops
from lbam_fast.model import LBAM, Generator
from lbam_fast.training.data import Share, TrainingPictures, batches
from lbam_fast.training.folder import BEST_FILE, GRID_FILE, STATE_FILE, WEIGHTS_FILE, RunFolder
from lbam_fast.training.learner import Learner, Part
from lbam_fast.training.settings import RUN_ONLY, Settings, TrainingError
from lbam_fast.training.tally import Tally
from lbam_fast.training.validation import CROPS, SEED, Validation
from lbam_fast.training.watching import Watcher, grid

if TYPE_CHECKING:
    from lightning_fabric import Fabric

Row = dict[str, float]
"""A line of the log."""
_logger = logging.getLogger(__name__)


def fit(
    network: nn.Module,
    settings: Settings,
    *,
    resume: bool = False,
    report: Callable[[Row], None] = lambda row: None,
    note: Callable[[str], None] = _logger.warning,
) -> nn.Module:
    """Train ``network`` as the settings say and return it with its averaged weights, in ``eval()``.

    network  any module: image [N, 3, H, W] in [0, 1], mask [N, 1, H, W] with 1 = known -> [N, 3, H, W], not pasted. It may have
             ``outputs(image, mask)``, a tuple of stages of which the last is the result, and ``project_()``, which is called
             after each step
    resume   go on with the run in ``settings.output``; of its settings those of ``RUN_ONLY`` may be others
    report   gets every row of the log; note every sentence for the user

    In the folder, ``weights.safetensors`` holds the averaged weights, ``best.safetensors`` the best by validation.
    Raises LBAMError.
    """
    if resume:
        anew = {name: getattr(settings, name) for name in RUN_ONLY if name != "output"}
        kept = {name: value for name, value in vars(settings).items() if name not in RUN_ONLY}
        trainer = Trainer.resume(_output(settings), network, unchanged=kept, **anew)
    else:
        RunFolder(_output(settings)).refuse_used()
        trainer = Trainer(network, settings)
    trainer.run(report, note)
    return trainer.average.eval()


class Trainer:
    """Trains ``model`` and keeps everything under ``settings.output``.

    ``weights.safetensors`` holds the averaged weights, ``training.pt`` all that a resumed run needs, ``log.jsonl`` a line
    every ``log_every`` steps. Files are replaced whole, so an interruption loses at most the steps since the last.
    """

    def __init__(self, network: nn.Module, settings: Settings) -> None:
        self.settings = settings
        self.folder = RunFolder(_output(settings))
        self.pictures = TrainingPictures.of(settings)
        self.data = self.pictures.crops(settings)
        self.data[0]  # what cannot be read is said before anything is made
        self.validation = self._validation()
        self.fabric = _fabric(settings)
        self.learner = Learner(network, settings, self.fabric)
        self.best = -math.inf
        self._tally = Tally(self.fabric.device)
        self._stopping = False

    @property
    def model(self) -> nn.Module:
        """The network that is trained."""
        return self.learner.model

    @property
    def average(self) -> nn.Module:
        """Its averaged copy."""
        return self.learner.average

    @property
    def step(self) -> int:
        """Steps done."""
        return self.learner.step

    @property
    def speaks(self) -> bool:
        """Whether this is the one, of the processes that share the steps, that writes and reports."""
        return bool(self.fabric.is_global_zero)

    def run(self, report: Callable[[Row], None] = lambda row: None, note: Callable[[str], None] = _logger.warning) -> None:
        """Train from the present step to the last, or until ``stop``; see ``fit``."""
        settings = self.settings
        if self.speaks:
            self.folder.begin(settings, self.pictures.split, self.step)
            for sentence in self.validation.complaints if self.validation is not None else ():
                note(sentence)
        if self.step == 0:
            self.save()
        watching = contextlib.closing(Watcher(self.folder.path, self.step, note)) if self.speaks else contextlib.nullcontext()
        with watching as watcher:
            started = time.perf_counter()
            for parts in self._steps():
                self._tally.add(self.step + 1, self.learner.learn(parts))
                last = self.step == settings.steps
                validates = self.validation is not None and (last or self.step % settings.validate_every == 0)
                if validates or last or self.step % settings.log_every == 0:
                    row = self._row(time.perf_counter() - started)
                    if watcher is not None:
                        self._tell(row, validates, watcher, report, note)
                    started = time.perf_counter()
                stopping = self._stop_agreed()
                if stopping or last or self.step % settings.checkpoint_every == 0:
                    self.save()
                if stopping:
                    break

    def stop(self) -> None:
        """Let ``run`` finish its present step, save, and return. May be called from a signal handler or another thread."""
        self._stopping = True

    def save(self) -> None:
        """Write the averaged weights and the whole state of the training. Raises TrainingError where they are not finite."""
        self._means()
        if not self.learner.is_finite():
            if self.step == 0:
                raise TrainingError("the weights to start from are not finite: choose others")
            raise self._not_finite("the weights are", self.step)
        state = {
            "network": self.model.config.to_dict() if isinstance(self.model, Generator) else None,
            "settings": self.settings.to_dict(),
            "photographs": self.pictures.fingerprint,
            "best": self.best,
            **self.learner.state(),
        }
        try:
            self.fabric.save(self.folder.path / STATE_FILE, state)
        except (OSError, RuntimeError) as error:
            raise self.folder.unwritable(error) from error
        if self.speaks:
            self.folder.save_weights(self.average, WEIGHTS_FILE)

    @classmethod
    def resume(
        cls, output: Path, network: nn.Module | None = None, unchanged: Mapping[str, Any] = MappingProxyType({}), **run_only: Any
    ) -> Trainer:
        """Go on with the run in ``output`` exactly as if it had not stopped.

        network    the one that was trained, where it is none of this project's
        unchanged  settings that the run must have been started with
        run_only   settings of ``RUN_ONLY``, which do not change the result, anew

        Raises TrainingError where there is nothing to resume, or where settings or photographs are others.
        """
        state = RunFolder(output).load_state()
        if set(run_only) - set(RUN_ONLY):
            raise TrainingError(f"a resumed run keeps its settings; only {', '.join(RUN_ONLY)} may change")
        settings = Settings(**{**state["settings"], **run_only, "output": output})
        for name, value in vars(dataclasses.replace(settings, **unchanged)).items():
            if value != getattr(settings, name):
                raise TrainingError(
                    f"{name} is {value!r}, but the run was started with {getattr(settings, name)!r} and keeps to it"
                )
        if network is None:
            if state["network"] is None:
                raise TrainingError(
                    f"the network of the run in {output} is none of this project's: give it as it was given first"
                )
            network = LBAM(LBAMConfig.from_dict(state["network"]))
        trainer = cls(network, settings)
        if state.get("photographs", trainer.pictures.fingerprint) != trainer.pictures.fingerprint:
            raise TrainingError(
                f"the photographs in {settings.photographs} are not those that the run was started with: bring them back, or "
                f"start another run from {output / WEIGHTS_FILE}"
            )
        try:
            trainer.learner.load_state(state)
        except RuntimeError as error:
            raise TrainingError(f"the run in {output} is that of another network: {error}") from error
        trainer.best = state.get("best", -math.inf)  # runs of earlier versions have neither
        return trainer

    def _validation(self) -> Validation | None:
        held, settings = self.pictures.split.validation, self.settings
        if not held:
            return None
        masks = self.pictures.held_masks
        return Validation(PhotographCrops(held, settings.crop, CROPS, SEED, masks=masks, preprocessing=settings.preprocessing))

    def _steps(self) -> Iterator[list[Part]]:
        """The parts of each step that is left."""
        share = Share(self.settings, self.step, self.fabric.global_rank, self.fabric.world_size)
        parts = []
        for part in batches(self.data, share, self.fabric.device):
            parts.append(part)
            if len(parts) == self.settings.accumulate:
                yield parts
                parts = []

    def _row(self, seconds: float) -> Row:
        steps = self._tally.steps
        row = {"step": self.step, **self._means(), **self.learner.learning_rates}
        self._tally.clear()
        return row | {"seconds_per_step": seconds / steps, "images_per_second": steps * self.settings.batch_size / seconds}

    def _tell(
        self, row: Row, validates: bool, watcher: Watcher, report: Callable[[Row], None], note: Callable[[str], None]
    ) -> None:
        for sentence in self.data.complaints():
            note(sentence)
        if validates and self.validation is not None:
            row |= self.validation.measure(self.average)
            if row["psnr"] > self.best:
                self.best = row["psnr"]
                self.folder.save_weights(self.average, BEST_FILE)
            pictures = grid(self.validation.shown(self.average))
            self.folder.write(GRID_FILE, pictures.png)
            watcher.pictures(self.step, pictures, self.average, self.validation.masks[:1])
        self.folder.log(row)
        watcher.scalars(row)
        report(row)

    def _means(self) -> dict[str, float]:
        """Of the terms since the last row, over all processes. Raises TrainingError where one was not finite."""
        if not self._tally.steps:
            return {}
        means, first_bad = self._tally.tensors()
        if self.fabric.world_size > 1:
            means = self.fabric.all_reduce(means, reduce_op="mean")
            first_bad = self.fabric.all_reduce(first_bad, reduce_op="min")
        if found := self._tally.first_bad(first_bad):
            raise self._not_finite(f"the term {found[0]!r} is", found[1])
        return dict(zip(self._tally.names, means.tolist(), strict=True))

    def _not_finite(self, what: str, step: int) -> TrainingError:
        return TrainingError(
            f"{what} not finite at step {step}; a checkpoint in {self.folder.path} is intact: "
            "resume from it, or start again with a lower learning rate or with fp32"
        )

    def _stop_agreed(self) -> bool:
        """Whether any of the processes is to stop."""
        if self.fabric.world_size == 1:
            return self._stopping
        wishes: Tensor = self.fabric.all_reduce(torch.tensor(float(self._stopping), device=self.fabric.device), reduce_op="sum")
        return bool(wishes > 0)


def _output(settings: Settings) -> Path:
    if settings.output is None:
        raise TrainingError("there is nowhere to write to: name a folder as output")
    return settings.output


def _fabric(settings: Settings) -> Fabric:
    try:
        from lbam_fast.training.fabric import make_fabric
    except ModuleNotFoundError as error:
        raise TrainingError(f"training needs {error.name}: pip install 'lbam-fast[train]'") from error
    return make_fabric(settings)
