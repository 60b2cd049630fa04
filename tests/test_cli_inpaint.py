"""``lbam-fast inpaint``: pictures in, pictures out, and a sentence with exit code 2 for everything that cannot work."""

import io
import os
import signal
import subprocess
import sys
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from forked import Program
from networks import one_thread  # noqa: F401 - applies itself
from PIL import ExifTags, Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2
from typer.testing import CliRunner, Result

from lbam_fast import LBAM, Inpainter, LBAMConfig, save_checkpoint
from lbam_fast.batch import pair_folder
from lbam_fast.cli import app
from lbam_fast.pictures import read_mask, read_picture

HEIGHT, WIDTH = 40, 56
BOX = (slice(10, 25), slice(20, 40))


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    save_checkpoint(LBAM(LBAMConfig.preset("official", base_width=4)), path)
    return path


@pytest.fixture
def inpaint(weights: Path):
    def run(*arguments: object, use_weights: bool = True) -> Result:
        extra = ["--weights", weights] if use_weights else []
        return CliRunner().invoke(app, [str(each) for each in ("inpaint", *arguments, *extra)])

    return run


def pixels(seed: int = 0, channels: int = 3, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)


def save(path: Path, array: np.ndarray, **options: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array.squeeze()).save(path, **options)
    return path


def save_mask(
    path: Path, height: int = HEIGHT, width: int = WIDTH, inverted: bool = False, box: tuple[slice, slice] = BOX
) -> Path:
    mask = np.zeros((height, width), np.uint8)
    mask[box] = 255
    return save(path, 255 - mask if inverted else mask)


