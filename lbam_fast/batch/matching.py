"""Which masks of a folder belong to which pictures, by their names alone."""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

_MASK_STEM = re.compile(r"(?P<name>.+)_mask\d*")


@dataclass
class Matches:
    """The masks of each picture in order; a sentence on each picture whose masks are ``doubtful``; and the masks left over."""

    masks: dict[Path, list[Path]] = field(default_factory=dict)
    problems: dict[Path, str] = field(default_factory=dict)
    unused: list[Path] = field(default_factory=list)
    doubtful: set[Path] = field(default_factory=set)


def match_folders(pictures: Sequence[Path], images: Path, candidates: Sequence[Path], folder: Path) -> Matches:
    """Masks in a ``folder`` of their own: NAME.*, or else NAME_mask.* and NAME_mask000.* that are no other picture's NAME.*."""
    named, based = _by_name(candidates, folder), _by_base(candidates, folder)
    names, files = {_name(path, images) for path in pictures}, {_file(path, images) for path in pictures}
    found = Matches()
    for image in pictures:
        exact = named[_name(image, images)]
        same = [mask for mask in exact if _file(mask, folder) == _file(image, images)]
        if same and all(_file(mask, folder) in files for mask in exact):
            exact = same
        suffixed = [mask for mask in based[_name(image, images)] if _name(mask, folder) not in names]
        _give(found, image, exact or suffixed, several=not exact)
    _leave_over(found, candidates)
    return found


def match_within(paths: Sequence[Path], folder: Path) -> Matches:
    """Masks NAME_mask.* and NAME_mask000.* beside their pictures NAME.* in one folder; no file is both."""
    named, based = _by_name(paths, folder), _by_base(paths, folder)
    masks = [path for path in paths if _base(path, folder) is not None]
    ambiguous = {path for path in masks if named[_base(path, folder) or ""] and based[_name(path, folder)]}
    pictures = [path for path in paths if path not in masks or (path not in ambiguous and based[_name(path, folder)])]
    found = Matches()
    for image in pictures:
        own = based[_name(image, folder)]
        if doubtful := ambiguous.intersection(own):
            found.problems[image] = f"{image}: {_listed(doubtful)} could be its mask, or a picture with a mask; rename one"
        else:
            _give(found, image, own, several=True)
    for path in ambiguous:
        own = based[_name(path, folder)]
        found.problems[path] = f"{path}: could be a mask, or a picture with the mask {_listed(own)}; rename one"
        found.doubtful.update([path, *own])
    _leave_over(found, [path for path in masks if path not in pictures])
    return found


def _give(found: Matches, image: Path, masks: list[Path], several: bool) -> None:
    """Give a picture its masks, unless they are more than one where one is meant, or share a name."""
    stems = {unicodedata.normalize("NFC", mask.stem) for mask in masks}
    if len(stems) < len(masks) or (len(masks) > 1 and not several):
        found.problems[image] = f"{image}: {_listed(masks)} could each be its mask; keep one, or rename the others"
        found.doubtful.update(masks)
    else:
        found.masks[image] = masks


def _leave_over(found: Matches, candidates: Iterable[Path]) -> None:
    taken = {mask for masks in found.masks.values() for mask in masks}
    found.unused = [path for path in candidates if path not in taken and path not in found.doubtful]


def _by_name(paths: Iterable[Path], folder: Path) -> dict[str, list[Path]]:
    found: dict[str, list[Path]] = defaultdict(list)
    for path in paths:
        found[_name(path, folder)].append(path)
    return found


def _by_base(paths: Iterable[Path], folder: Path) -> dict[str, list[Path]]:
    """NAME_mask and NAME_mask000 by NAME."""
    found: dict[str, list[Path]] = defaultdict(list)
    for path in paths:
        if (base := _base(path, folder)) is not None:
            found[base].append(path)
    return found


def _base(path: Path, folder: Path) -> str | None:
    match = _MASK_STEM.fullmatch(path.stem)
    return None if match is None else _name(path.with_name(match["name"] + path.suffix), folder)


def _name(path: Path, folder: Path) -> str:
    """The path below the folder without its suffix; composed, as some systems store names decomposed."""
    return _file(path.parent / path.stem, folder)


def _file(path: Path, folder: Path) -> str:
    return unicodedata.normalize("NFC", path.relative_to(folder).as_posix())


def _listed(paths: Iterable[Path]) -> str:
    return " and ".join(str(path) for path in sorted(paths))
