"""``lbam-fast train``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from lbam_fast.cli.common import (
    BY_SIGNAL,
    ArgumentError,
    errors,
    failing_with_message,
    finishing_on_signal,
    print_note,
    set_threads,
)

if TYPE_CHECKING:
    from lbam_fast.training import Trainer


def train(
    context: typer.Context,
    photographs: Annotated[Path, typer.Argument(help="Folder of photographs, searched with its subfolders.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for weights.safetensors, training.pt and log.jsonl.")],
    resume: Annotated[bool, typer.Option(help="Go on with the run in OUTPUT, with the settings it was started with.")] = False,
    start_from: Annotated[Path | None, typer.Option(help="Weights to start from, instead of random ones.")] = None,
    preset: Annotated[str, typer.Option(help="Network to train.")] = "official",
    base_width: Annotated[int, typer.Option(help="Channels of the first layer; 64 is the published network.")] = 64,
    steps: Annotated[int, typer.Option(help="Optimiser steps.")] = 20_000,
    batch_size: Annotated[int, typer.Option(help="Crops per step.")] = 16,
    crop: Annotated[int, typer.Option(help="Side of the crops in pixels, a multiple of 128.")] = 128,
    learning_rate: Annotated[float, typer.Option(help="Adam's learning rate at its highest.")] = 1e-3,
    final_learning_rate: Annotated[float, typer.Option(help="And at the end, along a half cosine.")] = 1e-5,
    hole_weight: Annotated[float, typer.Option(help="Weight of the mean absolute error in holes.")] = 6.0,
    valid_weight: Annotated[float, typer.Option(help="Weight of the mean absolute error on known pixels.")] = 1.0,
    hole_loss: Annotated[
        Literal["l1", "relative", "psnr"],
        typer.Option(
            help="Error in holes: absolute; relative to the harmonic fill's; the logarithm of the squared, as PSNR has it."
        ),
    ] = "l1",
    crops_per_mask: Annotated[int, typer.Option(help="Crops of a batch that share a mask, which saves time.")] = 1,
    held_out: Annotated[int, typer.Option(help="Every so many-th photograph is kept for validation; 0: none.")] = 20,
    clip: Annotated[float, typer.Option(help="Largest norm of the gradient.")] = 1.0,
    ema: Annotated[float, typer.Option(help="Decay of the averaged weights, which are the ones saved.")] = 0.999,
    amp: Annotated[Literal["fp32", "bf16", "fp16"], typer.Option(help="Precision.")] = "fp32",
    seed: Annotated[int, typer.Option(help="Decides weights, crops and masks.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 ...")] = "auto",
    threads: Annotated[int | None, typer.Option(help="CPU threads; all by default.")] = None,
    workers: Annotated[int, typer.Option(help="Processes that read and crop pictures; 0: in the training process.")] = 0,
    compile: Annotated[bool, typer.Option("--compile", help="Run the network through torch.compile.")] = False,
    checkpoint_every: Annotated[int, typer.Option(help="Steps between checkpoints.")] = 500,
    log_every: Annotated[int, typer.Option(help="Steps between lines of the log.")] = 50,
    validate_every: Annotated[int, typer.Option(help="Steps between validations: dB above the harmonic fill.")] = 500,
) -> None:
    """Train a network on a folder of photographs, with random holes; --resume continues an interrupted run to the bit."""
    with failing_with_message():
        import torch

        from lbam_fast.checkpoints import load_checkpoint
        from lbam_fast.config import LBAMConfig
        from lbam_fast.devices import resolve_device
        from lbam_fast.model import LBAM
        from lbam_fast.training import RUN_ONLY, TrainConfig, Trainer, TrainingError

        set_threads(threads)
        given = {name: value for name, value in context.params.items() if name in TrainConfig.__dataclass_fields__}
        given["device"] = str(resolve_device(device))
        if resume:
            _refuse_settings(context)
            anew = [name for name in RUN_ONLY if name == "device" or _is_given(context, name)]
            trainer = Trainer.resume(photographs, output, **{name: given[name] for name in anew})
        else:
            if (output / "training.pt").exists():
                raise TrainingError(f"{output} holds a training already: add --resume to go on with it, or choose another folder")
            config = TrainConfig(**given)
            torch.manual_seed(seed)
            if start_from and (_is_given(context, "preset") or _is_given(context, "base_width")):
                raise ArgumentError("--start-from brings its own network: leave out --preset and --base-width")
            network = load_checkpoint(start_from) if start_from else LBAM(LBAMConfig.preset(preset, base_width=base_width))
            trainer = Trainer(network, photographs, output, config)
        _run(trainer)


def _run(trainer: Trainer) -> None:
    if trainer.step == trainer.config.steps:
        print_note(f"all {trainer.step} steps are done")
    gain = ""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=errors, disable=not errors.is_terminal) as progress:
        task = progress.add_task("training", total=trainer.config.steps, completed=trainer.step)

        def report(row: dict[str, float]) -> None:
            nonlocal gain
            gain = f"  {row['gain']:+.2f} dB over harmonic" if "gain" in row else gain
            description = f"hole {row['hole']:.4f}  valid {row['valid']:.4f}{gain}"
            progress.update(task, completed=row["step"], description=description)

        with finishing_on_signal(trainer.stop) as received:
            trainer.run(report)
    if trainer.step < trainer.config.steps:
        print_note(f"stopped at step {trainer.step}; --resume goes on from there")
        raise typer.Exit(BY_SIGNAL + received[0])
    print_note(f"weights in {trainer.output / 'weights.safetensors'}")


def _refuse_settings(context: typer.Context) -> None:
    """A resumed run keeps the settings that decide its result."""
    from lbam_fast.training import RUN_ONLY

    allowed = ("photographs", "output", "resume", "threads", *RUN_ONLY)
    given = [name for name in context.params if name not in allowed and _is_given(context, name)]
    if given:
        options = ", ".join("--" + name.replace("_", "-") for name in given)
        raise ArgumentError(f"{options} cannot be given with --resume: a resumed run keeps the settings it was started with")


def _is_given(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"