def load(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def assert_filled(before: np.ndarray, after: np.ndarray, box: tuple[slice, slice] = BOX) -> None:
    known = np.ones(before.shape[:2], bool)
    known[box] = False
    assert np.array_equal(after[known], before[known])
    assert not np.array_equal(after[~known], before[~known])


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    return save(tmp_path / "in" / "photo.png", pixels())


@pytest.fixture
def mask(tmp_path: Path) -> Path:
    return save_mask(tmp_path / "in" / "mask.png")


def test_fills_the_white_part_as_the_inpainter_does(inpaint, picture, mask, weights, tmp_path):
    result = inpaint(picture, mask, "-o", tmp_path / "out.png", "--grow", 2, "--feather", 1)
    assert result.exit_code == 0, result.output
    assert "out.png" in result.stdout
    expected = Inpainter.from_pretrained(weights, grow=2, feather=1)(read_picture(picture).pixels, read_mask(mask))
    assert np.array_equal(load(tmp_path / "out.png"), expected)


def test_black_holes(inpaint, picture, tmp_path):
    inverted = save_mask(tmp_path / "in" / "inverted.png", inverted=True)
    assert inpaint(picture, inverted, "-o", tmp_path / "out.png", "--hole", "black").exit_code == 0
    assert_filled(load(picture), load(tmp_path / "out.png"))


@pytest.mark.parametrize("dtype", ["float64", "bfloat16"])
def test_other_precisions(inpaint, picture, mask, tmp_path, dtype):
    assert inpaint(picture, mask, "-o", tmp_path / "out.png", "--dtype", dtype).exit_code == 0
    assert_filled(load(picture), load(tmp_path / "out.png"))


def test_into_a_folder_the_picture_keeps_its_name(inpaint, picture, mask, tmp_path):
    (tmp_path / "out").mkdir()
    assert inpaint(picture, mask, "-o", tmp_path / "out").exit_code == 0
    assert inpaint(picture, mask, "-o", tmp_path / "out", "--format", "TIF").exit_code == 0
    assert files(tmp_path / "out") == {"photo.png", "photo.tif"}


def test_comparison_shows_given_emptied_and_filled(inpaint, picture, mask, tmp_path):
    assert inpaint(picture, mask, "-o", tmp_path / "out.png", "--comparison", tmp_path / "comparison.png").exit_code == 0
    given, emptied, filled = np.split(load(tmp_path / "comparison.png"), 3, axis=1)
    assert np.array_equal(given, load(picture))
    assert np.array_equal(filled, load(tmp_path / "out.png"))
    assert (emptied[BOX] == 127).all()


def test_a_mask_of_zeros_and_ones(inpaint, picture, tmp_path):
    ones = np.zeros((HEIGHT, WIDTH), np.uint8)
    ones[BOX] = 1
    assert inpaint(picture, save(tmp_path / "ones.png", ones), "-o", tmp_path / "out.png").exit_code == 0
    assert_filled(load(picture), load(tmp_path / "out.png"))


def test_a_mask_that_only_seems_to_have_a_hole_is_warned_of(inpaint, picture, tmp_path):
    dim = np.zeros((HEIGHT, WIDTH), np.uint8)
    dim[BOX] = 38
    result = inpaint(picture, save(tmp_path / "dim.png", dim), "-o", tmp_path / "out.png", "--quiet")
    assert result.exit_code == 0
    assert "the mask has no hole (white = hole): its values reach 15% of the way" in " ".join(result.stderr.split())


def test_without_a_hole_the_file_is_copied(inpaint, tmp_path):
    picture = save(tmp_path / "in" / "photo.jpg", pixels(), quality=80)
    none = save(tmp_path / "in" / "none.png", np.zeros((HEIGHT, WIDTH), np.uint8))
    result = inpaint(picture, none, "-o", tmp_path / "out.jpg")
    assert "no hole" in result.stdout
    assert (tmp_path / "out.jpg").read_bytes() == picture.read_bytes()


def test_feather_beyond_grow_is_warned_of(inpaint, picture, mask, tmp_path):
    result = inpaint(picture, mask, "-o", tmp_path / "out.png", "--feather", 3)
    assert result.exit_code == 0
    assert result.stderr.startswith("warning: feather is 3 but grow is 0")


def test_orientation_exif_and_profile_are_kept(inpaint, mask, tmp_path):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    exif[ExifTags.Base.Artist] = "Jane"
    lying = save(tmp_path / "in" / "lying.png", np.rot90(pixels()).copy(), exif=exif)
    result = inpaint(lying, mask, "-o", tmp_path / "out.png")
    assert result.exit_code == 0, result.output
    assert_filled(pixels(), load(tmp_path / "out.png"))
    with Image.open(tmp_path / "out.png") as image:
        written = image.getexif()
    assert (written[ExifTags.Base.Artist], written[ExifTags.Base.Orientation]) == ("Jane", 1)


@pytest.mark.parametrize("extra", [(), ("--hole", "black")], ids=["white", "black"])
def test_transparency_as_the_mask(inpaint, tmp_path, extra):
    given = pixels(channels=4)
    given[..., 3] = 200
    given[BOX][..., 3] = 0
    picture = save(tmp_path / "cut.png", given)
    assert inpaint(picture, "-o", tmp_path / "out.png", "--mask-from", "alpha", *extra).exit_code == 0
    after = load(tmp_path / "out.png")
    assert_filled(given, after)
    assert (after[BOX][..., 3] == 255).all()


def test_alpha_in_the_hole_of_a_mask_is_kept(inpaint, mask, tmp_path):
    picture = save(tmp_path / "cut.png", pixels(channels=4))
    assert inpaint(picture, mask, "-o", tmp_path / "out.png").exit_code == 0
    assert np.array_equal(load(tmp_path / "out.png")[..., 3], pixels(channels=4)[..., 3])


def test_without_a_hole_the_picture_is_copied_and_said_so(inpaint, picture, tmp_path):
    empty = save_mask(tmp_path / "in" / "empty.png", box=(slice(0), slice(0)))
    result = inpaint(picture, empty, "-o", tmp_path / "out.png")
    assert result.exit_code == 0
    assert "no hole (white = hole)" in result.stdout
    assert np.array_equal(load(tmp_path / "out.png"), load(picture))


def test_hole_all_over_is_filled_with_a_warning(inpaint, picture, tmp_path):
    everything = save_mask(tmp_path / "in" / "all.png", box=(slice(None), slice(None)))
    result = inpaint(picture, everything, "-o", tmp_path / "out.png", "--quiet")
    assert result.exit_code == 0
    assert "whole picture is hole (white = hole)" in result.stderr
    assert load(tmp_path / "out.png").shape == (HEIGHT, WIDTH, 3)


def test_notes_are_printed_unless_quiet(inpaint, mask, tmp_path):
    palette = tmp_path / "in" / "palette.png"
    Image.fromarray(pixels()).quantize(16).save(palette)
    assert "palette picture: written back as RGB" in inpaint(palette, mask, "-o", tmp_path / "a.png").stdout
    assert inpaint(palette, mask, "-o", tmp_path / "b.png", "--quiet").output == ""
    assert files(tmp_path) >= {"a.png", "b.png"}


# Bad input


def five_channels() -> bytes:
    """A TIFF file with five samples a pixel."""
    tags = ImageFileDirectory_v2()
    shape = {256: WIDTH, 257: HEIGHT, 258: (8,) * 5, 259: 1, 262: 2, 277: 5, 278: HEIGHT, 338: (0, 0)}
    for tag, value in {**shape, 273: 0, 279: HEIGHT * WIDTH * 5}.items():
        tags[tag] = value
    buffer = io.BytesIO()
    tags.save(buffer)
    return buffer.getvalue() + bytes(HEIGHT * WIDTH * 5)


@pytest.fixture
def bad(tmp_path: Path, picture: Path, mask: Path) -> dict[str, Path]:
    """Arguments by name, good and bad ones."""
    folder = tmp_path / "in"
    (folder / "text.png").write_text("not a picture")
    (folder / "truncated.png").write_bytes(picture.read_bytes()[:2000])
    (folder / "empty.png").write_bytes(b"")
    (tmp_path / "taken" / "photo.png").mkdir(parents=True)
    (tmp_path / "nothing").mkdir()
    save_mask(folder / "small.png", height=30, width=50)
    Image.fromarray(pixels()[..., 0].astype(np.uint16) * 257).save(folder / "deep.png")
    zero = bytearray(picture.read_bytes())
    zero[16:20] = bytes(4)  # the width
    zero[29:33] = zlib.crc32(zero[12:29]).to_bytes(4, "big")
    (folder / "zero.png").write_bytes(zero)
    Image.fromarray(np.full((HEIGHT, WIDTH), np.nan, np.float32)).save(folder / "notnumbers.tif")
    (folder / "fivechannels.tif").write_bytes(five_channels())
    (folder / "weights.pth").write_text("no weights")
    torch.save({"conv.weight": torch.zeros(3)}, folder / "other.pth")
    names = ("missing", "text", "truncated", "empty", "small", "deep", "zero")
    paths = {name: folder / f"{name}.png" for name in names} | {"photo": picture, "mask": mask, "in": folder}
    paths |= {name: folder / f"{name}.tif" for name in ("notnumbers", "fivechannels")}
    paths |= {name: tmp_path / name for name in ("out.png", "out.jpg", "out.xyz", "taken", "nothing")}
    return paths | {
        "noweights": folder / "weights.pth",
        "otherweights": folder / "other.pth",
        "nodir": tmp_path / "no" / "out.png",
    }


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("missing mask -o out.png", "there is no such file"),
        ("photo missing -o out.png", "there is no such file"),
        ("text mask -o out.png", "is not a picture that can be read"),
        ("truncated mask -o out.png", "truncated"),
        ("empty mask -o out.png", "the file is empty"),
        ("photo text -o out.png", "is not a picture that can be read"),
        ("photo small -o out.png", "the mask is 50x30 pixels (width x height), but the picture"),
        ("photo small -o out.png", "is 56x40: expected the same size, with white = hole"),
        ("photo -o out.png", "no MASK was given: name a mask file (white = hole"),
        ("photo in -o out.png", "is a folder, but"),
        ("photo mask -o out.png --mask-from alpha", "expected one of them"),
        ("photo -o out.png --mask-from alpha", "has no transparency"),
        ("photo mask -o out.png --preset offcial", "unknown preset 'offcial'; the presets are official"),
        ("photo mask -o out.png --preset paper", "does not fit the preset 'paper'"),
        ("photo mask -o out.png --device tpu9", "the device 'tpu9' cannot be used"),
        ("photo mask -o out.png --dtype int8", "expected one of float64, float32"),
        ("photo mask -o out.png --threads 0", "--threads is 0, expected at least 1"),
        ("photo mask -o out.png --threshold 1.5", "threshold is 1.5, expected a number between 0 and 1"),
        ("photo mask -o out.png --grow -1", "grow is -1, expected a whole number"),
        ("photo mask -o out.png --feather -1", "feather is -1, expected a whole number"),
        ("photo mask -o out.png --hole grey", "'grey' is not one of 'white', 'black'"),
        ("photo mask -o out.png --format jpg", "--format goes with an output folder"),
        ("photo mask -o nothing --format gif", "--format is 'gif', expected one of bmp"),
        ("photo mask -o out.xyz", "cannot write files with suffix '.xyz'"),
        ("photo mask -o nodir", "there is no folder"),
        ("photo mask -o taken", "cannot be written"),
        ("photo mask -o photo", "is an input and would be overwritten"),
        ("photo mask -o mask", "is an input and would be overwritten"),
        ("photo mask -o in", "is an input and would be overwritten"),
        ("photo mask -o out.png --comparison photo", "is an input or the output"),
        ("deep mask -o out.jpg", "JPEG cannot hold the picture's 16 bits"),
        ("nothing in -o taken", "no pictures in"),
        ("in missing -o nothing", "there is no such mask or folder of masks"),
        ("in nothing -o taken", "no pairs of a picture and a mask"),
        ("in mask -o photo", "is a file, but"),
        ("in mask -o in", "holds the inputs"),
        ("in text -o taken", "is not a picture that can be read"),
        ("in mask -o taken --comparison out.png", "--comparison goes with one picture"),
        ("deep mask -o out.png --comparison out.jpg", "JPEG cannot hold the picture's 16 bits"),
        ("photo mask -o out.png --comparison nodir", "there is no folder"),
        ("photo empty -o out.png", "the file is empty"),
        ("photo zero -o out.png", "cannot be read as a picture"),
        ("notnumbers mask -o out.png", "its pixels are of an unsupported kind (32-bit, mode F)"),
        ("fivechannels mask -o out.png", "has 5 channels; expected grey or RGB"),
    ],
)
def test_bad_input_writes_nothing_and_exits_with_2(inpaint, bad, tmp_path, arguments, message):
    before = files(tmp_path)
    result = inpaint(*(bad.get(word, word) for word in arguments.split()))
    assert result.exit_code == 2, result.output
    assert message in " ".join(result.stderr.split())
    assert files(tmp_path) == before


