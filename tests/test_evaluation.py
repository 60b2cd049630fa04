"""The quality table: metrics against known values, rivals against what they stand for, and faults that it must catch."""

import zipfile
from functools import partial
from types import SimpleNamespace

import forked
import numpy as np
import pytest
import quality

from lbam_fast.evaluation import (
    BUCKETS,
    HOLES,
    PSNR,
    RIVALS,
    SSIM,
    STLPIPS,
    STROKES,
    available_metrics,
    available_rivals,
    evaluation_pictures,
    folder_pictures,
    harmonic,
    markdown,
    psnr,
    quality_table,
    ssim,
)
from lbam_fast.evaluation import methods as methods_module
from lbam_fast.evaluation.holes import samples
from lbam_fast.evaluation.stlpips import VARIABLE, read_weights
from lbam_fast.pictures import PictureError

WEIGHTS_IN_WHEEL = "stlpips_pytorch/weights/vST0.0/alex_shift_tolerant.pth"


@pytest.fixture(scope="module")
def pictures():
    return evaluation_pictures()


@pytest.fixture(scope="module")
def st_lpips():
    try:
        return STLPIPS(read_weights())
    except FileNotFoundError as error:
        pytest.skip(str(error))


def hole_in_the_middle(side=256):
    mask = np.zeros((side, side), np.uint8)
    mask[100:120, 100:120] = 255
    return mask


def test_psnr():
    black, white = np.zeros((2, 2, 3), np.uint8), np.full((2, 2, 3), 255, np.uint8)
    assert psnr(black, white) == 0
    assert psnr(black, black) == float("inf")
    assert psnr(black, black + 1) == pytest.approx(48.13, abs=0.01)
    with pytest.raises(ValueError, match="expected two uint8 arrays of one shape"):
        psnr(black, black / 255)


def test_ssim():
    """Of flat pictures only the term of the means is left: (2ab + C1) / (a^2 + b^2 + C1), C1 = (0.01 * 255)^2."""
    dark, bright = np.full((32, 32, 3), 50, np.uint8), np.full((32, 32, 3), 100, np.uint8)
    assert ssim(dark, dark) == pytest.approx(1)
    assert ssim(dark, bright) == pytest.approx((2 * 50 * 100 + 2.55**2) / (50**2 + 100**2 + 2.55**2), abs=1e-6)


def test_st_lpips_is_what_the_published_package_computes(pictures, st_lpips):
    """Golden values of its own code (0.0.2, net="alex", variant="shift_tolerant"), never regenerated from this one."""
    smeared = pictures["coffee"].copy()
    smeared[100:140, 60:160] = smeared[90:91, 60:160]
    noise = np.random.default_rng(0).integers(-20, 21, (256, 256, 3))
    noisy = np.clip(pictures["chelsea"].astype(int) + noise, 0, 255).astype(np.uint8)
    assert st_lpips(np.roll(pictures["astronaut"], 1, axis=1), pictures["astronaut"]) == pytest.approx(0.00473641, abs=1e-6)
    assert st_lpips(smeared, pictures["coffee"]) == pytest.approx(0.03637571, abs=1e-6)
    assert st_lpips(noisy, pictures["chelsea"]) == pytest.approx(0.32719103, abs=1e-6)
    assert st_lpips(pictures["coffee"], pictures["coffee"]) == 0


def test_st_lpips_weights_from_a_wheel_a_folder_or_a_file(tmp_path, monkeypatch):
    file = tmp_path / WEIGHTS_IN_WHEEL
    file.parent.mkdir(parents=True)
    file.write_bytes(b"weights")
    wheel = tmp_path / "stlpips_pytorch-0.0.2-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.write(file, WEIGHTS_IN_WHEEL)
    for named in (wheel, tmp_path, file):
        assert read_weights(named) == b"weights"
        monkeypatch.setenv(VARIABLE, str(named))
        assert read_weights() == b"weights"


def test_what_is_missing_is_left_out_with_a_note(tmp_path, monkeypatch):
    metrics, notes = available_metrics(tmp_path / "nothing")
    assert [metric.name for metric in metrics] == ["PSNR", "SSIM", "L1", "L1 in holes"]
    assert notes[0].startswith("LPIPS is left out: ")
    assert "pip download --no-deps stlpips-pytorch" in notes[1]
    monkeypatch.setattr(methods_module, "find_spec", lambda name: None if name == "patchmatch" else name)
    methods, notes = available_rivals()
    assert methods.keys() == RIVALS.keys() - {"PatchMatch"}
    assert notes == ["PatchMatch is left out, as patchmatch is not installed: pip install 'lbam-fast[evaluation]'"]


