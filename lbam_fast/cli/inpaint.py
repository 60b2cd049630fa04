"""``lbam-fast inpaint``."""

from __future__ import annotations

import dataclasses
import functools
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from lbam_fast.batch.addresses import address_of
from lbam_fast.batch.events import Advanced, Failed, Skipped, Started
from lbam_fast.cli import inpaint_options as options
from lbam_fast.cli.common import (
    BAD_INPUT,
    BY_SIGNAL,
    SOME_FAILED,
    ArgumentError,
    bytes_of,
    errors,
    failing_with_message,
    finishing_on_signal,
    print_error,
    print_note,
    print_warning,
)
from lbam_fast.cli.engines import Choice, Fill, running
from lbam_fast.cli.outputs import held, reporting
from lbam_fast.cli.video import is_video, paired_video, refuse, video_events
from lbam_fast.files import is_same_file
from lbam_fast.signals import signal_behind

if TYPE_CHECKING:
    from lbam_fast.batch import Event, Job, Journal, Pairs, Report


def inpaint(
    image: options.Image,
    output: options.Output,
    mask: options.Mask = None,
    hole: options.Hole = "white",
    mask_from: options.MaskFrom = None,
    threshold: options.Threshold = 0.5,
    grow: options.Grow = 0,
    feather: options.Feather = 0,
    detail: options.Detail = "auto",
    strategy: options.Strategy = "auto",
    passes: options.Passes = 1,
    weights: options.Weights = None,
    preset: options.Preset = None,
    device: options.Device = "auto",
    dtype: options.Dtype = None,
    precision: options.Precision = None,
    threads: options.Threads = None,
    max_pixels: options.MaxPixels = None,
    max_memory: options.MaxMemory = None,
    recursive: options.Recursive = False,
    skip_existing: options.SkipExisting = False,
    resume: options.Resume = False,
    format: options.Format = None,
    comparison: options.Comparison = None,
    codec: options.Codec = None,
    codec_options: options.CodecOptions = None,
    temporal: options.Temporal = False,
    report: options.ReportFile = None,
    engine: options.Engine = "local",
    address: options.Address = None,
    workers: options.Workers = None,
    quiet: options.Quiet = False,
) -> None:
    """Fill the hole of one picture, of every picture in a folder, or of every frame of a video.

    In masks, white is the hole, unless --hole black.
    Pixels outside the hole stay the same to the bit where the output format is lossless; EXIF, colour profile and
    transparency are kept. In a folder, a picture with several masks (NAME_mask000, NAME_mask001 ...) gives a result for
    each, named as the mask. Exit code: 0 all well, 1 some pictures of a folder failed, 2 bad input.
    """
    with failing_with_message():
        folder = image.is_dir()
        _check_choices(mask, mask_from, dtype, precision, resume, skip_existing, folder)
        choice = Choice(engine, address, workers, device, threads)
        choice.check(output, precision, resume or skip_existing)
        _check_extra("--comparison", comparison, image, mask, output)
        _check_extra("--report", report, image, mask, output)
        video = {"--codec": codec, "--codec-options": codec_options, "--temporal": temporal}
        pictures = {"--mask-from": mask_from, "--recursive": recursive, "--format": format, "--comparison": comparison}
        if is_video(image):
            others = {**pictures, "--max-memory": max_memory, "--engine ray": engine == "ray"}
            pairs = paired_video(image, mask, output, video, others)
        else:
            refuse(video, "a video, not with pictures")
            pairs = _paired(image, mask, output, comparison, from_alpha=bool(mask_from), recursive=recursive, format=format)
        _tell_oddities(pairs)
        found = Counter(failed=len(pairs.problems))
        with reporting(report, pairs) as reported, held(output if folder and address_of(output) is None else None, pairs.jobs):
            waiting = [job for job in pairs.jobs if not (skip_existing and job.output.exists())]
            found["skipped"] = len(pairs.jobs) - len(waiting)
            if waiting:
                look = {"hole": "white" if mask_from else hole, "threshold": threshold, "grow": grow, "feather": feather}
                limits = {} if max_pixels is None else {"max_pixels": max_pixels}
                run_as = _dtype_of(dtype, precision, device.partition(",")[0], quiet)
                choices: dict[str, Any] = {**look, "passes": passes, "detail": detail, "strategy": strategy}
                choices |= {"preset": preset, "dtype": run_as}
                with running(choice, len(waiting), weights, bytes_of(max_memory), {**choices, **limits}) as chosen:
                    reported.tell(
                        device=chosen.devices, dtype=run_as, options={**choices, "device": device, "weights": str(weights)}
                    )
                    if folder and mask is not None and mask.is_file() and not chosen.filler.is_large(mask):
                        chosen.filler.read_mask(mask)  # the one for all: if it is bad, say so once
                    ran = {**choices, "max_memory": max_memory, "mask_from": mask_from}
                    journal = chosen.journal(output, weights, ran) if resume else None
                    fill = functools.partial(video_events, chosen.filler) if is_video(image) else chosen.fill
                    found += _run(fill, waiting, folder, quiet, reported, journal)
        if not quiet:
            _tell_end(pairs, output if folder else None, found)
        if found["failed"]:
            everything = found["failed"] == len(pairs.jobs) + len(pairs.problems)
            raise typer.Exit(BAD_INPUT if everything else SOME_FAILED)


def _check_choices(
    mask: Path | None,
    mask_from: str | None,
    dtype: str | None,
    precision: str | None,
    resume: bool,
    skip_existing: bool,
    folder: bool,
) -> None:
    if mask is not None and mask_from is not None:
        raise ArgumentError("a MASK and --mask-from alpha were given: expected one of them")
    if dtype is not None and precision is not None:
        raise ArgumentError(f"--dtype {dtype} and --precision {precision} were given: expected one of them")
    if resume and skip_existing:
        raise ArgumentError("--resume and --skip-existing were given: expected one of them")
    if resume and not folder:
        raise ArgumentError("--resume goes with a folder of pictures, not with one picture")


