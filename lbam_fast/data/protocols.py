"""The data sets of LBAM's experiments and NVIDIA's masks, as they lie on a disk: which file is for what.

Source: the supplement to LBAM (Xie et al., ICCV 2019), section 3, for which pictures train and test. Only names are read here,
except where masks must be measured.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path

from lbam_fast.config import HoleColour
from lbam_fast.data.files import picture_files
from lbam_fast.files import replace_file
from lbam_fast.pictures import PictureError, read_mask

Ratio = tuple[float, float]
"""A range (low, high] of the share that holes take of a picture."""

PARIS_TRAIN, PARIS_TEST = 14_900, 100
PLACES_CATEGORIES = (
    "apartment_building/outdoor",
    "beach",
    "house",
    "ocean",
    "sky",
    "throne_room",
    "tower",
    "tundra",
    "valley",
    "wheat_field",
)
PLACES_TRAIN, PLACES_VALIDATION = 5_000, 100
"""Pictures of a category: all that Places365-Standard has for training, and for validation, a thousand in all."""
NVIDIA_RATIOS: tuple[Ratio, ...] = ((0.01, 0.1), (0.1, 0.2), (0.2, 0.3), (0.3, 0.4), (0.4, 0.5), (0.5, 0.6))


@dataclass(frozen=True)
class Split:
    """Pictures by what they are for, each part sorted; no picture is in two of them. Raises PictureError where one is."""

    train: tuple[Path, ...]
    validation: tuple[Path, ...] = ()
    test: tuple[Path, ...] = ()

    def __post_init__(self) -> None:
        every = [path for part in fields(self) for path in getattr(self, part.name)]
        if len(set(every)) < len(every):
            twice = next(path for path in every if every.count(path) > 1)
            raise PictureError(f"{twice} is in two parts of the split, or twice in one; expected every picture once")


def paris(folder: Path) -> Split:
    """Paris StreetView in its original split: 14,900 to train on, 100 to test on, none to validate with.

    They lie in ``paris_train_original`` and ``paris_eval/paris_eval_gt``, as distributed, or in ``train`` and ``test``.
    Raises PictureError for other folders and numbers.
    """
    train = _pictures(_first(folder, "paris_train_original", "train"), PARIS_TRAIN)
    test = _pictures(_first(folder, "paris_eval/paris_eval_gt", "paris_eval_gt", "test"), PARIS_TEST)
    return Split(train, (), test)


def places(folder: Path, listed: Path | None = None) -> Split:
    """Ten categories of Places365-Standard: 50,000 pictures to train on, 500 to validate with and 500 to test on.

    Training pictures lie in ``data_256/b/beach``, ``data_large/b/beach`` or ``train/beach``; those for validation in
    ``val/beach``, or all in ``val_256`` or ``val_large`` beside ``places365_val.txt`` and ``categories_places365.txt``. In one
    name, the category with two parts is ``apartment_building-outdoor`` or ``apartment_building_outdoor``.
    The paper does not list its halves of the thousand: here every second picture of a category, by name, is for testing, unless
    ``listed`` is a file of ``write_split``. Raises PictureError for other folders and numbers.
    """
    if listed is not None:
        return read_split(listed, folder)
    train = [path for category in PLACES_CATEGORIES for path in _pictures(_category(folder, category), PLACES_TRAIN)]
    held = _places_validation(folder)
    validation = [path for category in PLACES_CATEGORIES for path in held[category][::2]]
    test = [path for category in PLACES_CATEGORIES for path in held[category][1::2]]
    return Split(*(tuple(sorted(part)) for part in (train, validation, test)))


def nvidia_masks(folder: Path, hole: HoleColour = "white") -> dict[Ratio, list[Path]]:
    """NVIDIA's irregular masks by the share of the hole: {(0.01, 0.1): [...], (0.1, 0.2): [...], ...}, rising.

    Folders whose names end in two numbers (``0.1-0.2``, ``10_20``, ``mask 20~30%``) are taken at their word. Without such
    folders every mask below ``folder`` is read and measured, as for the test set, which comes as one folder of 12,000; those
    outside all ranges are left out. Raises PictureError where there is no mask.
    """
    folders = sorted(path for path in folder.glob("*") if path.is_dir())
    if named := {ratio: path for path in folders if (ratio := _ratio(path.name))}:
        return {ratio: picture_files(path) for ratio, path in sorted(named.items())}
    found: dict[Ratio, list[Path]] = {ratio: [] for ratio in NVIDIA_RATIOS}
    for path in picture_files(folder):
        share = float((read_mask(path) > 0.5).mean())
        for low, high in NVIDIA_RATIOS:
            if low < share <= high:
                found[low, high].append(path)
    if not any(found.values()):
        raise PictureError(f"no mask in {folder} has a hole of 1 % to 60 %; expected {hole} holes: are they of the other colour?")
    return {ratio: paths for ratio, paths in found.items() if paths}


def listed(split: Split, root: Path | None = None) -> str:
    """The split as lines, a picture each: part, tab, path, below ``root`` where that is given."""
    return "".join(
        f"{part.name}\t{(picture.relative_to(root) if root else picture).as_posix()}\n"
        for part in fields(split)
        for picture in getattr(split, part.name)
    )


def write_split(split: Split, path: Path, root: Path) -> None:
    """List the split in a file, by paths below ``root``. Raises OSError."""
    replace_file(path, listed(split, root).encode())


def read_split(path: Path, root: Path) -> Split:
    """The split that ``write_split`` listed. Raises PictureError for other files, and for pictures that are not there."""
    parts: dict[str, list[Path]] = {part.name: [] for part in fields(Split)}
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise PictureError(f"{path}: this list of pictures cannot be read ({error})") from error
    for number, line in enumerate(lines, 1):
        part, tab, name = line.partition("\t")
        if part not in parts or not tab:
            raise PictureError(f"{path}, line {number}: expected one of {', '.join(parts)}, a tab and a path below {root}")
        parts[part].append(root / name)
        if not parts[part][-1].is_file():
            raise PictureError(f"{path}, line {number}: there is no {root / name}")
    return Split(*map(tuple, parts.values()))


def _places_validation(folder: Path) -> dict[str, tuple[Path, ...]]:
    flat = next((folder / name for name in ("val_256", "val_large") if (folder / name).is_dir()), None)
    if flat is None:
        return {
            category: _pictures(_first(folder, *(f"val/{name}" for name in _spellings(category))), PLACES_VALIDATION)
            for category in PLACES_CATEGORIES
        }
    numbers = {name[3:]: number for name, number in _pairs(folder, "categories_places365.txt")}  # "/a/airfield 0"
    labels = _pairs(folder, "places365_val.txt")
    held = {}
    for category in PLACES_CATEGORIES:
        if category not in numbers:
            raise PictureError(f"categories_places365.txt in {folder} has no category {category}; expected that of Places365")
        held[category] = tuple(sorted(flat / name for name, number in labels if number == numbers[category]))
        _check_count(held[category], PLACES_VALIDATION, f"places365_val.txt in {folder}, category {category}")
        if missing := next((path for path in held[category] if not path.is_file()), None):
            raise PictureError(f"places365_val.txt names {missing.name}, which is not in {flat}")
    return held


def _pairs(folder: Path, name: str) -> list[tuple[str, str]]:
    path = next((path for path in (folder / name, folder / "filelist_places365-standard" / name) if path.is_file()), None)
    if path is None:
        raise PictureError(f"{folder} has no {name}, which says what its validation pictures show; it comes with Places365")
    return [(first, second) for first, second in map(str.split, path.read_text("utf-8").splitlines())]


def _category(folder: Path, category: str) -> Path:
    deep = [f"{root}/{category[0]}/{category}" for root in ("data_256", "data_large")]
    return _first(folder, *deep, *(f"train/{name}" for name in _spellings(category)))


def _spellings(category: str) -> list[str]:
    return list(dict.fromkeys(category.replace("/", by) for by in "/-_"))


def _first(folder: Path, *names: str) -> Path:
    for name in names:
        if (folder / name).is_dir():
            return folder / name
    raise PictureError(f"{folder} has none of the folders {', '.join(names)}")


def _pictures(folder: Path, count: int) -> tuple[Path, ...]:
    files = tuple(picture_files(folder))
    _check_count(files, count, str(folder))
    return files


def _check_count(files: Iterable[Path], count: int, where: str) -> None:
    if (found := len(list(files))) != count:
        raise PictureError(
            f"{where}: {found:,} pictures, expected {count:,}, so this is not the split of the paper; "
            "to use what is there, give the folder itself as the photographs"
        )


def _ratio(name: str) -> Ratio | None:
    """The range in a folder's name, where there is one: "0.1-0.2" and "10_20 %" both mean (0.1, 0.2)."""
    found = re.search(r"(\d+(?:\.\d+)?)\s*[-_~,to ]+\s*(\d+(?:\.\d+)?)\D*$", name)
    if found is None:
        return None
    low, high = float(found[1]), float(found[2])
    scale = 100 if high > 1 else 1
    return (low / scale, high / scale) if low < high <= scale else None
