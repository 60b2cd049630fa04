"""The command as users run it: pipes and consoles, names in folders, transparency, signals."""

import functools
import json
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from forked import Program
from networks import one_thread  # noqa: F401 - applies itself
from PIL import Image
from test_cli_inpaint import (  # noqa: F401 - fixtures
    BOX,
    assert_filled,
    files,
    inpaint,
    load,
    pixels,
    save,
    save_mask,
    weights,
)

from lbam_fast import waiting
from lbam_fast.batch.matching import match_folders, match_within
from lbam_fast.pictures import read_picture

POSIX = pytest.mark.skipif(os.name == "nt", reason="Windows has no such signals, pipes and names")
OTHER = (slice(0, 6), slice(0, 6))


def touched(folder: Path, *names: str) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")
    return sorted(folder.rglob("*.*"))


# Pairing by names


@pytest.mark.parametrize(
    ("pictures", "masks", "expected"),
    [
        ("gas.png gas_mask.png", "gas.png gas_mask.png", {"gas.png": "gas.png", "gas_mask.png": "gas_mask.png"}),
        ("gas.png gas_mask.png", "gas_mask.png gas_mask_mask.png", {"gas.png": "", "gas_mask.png": "gas_mask.png"}),
        ("a.png", "a.png a_mask.png", {"a.png": "a.png"}),
        ("a.png a.jpg", "a.png a.jpg", {"a.png": "a.png", "a.jpg": "a.jpg"}),
        ("a.png a.jpg", "a.bmp", {"a.png": "a.bmp", "a.jpg": "a.bmp"}),
        ("a.png", "a_mask000.png a_mask001.png", {"a.png": "a_mask000.png a_mask001.png"}),
        ("s/a.png a.png", "s/a.png a_mask.png", {"s/a.png": "s/a.png", "a.png": "a_mask.png"}),
        ("Mu\u0308ller.jpg", "M\u00fcller.png", {"Mu\u0308ller.jpg": "M\u00fcller.png"}),
        ("\u00c5.jpg", "A\u030a_mask.png", {"\u00c5.jpg": "A\u030a_mask.png"}),
        ("s\u00e9/a.jpg", "se\u0301/a.png", {"s\u00e9/a.jpg": "se\u0301/a.png"}),
    ],
)
def test_masks_in_a_folder_of_their_own(tmp_path, pictures, masks, expected):
    images, folder = tmp_path / "p", tmp_path / "m"
    found = match_folders(touched(images, *pictures.split()), images, touched(folder, *masks.split()), folder)
    got = {
        image.relative_to(images).as_posix(): " ".join(m.relative_to(folder).as_posix() for m in own)
        for image, own in found.masks.items()
    }
    assert got == expected and not found.problems


@pytest.mark.parametrize("masks", ["a.png a.bmp", "a_mask.png a_mask.bmp", "M\u00fcller.png Mu\u0308ller.png"])
def test_ambiguous_masks_are_named_and_refused(tmp_path, masks):
    images, folder = tmp_path / "p", tmp_path / "m"
    brought = touched(folder, *masks.split())
    found = match_folders(touched(images, "a.tif", "M\u00fcller.jpg"), images, brought, folder)
    (problem,) = found.problems.values()
    assert all(path.name in problem for path in brought) and "could each be its mask" in problem
    assert not any(found.masks.values()) and not found.unused


@pytest.mark.parametrize(
    ("names", "expected", "doubtful"),
    [
        ("a.png a_mask.png", {"a.png": "a_mask.png"}, 0),
        ("gas_mask.png gas_mask_mask.png", {"gas_mask.png": "gas_mask_mask.png"}, 0),
        ("gas.png gas_mask.png gas_mask_mask.png b.png b_mask1.png", {"b.png": "b_mask1.png"}, 2),
        ("a.png a_mask.png a_mask.jpg", {}, 1),
    ],
)
def test_masks_beside_their_pictures(tmp_path, names, expected, doubtful):
    found = match_within(touched(tmp_path, *names.split()), tmp_path)
    assert {image.name: " ".join(m.name for m in own) for image, own in found.masks.items()} == expected
    assert len(found.problems) == doubtful
    assert not set(found.masks) & {mask for own in found.masks.values() for mask in own}


