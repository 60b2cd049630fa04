"""Which picture goes with which mask, and where the result goes."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from lbam_fast.batch.errors import JobError
from lbam_fast.batch.jobs import Job
from lbam_fast.batch.matching import Matches, match_folders, match_within
from lbam_fast.files import is_same_file
from lbam_fast.pictures import output_suffixes, readable_suffixes, visible_files

CONVENTION = "white = hole unless --hole black"


@dataclass
class Pairs:
    """The jobs of a folder in order, with a sentence on each picture without a job and each mask without a picture.

    passed_over: files that do not end as pictures do.
    """

    jobs: list[Job] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    unused: list[str] = field(default_factory=list)
    passed_over: list[Path] = field(default_factory=list)


def pair_file(image: Path, mask: Path | None, output: Path, suffix: str | None = None) -> Job:
    """The job of a single picture; into a folder it keeps its name, with ``suffix`` if given. Raises JobError."""
    if mask is not None and mask.is_dir():
        raise JobError(f"the mask {mask} is a folder, but {image} a file: name two files or two folders")
    _check_suffix(suffix)
    if suffix is not None and not output.is_dir():
        raise JobError("--format goes with an output folder; for a file, its own suffix says the format")
    target = output / (image.stem + _result_suffix(image, suffix)) if output.is_dir() else output
    for source in (image, mask):
        if source is not None and is_same_file(target, source):
            raise JobError(f"{target} is an input and would be overwritten: choose another output")
    return Job(image, mask, target)


def pair_folder(
    images: Path,
    masks: Path | None,
    output: Path,
    *,
    from_alpha: bool = False,
    recursive: bool = False,
    suffix: str | None = None,
) -> Pairs:
    """The jobs of a folder of pictures. Raises JobError where there is no pair at all.

    masks: a folder in which the mask of NAME.* is NAME.*, or else NAME_mask.* or NAME_mask000.*, in the same subfolder; or one
    mask file for all; or None: the masks lie beside the pictures as NAME_mask000.*, unless holes come ``from_alpha``.
    No file is both a picture and a mask, and pictures whose masks are ambiguous become problems.
    Results keep their picture's subfolder and suffix (PNG's where it cannot be written), or get ``suffix``. A picture with one
    mask keeps its name, one with several gives a result for each, named as the mask.
    """
    _check_folders(images, masks, output, suffix)
    pictures, others = _pictures(images, recursive, output)
    if from_alpha:
        found = Matches({image: [image] for image in pictures})
    elif masks is None or (masks.is_dir() and is_same_file(masks, images)):
        found = match_within(pictures, images)
    elif masks.is_dir():
        candidates, other_masks = _pictures(masks, recursive, output)
        found = match_folders(pictures, images, candidates, masks)
        others += other_masks
    else:
        found = Matches({image: [masks] for image in pictures if not is_same_file(image, masks)})

    pairs = Pairs(problems=list(found.problems.values()), passed_over=others)
    for image, own in found.masks.items():
        name = image.relative_to(images)
        for mask in own:
            stem = mask.stem if len(own) > 1 else name.stem
            target = output / name.with_name(stem + _result_suffix(image, suffix))
            pairs.jobs.append(Job(image, None if from_alpha else mask, target))
        if not own:
            names = f"{image.stem}.* or {image.stem}_mask000.*"
            pairs.problems.append(f"{image}: there is no mask {names} in {masks or images} ({CONVENTION})")
    pairs.unused = [f"{path}: this mask ({CONVENTION}) has no picture" for path in sorted(found.unused)]
    _drop_collisions(pairs)
    if not pairs.jobs and not pairs.problems:
        endings = ", ".join(sorted(readable_suffixes()))
        raise JobError(f"no pictures in {images}: expected {endings} files; --recursive searches subfolders too")
    if not pairs.jobs:
        raise JobError(f"no pairs of a picture and a mask: {pairs.problems[0]}")
    return pairs


def _check_folders(images: Path, masks: Path | None, output: Path, suffix: str | None) -> None:
    if masks is not None and not masks.exists():
        raise JobError(f"{masks}: there is no such mask or folder of masks ({CONVENTION}); check the path")
    if output.exists() and not output.is_dir():
        raise JobError(f"the output {output} is a file, but {images} a folder: name a folder for the results")
    for folder in (images, masks):
        if folder is not None and is_same_file(output, folder):
            raise JobError(f"the output {output} holds the inputs, and would overwrite them: choose another folder")
    _check_suffix(suffix)


def _check_suffix(suffix: str | None) -> None:
    if suffix is not None and suffix not in output_suffixes():
        known = ", ".join(sorted(each.removeprefix(".") for each in output_suffixes()))
        raise JobError(f"--format is {suffix.removeprefix('.')!r}, expected one of {known}")


def _pictures(folder: Path, recursive: bool, output: Path) -> tuple[list[Path], list[Path]]:
    """The pictures in a folder, and its other files, sorted; not the hidden ones, nor what a run left in ``output`` there."""
    results = output.resolve()
    files = [path for path in visible_files(folder, recursive) if results not in path.parent.resolve().joinpath("_").parents]
    pictures = [path for path in files if path.suffix.lower() in readable_suffixes()]
    return pictures, [path for path in files if path not in pictures]


def _result_suffix(image: Path, suffix: str | None) -> str:
    """The suffix asked for, or the picture's own, or PNG's where pictures of its kind are read alone."""
    return suffix or (image.suffix if image.suffix.lower() in output_suffixes() else ".png")


def _drop_collisions(pairs: Pairs) -> None:
    """Move jobs whose result would overwrite another's, or an input, to the problems."""
    inputs = {path.resolve() for job in pairs.jobs for path in (job.image, job.mask) if path is not None}
    kept: dict[Path, Job] = {}
    for job in pairs.jobs:
        target = job.output.resolve()
        if target in inputs:
            pairs.problems.append(f"{job.image}: its result {job.output} would overwrite an input; choose another folder")
        elif target in kept:
            pairs.problems.append(f"{job.image}: its result {job.output} is that of {kept[target].image} too; rename one")
        else:
            kept[target] = job
    pairs.jobs = list(kept.values())