@pytest.mark.parametrize("name", RIVALS)
def test_a_rival_fills_the_hole_alone_and_repeats(pictures, name):
    picture, mask = pictures["coffee"], hole_in_the_middle()
    filled = RIVALS[name](picture, mask)
    assert filled.dtype == np.uint8
    assert np.array_equal(filled[mask == 0], picture[mask == 0])
    assert not np.array_equal(filled, picture)
    blind = picture.copy()
    blind[mask > 0] = 255
    assert np.array_equal(RIVALS[name](blind, mask), filled), "what lies in the hole has an influence"


def test_harmonic_is_the_mean_of_its_neighbours_everywhere():
    """Against a dense solution, with holes at the edge, in a corner and around a known pixel."""
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 256, (9, 11, 3)).astype(np.uint8)
    hole = np.zeros((9, 11), bool)
    hole[:3, :4] = hole[5:9, 4:8] = True
    hole[6, 6] = False
    matrix, right = np.zeros((99, 99)), picture.reshape(99, 3).astype(float)
    for y, x in np.ndindex(hole.shape):
        here = 11 * y + x
        if not hole[y, x]:
            matrix[here, here] = 1
            continue
        right[here] = 0
        for v, u in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)):
            if 0 <= v < 9 and 0 <= u < 11:
                matrix[here, here] += 1
                matrix[here, 11 * v + u] -= 1
    expected = np.linalg.solve(matrix, right).reshape(9, 11, 3)
    filled = harmonic(picture, np.where(hole, 255, 0).astype(np.uint8))
    assert np.abs(filled - expected).max() <= 0.5 + 1e-9


def test_harmonic_needs_a_known_pixel():
    with pytest.raises(ValueError, match="the whole picture is hole"):
        harmonic(np.zeros((4, 4, 3), np.uint8), np.full((4, 4), 255, np.uint8))


def test_holes_are_as_large_as_their_names_say(pictures):
    for holes, (low, high) in zip(BUCKETS, (map(float, bucket.name.split(" to ")) for bucket in BUCKETS), strict=True):
        for _, mask in samples(holes, list(pictures.values()), 1):
            assert set(np.unique(mask)) == {0, 255}
            assert low - 1e-4 < (mask > 0).mean() < high + 1e-4
    ratios = [(mask > 0).mean() for _, mask in samples(STROKES, list(pictures.values()), 4)]
    assert 0.02 < min(ratios) < max(ratios) < 0.2


def test_samples_are_the_same_in_every_run(pictures):
    chosen = list(pictures.values())[:2]
    for holes in HOLES:
        first, second = (list(samples(holes, chosen, 2)) for _ in range(2))
        assert all(np.array_equal(a[1], b[1]) for a, b in zip(first, second, strict=True))
        assert len({mask.tobytes() for _, mask in first}) == 4


def test_the_evaluation_pictures_are_photographs_of_one_size(pictures):
    assert len(pictures) == 8
    assert {picture.shape for picture in pictures.values()} == {(256, 256, 3)}
    assert min(picture.std() for picture in pictures.values()) > 20


def mean_colour(picture, mask):
    filled = picture.copy()
    filled[mask > 0] = picture[mask == 0].mean(axis=0)
    return filled


def altering(picture, mask):
    """Planted fault: a known pixel changes."""
    filled = harmonic(picture, mask)
    filled[np.unravel_index(np.argmin(mask), mask.shape)] ^= 1
    return filled


def test_a_shift_by_one_pixel_loses_in_all_metrics(pictures, st_lpips):
    """Planted fault: what a rival made, one pixel off."""
    metrics, _ = available_metrics()
    assert [metric.name for metric in metrics] == ["PSNR", "SSIM", "L1", "L1 in holes", "ST-LPIPS"]
    for holes in (BUCKETS[2], STROKES):
        for picture, mask in samples(holes, [pictures["china"]], 1):
            filled = harmonic(picture, mask)
            for metric in metrics:
                value, moved = (metric.value(one, picture, mask) for one in (filled, np.roll(filled, 1, axis=1)))
                assert moved < value if metric.more_is_better else moved > value


