"""What the arguments of ``lbam-fast evaluate`` mean: which pictures, with which masks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from lbam_fast.cli.common import ArgumentError
from lbam_fast.config import HoleColour

if TYPE_CHECKING:
    from lbam_fast.batch.matching import Matches
    from lbam_fast.evaluation import Case

BUILT_IN = "scikit"
Protocol = Literal["folder", "paris", "places"]


@dataclass(frozen=True)
class Drawing:
    """Options of the same names, with the side None for pictures as they are."""

    side: int | None
    masks_each: int
    limit: int | None
    seed: int
    hole: HoleColour


def find_cases(pictures: Path, masks: Path | None, protocol: Protocol, how: Drawing) -> tuple[list[Case], list[str]]:
    """The cases that the arguments mean, and what to warn of. Raises an error where there are none."""
    from lbam_fast.data import nvidia_masks
    from lbam_fast.evaluation import cases_of_drawn, cases_of_pairs, cases_of_set

    if masks is not None and not masks.exists():
        raise ArgumentError(f"{masks}: there is no such mask or folder of masks; check the path")
    named = pictures_by_name(pictures, protocol)
    if masks is not None and masks.is_file():
        return cases_of_pairs(_limited(named, how), {name: [masks] for name in named}, how.side, how.hole), []
    matches = None if named.keys() == _built_in(pictures).keys() else _matches(named, pictures, masks)
    if matches and any(matches.masks.values()):
        own = {name: matches.masks.get(path, []) for name, path in named.items() if path in matches.masks}
        kept = {name: named[name] for name, found in own.items() if found}
        warned = [*matches.problems.values(), *(f"{path}: this mask has no picture" for path in matches.unused)]
        warned += [f"{named[name]}: has no mask and is left out" for name, found in own.items() if not found]
        return cases_of_pairs(_limited(kept, how), own, how.side, how.hole), warned
    named = _limited(named, how)
    if masks is None:
        return cases_of_drawn(named, how.side, how.masks_each, how.seed), []
    found = nvidia_masks(masks, how.hole)
    return cases_of_set(named, found, how.side, how.masks_each, how.seed, how.hole), []


def pictures_by_name(pictures: Path, protocol: Protocol) -> dict[str, Path]:
    """The test pictures, by their path below the folder as one name. Raises PictureError, or ArgumentError for no folder."""
    if protocol == "folder" and (built_in := _built_in(pictures)):
        return built_in
    if pictures.is_file() and protocol == "folder":
        return {pictures.name: pictures}
    if not pictures.is_dir():
        raise ArgumentError(f"{pictures}: there is no such folder; expected one of pictures, or {BUILT_IN!r}")
    from lbam_fast.data import paris, picture_files, places

    files = picture_files(pictures) if protocol == "folder" else {"paris": paris, "places": places}[protocol](pictures).test
    named = {path.relative_to(pictures).as_posix().replace("/", "_"): path for path in files}
    if len(named) < len(files):
        raise ArgumentError(f"{pictures}: two pictures are told apart by / and _ alone, as a/b.png and a_b.png; rename one")
    return named


def _built_in(pictures: Path) -> dict[str, Path]:
    """The evaluation pictures, where their name is given and no folder has it; else nothing."""
    from lbam_fast.evaluation import evaluation_files

    return evaluation_files() if str(pictures) == BUILT_IN and not pictures.exists() else {}


def _matches(named: Mapping[str, Path], folder: Path, masks: Path | None) -> Matches | None:
    """Which masks bear the names of which pictures, in a folder of their own or beside them."""
    from lbam_fast.batch.matching import match_folders, match_within
    from lbam_fast.data import picture_files

    files = list(named.values())
    root = folder if folder.is_dir() else folder.parent
    if masks is None:
        return match_within(files, root)
    return match_folders(files, root, picture_files(masks), masks)


def _limited(named: dict[str, Path], how: Drawing) -> dict[str, Path]:
    import numpy as np

    if how.limit is None or how.limit >= len(named):
        return named
    names: Sequence[str] = list(named)
    chosen = sorted(np.random.default_rng(how.seed).permutation(len(names))[: how.limit])
    return {names[number]: named[names[number]] for number in chosen}
