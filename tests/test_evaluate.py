"""An evaluation: metrics as their libraries compute them, cases, rows with intervals, runs that go on, and planted faults."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.stats import bootstrap
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torch import nn
from torchmetrics.functional import mean_absolute_error
from torchmetrics.functional.image import peak_signal_noise_ratio as torch_psnr
from torchmetrics.functional.image import structural_similarity_index_measure as torch_ssim
from torchmetrics.image.fid import FrechetInceptionDistance

from lbam_fast.data.protocols import NVIDIA_RATIOS
from lbam_fast.evaluation import (
    L1,
    L1_IN_HOLE,
    PSNR,
    RIVALS,
    SSIM,
    Case,
    CaseError,
    Evaluation,
    Named,
    Result,
    available_metrics,
    cases_of_drawn,
    evaluation_files,
    evaluation_pictures,
    fetched,
    fid_needs,
    frechet_distances,
    harmonic,
    paper_rows,
    with_hole,
)
from lbam_fast.evaluation.holes import AT_BORDER, INSIDE, MARGIN, bucket_of, reaches_border
from lbam_fast.evaluation.judging import filled_by

TABLE = Path(__file__).parent.parent / "docs" / "evaluation.md"
METRICS = (PSNR, SSIM, L1, L1_IN_HOLE)


@pytest.fixture(scope="module")
def pictures():
    return evaluation_pictures()


def shifted(picture, mask):
    """Planted fault: the harmonic fill, one pixel to the right, in the hole."""
    return np.where(mask[..., None] > 0, np.roll(harmonic(picture, mask), 1, axis=1), picture)


def mean_colour(picture, mask):
    return np.where(mask[..., None] > 0, picture[mask == 0].mean(axis=0).astype(np.uint8), picture)


def known(**methods):
    return {name: Named(method, name) for name, method in methods.items()}


# Metrics


@pytest.mark.parametrize("name", ["astronaut", "coffee", "china"])
def test_each_metric_is_what_its_library_gives(pictures, name):
    original = pictures[name]
    mask = INSIDE[1].draw(np.random.default_rng(0), 256, 256)
    filled = mean_colour(original, mask)
    a, b = (torch.from_numpy(each).permute(2, 0, 1)[None].double().contiguous() for each in (filled, original))

    psnr = PSNR.value(filled, original, mask)
    assert psnr == peak_signal_noise_ratio(original, filled, data_range=255)
    assert psnr == pytest.approx(float(torch_psnr(a, b, data_range=255.0)), rel=1e-6)

    ssim = SSIM.value(filled, original, mask)
    window = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    assert ssim == structural_similarity(original, filled, data_range=255, channel_axis=-1, **window)
    _, windows = torch_ssim(a, b, sigma=1.5, kernel_size=11, data_range=255.0, return_full_image=True)
    assert ssim == pytest.approx(float(windows[..., 5:-5, 5:-5].mean()), abs=1e-6), (
        "torchmetrics counts windows beyond the edge too"
    )

    inside = np.nonzero(mask)
    assert L1.value(filled, original, mask) == pytest.approx(float(mean_absolute_error(a, b)) / 2.55, rel=1e-12)
    expected = np.abs(filled[inside].astype(float) - original[inside]).mean() / 2.55
    assert L1_IN_HOLE.value(filled, original, mask) == pytest.approx(expected, rel=1e-12)


def test_a_perfect_result_scores_as_such(pictures):
    original, mask = pictures["flower"], INSIDE[0].draw(np.random.default_rng(0), 256, 256)
    metrics, _ = available_metrics()
    values = {metric.name: metric.value(original.copy(), original, mask) for metric in metrics}
    assert values.pop("PSNR") == float("inf")
    assert values.pop("SSIM") == pytest.approx(1, abs=1e-12)
    assert len(values) >= 2
    assert set(values.values()) == {0}


class Brightness(nn.Module):
    """A stand-in for Inception v3: colour means of a picture's four quarters."""

    num_features = 12

    def forward(self, pictures):
        return nn.functional.adaptive_avg_pool2d(pictures.double(), 2).flatten(1)


def test_fid_is_torchmetrics_own(pictures):
    originals = [picture[:, x : x + 128] for picture in pictures.values() for x in (0, 64, 128)]
    noisy = [np.clip(picture.astype(int) + 30, 0, 255).astype(np.uint8) for picture in originals]
    metric = FrechetInceptionDistance(Brightness()).set_dtype(torch.float64)
    for some, real in ((originals, True), (noisy, False)):
        metric.update(torch.from_numpy(np.stack(some)).permute(0, 3, 1, 2), real=real)
    found = frechet_distances(iter(originals), {"noisy": iter(noisy), "same": iter(originals)}, Brightness())
    assert found["noisy"] == pytest.approx(float(metric.compute()), rel=1e-6)
    assert found["noisy"] > 100
    assert found["same"] == pytest.approx(0, abs=1e-3)