@pytest.mark.parametrize(
    ("name", "message"),
    [("noweights", "no weights file"), ("otherweights", "holds no LBAM generator"), ("missing", "no weights file at")],
)
def test_bad_weights(inpaint, bad, tmp_path, name, message):
    arguments = ("inpaint", bad["photo"], bad["mask"], "-o", tmp_path / "out.png", "--weights", bad[name])
    result = inpaint(*arguments[1:], use_weights=False)
    assert result.exit_code == 2
    assert message in result.stderr
    assert not (tmp_path / "out.png").exists()


def test_a_folder_that_cannot_be_written_to(inpaint, picture, mask, tmp_path, monkeypatch):
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "replace", refuse)
    result = inpaint(picture, mask, "-o", tmp_path / "out.png")
    assert result.exit_code == 2
    assert "cannot be written ([Errno 13] Permission denied)" in result.stderr
    assert files(tmp_path) == {"in/photo.png", "in/mask.png"}


# Folders


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path, Path]:
    images, masks = tmp_path / "images", tmp_path / "masks"
    save(images / "a.png", pixels(1))
    save(images / "b.jpg", pixels(2), quality=95)
    save(images / "sub" / "c.png", pixels(3))
    save_mask(masks / "a.png")
    save_mask(masks / "b_mask000.png")
    save_mask(masks / "sub" / "c_mask.png")
    return images, masks, tmp_path / "out"