def _check_extra(option: str, path: Path | None, image: Path, mask: Path | None, output: Path) -> None:
    """That a further file to write is none of the others, and has a place."""
    if path is None:
        return
    if option == "--comparison" and image.is_dir():
        raise ArgumentError("--comparison goes with one picture, not with a folder")
    for other in (image, mask, output):
        if other is not None and is_same_file(path, other):
            raise ArgumentError(f"{option} {path} is an input or the output: choose another file")
    if option == "--report" and (path.is_dir() or not (path.parent.is_dir() or is_same_file(path.parent, output))):
        raise ArgumentError(f"{option} {path}: expected a file in a folder that exists")


def _paired(
    image: Path,
    mask: Path | None,
    output: Path,
    comparison: Path | None,
    *,
    from_alpha: bool,
    recursive: bool,
    format: str | None,
) -> Pairs:
    from lbam_fast.batch import Pairs, pair_file, pair_folder

    suffix = f".{format.lower().removeprefix('.')}" if format is not None else None
    if image.is_dir():
        return pair_folder(image, mask, output, from_alpha=from_alpha, recursive=recursive, suffix=suffix)
    if mask is None and not from_alpha:
        raise ArgumentError("no MASK was given: name a mask file (white = hole unless --hole black), or add --mask-from alpha")
    return Pairs([dataclasses.replace(pair_file(image, mask, output, suffix), comparison=comparison)])


def _tell_oddities(pairs: Pairs) -> None:
    for sentence in pairs.unused:
        print_warning(sentence)
    for sentence in pairs.problems:
        print_error(sentence)
    if pairs.passed_over:
        print_warning(f"{len(pairs.passed_over)} files passed over, as pictures end otherwise: {_shortened(pairs.passed_over)}")


def _tell_end(pairs: Pairs, folder: Path | None, found: Counter[str]) -> None:
    if folder is None:
        output = pairs.jobs[0].output
        print_note(f"{'exists already' if found['skipped'] else 'written'}: {address_of(output) or output}")
        return
    filled = len(pairs.jobs) + len(pairs.problems) - found["skipped"] - found["failed"]
    others = f", {len(pairs.passed_over)} passed over" if pairs.passed_over else ""
    print_note(f"{filled} filled, {found['skipped']} skipped, {found['failed']} failed{others}: {address_of(folder) or folder}")


def _dtype_of(dtype: str | None, precision: str | None, device: str, quiet: bool) -> str:
    if precision is None:
        return dtype or "float32"
    from lbam_fast.inference.precision import resolve_precision

    chosen = resolve_precision(precision, device)
    if not quiet:
        print_note(f"precision: {chosen.dtype} ({chosen.reason})")
    return chosen.dtype


def _shortened(paths: Sequence[Path], most: int = 20) -> str:
    return ", ".join(map(str, paths[:most])) + (f" and {len(paths) - most} more" if len(paths) > most else "")


class _Rate(ProgressColumn):
    """Pictures a second."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(f"{speed:.1f}/s" if speed else "")


def _run(fill: Fill, jobs: Sequence[Job], folder: bool, quiet: bool, report: Report, journal: Journal | None) -> Counter[str]:
    """Do the jobs and return how many "failed" and were "skipped"; outside a folder the error itself is raised.

    Ctrl-C and SIGTERM finish the pictures at hand and end with exit code 130 and 143.
    """
    found: Counter[str] = Counter()
    video = is_video(jobs[0].image)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), _Rate(), TimeRemainingColumn())
    shown = Progress(*columns, console=errors, disable=quiet or not (folder or video) or not errors.is_terminal)
    with ExitStack() as stack:
        if journal is not None:
            stack.enter_context(journal)
        progress, received = stack.enter_context(shown), stack.enter_context(finishing_on_signal())
        task = progress.add_task("inpainting", total=len(jobs))
        for event in fill(jobs, make_folders=folder, stop=lambda: bool(received), journal=journal):
            if (number := signal_behind()) is not None:
                raise KeyboardInterrupt(number)
            if isinstance(event, Advanced):
                progress.update(task, completed=event.done, total=event.total or None)
                if received:
                    print_note(f"interrupted after {event.done} of {event.total} frames; nothing is written")
                    raise typer.Exit(BY_SIGNAL + received[0])
                continue
            report.add(event)
            if isinstance(event, Failed) and not folder:
                raise event.error
            _tell(event, quiet)
            found[type(event).__name__.lower()] += 1
            if isinstance(event, Skipped):
                progress.update(task, total=len(jobs) - found["skipped"])
            elif not isinstance(event, Started):
                progress.advance(task)
        done = found["filled"] + found["failed"] + found["skipped"]
        if received and done < len(jobs):
            further = "--resume" if journal is not None else "--skip-existing"
            print_note(f"interrupted after {done} of {len(jobs)}; {further} goes on from there")
            raise typer.Exit(BY_SIGNAL + received[0])
    return found


def _tell(event: Event, quiet: bool) -> None:
    """Print the sentences of an event; if ``quiet``, not its notes."""
    if isinstance(event, Failed):
        print_error(str(event.error))
        return
    for sentence in event.warnings if isinstance(event, Started) else ():
        print_warning(f"{event.job.image}: {sentence}")
    for sentence in () if quiet or isinstance(event, Skipped) else event.notes:
        print_note(f"{event.job.image}: {sentence}")