@pytest.fixture(scope="module")
def small(pictures):
    """The table of two small pictures and two rows."""
    metrics, _ = available_metrics()
    chosen = [pictures[name][:96, 80:176] for name in ("astronaut", "china")]
    return partial(quality_table, metrics=metrics, pictures=chosen, holes=(BUCKETS[2], STROKES), masks_each=1)


def test_altering_a_known_pixel_is_an_error(small):
    with pytest.raises(ValueError, match="altering altered known pixels"):
        small({"altering": altering})


def test_several_processes_give_the_same_table(small, monkeypatch, thorough):
    if not thorough:  # else they start as users have them
        forking = SimpleNamespace(get_context=lambda _: forked.context("lbam_fast.evaluation.judging"))
        monkeypatch.setattr("lbam_fast.evaluation.judging.multiprocessing", forking)
    chosen = {name: RIVALS[name] for name in ("harmonic", "PatchMatch")}
    rows = small(chosen)
    assert [(row.holes, row.samples) for row in rows] == [("0.1 to 0.2", 2), ("strokes", 2)]
    for one, several in zip(rows, small(chosen, jobs=2), strict=True):
        assert (one.holes, one.samples) == (several.holes, several.samples)
        for metric, values in one.means.items():
            assert several.means[metric] == pytest.approx(values, rel=1e-6)


def test_the_best_is_bold_and_the_gain_is_over_the_best_rival(pictures):
    rows = quality_table(
        {"a": RIVALS["Telea"], "b": harmonic, "c": mean_colour},
        [PSNR, SSIM],
        [pictures["china"]],
        holes=[STROKES],
        masks_each=1,
    )
    values = rows[0].means["PSNR"]
    header, _, line = markdown(rows, PSNR, ("c", ["a", "b"])).splitlines()
    assert header == "| hole ratio | a, dB | b, dB | c, dB | gain, dB |"
    best = max(values, key=values.get)
    assert line.split(" | ")[1 + list(values).index(best)] == f"**{values[best]:.2f}**"
    assert line.count("**") == 2
    assert line.endswith(f" {values['c'] - max(values['a'], values['b']):+.2f} |")


def test_options_of_the_network():
    assert quality.settings("passes=8") == quality.ALONE | {"passes": 8}
    assert quality.settings("detail=auto,passes=8") == {"detail": "auto", "passes": 8}
    for wrong in ("passes", "passes=", "width=3"):
        with pytest.raises(ValueError, match="is no option, expected one like detail=off or passes=1"):
            quality.settings(wrong)


def test_chosen_methods():
    assert list(quality.only("Telea,harmonic", RIVALS)) == ["Telea", "harmonic"]
    assert quality.only(None, RIVALS) == RIVALS
    with pytest.raises(ValueError, match="no method is called telea; there are harmonic, "):
        quality.only("telea", RIVALS)


def test_the_final_set_is_the_listed_photographs(tmp_path, monkeypatch):
    from PIL import Image

    monkeypatch.setattr(quality, "FINAL_LIST", tmp_path / "list.tsv")
    (tmp_path / "list.tsv").write_text("package\tfile\toffset\na\tb\t\nc\td\t\n")
    folder = tmp_path / "photographs"
    folder.mkdir()
    Image.new("RGB", (300, 400), (1, 2, 3)).save(folder / "one.png")
    with pytest.raises(PictureError, match="needs --pictures FOLDER"):
        quality.pictures("final", None)
    with pytest.raises(PictureError, match=r"holds 1 pictures, expected the 2 that list\.tsv lists"):
        quality.pictures("final", folder)
    assert [picture.shape for picture in quality.pictures(str(folder), None)] == [(256, 256, 3)]
    Image.new("L", (300, 400), 7).save(folder / "grey.png")
    assert folder_pictures(folder)["grey.png"].tolist() == np.full((256, 256, 3), 7).tolist()
    Image.fromarray(np.zeros((300, 400), np.uint16)).save(folder / "deep.png")
    with pytest.raises(PictureError, match=r"deep\.png is uint16, expected 8 bits a channel"):
        folder_pictures(folder)


def test_the_table_as_csv(tmp_path, pictures):
    rows = quality_table({"harmonic": harmonic}, [PSNR], [pictures["china"]], holes=[STROKES], masks_each=1)
    quality.write_csv(tmp_path / "table.csv", rows)
    assert (tmp_path / "table.csv").read_text().splitlines() == [
        "holes,samples,metric,method,mean",
        f"strokes,1,PSNR,harmonic,{rows[0].means['PSNR']['harmonic']}",
    ]