def test_folders_are_paired_by_stem(inpaint, folders):
    images, masks, out = folders
    result = inpaint(images, masks, "-o", out)
    assert result.exit_code == 0, result.output
    assert files(out) == {"a.png", "b.jpg"}
    assert f"2 filled, 0 skipped, 0 failed: {out}" in result.stdout
    assert_filled(load(images / "a.png"), load(out / "a.png"))


def test_recursive_keeps_subfolders_and_leaves_earlier_results_alone(inpaint, folders):
    images, masks, _ = folders
    for _ in range(2):
        assert inpaint(images, masks, "-o", images / "out", "--recursive", "--format", "png").exit_code == 0
    assert files(images / "out") == {"a.png", "b.png", "sub/c.png"}


def test_one_mask_for_all_gives_what_each_alone_gives(inpaint, folders, tmp_path):
    images, masks, out = folders
    for seed in range(10, 14):
        save(images / f"{seed}.png", pixels(seed))
    save(images / "other.png", pixels(height=30))
    one = masks / "a.png"
    result = inpaint(images, one, "-o", out)
    assert result.exit_code == 1
    assert files(out) == {"a.png", "b.jpg", "10.png", "11.png", "12.png", "13.png"}
    assert "other.png is 56x30" in " ".join(result.stderr.split())
    assert inpaint(images / "12.png", one, "-o", tmp_path / "alone.png").exit_code == 0
    assert np.abs(load(out / "12.png").astype(int) - load(tmp_path / "alone.png")).max() <= 1
    assert_filled(load(images / "12.png"), load(out / "12.png"))


def test_a_mask_for_all_that_lies_among_the_pictures_is_no_picture(inpaint, tmp_path):
    save(tmp_path / "images" / "a.png", pixels())
    assert inpaint(tmp_path / "images", save_mask(tmp_path / "images" / "m.png"), "-o", tmp_path / "out").exit_code == 0
    assert files(tmp_path / "out") == {"a.png"}