def test_an_exact_name_wins_over_a_suffix(inpaint, tmp_path):
    for name, seed, box in (("gas", 1, BOX), ("gas_mask", 2, OTHER)):
        save(tmp_path / "p" / f"{name}.png", pixels(seed))
        save_mask(tmp_path / "m" / f"{name}.png", box=box)
    assert inpaint(tmp_path / "p", tmp_path / "m", "-o", tmp_path / "o").exit_code == 0
    for name, seed, box in (("gas", 1, BOX), ("gas_mask", 2, OTHER)):
        assert_filled(pixels(seed), load(tmp_path / "o" / f"{name}.png"), box)


def test_an_ambiguous_picture_does_not_stop_the_others(inpaint, tmp_path):
    for name in ("a", "b"):
        save(tmp_path / "p" / f"{name}.png", pixels())
        save_mask(tmp_path / "m" / f"{name}.png")
    save_mask(tmp_path / "m" / "a.bmp")
    (tmp_path / "p" / "a.png").rename(tmp_path / "p" / "a.tif")
    result = inpaint(tmp_path / "p", tmp_path / "m", "-o", tmp_path / "o")
    assert (result.exit_code, files(tmp_path / "o")) == (1, {"b.png"})
    assert "could each be its mask" in result.stderr


# Files passed over


def test_files_that_are_no_pictures_are_counted_and_named(inpaint, tmp_path):
    folder, mask = tmp_path / "p", save_mask(tmp_path / "m.png")
    save(folder / "a.png", pixels())
    save(folder / "b.jfif", pixels(), format="JPEG")
    save(folder / "c.gif", pixels())
    save(folder / "d.avif", pixels())
    touched(folder, "notes.txt", "e.psd", ".hidden")
    result = inpaint(folder, mask, "-o", tmp_path / "o")
    assert (result.exit_code, files(tmp_path / "o")) == (0, {"a.png", "b.jfif", "c.png", "d.png"})
    assert "4 filled, 0 skipped, 0 failed, 2 passed over" in result.stdout
    assert all(name in result.stderr for name in ("2 files passed over", "notes.txt", "e.psd")) and "hidden" not in result.stderr


def test_a_result_of_a_format_that_is_read_alone_becomes_png(inpaint, tmp_path):
    picture, mask = save(tmp_path / "c.gif", pixels()), save_mask(tmp_path / "m.png")
    (tmp_path / "o").mkdir()
    assert inpaint(picture, mask, "-o", tmp_path / "o").exit_code == 0
    assert_filled(read_picture(picture).pixels, load(tmp_path / "o" / "c.png"))


# Transparency


@pytest.mark.parametrize("hole", ["white", "black"])
def test_strokes_on_a_transparent_layer(inpaint, tmp_path, hole):
    layer = np.full((40, 56, 4), 255 if hole == "white" else 0, np.uint8)
    layer[..., 3] = 0
    layer[BOX][..., 3] = 255
    picture = save(tmp_path / "a.png", pixels())
    assert inpaint(picture, save(tmp_path / "m.png", layer), "-o", tmp_path / "o.png", "--hole", hole).exit_code == 0
    assert_filled(pixels(), load(tmp_path / "o.png"))


@pytest.mark.parametrize("sixteen", [False, True])
def test_a_soft_eraser_is_spoken_of_and_can_be_filled(inpaint, tmp_path, sixteen):
    given = pixels(channels=4)
    given[..., 3] = 255
    given[8:27, 18:42, 3] = 200
    given[BOX][..., 3] = 0
    picture = save(tmp_path / "cut.png", given)
    if sixteen:
        wide = read_picture(picture)
        from lbam_fast.pictures import write_picture

        scaled = {"pixels": wide.pixels.astype(np.uint16) * 257, "alpha": wide.alpha.astype(np.uint16) * 257}
        import dataclasses

        write_picture(picture, dataclasses.replace(wide, **scaled))
    result = inpaint(picture, "-o", tmp_path / "a.png", "--mask-from", "alpha", "--quiet")
    assert "156 half transparent pixels count as known" in " ".join(result.stderr.split())
    result = inpaint(picture, "-o", tmp_path / "b.png", "--mask-from", "alpha", "--threshold", 0.001)
    alpha = read_picture(tmp_path / "b.png").alpha
    assert result.stderr == "" and (alpha == np.iinfo(alpha.dtype).max).all()


