"""Training of an LBAM generator: deterministic, resumable to the bit, with an averaged copy of the weights."""

from __future__ import annotations

import copy
import dataclasses
import json
import math
import pickle
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from lbam_fast.checkpoints import save_checkpoint
from lbam_fast.config import LBAMConfig
from lbam_fast.data import PhotographCrops, picture_files
from lbam_fast.errors import LBAMError
from lbam_fast.files import replacing
from lbam_fast.model import LBAM, Generator
from lbam_fast.ops import correction_input
from lbam_fast.training.losses import log_squared_error, reconstruction_loss, relative_error
from lbam_fast.training.validation import Validation

WEIGHTS_FILE, STATE_FILE, LOG_FILE = "weights.safetensors", "training.pt", "log.jsonl"


class TrainingError(LBAMError, RuntimeError):
    """A training that cannot start or go on; the message says why and what to do."""


@dataclass(frozen=True)
class TrainConfig:
    """Settings of one run. All but the last six decide its result, and are kept to when it is resumed.

    steps, batch_size, crop   optimiser steps, crops per step, and their side in pixels (a multiple of 128)
    learning_rate             Adam's, after ``warmup`` (200) steps; falls along a half cosine to ``final_learning_rate``
    hole_weight, valid_weight of the errors in holes and on known pixels: mean absolute errors per pixel of the whole crop
    hole_loss                 "l1": as said; "relative": in place of the hole's absolute error ``relative_error``; "psnr":
                              ``log_squared_error``, which PSNR measures, to end a training with
    crops_per_mask            crops of a batch that share a mask: its attention maps are computed once for them
    held_out                  every so many-th photograph is never trained on; from these come ``validation``'s crops. 0: none
    validate_every            steps between lines of the log with the "gain" of the averaged weights on those crops
    clip                      largest norm of the gradient
    ema                       decay of the running average of the weights, which is what is saved; 0 saves the last weights
    amp                       "fp32", "bf16", or "fp16" (with loss scaling, on a GPU)
    seed                      of weights, crops and masks
    """

    steps: int = 20_000
    batch_size: int = 16
    crop: int = 128
    learning_rate: float = 1e-3
    final_learning_rate: float = 1e-5
    warmup: int = 200
    hole_weight: float = 6.0
    valid_weight: float = 1.0
    hole_loss: Literal["l1", "relative", "psnr"] = "l1"
    crops_per_mask: int = 1
    held_out: int = 20
    clip: float = 1.0
    ema: float = 0.999
    amp: Literal["fp32", "bf16", "fp16"] = "fp32"
    seed: int = 0
    device: str = "cpu"
    workers: int = 0
    compile: bool = False
    checkpoint_every: int = 500
    log_every: int = 50
    validate_every: int = 500

    def __post_init__(self) -> None:
        if self.crop < 128 or self.crop % 128:
            raise TrainingError(f"the crop is {self.crop}, expected a multiple of 128")
        if self.amp not in ("fp32", "bf16", "fp16"):
            raise TrainingError(f"amp is {self.amp!r}, expected fp32, bf16 or fp16")
        if self.hole_loss not in ("l1", "relative", "psnr"):
            raise TrainingError(f"hole_loss is {self.hole_loss!r}, expected l1, relative or psnr")
        if min(self.steps, self.batch_size, self.log_every, self.checkpoint_every, self.validate_every) < 1:
            raise TrainingError("steps, batch_size, log_every, checkpoint_every and validate_every must be at least 1")
        if self.crops_per_mask < 1 or self.batch_size % self.crops_per_mask:
            raise TrainingError(
                f"crops_per_mask is {self.crops_per_mask}, expected a divisor of the batch size {self.batch_size}"
            )
        if self.held_out < 0 or self.held_out == 1:
            raise TrainingError(f"held_out is {self.held_out}, expected 0, or 2 and more: every so many-th photograph")
        if not (self.learning_rate > 0 and self.final_learning_rate >= 0 and self.clip > 0 and 0 <= self.ema < 1):
            raise TrainingError("learning_rate and clip must be above 0, final_learning_rate at least 0, and ema in [0, 1)")
        if min(self.warmup, self.workers, self.seed) < 0:
            raise TrainingError("warmup, workers and seed must be at least 0")


