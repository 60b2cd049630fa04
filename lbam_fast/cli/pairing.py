"""Which picture goes with which mask, and where the result goes."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from lbam_fast.cli.common import ArgumentError, is_same_file
from lbam_fast.pictures import output_suffixes, readable_suffixes

CONVENTION = "white = hole unless --hole black"
_MASK_STEM = re.compile(r"(?P<name>.+)_mask\d*")


@dataclass(frozen=True)
class Job:
    """One picture to fill. Without a mask, the picture's transparent part is the hole."""

    image: Path
    mask: Path | None
    output: Path


@dataclass
class Pairs:
    """The jobs of a folder in order, with a sentence on each picture without a job and each mask without a picture."""

    jobs: list[Job] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    unused: list[str] = field(default_factory=list)


def pair_file(image: Path, mask: Path | None, output: Path, suffix: str | None = None) -> Job:
    """The job of a single picture; into a folder it keeps its name, with ``suffix`` if given. Raises ArgumentError."""
    if mask is not None and mask.is_dir():
        raise ArgumentError(f"the mask {mask} is a folder, but {image} a file: name two files or two folders")
    _check_suffix(suffix)
    if suffix is not None and not output.is_dir():
        raise ArgumentError("--format goes with an output folder; for a file, its own suffix says the format")
    target = output / (image.stem + (suffix or image.suffix)) if output.is_dir() else output
    for source in (image, mask):
        if source is not None and is_same_file(target, source):
            raise ArgumentError(f"{target} is an input and would be overwritten: choose another output")
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
    """The jobs of a folder of pictures. Raises ArgumentError where there is no pair at all.

    masks: a folder in which the mask of NAME.* is NAME.*, NAME_mask.* or NAME_mask000.*, in the same subfolder; or one
    mask file for all; or None: the masks lie beside the pictures as NAME_mask000.*, unless holes come ``from_alpha``.
    Results keep their picture's subfolder and suffix, or get ``suffix``. A picture with one mask keeps its name, one
    with several gives a result for each, named as the mask.
    """
    _check_folders(images, masks, output, suffix)
    mixed = not from_alpha and (masks is None or (masks.is_dir() and is_same_file(masks, images)))
    pictures = _pictures(images, recursive, output)
    found: dict[Path, list[Path]] = defaultdict(list)
    if mixed:
        for path in [p for p in pictures if _MASK_STEM.fullmatch(p.stem)]:
            found[_pictured(path, images)].append(path)
            pictures.remove(path)
    elif masks is not None and masks.is_dir():
        for path in _pictures(masks, recursive, output):
            found[path.relative_to(masks).with_suffix("")].append(path)
            if _MASK_STEM.fullmatch(path.stem):
                found[_pictured(path, masks)].append(path)
    elif masks is not None:
        pictures = [p for p in pictures if not is_same_file(p, masks)]

    pairs = Pairs()
    taken: set[Path | None] = set()
    for image in pictures:
        name = image.relative_to(images)
        one_for_all = from_alpha or (masks is not None and masks.is_file())
        own: list[Path | None] = [masks] if one_for_all else [*found.get(name.with_suffix(""), [])]
        taken.update(own)
        for mask in own:
            stem = mask.stem if mask is not None and len(own) > 1 else name.stem
            pairs.jobs.append(Job(image, mask, output / name.with_name(stem + (suffix or image.suffix))))
        if not own:
            names = f"{image.stem}.* or {image.stem}_mask000.*"
            pairs.problems.append(f"{image}: there is no mask {names} in {masks or images} ({CONVENTION})")
    unused = {mask for several in found.values() for mask in several} - taken
    pairs.unused = [f"{path}: this mask ({CONVENTION}) has no picture" for path in sorted(unused)]
    _drop_collisions(pairs)
    if not pairs.jobs and not pairs.problems:
        endings = ", ".join(sorted(readable_suffixes()))
        raise ArgumentError(f"no pictures in {images}: expected {endings} files; --recursive searches subfolders too")
    if not pairs.jobs:
        raise ArgumentError(f"no pairs of a picture and a mask: {pairs.problems[0]}")
    return pairs


def _check_folders(images: Path, masks: Path | None, output: Path, suffix: str | None) -> None:
    if masks is not None and not masks.exists():
        raise ArgumentError(f"{masks}: there is no such mask or folder of masks ({CONVENTION}); check the path")
    if output.exists() and not output.is_dir():
        raise ArgumentError(f"the output {output} is a file, but {images} a folder: name a folder for the results")
    for folder in (images, masks):
        if folder is not None and is_same_file(output, folder):
            raise ArgumentError(f"the output {output} holds the inputs, and would overwrite them: choose another folder")
    _check_suffix(suffix)


def _check_suffix(suffix: str | None) -> None:
    if suffix is not None and suffix not in output_suffixes():
        known = ", ".join(sorted(each.removeprefix(".") for each in output_suffixes()))
        raise ArgumentError(f"--format is {suffix.removeprefix('.')!r}, expected one of {known}")


def _pictures(folder: Path, recursive: bool, output: Path) -> list[Path]:
    """The pictures in a folder, sorted, without hidden files and those that an earlier run left in ``output`` there."""
    results = output.resolve()

    def counts(path: Path) -> bool:
        visible = path.suffix.lower() in readable_suffixes() and not path.name.startswith(".") and path.is_file()
        return visible and results not in path.parent.resolve().joinpath("_").parents

    return sorted(filter(counts, folder.rglob("*") if recursive else folder.iterdir()))


def _pictured(mask: Path, folder: Path) -> Path:
    """The relative path, without suffix, of the picture that NAME_mask000 belongs to."""
    match = _MASK_STEM.fullmatch(mask.stem)
    assert match is not None
    return mask.relative_to(folder).with_name(match["name"])


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