@pytest.mark.parametrize("suffix", [".jpg", ".bmp"])
def test_what_is_opaque_once_filled_goes_into_any_format(inpaint, tmp_path, suffix):
    given = pixels(channels=4)
    given[..., 3] = 255
    opaque = save(tmp_path / "opaque.png", given)
    given[BOX][..., 3] = 0
    cut = save(tmp_path / "cut.png", given)
    assert inpaint(opaque, save_mask(tmp_path / "m.png"), "-o", tmp_path / f"a{suffix}").exit_code == 0
    assert inpaint(cut, "-o", tmp_path / f"b{suffix}", "--mask-from", "alpha").exit_code == 0
    assert load(tmp_path / f"a{suffix}").shape == load(tmp_path / f"b{suffix}").shape == (40, 56, 3)
    result = inpaint(cut, tmp_path / "m.png", "-o", tmp_path / f"c{suffix}")
    assert result.exit_code == 2 and "opacity" in result.stderr


# What cannot be kept or done is said


def test_what_is_lost_is_said_and_what_is_copied_loses_nothing(inpaint, tmp_path):
    picture = save(tmp_path / "a.jpg", pixels(), comment=b"(c) me", dpi=(300, 300))
    mask, none = save_mask(tmp_path / "m.png"), save_mask(tmp_path / "none.png", box=(slice(0), slice(0)))
    assert "The comment is not kept in PNG." in inpaint(picture, mask, "-o", tmp_path / "a.png").stdout
    assert "not kept" not in inpaint(picture, none, "-o", tmp_path / "b.jpg").stdout
    assert "The resolution is not kept in WEBP." in inpaint(picture, mask, "-o", tmp_path / "a.webp").stdout


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif"])
def test_a_mask_in_the_stored_orientation_is_told_of(inpaint, tmp_path, suffix):
    exif = Image.Exif()
    exif[0x0112] = 6
    picture = save(tmp_path / f"a{suffix}", pixels(), exif=exif)
    result = inpaint(picture, save_mask(tmp_path / "m.png"), "-o", tmp_path / f"o{suffix}")
    assert result.exit_code == 2
    assert "turned upright as its EXIF orientation says: turn the mask too" in " ".join(result.stderr.split())


def test_the_limit_on_pixels(inpaint, tmp_path):
    picture, mask = save(tmp_path / "a.png", pixels()), save_mask(tmp_path / "m.png")
    result = inpaint(picture, mask, "-o", tmp_path / "o.png", "--max-pixels", 2239)
    assert result.exit_code == 2 and "more than 2,239" in result.stderr
    assert inpaint(picture, mask, "-o", tmp_path / "o.png", "--max-pixels", 2240).exit_code == 0
    assert "max_pixels is 0" in inpaint(picture, mask, "-o", tmp_path / "o.png", "--max-pixels", 0).stderr


def test_a_comparison_too_wide_for_its_format_is_refused_before_the_work(inpaint, tmp_path):
    Image.fromarray(pixels(height=1, width=6000)).save(picture := tmp_path / "a.png")
    Image.fromarray(np.full((1, 6000), 255, np.uint8)).save(mask := tmp_path / "m.png")
    result = inpaint(picture, mask, "-o", tmp_path / "o.png", "--comparison", tmp_path / "c.webp")
    assert result.exit_code == 2 and not (tmp_path / "o.png").exists() and "16,383" in result.stderr


# Pipes and consoles


