"""``lbam-fast evaluate``: whichever way pictures and masks come, and every method by its name."""

import csv
import json
import pickle

import numpy as np
import pytest
import torch
from PIL import Image
from test_evaluate import plain  # noqa: F401 - applies itself
from typer.testing import CliRunner

from lbam_fast.cli import app
from lbam_fast.cli.evaluate_cases import Drawing, find_cases
from lbam_fast.cli.evaluate_methods import named_methods
from lbam_fast.data import protocols
from lbam_fast.errors import LBAMError
from lbam_fast.evaluation import RIVALS, evaluation_files, with_hole
from lbam_fast.evaluation.judging import filled_by
from lbam_fast.evaluation.pictures import centre_crop, read_rgb
from lbam_fast.evaluation.rivals.adapter import Rival

NETWORKS = {"pconv": 4, "global-local": 4, "contextual-attention": 4}
HOW = Drawing(64, 2, None, 0, "white")


def run(*arguments):
    return CliRunner().invoke(app, ["evaluate", *map(str, arguments)])


def save(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """Two small photographs."""
    folder = tmp_path_factory.mktemp("photographs")
    for name in ("china", "coffee"):
        save(folder / f"{name}.png", centre_crop(read_rgb(evaluation_files()[name]), 96)[:80])
    return folder


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Untrained narrow networks of the rivals, as there are no others here."""
    folder = tmp_path_factory.mktemp("weights")
    for method, width in NETWORKS.items():
        torch.manual_seed(0)
        torch.save(Rival(method, base_width=width).state_dict(), folder / f"{method}.pth")
    return folder


def hole(height=80, width=96):
    mask = np.zeros((height, width), np.uint8)
    mask[20:44, 30:60] = 255
    return mask


def test_a_whole_run_and_the_same_again(photographs, weights, tmp_path):
    chosen = ["--method", "lbam,detail=off", "--method", "telea", "--method", f"pconv={weights / 'pconv.pth'}"]
    arguments = [photographs, *chosen, "--size", 64, "--masks-each", 1, "--limit", 1, "--jobs", 1, "--quiet"]
    for name in ("one", "other"):
        result = run(*arguments, "-o", tmp_path / name)
        assert result.exit_code == 0, result.stderr
        assert result.stdout.startswith("6 cases by 3 methods, 0 failed: ")
    for path in sorted((tmp_path / "one").rglob("*")):
        if path.is_file():
            assert path.read_bytes() == (tmp_path / "other" / path.relative_to(tmp_path / "one")).read_bytes(), path
    with (tmp_path / "one" / "results.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == 18
    assert {line["method"] for line in lines} == set(chosen[1::2])
    assert {line["at border"] for line in lines} == {"0"}
    untrained = [float(line["PSNR"]) for line in lines if line["method"].startswith("pconv")]
    trained = [float(line["PSNR"]) for line in lines if line["method"].startswith("lbam")]
    assert np.mean(untrained) < np.mean(trained)
    settings = json.loads((tmp_path / "one" / "summary.json").read_text())["settings"]
    assert settings == {"pictures": 1, "cases": 6, "protocol": "folder", "size": 64, "masks each": 1, "seed": 0}


def test_masks_by_name_in_lamas_way_as_a_set_and_as_one_file(photographs, tmp_path):
    save(tmp_path / "by_name" / "china.png", hole())
    cases, warned = find_cases(photographs, tmp_path / "by_name", "folder", HOW)
    assert [case.name for case in cases] == ["china.png__china"]
    assert warned == [f"{photographs / 'coffee.png'}: has no mask and is left out"]

    for name in ("china", "coffee"):
        (tmp_path / "lama").mkdir(exist_ok=True)
        (tmp_path / "lama" / f"{name}.png").write_bytes((photographs / f"{name}.png").read_bytes())
        for number in range(2):
            save(tmp_path / "lama" / f"{name}_mask{number:03d}.png", hole())
    cases, warned = find_cases(tmp_path / "lama", None, "folder", HOW)
    assert [case.name for case in cases] == [f"{n}.png__{n}_mask{i:03d}" for n in ("china", "coffee") for i in range(2)]
    assert warned == []

    for i, side in enumerate((20, 60)):
        for number in range(3):
            mask = np.zeros((128, 128), np.uint8)
            mask[:side, number : number + side] = 255
            save(tmp_path / "set" / f"{i}{number}.png", mask)
    cases, warned = find_cases(photographs, tmp_path / "set", "folder", HOW)
    assert len(cases) == 2 * 2 * 2, "pictures, ranges with masks, masks each"
    assert len({case.name for case in cases}) == 8
    assert {case.name.split("__")[1].rsplit("-", 2)[0] for case in cases} == {"0.01-0.1", "0.2-0.3"}
    assert all(case.load()[1].shape == (64, 64) for case in cases)

    cases, _ = find_cases(photographs, tmp_path / "set" / "00.png", "folder", HOW)
    assert [case.name for case in cases] == ["china.png__00", "coffee.png__00"]
    cases, _ = find_cases(photographs, None, "folder", Drawing(None, 2, 1, 0, "white"))
    assert len({case.picture for case in cases}) == 1
    assert len(cases) == 12
    image, mask = cases[-1].load()
    assert image.shape == (80, 96, 3)
    assert mask.shape == (80, 96)


def linked(target, folder, count, name="{:06d}.png"):
    folder.mkdir(parents=True)
    for number in range(count):
        (folder / name.format(number)).symlink_to(target)


def test_the_test_pictures_of_paris_end_to_end(photographs, tmp_path, thorough, monkeypatch):
    """A thousandth of the training pictures, but in ``make test-all``."""
    if not thorough:
        monkeypatch.setattr(protocols, "PARIS_TRAIN", 15)
    linked(photographs / "china.png", tmp_path / "paris" / "paris_train_original", protocols.PARIS_TRAIN)
    linked(photographs / "coffee.png", tmp_path / "paris" / "paris_eval" / "paris_eval_gt", 100, "{:03d}_im.png")
    arguments = ["--protocol", "paris", "--method", "telea", "--size", 64, "--jobs", 1, "--quiet"]
    result = run(tmp_path / "paris", *arguments, "--masks-each", 1, "--limit", 2, "-o", tmp_path / "o")
    assert result.exit_code == 0, result.stderr
    assert result.stdout.startswith("12 cases by 1 method, 0 failed")
    cases, _ = find_cases(tmp_path / "paris", None, "paris", HOW)
    assert len({case.picture for case in cases}) == 100
    assert all("paris_eval" in str(case.image) for case in cases)


def test_the_test_pictures_of_places_end_to_end(photographs, tmp_path, thorough, monkeypatch):
    """A thousandth of the training pictures, but in ``make test-all``: 50,000 links take seconds to make and to find."""
    if not thorough:
        monkeypatch.setattr(protocols, "PLACES_TRAIN", 5)
    for category in protocols.PLACES_CATEGORIES:
        linked(photographs / "china.png", tmp_path / "places" / "train" / category, protocols.PLACES_TRAIN)
        linked(photographs / "coffee.png", tmp_path / "places" / "val" / category, 100)
    arguments = ["--protocol", "places", "--method", "telea", "--size", 64, "--jobs", 1, "--quiet"]
    result = run(tmp_path / "places", *arguments, "--masks-each", 1, "--limit", 2, "-o", tmp_path / "o")
    assert result.exit_code == 0, result.stderr
    cases, _ = find_cases(tmp_path / "places", None, "places", HOW)
    assert len({case.picture for case in cases}) == 500
    assert all("val" in case.image.parts for case in cases)


@pytest.mark.parametrize("size", [(256, 256), (427, 640)], ids=str)
@pytest.mark.parametrize("method", ["lbam", *(name.lower() for name in RIVALS), *NETWORKS])
def test_every_method_leaves_known_pixels_as_they_are(method, size, weights, thorough):
    """On a photograph as it is and as a square; a small hole, but in ``make test-all``."""
    photograph = read_rgb(evaluation_files()["china"])
    picture = centre_crop(photograph) if size == (256, 256) else photograph
    mask = np.zeros(size, np.uint8)
    mask[:12, :20] = mask[90:110, 100:140] = 255
    if thorough:
        mask[120:200, 60:200] = 255
    text = f"{method}={weights / method}.pth" if method in NETWORKS else method
    filled = filled_by(text, named_methods([text], "cpu")[0][text].method, picture, mask)
    assert np.array_equal(filled[mask == 0], picture[mask == 0])
    assert not np.array_equal(filled, with_hole(picture, mask))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "lama",
            "there is no method 'lama'; expected one of lbam, harmonic, biharmonic, telea, navier-stokes, patchmatch, ",
        ),
        ("telea=a.pth", "telea takes neither weights nor options"),
        ("lbam,passes=many", "'passes=many' is no option of lbam; expected preset=..., detail=..., passes=..., strategy=..."),
        ("lbam=nowhere.pth", "no weights file at nowhere.pth"),
        ("pconv", "pconv needs weights, and none ship with this package. Published are:"),
    ],
)
def test_methods_that_cannot_be_had(text, message):
    with pytest.raises(LBAMError) as caught:
        named_methods([text], "cpu")
    assert message in str(caught.value)


def test_bad_arguments(photographs, tmp_path, monkeypatch):
    for arguments, message in (
        ((tmp_path / "nowhere",), "there is no such folder; expected one of pictures, or 'scikit'"),
        ((photographs, tmp_path / "nowhere"), "there is no such mask or folder of masks"),
        ((tmp_path,), "so results would be taken for pictures: choose another"),
        ((photographs, "--size", 32), "--size is 32, expected at least 64, or 0"),
        ((photographs, "--fid"), "--fid: it needs torchmetrics and torch-fidelity"),
        ((photographs, "--protocol", "paris"), "has none of the folders paris_train_original, train"),
    ):
        result = run(*arguments, "-o", tmp_path / "o")
        assert result.exit_code == 2
        assert message in " ".join(result.stderr.split())
        assert not (tmp_path / "o").exists()


def test_a_network_can_go_to_another_process():
    method = named_methods(["lbam,detail=off"], "cpu")[0]["lbam,detail=off"].method
    picture = np.random.default_rng(0).integers(0, 256, (80, 96, 3)).astype(np.uint8)
    filled = method(picture, hole())
    assert np.array_equal(pickle.loads(pickle.dumps(method))(picture, hole()), filled)


def test_a_picture_that_is_none_is_told_and_the_rest_is_done(photographs, tmp_path):
    for path in photographs.iterdir():
        (tmp_path / "some").mkdir(exist_ok=True)
        (tmp_path / "some" / path.name).write_bytes(path.read_bytes())
    (tmp_path / "some" / "broken.png").write_bytes(b"no picture")
    save(tmp_path / "mask.png", hole())
    result = run(tmp_path / "some", tmp_path / "mask.png", "--method", "telea", "--size", 64, "--jobs", 1, "-o", tmp_path / "o")
    assert result.exit_code == 1
    assert "3 cases by 1 method, 1 failed" in result.stdout
    assert "broken.png__mask, telea:" in " ".join(result.stderr.split())
    assert json.loads((tmp_path / "o" / "summary.json").read_text())["rows"][-1]["pictures"] == 2
