"""Splits of the published data sets, on made folders of their shape."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lbam_fast.data import Split, nvidia_masks, paris, places, protocols, read_split, write_split
from lbam_fast.data.protocols import PLACES_CATEGORIES
from lbam_fast.pictures import PictureError


def fill(folder: Path, count: int, name: str = "{:08d}.jpg") -> Path:
    """Empty files: a split is made of names."""
    folder.mkdir(parents=True)
    for i in range(1, count + 1):
        (folder / name.format(i)).touch()
    return folder


def test_paris_is_split_as_it_was_published(tmp_path):
    fill(tmp_path / "paris_train_original", 14_900)
    fill(tmp_path / "paris_eval" / "paris_eval_gt", 100, "{:03d}_im.png")
    split = paris(tmp_path)
    assert [len(part) for part in (split.train, split.validation, split.test)] == [14_900, 0, 100]
    assert not set(split.train) & set(split.test)
    split.train[7].unlink()
    with pytest.raises(PictureError, match="14,899 pictures, expected 14,900"):
        paris(tmp_path)
    with pytest.raises(PictureError, match="has none of the folders"):
        paris(tmp_path / "paris_eval")


@pytest.fixture(scope="module")
def training(tmp_path_factory, thorough) -> Path:
    """The training pictures of Places in the layout of its own archives; each test adds a validation part.

    A thousandth of them, but in ``make test-all``: 50,000 files take seconds to make and to find.
    """
    root = tmp_path_factory.mktemp("places")
    with pytest.MonkeyPatch.context() as patch:
        if not thorough:
            patch.setattr(protocols, "PLACES_TRAIN", 5)
        for category in PLACES_CATEGORIES:
            fill(root / "data_256" / category[0] / category, protocols.PLACES_TRAIN)
        yield root


def linked(training: Path, root: Path) -> Path:
    (root / "data_256").symlink_to(training / "data_256", target_is_directory=True)
    return root


def check_places(split: Split) -> None:
    assert [len(part) for part in (split.train, split.validation, split.test)] == [10 * protocols.PLACES_TRAIN, 500, 500]
    assert not set(split.validation) & set(split.test)
    assert not set(split.train) & {*split.validation, *split.test}


def test_places_with_a_folder_for_each_category(training, tmp_path):
    root = linked(training, tmp_path)
    for category in PLACES_CATEGORIES:
        fill(root / "val" / category.replace("/", "-"), 100, category.replace("/", "_") + "{:03d}.jpg")
    split = places(root)
    check_places(split)
    for category in PLACES_CATEGORIES:
        for part in (split.validation, split.test):
            assert sum(path.parent.name == category.replace("/", "-") for path in part) == 50

    write_split(split, root / "split.tsv", root)
    assert places(root, root / "split.tsv") == split
    (root / "split.tsv").write_text("train\tnowhere.jpg\n")
    with pytest.raises(PictureError, match=r"line 1: there is no .*nowhere\.jpg"):
        read_split(root / "split.tsv", root)
    (root / "split.tsv").write_text("training nowhere.jpg\n")
    with pytest.raises(PictureError, match="line 1: expected one of train, validation, test, a tab"):
        read_split(root / "split.tsv", root)


def test_places_with_labels_in_a_list(training, tmp_path):
    root = linked(training, tmp_path)
    fill(root / "val_256", 1_100, "Places365_val_{:08d}.jpg")
    names = [*PLACES_CATEGORIES, "airfield"]
    (root / "categories_places365.txt").write_text("".join(f"/{name[0]}/{name} {i}\n" for i, name in enumerate(names)))
    labels = [f"Places365_val_{i:08d}.jpg {i % 11}\n" for i in range(1, 1_101)]
    (root / "places365_val.txt").write_text("".join(labels))
    split = places(root)
    check_places(split)
    assert all(int(path.stem[-8:]) % 11 != 10 for path in (*split.validation, *split.test)), "no airfield"
    (root / "places365_val.txt").write_text("".join(labels[:-1]))
    with pytest.raises(PictureError, match="category apartment_building/outdoor: 99 pictures, expected 100"):
        places(root)
    (root / "places365_val.txt").unlink()
    with pytest.raises(PictureError, match=r"has no places365_val\.txt"):
        places(root)


def test_a_picture_in_two_parts_is_caught():
    with pytest.raises(PictureError, match=r"b\.jpg is in two parts"):
        Split((Path("a.jpg"), Path("b.jpg")), (Path("b.jpg"),))


@pytest.mark.parametrize(
    "names", [("0.01-0.1", "0.1-0.2"), ("mask_1_10", "mask_10_20"), ("1~10%", "10~20%"), ("0.01to0.1", "(0.1, 0.2]")]
)
def test_mask_folders_by_ratio(tmp_path, names):
    for name in names:
        fill(tmp_path / name, 2, "{:05d}.png")
    masks = nvidia_masks(tmp_path)
    assert list(masks) == [(0.01, 0.1), (0.1, 0.2)]
    assert [path.parent.name for paths in masks.values() for path in paths] == [names[0]] * 2 + [names[1]] * 2


def test_masks_in_one_folder_are_measured(tmp_path):
    for i, hole in enumerate((5, 10, 11, 55, 70)):  # of 100 pixels, white = hole; 70 % is in no range
        mask = np.zeros((10, 10), np.uint8)
        mask.flat[:hole] = 255
        Image.fromarray(mask).save(tmp_path / f"{i:05d}.png")
    found = {ratio: [path.stem for path in paths] for ratio, paths in nvidia_masks(tmp_path).items()}
    assert found == {(0.01, 0.1): ["00000", "00001"], (0.1, 0.2): ["00002"], (0.5, 0.6): ["00003"]}
    with pytest.raises(PictureError, match="no pictures in"):
        nvidia_masks(tmp_path / "nowhere")