@POSIX
@pytest.mark.parametrize("box", [(slice(0), slice(0)), BOX], ids=["no hole", "hole"])
def test_a_picture_through_a_pipe(weights, tmp_path, box):
    picture, mask = save(tmp_path / "a.png", pixels()), save_mask(tmp_path / "m.png", box=box)
    theirs, ours = multiprocessing.Pipe(duplex=False)
    arguments = ("inpaint", "/dev/stdin", mask, "-o", tmp_path / "o.png", "--weights", weights, "--threads", 1)
    with Program(*arguments, stdin=theirs) as process, ours:
        theirs.close()
        assert os.write(ours.fileno(), picture.read_bytes()) == picture.stat().st_size
        ours.close()
        assert process.communicate()[1] == ""
    assert process.returncode == 0
    if box == BOX:
        assert_filled(pixels(), load(tmp_path / "o.png"))
    else:
        assert (tmp_path / "o.png").read_bytes() == picture.read_bytes()


@POSIX
@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "utf-8"])
def test_names_that_the_console_cannot_print(weights, tmp_path, encoding):
    names = ["a日本", "b", os.fsdecode(b"c\xff")]
    for name in names:
        save(tmp_path / "p" / f"{name}.png", pixels())
        save_mask(tmp_path / "m" / f"{name}.png", box=(slice(0), slice(0)))
    arguments = ("inpaint", tmp_path / "p", tmp_path / "m", "-o", tmp_path / "o", "--weights", weights)
    with Program(*arguments, encoding=encoding) as process:
        assert process.communicate()[1] == ""
    assert process.returncode == 0
    assert files(tmp_path / "o") == {f"{name}.png" for name in names}


@pytest.mark.sampled
@POSIX
@pytest.mark.parametrize("output", ["closed pipe", "full disk", "closed"])
def test_messages_that_nobody_can_read_stop_no_work(weights, tmp_path, output):
    if output == "full disk" and not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    save(tmp_path / "a.png", pixels())
    save_mask(tmp_path / "m.png")
    into = {"closed pipe": "| true", "full disk": "> /dev/full", "closed": ">&-"}[output]
    command = f'"{sys.executable}" -m lbam_fast inpaint a.png m.png -o o.png --weights "{weights}"'
    shell = ["bash", "-c", f"set -o pipefail; (sleep 0.1; {command}) {into}"]
    result = subprocess.run(shell, cwd=tmp_path, capture_output=True, timeout=300, check=False)
    assert (result.returncode, result.stderr) == (0, b"")
    assert_filled(pixels(), load(tmp_path / "o.png"))


# Signals


@POSIX
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_folder_stops_between_pictures_and_says_where(weights, tmp_path, number):
    save(tmp_path / "p" / "0.png", pixels(height=300, width=300))
    for i in range(1, 300):
        (tmp_path / "p" / f"{i}.png").hardlink_to(tmp_path / "p" / "0.png")
    mask, out = save_mask(tmp_path / "m.png", 300, 300), tmp_path / "o"
    with Program("inpaint", tmp_path / "p", mask, "-o", out, "--weights", weights, "--threads", 1) as process:
        while not list(out.glob("[0-9]*.png")) and process.poll() is None:
            time.sleep(0.02)
        process.send_signal(number)
        output, complaint = process.communicate(timeout=300)
    assert (process.returncode, complaint) == (128 + number, "")
    done = re.search(r"interrupted after (\d+) of 300; --skip-existing goes on", output)
    assert done and len(files(out)) == int(done[1])
    assert all(load(path).shape == (300, 300, 3) for path in out.iterdir())


@POSIX
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("when", ["while a library loads", "before a command is at work"])
def test_a_signal_at_the_start_is_one_line(tmp_path, number, when):
    kill = f"import os; os.kill(os.getpid(), {int(number)}); os.kill(os.getpid(), {int(number)})"
    (tmp_path / "library.py").write_text(f"try:\n    {kill}\nexcept BaseException:\n    print('caught')\n")
    (tmp_path / "typer.py").write_text("import library\n" if when == "while a library loads" else kill)
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); from lbam_fast.__main__ import main; main()"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=False)
    assert (result.returncode, result.stdout, result.stderr) == (128 + number, "", f"error: stopped by {number.name}\n")