def test_what_lpips_and_fid_lack_is_said(monkeypatch, tmp_path):
    monkeypatch.setattr(fetched, "find_spec", lambda name: None)
    assert "pip install 'lbam-fast[evaluation]' torchvision" in fetched.lpips_needs()
    assert "pip install 'lbam-fast[evaluation]' torch-fidelity" in fid_needs()
    monkeypatch.setattr(fetched, "find_spec", lambda name: name)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    assert f"{fetched.ALEXNET} is not in {tmp_path / 'checkpoints'}" in fetched.lpips_needs()
    assert f"{fetched.INCEPTION} is not in {tmp_path / 'checkpoints'}" in fid_needs()
    (tmp_path / "checkpoints").mkdir()
    for name in (fetched.ALEXNET, fetched.INCEPTION):
        (tmp_path / "checkpoints" / name).touch()
    assert fetched.lpips_needs() is fid_needs() is None


# Cases


@pytest.mark.parametrize("size", [(256, 256), (427, 640), (96, 64)], ids=str)
def test_drawn_holes_keep_their_range_and_their_distance(size):
    for number, (low, high) in enumerate(NVIDIA_RATIOS):
        for draw in range(3):
            inside, at_border = (
                holes[number].draw(np.random.default_rng([draw, number]), *size) for holes in (INSIDE, AT_BORDER)
            )
            for mask in (inside, at_border):
                assert mask.shape == size
                assert set(np.unique(mask)) == {0, 255}
                assert low - 1e-3 < (mask > 0).mean() < high + 1e-3
            margin = round(MARGIN * min(size))
            assert not inside[:margin].any() and not inside[:, :margin].any()
            assert not inside[-margin:].any() and not inside[:, -margin:].any()
            assert reaches_border(at_border) and not reaches_border(inside)


def test_ranges_leave_out_their_lower_end():
    shares = (0.01, 0.0101, 0.1, 0.1001, 0.6, 0.6001)
    assert [bucket_of(share) for share in shares] == ["up to 0.01", "0.01-0.1", "0.01-0.1", "0.1-0.2", "0.5-0.6", "above 0.6"]


def test_masks_without_a_hole_or_without_anything_known_are_refused(pictures):
    for value, message in (
        (0, "the mask has no hole, so there is nothing to judge"),
        (255, "hole all over, so nothing is known"),
    ):
        with pytest.raises(CaseError, match=message):
            Case("a", "a", pictures["china"], np.full((256, 256), value, np.uint8)).load()


def test_a_mask_is_cropped_as_its_picture_and_resized_where_it_has_another_size(tmp_path):
    mask = np.zeros((300, 400), np.uint8)
    mask[:, 100:200] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    picture = np.dstack([mask] * 3)
    image, found = Case("a", "a", picture, tmp_path / "mask.png", side=100).load()
    assert image.shape == (100, 100, 3)
    assert (np.abs(image[..., 0].astype(int) - found) < 128).mean() > 0.97, "picture and mask no longer lie on each other"
    _, other = Case("a", "a", picture[:, :300], tmp_path / "mask.png", side=100).load()
    assert (other[0] > 0).tolist() == [25 <= x < 50 for x in range(100)]
    assert set(np.unique(other)) == {0, 255}


# Rows


def made_results(values, methods=("first", "second"), share=0.15):
    return [
        Result(f"{picture}-{mask}", str(picture), method, share, False, {"PSNR": float(value)})
        for picture, of_picture in enumerate(values)
        for mask, of_mask in enumerate(of_picture)
        for method, value in zip(methods, of_mask, strict=True)
    ]


def test_rows_average_pictures_and_their_intervals_are_scipys():
    values = np.random.default_rng(0).normal(30, 3, (12, 2, 2))
    values[:, :, 1] = values[:, :, 0] + 0.5
    row = next(row for row in paper_rows(made_results(values), ["first", "second"], [PSNR], seed=3) if row.holes == "0.1-0.2")
    per_picture = values.mean(axis=1)
    assert (row.pictures, row.samples) == (12, 24)
    assert row.means["PSNR"]["first"] == pytest.approx(per_picture[:, 0].mean())
    own = bootstrap((per_picture[:, 0],), np.mean, n_resamples=2000, batch=100, method="percentile", rng=np.random.default_rng(3))
    assert row.intervals["PSNR"]["first"] == pytest.approx(tuple(own.confidence_interval), abs=0.15)
    assert row.means["PSNR"]["first"] != pytest.approx(row.intervals["PSNR"]["first"][0], abs=0.3)
    mean, (low, high) = row.differences["PSNR"]["second"]
    assert (mean, low, high) == pytest.approx((0.5, 0.5, 0.5)), "a constant difference is certain, however pictures differ"


