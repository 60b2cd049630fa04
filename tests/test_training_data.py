"""What a training reads: frames, masks from files, damaged and small pictures, and what there is to set."""

import dataclasses
import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from networks import one_thread  # noqa: F401 - applies itself
from PIL import Image
from test_training import TINY, photographs, trainer  # noqa: F401 - photographs is a fixture

from lbam_fast.config import PRESETS
from lbam_fast.data import AnyMask, MaskError, OwnMasks, PhotographCrops, masks_by_name, picture_files
from lbam_fast.data.framing import PREPARATIONS, centre, published
from lbam_fast.pictures import PictureError
from lbam_fast.training import RECIPES, Settings, TrainingError, recipe
from lbam_fast.training.data import Share, TrainingPictures
from lbam_fast.training.losses import WEIGHTS, FeaturesError
from lbam_fast.training.settings import FIELDS, read_settings


def save(path: Path, pixels: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def scene(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Noise of large cells: full of detail, and no two places alike."""
    small = np.random.default_rng(seed).integers(0, 256, (height // 4 + 1, width // 4 + 1, 3), dtype=np.uint8)
    return small.repeat(4, axis=0).repeat(4, axis=1)[:height, :width]


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


# Frames


def test_published_frames_are_256_of_350_whatever_the_aspect():
    frames = [published(rng(), (400, 900), 256) for _ in range(3)]
    assert {(frame.scaled, frame.side, frame.crop) for frame in frames} == {((350, 350), 256, 256)}
    tops = {published(np.random.default_rng(i), (400, 900), 256).top for i in range(300)}
    assert (min(tops), max(tops)) == (0, 94)
    assert PREPARATIONS["published"].mirrored == 0.5
    assert published(rng(), (400, 900), 128).scaled == (175, 175)


def test_zoomed_frames_keep_the_aspect(tmp_path):
    """A picture of round dots, wide: they stay round. Planted fault: as published they do not."""
    y, x = np.mgrid[:400, :1200]
    dots = (((x % 100 - 50) ** 2 + (y % 100 - 50) ** 2) < 900)[..., None] * np.full(3, 255, np.uint8)
    save(tmp_path / "dots.png", dots.astype(np.uint8))

    def roundness(preprocessing: str) -> float:
        crops = PhotographCrops(picture_files(tmp_path), 256, 8, preprocessing=preprocessing)
        image = (torch.stack([crops[i][0] for i in range(8)])[:, 0] > 0.5).float()
        across, down = (image.diff(dim=axis).abs().sum() for axis in (2, 1))
        return float(across / down)

    assert roundness("zoom") == pytest.approx(1, abs=0.15)
    assert roundness("published") > 2


def test_centred_frames_are_always_the_same(tmp_path):
    save(tmp_path / "a.png", scene(200, 300))
    crops = PhotographCrops(picture_files(tmp_path), 128, 3, preprocessing="centre")
    assert torch.equal(crops[0][0], crops[2][0])
    frame = centre(rng(), (200, 300), 128)
    assert (frame.top, frame.left, frame.side) == (0, 50, 200)


# Masks from files


def test_each_pictures_own_mask_is_cut_and_turned_with_it(tmp_path):
    """Holes are where the picture is red, so they must stay there."""
    for i in range(3):
        picture, hole = scene(200, 240, i), np.zeros((200, 240), np.uint8)
        hole[40 * i : 40 * i + 90, 60:150] = 255
        picture[hole > 0] = (255, 0, 0)
        save(tmp_path / "p" / "sub" / f"{i}.png", picture)
        save(tmp_path / "m" / "sub" / f"{i}.png", hole)
    files = picture_files(tmp_path / "p")
    masks = OwnMasks(masks_by_name(files, tmp_path / "p", tmp_path / "m"))
    for preprocessing in ("published", "centre"):
        crops = PhotographCrops(files, 128, 12, masks=masks, preprocessing=preprocessing)
        for i in range(12):
            image, mask = crops[i]
            red = (image[0] > 0.95) & (image[1] < 0.05)
            assert ((mask[0] == 0) == red).float().mean() > 0.98
            assert 0 < mask.mean() < 1


def test_a_mask_of_another_size_is_refused(tmp_path):
    picture, mask = (
        save(tmp_path / "p" / "a.png", scene(150, 160)),
        save(tmp_path / "m" / "a.png", np.zeros((150, 150), np.uint8)),
    )
    with pytest.raises(
        MaskError, match=r"a\.png is 150x150, its picture .*a\.png 160x150 \(width x height\): make them the same"
    ):
        PhotographCrops([picture], 128, 1, masks=OwnMasks({picture: mask}))[0]
    assert PhotographCrops([picture], 128, 1, masks=AnyMask([mask]))[0][1].shape == (1, 128, 128)


def test_a_picture_without_its_mask_is_named(tmp_path):
    for name in ("a", "b"):
        save(tmp_path / "p" / f"{name}.png", scene(130, 130))
    save(tmp_path / "m" / "a.png", np.zeros((130, 130), np.uint8))
    with pytest.raises(MaskError, match=r"1 of 2 pictures have no mask of their name .*b\.png first"):
        TrainingPictures.of(dataclasses.replace(TINY, photographs=tmp_path / "p", masks=tmp_path / "m", mask_pairs="name"))


@pytest.mark.parametrize(("hole", "known"), [("white", 0.75), ("black", 0.25)])
def test_any_mask_is_scaled_to_the_crop(tmp_path, hole, known):
    drawn = np.zeros((64, 64), np.uint8)
    drawn[:32, :32] = 255
    masks = AnyMask([save(tmp_path / "m.png", drawn)], hole)
    seen = [masks(np.random.default_rng(i), 128) for i in range(20)]
    assert all(mask.shape == (128, 128) and mask.mean() == known for mask in seen)
    assert len({mask.tobytes() for mask in seen}) == 4, "mirrored both ways"


def test_masks_of_a_ratio(tmp_path, photographs):  # noqa: F811
    for low in (10, 20, 40):
        save(tmp_path / f"{low}-{low + 10}" / "m.png", np.zeros((64, 64), np.uint8))

    def chosen(ratio: str) -> list[str]:
        settings = dataclasses.replace(TINY, photographs=photographs, masks=tmp_path, mask_ratio=ratio)
        return [path.parent.name for path in TrainingPictures.of(settings).masks.files]

    assert chosen("0.1-0.3") == ["10-20", "20-30"]
    with pytest.raises(TrainingError, match=r"has no masks of 0.5-0.6; it has 0.1-0.2, 0.2-0.3, 0.4-0.5"):
        chosen("0.5-0.6")
    with pytest.raises(TrainingError, match="mask_ratio is 'many', expected two shares"):
        chosen("many")


# Damaged and small pictures, empty folders


@pytest.mark.parametrize("workers", [0, 2])
def test_a_damaged_picture_is_named_once_and_skipped(photographs, tmp_path, workers):  # noqa: F811
    for path in picture_files(photographs):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "damaged.png").write_bytes(picture_files(photographs)[0].read_bytes()[:500])
    notices: list[str] = []
    run = trainer(tmp_path, tmp_path / "out", steps=8, batch_size=4, workers=workers)
    run.run(note=notices.append)
    assert run.step == 8
    assert len([notice for notice in notices if "damaged.png" in notice and notice.endswith("it is skipped")]) == 1


def test_a_damaged_picture_to_validate_with_is_named_once(photographs, tmp_path):  # noqa: F811
    for path in picture_files(photographs):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "damaged.png").write_bytes(picture_files(photographs)[0].read_bytes()[:500])
    notices: list[str] = []
    settings = {"validation": tmp_path, "validate_every": 1, "steps": 2}
    trainer(photographs, tmp_path / "out", **settings).run(note=notices.append)
    assert len([notice for notice in notices if "damaged.png" in notice and notice.endswith("it is skipped")]) == 1


def test_a_folder_of_damaged_pictures_is_an_error(tmp_path):
    (tmp_path / "a.png").write_bytes(b"no picture")
    with pytest.raises(PictureError, match=r"none of 1,000 pictures drawn of 1 can be read: .*a\.png"):
        trainer(tmp_path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_empty_folder_is_an_error(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(PictureError, match="no pictures in"):
        trainer(tmp_path / "empty", tmp_path / "out")
    with pytest.raises(TrainingError, match="name a folder of photographs"):
        TrainingPictures.of(TINY)


def test_pictures_smaller_than_the_crop_are_enlarged_and_named(tmp_path):
    save(tmp_path / "small.png", scene(60, 50))
    crops = PhotographCrops(picture_files(tmp_path), 128, 4)
    assert crops[0][0].shape == (3, 128, 128)
    assert list(crops.complaints()) == [f"{tmp_path / 'small.png'} is smaller than the crop of 128 pixels: it is enlarged"]
    crops[1]
    assert not list(crops.complaints())


def test_a_worker_that_meets_a_wrong_mask_gives_one_sentence(tmp_path):
    for name, size in (("a", 130), ("b", 140)):
        save(tmp_path / "p" / f"{name}.png", scene(130, 130))
        save(tmp_path / "m" / f"{name}.png", np.zeros((size, size), np.uint8))
    changes = {"masks": tmp_path / "m", "mask_pairs": "name", "workers": 1, "steps": 30, "seed": 1}
    with pytest.raises(MaskError) as caught:
        trainer(tmp_path / "p", tmp_path / "out", **changes).run()
    assert str(caught.value).startswith(f"the mask {tmp_path}")


def test_without_vgg16_the_error_says_how_to_get_it(photographs, tmp_path):  # noqa: F811
    with pytest.raises(FeaturesError, match="perceptual=0 style=0 does without"):
        trainer(photographs, tmp_path / "out", perceptual=0.05, vgg=tmp_path / "none.pth")
    assert not (tmp_path / "out").exists()


# The items of each process


@pytest.mark.parametrize(("accumulate", "processes"), [(1, 1), (2, 1), (1, 2), (2, 3)])
def test_processes_share_the_items_of_a_step(accumulate, processes):
    settings = dataclasses.replace(TINY, batch_size=12, steps=5, accumulate=accumulate, crops_per_mask=2)
    shares = [Share(settings, 2, process, processes) for process in range(processes)]
    items = [list(share) for share in shares]
    assert all(len(each) == len(share) for each, share in zip(items, shares, strict=True))
    assert sorted(itertools.chain(*items)) == list(range(2 * 12, 5 * 12))
    for step in range(3):
        each_step = [item for each in items for item in each[step * 12 // processes : (step + 1) * 12 // processes]]
        assert sorted(each_step) == list(range((step + 2) * 12, (step + 3) * 12)), "a step's items are the same however shared"


# Settings


def test_every_setting_is_explained():
    assert all(FIELDS[name].metadata["doc"].endswith((".", "...")) for name in FIELDS)


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_are_settings_of_networks_that_exist(name):
    settings = recipe(name, steps=7)
    assert settings.steps == 7
    assert settings.preset in PRESETS


def test_the_papers_weights_are_those_of_its_code():
    settings = recipe("paper")
    assert {name: weight for name, weight in settings.weights.items() if weight} == {
        name: WEIGHTS[name] for name in ("hole", "valid", "perceptual", "style")
    }
    assert (settings.adversarial, settings.penalty) == (WEIGHTS["adversarial"], WEIGHTS["penalty"])


def test_a_file_of_settings(tmp_path):
    (tmp_path / "run.yaml").write_text("recipe: narrow\nlearning-rate: 1e-4\nsteps: 9\nphotographs: photos\nclip: .inf\n")
    settings = Settings(**read_settings(tmp_path / "run.yaml"))
    assert (settings.learning_rate, settings.steps, settings.photographs) == (1e-4, 9, Path("photos"))
    assert (settings.base_width, settings.clip) == (RECIPES["narrow"]["base_width"], float("inf"))
    other = Settings(**read_settings(tmp_path / "run.yaml", "paper"))
    assert (other.critic, other.learning_rate) == ("wasserstein", 1e-4), "another recipe, under what the file says itself"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("step: 9", r"run\.yaml: there is no setting 'step', did you mean 'steps'\?"),
        ("lerning_rate: 1", "there is no setting 'lerning_rate', did you mean 'learning_rate'"),
        ("recipe: papper", "unknown recipe 'papper', did you mean 'paper'"),
        ("steps: many", "steps is 'many', expected a whole number"),
        ("steps: 1.5", "steps is 1.5, expected a whole number"),
        ("compile: 3", "compile is 3, expected true or false"),
        ("learning_rate: fast", "learning_rate is 'fast', expected a number"),
        ("critic: gan", "critic is 'gan', expected none, wasserstein, published or hinge"),
        ("critic: hinge", "needs crops of 256"),
        ("mask_pairs: name", "needs a folder of masks"),
        ("mask_ratio: 0.1-0.2", "name their folder as masks"),
        ("accumulate: 3", "expected a multiple of accumulate x devices x crops_per_mask, 3 x 1 x 1"),
        ("{hole_weight: 0, valid_weight: 0}", "nothing to learn from"),
        ("- a list", "expected lines such as"),
        ("a: [", "cannot be read"),
    ],
)
def test_files_of_settings_that_cannot_be(tmp_path, text, message):
    (tmp_path / "run.yaml").write_text(text + "\n")
    with pytest.raises(TrainingError, match=message):
        Settings(**read_settings(tmp_path / "run.yaml"))
    with pytest.raises(TrainingError, match="cannot be read"):
        read_settings(tmp_path / "none.yaml")