SPINS, POLICY = "GOMP_SPINCOUNT", "OMP_WAIT_POLICY"


@pytest.mark.parametrize("given", [{}, {SPINS: "7"}, {POLICY: "passive"}])
def test_threads_without_work_sleep_soon_unless_the_environment_says_otherwise(tmp_path, given):
    """Before anything is imported that may import PyTorch."""
    (tmp_path / "typer.py").write_text(f"import os; print(*map(os.environ.get, {(SPINS, POLICY)}), flush=True); os._exit(0)")
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); from lbam_fast.__main__ import main; main()"
    own = {name: value for name, value in os.environ.items() if name not in (SPINS, POLICY)}
    found = subprocess.check_output([sys.executable, "-c", code], text=True, timeout=300, env={**own, **given})
    assert found.split() == [str(given.get(SPINS, None if given else waiting.SPINS)), str(given.get(POLICY))]


@POSIX
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_a_command_without_pictures_to_finish_cleans_up(tmp_path, number):
    before = functools.partial(signalled_while_loading, number)
    with Program("convert", "a.pth", tmp_path / "b.pth", before=before) as process:
        assert process.communicate() == ("cleaned up\n", f"error: stopped by {number.name}\n")
    assert process.returncode == 128 + number


@POSIX
@pytest.mark.parametrize("becomes", ["an error", "nothing"])
def test_a_signal_that_a_library_loses_ends_a_command_still(tmp_path, weights, becomes):
    """safetensors makes a TypeError of it: the weights were said to be damaged."""
    save(tmp_path / "p" / "0.png", pixels())
    mask, report = save_mask(tmp_path / "m.png"), tmp_path / "r.json"
    arguments = ("inpaint", tmp_path / "p", mask, "-o", tmp_path / "o", "--weights", weights, "--report", report)
    with Program(*arguments, before=functools.partial(signalled_in_a_library, becomes)) as process:
        assert process.communicate() == ("", "error: stopped by SIGINT\n")
    assert process.returncode == 130
    assert json.loads(report.read_text())["ended_by"] == "stopped by a signal"
    assert not (tmp_path / "o").exists()


def signalled_while_loading(number: signal.Signals) -> None:
    """Let a signal come while a checkpoint is read."""
    from lbam_fast import checkpoints

    def stopped(*_: object) -> None:
        try:
            os.kill(os.getpid(), number)
        finally:
            print("cleaned up")

    checkpoints.load_checkpoint = stopped


def signalled_in_a_library(becomes: str) -> None:
    """Let a signal come while safetensors, which does not let it through, reads weights."""
    from lbam_fast import checkpoints

    whole = checkpoints.safe_open

    def stopped(*arguments: object) -> object:
        try:
            os.kill(os.getpid(), signal.SIGINT)
        except KeyboardInterrupt:
            if becomes == "an error":
                raise TypeError("could not determine the shape of object") from None
        return whole(*arguments)

    checkpoints.safe_open = stopped


@POSIX
def test_a_second_signal_stops_at_once_with_one_line(weights, tmp_path):
    save(tmp_path / "p" / "0.png", pixels(height=2400, width=2400))
    for i in range(1, 9):
        (tmp_path / "p" / f"{i}.png").hardlink_to(tmp_path / "p" / "0.png")
    mask = save_mask(tmp_path / "m.png", 2400, 2400, box=(slice(100, 1200), slice(100, 1200)))
    with Program("inpaint", tmp_path / "p", mask, "-o", tmp_path / "o", "--weights", weights, "--threads", 1) as process:
        while not (tmp_path / "o").exists() and process.poll() is None:
            time.sleep(0.02)
        for _ in range(2):
            process.send_signal(signal.SIGINT)
            time.sleep(0.3)
        _, complaint = process.communicate(timeout=300)
    assert process.returncode == 130
    assert complaint in ("", "error: stopped by SIGINT\n")
    assert all(re.fullmatch(r"\d\.png", name) for name in files(tmp_path / "o"))