def test_masks_beside_pictures_and_several_for_one(inpaint, tmp_path):
    mixed, out = tmp_path / "mixed", tmp_path / "out"
    for name in ("a", "b"):
        save(mixed / f"{name}.png", pixels())
    other = (slice(0, 5), slice(0, 5))
    save_mask(mixed / "a_mask000.png")
    save_mask(mixed / "a_mask001.png", box=other)
    save_mask(mixed / "b_mask000.png")
    save_mask(mixed / "lost_mask000.png")
    result = inpaint(mixed, "-o", out)
    assert result.exit_code == 0, result.output
    assert files(out) == {"a_mask000.png", "a_mask001.png", "b.png"}
    assert_filled(pixels(), load(out / "a_mask001.png"), other)
    assert "lost_mask000.png: this mask (white = hole unless --hole black) has no picture" in " ".join(result.stderr.split())


def test_transparent_parts_of_a_folder(inpaint, tmp_path):
    given = pixels(channels=4)
    given[..., 3] = 255
    given[BOX][..., 3] = 0
    for name in ("a", "b_mask000"):
        save(tmp_path / "images" / f"{name}.png", given)
    assert inpaint(tmp_path / "images", "-o", tmp_path / "out", "--mask-from", "alpha").exit_code == 0
    assert files(tmp_path / "out") == {"a.png", "b_mask000.png"}


def test_a_bad_file_does_not_stop_the_others(inpaint, folders):
    images, masks, out = folders
    (images / "bad.png").write_text("not a picture")
    save_mask(masks / "bad.png")
    save(images / "lonely.png", pixels())
    result = inpaint(images, masks, "-o", out)
    assert result.exit_code == 1
    assert files(out) == {"a.png", "b.jpg"}
    assert "2 filled, 0 skipped, 2 failed" in result.stdout
    assert "bad.png: is not a picture" in result.stderr
    assert "lonely.png: there is no mask lonely.* or lonely_mask000.*" in result.stderr


def test_all_bad_exits_with_2(inpaint, tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "bad.png").write_text("not a picture")
    result = inpaint(tmp_path / "images", "-o", tmp_path / "out", "--mask-from", "alpha")
    assert result.exit_code == 2
    assert not (tmp_path / "out").exists()


def test_skip_existing(inpaint, folders):
    images, masks, out = folders
    earlier = save(out / "a.png", pixels(9)).read_bytes()
    result = inpaint(images, masks, "-o", out, "--skip-existing")
    assert result.exit_code == 0
    assert "1 filled, 1 skipped, 0 failed" in result.stdout
    assert (out / "a.png").read_bytes() == earlier
    assert "exists already" in inpaint(images / "a.png", masks / "a.png", "-o", out, "--skip-existing").stdout


def test_results_that_would_overwrite_each_other_are_refused(folders):
    images, masks, out = folders
    save(images / "a.jpg", pixels())
    pairs = pair_folder(images, masks, out, suffix=".png")
    assert [job.output.name for job in pairs.jobs] == ["a.png", "b.png"]
    assert len(pairs.problems) == 1
    assert "is that of" in pairs.problems[0]


def test_hidden_files_are_no_pictures(folders):
    images, masks, out = folders
    save(images / "._a.png", pixels())
    assert {job.image.name for job in pair_folder(images, masks, out).jobs} == {"a.png", "b.jpg"}


# As a program


def test_as_a_program(picture, mask, weights, tmp_path):
    command = [sys.executable, "-m", "lbam_fast", "inpaint", picture, mask, "-o", tmp_path / "out.png"]
    command += ["--weights", weights, "--threads", "1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "written:" in done.stdout
    assert_filled(load(picture), load(tmp_path / "out.png"))


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT between processes")
def test_interrupting_leaves_whole_files_only(weights, tmp_path):
    images, out = tmp_path / "images", tmp_path / "out"
    save(images / "0.png", pixels(height=600, width=600))
    for i in range(1, 200):
        (images / f"{i}.png").hardlink_to(images / "0.png")
    mask = save_mask(tmp_path / "mask.png", 600, 600)
    with Program("inpaint", images, mask, "-o", out, "--weights", weights, "--threads", 1) as process:
        deadline = time.monotonic() + 300
        while not list(out.glob("[0-9]*.png")) and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        _, complaint = process.communicate(timeout=300)
    assert process.returncode == 130, complaint
    assert 0 < len(files(out)) < 200
    assert all(load(path).shape == (600, 600, 3) for path in out.iterdir())