RUN_ONLY = ("device", "workers", "compile", "checkpoint_every", "log_every", "validate_every")
"""Settings that change nothing of the result: a resumed run may have others."""


class Trainer:
    """Trains ``model`` on the photographs of a folder and keeps everything under ``output``.

    ``weights.safetensors`` holds the averaged weights, ``training.pt`` all that a resumed run needs, ``log.jsonl`` a line
    every ``log_every`` steps. Both files are replaced whole, so an interruption loses at most the steps since the last.
    """

    def __init__(self, model: LBAM, photographs: Path, output: Path, config: TrainConfig) -> None:
        self.config, self.output = config, output
        self.device = torch.device(config.device)
        self.model = model.to(self.device).train()
        self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average = copy.deepcopy(self.model).requires_grad_(False)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=config.learning_rate, fused=True)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=config.amp == "fp16")
        files = picture_files(photographs)
        held_out = set(files[config.held_out - 1 :: config.held_out]) if config.held_out else set()
        self.validation = Validation(sorted(held_out), config.crop) if held_out else None
        training = [file for file in files if file not in held_out]
        self.data = PhotographCrops(training, config.crop, config.steps * config.batch_size, config.seed, config.crops_per_mask)
        self.step = 0
        self._stopping = False
        self._forward: Callable[..., Tensor] = torch.compile(self.model) if config.compile else self.model

    def run(self, report: Callable[[dict[str, float]], None] = lambda row: None) -> None:
        """Train from the present step to the last, or until ``stop``. ``report`` gets every row of the log."""
        try:
            self.output.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise TrainingError(f"the folder {self.output} cannot be made ({error.strerror}); choose another one") from error
        self._trim_log()
        config = self.config
        sums, rows, started = torch.zeros(2, device=self.device), 0, time.perf_counter()
        for image, mask in self._batches():
            sums += self._train_step(image, mask)
            rows += 1
            if self.step % config.log_every == 0 or self.step == config.steps:
                row = self._row(sums / rows, rows, time.perf_counter() - started)
                if self.validation and (self.step % config.validate_every == 0 or self.step == config.steps):
                    row["gain"] = self.validation.gain(self.average)
                with (self.output / LOG_FILE).open("a", encoding="utf-8") as log:
                    log.write(json.dumps(row) + "\n")
                report(row)
                sums, rows, started = torch.zeros_like(sums), 0, time.perf_counter()
            if self._stopping or self.step % self.config.checkpoint_every == 0 or self.step == self.config.steps:
                self.save()
            if self._stopping:
                return

    def stop(self) -> None:
        """Let ``run`` finish its present step, save, and return. May be called from a signal handler or another thread."""
        self._stopping = True

    def save(self) -> None:
        """Write the averaged weights and the whole state of the training. Raises TrainingError where they are not finite."""
        if not all(parameter.isfinite().all() for parameter in self.model.parameters()):
            raise self._not_finite("the weights are")
        state = {
            "network": self.model.config.to_dict(),
            "settings": dataclasses.asdict(self.config),
            "step": self.step,
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
        }
        try:
            with replacing(self.output / STATE_FILE) as temporary:
                torch.save(state, temporary)
        except (OSError, RuntimeError) as error:
            raise TrainingError(f"cannot write to {self.output} ({error}); free some space, then resume") from error
        save_checkpoint(self.average, self.output / WEIGHTS_FILE)

    @classmethod
    def resume(cls, photographs: Path, output: Path, **run_only: Any) -> Trainer:
        """Go on with the run in ``output`` exactly as if it had not stopped.

        Only settings that do not change the result (device, workers, compile, checkpoint_every, log_every, validate_every) may be
        given anew.
        Raises TrainingError where there is nothing to resume.
        """
        path = output / STATE_FILE
        if not path.is_file():
            raise TrainingError(f"nothing to resume: there is no {STATE_FILE} in {output}")
        if set(run_only) - set(RUN_ONLY):
            raise TrainingError(f"a resumed run keeps its settings; only {', '.join(RUN_ONLY)} may change")
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
        except (RuntimeError, EOFError, OSError, pickle.UnpicklingError) as error:
            raise TrainingError(f"cannot read {path}: {error}; start again from weights.safetensors in another folder") from error
        config = TrainConfig(**{**state["settings"], **run_only})
        trainer = cls(LBAM(LBAMConfig.from_dict(state["network"])), photographs, output, config)
        trainer.model.load_state_dict(state["model"])
        trainer.average.load_state_dict(state["average"])
        trainer.optimizer.load_state_dict(state["optimizer"])
        trainer.scaler.load_state_dict(state["scaler"])
        trainer.step = state["step"]
        return trainer

    def _batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        config = self.config
        remaining = range(self.step * config.batch_size, config.steps * config.batch_size)
        loader = DataLoader(
            self.data,
            batch_size=config.batch_size,
            sampler=remaining,
            num_workers=config.workers,
            pin_memory=self.device.type == "cuda",
            worker_init_fn=_leave_interrupts,
        )
        for image, mask in loader:
            yield (
                image.to(self.device, non_blocking=True, memory_format=torch.channels_last),
                mask.to(self.device, non_blocking=True),
            )

    def _train_step(self, image: Tensor, mask: Tensor) -> Tensor:
        config = self.config
        for group in self.optimizer.param_groups:
            group["lr"] = self._learning_rate()
        amp = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}[config.amp]
        with torch.autocast(self.device.type, amp, enabled=amp is not None):
            if config.crops_per_mask == 1:
                output = self._forward(image, mask)
            else:
                maps = self.model.attention_maps(mask[:: config.crops_per_mask])
                output = self._forward(image, maps=maps.repeated(config.crops_per_mask))
        hole, valid = reconstruction_loss(output, image, mask)
        match config.hole_loss:
            case "l1":
                fidelity = hole
            case "relative":
                fidelity = relative_error(output, image, mask, correction_input(image, mask)[1])
            case "psnr":
                fidelity = log_squared_error(output, image, mask)
        loss = config.hole_weight * fidelity + config.valid_weight * valid
        self.optimizer.zero_grad()
        self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        self.scaler.unscale_(self.optimizer)
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), config.clip)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.model.project_()
        self.step += 1
        self._update_average()
        return torch.stack([hole, valid]).detach()

    def _learning_rate(self) -> float:
        config = self.config
        if self.step < config.warmup:
            return config.learning_rate * (self.step + 1) / config.warmup
        progress = (self.step - config.warmup) / max(1, config.steps - config.warmup)
        span = config.learning_rate - config.final_learning_rate
        return config.final_learning_rate + span * (1 + math.cos(math.pi * progress)) / 2

    @torch.no_grad()
    def _update_average(self) -> None:
        decay = min(self.config.ema, self.step / (self.step + 10))
        torch._foreach_lerp_(_parameters(self.average), _parameters(self.model), 1 - decay)
        for own, other in zip(self.average.buffers(), self.model.buffers(), strict=True):
            own.copy_(other)

    def _row(self, losses: Tensor, steps: int, seconds: float) -> dict[str, float]:
        hole, valid = losses.tolist()
        if not math.isfinite(hole + valid):
            raise self._not_finite("the loss is")
        return {
            "step": self.step,
            "hole": hole,
            "valid": valid,
            "learning_rate": self._learning_rate(),
            "seconds_per_step": seconds / steps,
            "images_per_second": steps * self.config.batch_size / seconds,
        }

    def _not_finite(self, what: str) -> TrainingError:
        return TrainingError(
            f"{what} not finite at step {self.step}; a checkpoint in {self.output} is intact: "
            "resume from it, or start again with a lower learning rate or with fp32"
        )

    def _trim_log(self) -> None:
        """Drop the rows of steps that will be done again, or that an earlier run left."""
        path = self.output / LOG_FILE
        if path.is_file():
            rows = path.read_text("utf-8").splitlines(keepends=True)
            kept = [row for row in rows if row.endswith("\n") and json.loads(row)["step"] <= self.step]
            with replacing(path) as temporary:
                temporary.write_text("".join(kept), encoding="utf-8")


def _leave_interrupts(worker: int) -> None:
    """Ctrl-C reaches workers too; they must go on until the training process has finished its step."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _parameters(model: Generator) -> list[Tensor]:
    return list(model.parameters())
