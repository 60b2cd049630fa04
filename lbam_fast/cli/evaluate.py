"""``lbam-fast evaluate``."""

from __future__ import annotations

import os
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from lbam_fast.cli.common import (
    SOME_FAILED,
    ArgumentError,
    errors,
    failing_with_message,
    make_folder,
    print_error,
    print_note,
    print_warning,
)
from lbam_fast.cli.evaluate_cases import BUILT_IN, Drawing, Protocol, find_cases
from lbam_fast.cli.evaluate_methods import named_methods
from lbam_fast.config import HoleColour

if TYPE_CHECKING:
    from lbam_fast.evaluation import Evaluation, Result

SMALLEST = 64
NEEDED = ("scipy", "matplotlib", "skimage", "torchmetrics")


def evaluate(
    pictures: Annotated[
        Path, typer.Argument(help=f'Folder of pictures, or "{BUILT_IN}": the 8 inside scikit-image and scikit-learn.')
    ],
    masks: Annotated[
        Path | None,
        typer.Argument(
            help="Masks: a folder with one for each picture, by name; any other, as NVIDIA's, to draw from; one file for all. "
            "Without it, X_mask000.png beside X.png; where there are none, masks are drawn."
        ),
    ] = None,
    *,
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for tables, values, contact sheet and plot.")],
    method: Annotated[
        list[str] | None,
        typer.Option(
            help="May be repeated; the others are compared with the first. lbam, lbam=FILE,detail=off,passes=8, telea, "
            "navier-stokes, harmonic, biharmonic, patchmatch; global-local=FILE, contextual-attention=FILE, pconv=FILE. "
            "By default lbam and all that need no file."
        ),
    ] = None,
    protocol: Annotated[Protocol, typer.Option(help="Whose test pictures are taken from PICTURES.")] = "folder",
    size: Annotated[int, typer.Option(min=0, help="Side of the middle square, after resizing to it; 0: as they are.")] = 256,
    masks_each: Annotated[int, typer.Option(min=1, help="Masks drawn for a picture and a range of hole shares.")] = 2,
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many pictures, drawn by the seed.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Decides pictures, masks and intervals.")] = 0,
    hole: Annotated[HoleColour, typer.Option(help="Colour of the hole in files of masks.")] = "white",
    st_lpips: Annotated[Path | None, typer.Option(help="Wheel of stlpips-pytorch, its folder or file of weights.")] = None,
    fid: Annotated[bool, typer.Option("--fid", help="Measure the Fréchet distance too; keeps all pictures.")] = False,
    save: Annotated[bool, typer.Option("--save", help="Keep every filled picture.")] = False,
    jobs: Annotated[int | None, typer.Option(min=1, help="Processes; one a core, or one where a GPU is used.")] = None,
    device: Annotated[str, typer.Option(help="Of networks: auto, cpu, cuda, cuda:1 ...")] = "auto",
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress bar and no notes.")] = False,
) -> None:
    """Compare methods on pictures with known truth, by the size of the holes. Started again, it goes on where it ended."""
    with failing_with_message():
        from lbam_fast.batch import locked
        from lbam_fast.evaluation import Evaluation, available_metrics, fid_needs

        if 0 < size < SMALLEST:
            raise ArgumentError(f"--size is {size}, expected at least {SMALLEST}, or 0 for pictures as they are")
        if fid and (missing := fid_needs()):
            raise ArgumentError(f"--fid: {missing}")
        _check(pictures, output)
        methods, notes = named_methods(method or [], device)
        metrics, left_out = available_metrics(st_lpips)
        if not fid:
            left_out.append(f"FID is left out: {fid_needs() or '--fid measures it'}")
        cases, warned = find_cases(pictures, masks, protocol, Drawing(size or None, masks_each, limit, seed, hole))
        make_folder(output)
        settings = {
            "pictures": len({case.picture for case in cases}),
            "cases": len(cases),
            "protocol": protocol,
            "size": size,
            "masks each": masks_each,
            "seed": seed,
        }
        with locked(output):
            notes = [*notes, *left_out]
            evaluation = Evaluation(output, cases, methods, metrics, seed, settings, notes, save, fid)
            for sentence in warned:
                print_warning(sentence)
            for note in () if quiet else notes:
                print_note(note)
            failed = _run(evaluation, jobs or _jobs(device), quiet)
            evaluation.write()
        counts = f"{len(cases)} case{'s'[: len(cases) != 1]} by {len(methods)} method{'s'[: len(methods) != 1]}"
        print_note(f"{counts}, {failed} failed: {output / 'tables.md'}")
        if failed:
            raise typer.Exit(SOME_FAILED)


def _run(evaluation: Evaluation, jobs: int, quiet: bool) -> int:
    """Do what is missing, and tell of failures; gives how many cases failed with some method."""
    failed: set[str] = set()
    tasks = evaluation.missing()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=errors, disable=quiet or not errors.is_terminal) as progress:
        bar = progress.add_task("evaluating", total=len(evaluation.cases), completed=len(evaluation.cases) - len(tasks))

        def tell(results: Sequence[Result]) -> None:
            for result in results:
                if result.error:
                    failed.add(result.case)
                    print_error(f"{result.case}, {result.method}: {result.error}")
            progress.advance(bar)

        evaluation.run(tasks, min(jobs, max(1, len(tasks))), tell)
    return len(failed)


def _check(pictures: Path, output: Path) -> None:
    """That the packages which tables and plot need are there, before hours of work, and that no result becomes an input."""
    if absent := [name for name in NEEDED if find_spec(name) is None]:
        raise ArgumentError(f"{' and '.join(absent)} are missing: pip install 'lbam-fast[evaluation]'")
    if pictures.resolve() in (output.resolve(), *output.resolve().parents):
        raise ArgumentError(f"the output {output} lies in {pictures}, so results would be taken for pictures: choose another")


def _jobs(device: str) -> int:
    from lbam_fast.devices import resolve_device

    return 1 if resolve_device(device).type != "cpu" else os.cpu_count() or 1
