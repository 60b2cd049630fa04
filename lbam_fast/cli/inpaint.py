"""``lbam-fast inpaint``."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from lbam_fast.batch.events import Failed, Started
from lbam_fast.cli.common import (
    BAD_INPUT,
    BY_SIGNAL,
    SOME_FAILED,
    ArgumentError,
    errors,
    failing_with_message,
    finishing_on_signal,
    print_error,
    print_note,
    print_warning,
    set_threads,
)
from lbam_fast.config import HoleColour
from lbam_fast.files import is_same_file

if TYPE_CHECKING:
    from lbam_fast.batch import Event, Filler, Job, Pairs


def inpaint(
    image: Annotated[Path, typer.Argument(help="Picture, or folder of pictures.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="File or folder for the result.")],
    mask: Annotated[
        Path | None,
        typer.Argument(
            help="Mask of the picture's size, white = hole unless --hole black. With a folder of pictures: a folder of masks "
            "named as they are (NAME.png or NAME_mask000.png), or one mask for all, or none where the masks lie beside them."
        ),
    ] = None,
    hole: Annotated[HoleColour, typer.Option(help="Colour of the hole in masks.")] = "white",
    mask_from: Annotated[
        Literal["alpha"] | None,
        typer.Option(help="alpha: not from a mask; what is transparent is the hole, whatever --hole says."),
    ] = None,
    threshold: Annotated[
        float, typer.Option(help="Mask values beyond it, towards the hole's colour, are hole; from 0 to 1.")
    ] = 0.5,
    grow: Annotated[int, typer.Option(metavar="PX", help="Widen the hole by so many pixels.")] = 0,
    feather: Annotated[int, typer.Option(metavar="PX", help="Blend over so many pixels of what --grow added.")] = 0,
    detail: Annotated[
        Literal["auto", "exemplar", "off"],
        typer.Option(
            help="Texture from the known pixels, over what the network fills; auto: for narrow networks and thin holes."
        ),
    ] = "auto",
    strategy: Annotated[
        Literal["auto", "whole", "resize", "crop", "tile"],
        typer.Option(
            help="For large pictures. whole: in one pass; resize: at most 1024 pixels on a side; crop: boxes around the holes; "
            "tile: overlapping tiles; auto: whole up to 1024x1024 pixels, then crop where that saves half, else tile."
        ),
    ] = "auto",
    passes: Annotated[int, typer.Option(help="1, 2, 4 or 8: the mean over so many turned and mirrored pictures.")] = 1,
    weights: Annotated[Path | None, typer.Option(help="Weights file; by default the network in the package.")] = None,
    preset: Annotated[str | None, typer.Option(help="The network that they belong to, where several fit.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 ...")] = "auto",
    dtype: Annotated[str, typer.Option(help="float32, bfloat16, float16 or float64.")] = "float32",
    threads: Annotated[int | None, typer.Option(help="CPU threads; all by default.")] = None,
    max_pixels: Annotated[
        int | None, typer.Option(metavar="N", help="Refuse pictures and masks of more pixels; by default 500 million.")
    ] = None,
    recursive: Annotated[bool, typer.Option("--recursive", help="Search subfolders too, and keep them.")] = False,
    skip_existing: Annotated[bool, typer.Option("--skip-existing", help="Do not write results that exist.")] = False,
    format: Annotated[str | None, typer.Option(help="Suffix of results in a folder; by default each picture's own.")] = None,
    comparison: Annotated[
        Path | None, typer.Option(help="Also write the picture as given, with its hole, and filled, side by side.")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print warnings and errors only.")] = False,
) -> None:
    """Fill the hole of one picture, or of every picture in a folder. In masks, white is the hole, unless --hole black.

    Pixels outside the hole stay the same to the bit where the output format is lossless; EXIF, colour profile and
    transparency are kept. In a folder, a picture with several masks (NAME_mask000, NAME_mask001 ...) gives a result for
    each, named as the mask. Exit code: 0 all well, 1 some pictures of a folder failed, 2 bad input.
    """
    with failing_with_message():
        if mask is not None and mask_from is not None:
            raise ArgumentError("a MASK and --mask-from alpha were given: expected one of them")
        folder = image.is_dir()
        _check_comparison(comparison, image, mask, output)
        pairs = _paired(image, mask, output, comparison, from_alpha=bool(mask_from), recursive=recursive, format=format)
        _tell_oddities(pairs)

        waiting = [job for job in pairs.jobs if not (skip_existing and job.output.exists())]
        failed = len(pairs.problems)
        if waiting:
            set_threads(threads)
            limits: dict[str, Any] = {} if max_pixels is None else {"max_pixels": max_pixels}
            filler = _filler(
                weights,
                preset=preset,
                device=device,
                dtype=dtype,
                hole="white" if mask_from else hole,
                threshold=threshold,
                grow=grow,
                feather=feather,
                passes=passes,
                detail=detail,
                strategy=strategy,
                **limits,
            )
            if folder and mask is not None and mask.is_file():
                filler.read_mask(mask)  # the one for all: if it is bad, say so once
            failed += _run(filler, waiting, folder, quiet)
        if not quiet:
            _tell_end(pairs, output if folder else None, len(pairs.jobs) - len(waiting), failed)
        if failed:
            raise typer.Exit(BAD_INPUT if failed == len(pairs.jobs) + len(pairs.problems) else SOME_FAILED)


def _check_comparison(comparison: Path | None, image: Path, mask: Path | None, output: Path) -> None:
    if comparison is None:
        return
    if image.is_dir():
        raise ArgumentError("--comparison goes with one picture, not with a folder")
    for other in (image, mask, output):
        if other is not None and is_same_file(comparison, other):
            raise ArgumentError(f"--comparison {comparison} is an input or the output: choose another file")


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


def _tell_end(pairs: Pairs, folder: Path | None, skipped: int, failed: int) -> None:
    if folder is None:
        print_note(f"{'exists already' if skipped else 'written'}: {pairs.jobs[0].output}")
        return
    filled = len(pairs.jobs) + len(pairs.problems) - skipped - failed
    others = f", {len(pairs.passed_over)} passed over" if pairs.passed_over else ""
    print_note(f"{filled} filled, {skipped} skipped, {failed} failed{others}: {folder}")


def _filler(weights: Path | None, **options: Any) -> Filler:
    """With an inpainter of those options, whose warnings are printed."""
    from lbam_fast.batch import Filler
    from lbam_fast.inference import Inpainter

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        inpainter = Inpainter.from_pretrained(weights, **options)
    for warning in caught:
        print_warning(str(warning.message))
    return Filler(inpainter)


def _shortened(paths: Sequence[Path], most: int = 20) -> str:
    return ", ".join(map(str, paths[:most])) + (f" and {len(paths) - most} more" if len(paths) > most else "")


def _run(filler: Filler, jobs: Sequence[Job], folder: bool, quiet: bool) -> int:
    """Do the jobs and return how many failed; outside a folder the error itself is raised.

    Ctrl-C and SIGTERM finish the pictures at hand and end with exit code 130 and 143.
    """
    failed, done = 0, 0
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    shown = Progress(*columns, console=errors, disable=quiet or not folder or not errors.is_terminal)
    with shown as progress, finishing_on_signal() as received:
        task = progress.add_task("inpainting", total=len(jobs))
        for event in filler.fill(jobs, make_folders=folder, stop=lambda: bool(received)):
            if isinstance(event, Failed) and not folder:
                raise event.error
            _tell(event, quiet)
            if not isinstance(event, Started):
                failed += isinstance(event, Failed)
                done += 1
                progress.advance(task)
        if received and done < len(jobs):
            print_note(f"interrupted after {done} of {len(jobs)}; --skip-existing goes on from there")
            raise typer.Exit(BY_SIGNAL + received[0])
    return failed


def _tell(event: Event, quiet: bool) -> None:
    """Print the sentences of an event; if ``quiet``, not its notes."""
    if isinstance(event, Failed):
        print_error(str(event.error))
        return
    for sentence in event.warnings if isinstance(event, Started) else ():
        print_warning(f"{event.job.image}: {sentence}")
    for sentence in () if quiet else event.notes:
        print_note(f"{event.job.image}: {sentence}")