def test_pictures_count_alike_whatever_the_number_of_their_masks():
    row = paper_rows(made_results([[(10, 1)], [(20, 1), (30, 1), (40, 1)]]), ["first", "second"], [PSNR], seed=0)[0]
    assert row.means["PSNR"]["first"] == (10 + 30) / 2


def test_infinite_values_have_no_interval_and_failed_cases_count_for_nobody():
    results = made_results([[(np.inf, 30)], [(40, 30)]])
    row = paper_rows(results, ["first", "second"], [PSNR], seed=0)[0]
    assert row.means["PSNR"]["first"] == np.inf
    assert row.intervals["PSNR"].keys() == {"second"}
    assert row.differences["PSNR"] == {}
    failed = Result("0-0", "0", "second", 0.15, False, {}, "it failed")
    row = paper_rows([results[0], failed, *results[2:]], ["first", "second"], [PSNR], seed=0)[0]
    assert (row.samples, row.means["PSNR"]["first"]) == (1, 40)


def test_a_shift_by_one_pixel_loses_in_the_committed_table():
    """The first row of docs/evaluation.md, computed again for two methods; then the planted fault beside them."""
    cases = [each for each in cases_of_drawn(evaluation_files(), 256, 1, seed=0) if "__0.01-0.1" in each.name]
    assert len(cases) == 8
    methods = {"telea": RIVALS["Telea"], "harmonic": harmonic, "shifted": shifted}
    results = []
    for case in cases:
        original, mask = case.load()
        for name, method in methods.items():
            filled = filled_by(name, method, original, mask)
            values = {metric.name: metric.value(filled, original, mask) for metric in METRICS}
            results.append(Result(case.name, case.picture, name, float((mask > 0).mean()), reaches_border(mask), values))
    row = paper_rows(results, ["harmonic", "telea", "shifted"], METRICS, seed=0)[0]
    for metric in METRICS:
        for name in ("telea", "harmonic"):
            assert committed(metric.name, f"{row.holes}, inside")[name] == pytest.approx(
                row.means[metric.name][name], abs=0.6 * 10**-metric.digits
            )
        worse = -1 if metric.more_is_better else 1
        mean, bounds = row.differences[metric.name]["shifted"]
        assert worse * mean > 0 and all(worse * end > 0 for end in bounds), metric.name


def committed(metric, holes):
    """A row of the committed table: the means by method."""
    section = TABLE.read_text(encoding="utf-8").split(f"### {metric}")[1].split("###")[0]
    lines = [[cell.strip(" *") for cell in line.strip("|").split("|")] for line in section.splitlines() if line.startswith("|")]
    line = next(line for line in lines if line[0] == holes)
    return {name: float(re.split(r"[ *]", cell)[0]) for name, cell in zip(lines[0][3:], line[3:], strict=True)}


# Runs


@pytest.fixture
def cases(pictures):
    rng = np.random.default_rng(0)
    return [
        Case(f"{name}-{i}", name, np.ascontiguousarray(pictures[name][60:156, 80:176]), draw[i].draw(rng, 96, 96))
        for name in ("china", "coffee", "flower")
        for i, draw in enumerate((INSIDE, AT_BORDER))
    ]


@pytest.fixture(autouse=True)
def plain(request, monkeypatch, thorough):
    """Without the plot, which takes longer than the rest of a run, but for tests that ask for it, and in ``make test-all``."""
    if not thorough and "plotted" not in request.fixturenames:
        monkeypatch.setattr("lbam_fast.evaluation.run.plot", lambda *_: b"")


@pytest.fixture
def plotted():
    pass


def evaluated(folder, cases, methods, **options):
    folder.mkdir(exist_ok=True)
    evaluation = Evaluation(folder, cases, methods, METRICS, **options)
    told = []
    evaluation.run(evaluation.missing(), tell=told.extend)
    return evaluation.write(), told


