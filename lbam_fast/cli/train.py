"""``lbam-fast train``. Its flags are the fields of ``lbam_fast.training.Settings``."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from lbam_fast.cli.common import (
    BY_SIGNAL,
    ArgumentError,
    errors,
    failing_with_message,
    finishing_on_signal,
    print_note,
    print_warning,
    set_threads,
)
from lbam_fast.training.settings import (
    FIELDS,
    RECIPES,
    RUN_ONLY,
    TYPES,
    Settings,
    TrainingError,
    flag,
    read_settings,
    recipe_values,
)

if TYPE_CHECKING:
    from lbam_fast.training import Trainer

_SHORT = {"output": "-o"}


def train(
    context: typer.Context,
    folder: Annotated[Path | None, typer.Argument(metavar="PHOTOGRAPHS", help=Settings.doc("photographs"))] = None,
    config: Annotated[Path | None, typer.Option(help="YAML file of settings; flags come before it.")] = None,
    recipe: Annotated[
        str | None, typer.Option(help=f"Settings that go together, under all others: {', '.join(RECIPES)}.")
    ] = None,
    resume: Annotated[bool, typer.Option(help="Go on with the run in OUTPUT, with the settings it was started with.")] = False,
    threads: Annotated[int | None, typer.Option(help="CPU threads; all by default.")] = None,
    **flags: Any,
) -> None:
    """Train a network on a folder of photographs, with random holes; --resume continues an interrupted run to the bit.

    What is decided nowhere has the default that is shown; the settings file has the same names as the flags, with _ for -.
    """
    with failing_with_message():
        given = {name: value for name, value in flags.items() if value is not None}
        if folder is not None:
            given["photographs"] = folder
        written = read_settings(config, recipe) if config else recipe_values(recipe) if recipe else {}
        set_threads(threads)
        _run(_resumed(given, written) if resume else _started({**written, **given}))


def _options() -> list[inspect.Parameter]:
    """An option for every setting; one that is not given is None, so that a file may decide."""
    options = []
    for name, field in FIELDS.items():
        wanted = TYPES[name]
        names = [flag(name), *([_SHORT[name]] if name in _SHORT else [])]
        if wanted is bool:
            names = [f"{flag(name)}/--no-{flag(name)[2:]}"]
        default = "" if field.default in (None, "", False) else f"  [default: {field.default}]"
        option = typer.Option(*names, help=field.metadata["doc"] + default, show_default=False)
        options.append(
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[wanted | None, option])
        )
    return options


def _with_options(command: Any) -> None:
    """Give a command with ``**flags`` the options in their place."""
    signature = inspect.signature(command, eval_str=True)
    own = [parameter for parameter in signature.parameters.values() if parameter.kind is not inspect.Parameter.VAR_KEYWORD]
    parameters = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in own] + _options()
    command.__signature__ = signature.replace(parameters=parameters)
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}


_with_options(train)


def _started(values: dict[str, Any]) -> Trainer:
    import torch

    from lbam_fast.checkpoints import load_checkpoint
    from lbam_fast.config import LBAMConfig
    from lbam_fast.devices import resolve_device
    from lbam_fast.inference.inpainter import embedded_weights
    from lbam_fast.model import LBAM
    from lbam_fast.training import Trainer
    from lbam_fast.training.folder import RunFolder

    settings = Settings(**values)
    if settings.start_from and any(getattr(settings, name) != FIELDS[name].default for name in ("preset", "base_width")):
        raise ArgumentError("--start-from brings its own network: leave out --preset and --base-width")
    if settings.output is None:
        raise TrainingError("there is nowhere to write to: name a folder, -o FOLDER")
    RunFolder(settings.output).refuse_used()
    resolve_device(settings.device)
    torch.manual_seed(settings.seed)
    if not settings.start_from:
        return Trainer(LBAM(LBAMConfig.preset(settings.preset, base_width=settings.base_width)), settings)
    return Trainer(load_checkpoint(embedded_weights() if settings.start_from == "shipped" else settings.start_from), settings)


def _resumed(given: dict[str, Any], written: dict[str, Any]) -> Trainer:
    """A resumed run keeps the settings that decide its result."""
    from lbam_fast.training import Trainer

    if refused := [name for name in given if name not in RUN_ONLY]:
        options = ", ".join(flag(name) for name in refused)
        raise ArgumentError(f"{options} cannot be given with --resume: a resumed run keeps the settings it was started with")
    anew = {name: value for name, value in {**written, **given}.items() if name in RUN_ONLY}
    output = anew.pop("output", None)
    if output is None:
        raise TrainingError("which run is to be resumed? Name its folder, -o FOLDER")
    kept = {name: value for name, value in written.items() if name not in RUN_ONLY}
    return Trainer.resume(Path(output), unchanged=kept, **anew)


def _run(trainer: Trainer) -> None:
    steps = trainer.settings.steps
    if trainer.step == steps and trainer.speaks:
        print_note(f"all {trainer.step} steps are done")
    gain = ""
    rows: list[dict[str, float]] = []
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=errors, disable=not (errors.is_terminal and trainer.speaks)) as progress:
        task = progress.add_task("training", total=steps, completed=trainer.step)

        def report(row: dict[str, float]) -> None:
            nonlocal gain
            rows.append(row)
            gain = f"  {row['psnr']:.2f} dB, {row['gain']:+.2f} over harmonic" if "psnr" in row else gain
            description = f"hole {row['hole']:.4f}  valid {row['valid']:.4f}{gain}  {row['images_per_second']:.1f} images/s"
            progress.update(task, completed=row["step"], description=description)

        with finishing_on_signal(trainer.stop) as received:
            trainer.run(report, print_warning)
    if not trainer.speaks:
        return
    if trainer.step < steps:
        print_note(f"stopped at step {trainer.step}; --resume goes on from there")
        raise typer.Exit(BY_SIGNAL + received[0])
    if rows:
        ends = (f"hole {row['hole']:.4f} at step {row['step']:.0f}" for row in (rows[0], rows[-1]))
        print_note(" -> ".join(dict.fromkeys(ends)))
    if (grid := trainer.folder.path / "grid.png").exists():
        print_note(f"pictures in {grid}")
    print_note(f"weights in {trainer.folder.path / 'weights.safetensors'}")