def files_of(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_two_runs_give_identical_files(plotted, cases, tmp_path):
    methods = known(harmonic=harmonic, shifted=shifted)
    for name in ("one", "other"):
        evaluated(tmp_path / name, cases, methods, seed=5)
    one, other = (files_of(tmp_path / name) for name in ("one", "other"))
    assert one == other
    assert {"results.csv", "summary.json", "tables.md", "contact_sheet.jpg", "plot.png"} < one.keys()
    lines = one["results.csv"].decode().splitlines()
    assert len(lines) == 1 + 2 * len(cases)
    assert lines[0] == "case,picture,hole share,at border,method,PSNR,SSIM,L1,L1 in holes,error"


def test_a_second_run_computes_what_is_new_alone(cases, tmp_path):
    calls = []

    def counted(picture, mask):
        calls.append(1)
        return harmonic(picture, mask)

    evaluated(tmp_path, cases[:4], known(counted=counted))
    assert len(calls) == 4
    _, told = evaluated(tmp_path, cases, known(counted=counted, mean_colour=mean_colour))
    assert len(calls) == len(cases)
    assert [result.method for result in told].count("mean_colour") == len(cases)
    evaluated(tmp_path, cases, {"counted": Named(counted, "with other weights")})
    assert len(calls) == 2 * len(cases)
    kept = tmp_path / ".evaluation.jsonl"
    kept.write_bytes(kept.read_bytes() + b'\n{"case": "cut sho')
    evaluated(tmp_path, cases, {"counted": Named(counted, "with other weights")})
    assert len(calls) == 2 * len(cases)


def test_an_interrupted_run_goes_on_and_ends_as_one_that_was_not(cases, tmp_path):
    methods = known(harmonic=harmonic, mean_colour=mean_colour)
    (tmp_path / "interrupted").mkdir()
    evaluation = Evaluation(tmp_path / "interrupted", cases, methods, METRICS)

    def stop(_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluation.run(evaluation.missing(), tell=stop)
    again = Evaluation(tmp_path / "interrupted", cases, methods, METRICS)
    assert len(again.missing()) == len(cases) - 1
    again.run(again.missing())
    again.write()
    evaluated(tmp_path / "whole", cases, methods)
    assert files_of(tmp_path / "interrupted") == files_of(tmp_path / "whole")


def test_no_method_sees_the_truth(pictures):
    """Planted fault: a method that gives back what it is given is the perfect one, if the truth is in it."""
    mask = INSIDE[1].draw(np.random.default_rng(0), 256, 256)
    seen = filled_by("copying", lambda picture, mask: picture, pictures["china"], mask)
    assert (seen[mask > 0] == 128).all()


def test_a_failed_picture_is_told_and_stops_nothing(cases, tmp_path):
    """Planted faults: a method that gives up on one picture, one that alters known pixels, and a picture that is none."""

    def giving_up(picture, mask):
        if np.array_equal(picture, with_hole(cases[0].image, cases[0].mask)):
            raise RuntimeError("too hard")
        return harmonic(picture, mask)

    def altering(picture, mask):
        return harmonic(picture, mask) ^ 1

    (tmp_path / "broken.png").write_bytes(b"no picture")
    broken = Case("broken", "broken", tmp_path / "broken.png", cases[0].mask)
    rows, told = evaluated(tmp_path / "o", [broken, *cases], known(harmonic=harmonic, giving_up=giving_up))
    failed = {(result.case, result.method): result.error for result in told if result.error}
    assert failed.keys() == {("broken", "harmonic"), ("broken", "giving_up"), (cases[0].name, "giving_up")}
    assert failed[cases[0].name, "giving_up"] == "RuntimeError: too hard"
    assert rows[-3].samples == len(cases) - 1
    summary = json.loads((tmp_path / "o" / "summary.json").read_text())
    assert len(summary["failed"]) == 3
    _, again = evaluated(tmp_path / "o", [broken, *cases], known(harmonic=harmonic, giving_up=giving_up))
    assert {(result.case, result.method) for result in again} == failed.keys(), "what failed is tried again, and that alone"
    _, told = evaluated(tmp_path / "p", cases[:1], known(altering=altering))
    assert told[0].error == "altering altered known pixels: expected the picture with nothing but its hole filled"


def test_the_perfect_method_is_the_best_in_every_table(cases, tmp_path):
    truths = {case.load()[1].tobytes(): case.image for case in cases}
    evaluated(tmp_path, cases, known(harmonic=harmonic, truth=lambda picture, mask: truths[mask.tobytes()]))
    cells = [line.split("|") for line in (tmp_path / "tables.md").read_text().splitlines() if line.startswith("| all |")]
    means = [line[5].strip().split(" ")[0] for line in cells if len(line) == 7]
    assert means == ["**inf**", "**1.0000**", "**0.00**", "**0.00**"]
    assert json.loads((tmp_path / "summary.json").read_text())["rows"][-1]["means"]["PSNR"]["truth"] == "inf"
