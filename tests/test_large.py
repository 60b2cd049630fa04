"""Pictures beyond memory: from mapped files into mapped files, with known pixels as they were, whatever the format."""

import numpy as np
import pytest
import torch
from networks import network, one_thread  # noqa: F401 - applies itself
from PIL import Image, ImageCms
from typer.testing import CliRunner

from lbam_fast import Inpainter, InpaintError
from lbam_fast.batch import Job
from lbam_fast.batch.large import fill_large, is_too_large, mapped_hole
from lbam_fast.cli import app
from lbam_fast.inference import find_hole
from lbam_fast.pictures import PictureError, large, read_mask

pytest.importorskip("pyvips")

HEIGHT, WIDTH = 1300, 1700


@pytest.fixture(scope="module")
def inpainter():
    return Inpainter(network(dtype=torch.float32), detail="off", grow=3, feather=2)


@pytest.fixture(scope="module")
def picture():
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    waves = [127 + 120 * np.sin(rows / (17 + i) + columns / (23 - i)) for i in range(3)]
    return np.stack(waves, axis=-1).astype(np.uint8)


@pytest.fixture(scope="module")
def mask():
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[100:140, 200:260] = mask[90:120, 1400:1500] = mask[900:905, 20:600] = mask[1290:, 1690:] = 255
    return mask


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("depth", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_known_pixels_are_the_same_to_the_bit(tmp_path, inpainter, picture, mask, suffix, depth, channels):
    given = picture if channels == 3 else picture[..., :1] if channels == 1 else np.concatenate([picture, picture[..., :1]], -1)
    given = given.astype(depth) * (257 if depth == np.uint16 else 1)
    image, output = write(tmp_path / f"a{suffix}", given), tmp_path / f"out{suffix}"
    fill_large(Job(image, write(tmp_path / "m.png", mask[..., None]), output), inpainter, 10**9)
    found = read(output)
    assert found.shape == given.shape and found.dtype == given.dtype
    changed = (found != given).any(axis=-1)
    near = np.zeros_like(changed)
    for top, bottom, left, right in ((100, 140, 200, 260), (90, 120, 1400, 1500), (900, 905, 20, 600), (1290, 1300, 1690, 1700)):
        near[max(0, top - 3) : bottom + 3, max(0, left - 3) : right + 3] = True
    assert changed[mask > 0].mean() > 0.9 and not changed[~near].any()
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted({image.name, "m.png", output.name})


def test_it_is_what_boxes_in_memory_give(tmp_path, inpainter, picture, mask):
    image, output = write(tmp_path / "a.png", picture), tmp_path / "out.png"
    (why,) = fill_large(Job(image, write(tmp_path / "m.png", mask[..., None]), output), inpainter, 10**9)
    tiled = Inpainter(inpainter.model, detail="off", grow=3, feather=2, strategy="tile")
    assert np.array_equal(read(output), tiled(picture, mask))
    assert why.startswith("strategy tile")


@pytest.mark.parametrize("hole", ["white", "black"])
@pytest.mark.parametrize("kind", ["grey", "rgb", "rgba", "zeros and ones", "zeros and ones, opaque", "jpeg of zeros and ones"])
def test_a_mask_means_what_it_means_in_memory(tmp_path, mask, kind, hole):
    soft = np.where(mask > 0, 255, np.arange(WIDTH) % 100).astype(np.uint8)[..., None]
    ones, opaque = (mask[..., None] > 0).astype(np.uint8), np.full((HEIGHT, WIDTH, 1), 255, np.uint8)
    pixels = {
        "grey": soft,
        "rgb": np.concatenate([soft, soft[::-1], soft], -1),
        "rgba": np.concatenate([soft, soft[::-1], soft, soft[:, ::-1]], -1),
        "zeros and ones, opaque": np.concatenate([ones, ones, ones, opaque], -1),
    }.get(kind, ones)
    path = write(tmp_path / ("m.jpg" if "jpeg" in kind else "m.png"), pixels)
    filler = Inpainter(network(dtype=torch.float32), hole=hole, grow=3, feather=2)
    found = mapped_hole(large.decode(path, tmp_path / "m.v", 10**9), filler, tmp_path)
    expected = find_hole(read_mask(path, hole), filler.options)
    assert np.array_equal(found.filled, expected.filled) and np.array_equal(found.weight, expected.weight)


def test_a_hole_larger_than_a_tile(tmp_path, inpainter, picture):
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[50:1250, 60:1400] = 255
    image, output = write(tmp_path / "a.png", picture), tmp_path / "out.png"
    fill_large(Job(image, write(tmp_path / "m.png", mask[..., None]), output), inpainter, 10**9)
    assert np.array_equal(read(output)[1260:], picture[1260:])
    assert (read(output)[50:1250, 60:1400] != picture[50:1250, 60:1400]).mean() > 0.9


def test_metadata_stay_and_the_orientation_is_followed(tmp_path, inpainter, picture, mask):
    exif, profile = Image.Exif(), ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    exif[0x0112], exif[0x010F] = 6, "maker"
    Image.fromarray(np.rot90(picture)).save(tmp_path / "a.jpg", quality=98, exif=exif, icc_profile=profile)
    fill_large(Job(tmp_path / "a.jpg", write(tmp_path / "m.png", mask[..., None]), tmp_path / "out.jpg"), inpainter, 10**9)
    with Image.open(tmp_path / "out.jpg") as found:
        assert found.size == (WIDTH, HEIGHT) and found.getexif()[0x010F] == "maker"
        assert found.getexif().get(0x0112, 1) == 1 and found.info["icc_profile"] == profile


def test_what_cannot_be_done_is_said_and_leaves_nothing(tmp_path, inpainter, picture, mask, monkeypatch):
    image, hole = write(tmp_path / "a.png", picture), write(tmp_path / "m.png", mask[..., None])
    small = write(tmp_path / "s.png", mask[:100, :, None])
    for job, error, message in (
        (Job(image, None, tmp_path / "o.png"), PictureError, "needs a MASK"),
        (Job(image, hole, tmp_path / "o.webp"), PictureError, "choose another suffix"),
        (Job(image, small, tmp_path / "o.png"), InpaintError, "the mask is 1700x100 pixels"),
        (Job(tmp_path / "none.png", hole, tmp_path / "o.png"), PictureError, "no such file"),
        (Job(hole.with_name("bad.png"), hole, tmp_path / "o.png"), PictureError, "cannot be"),
    ):
        (tmp_path / "bad.png").write_bytes(image.read_bytes()[:5000])
        with pytest.raises(error, match=message):
            fill_large(job, inpainter, 10**9)
    with pytest.raises(PictureError, match="raise --max-pixels"):
        fill_large(Job(image, hole, tmp_path / "o.png"), inpainter, 1000)
    monkeypatch.setattr(large, "vips", lambda: (_ for _ in ()).throw(PictureError("pip install 'lbam-fast[large]'")))
    with pytest.raises(PictureError, match="large"):
        fill_large(Job(image, hole, tmp_path / "o.png"), inpainter, 10**9)
    assert not [path for path in tmp_path.iterdir() if path.name.startswith((".", "o."))]


def test_which_pictures_are_too_large(tmp_path, picture):
    job = Job(write(tmp_path / "a.png", picture), None, tmp_path / "o.png")
    assert is_too_large(job.image, 700 << 20) and not is_too_large(job.image, 2 << 30)


def test_from_the_command_line(tmp_path, picture, mask):
    image, hole, output = write(tmp_path / "a.png", picture), write(tmp_path / "m.png", mask[..., None]), tmp_path / "out.png"
    given = ["inpaint", str(image), str(hole), "-o", str(output), "--detail", "off", "--max-memory"]
    result = CliRunner().invoke(app, [*given, "0.7GB"])
    assert result.exit_code == 0 and "strategy tile" in result.output
    assert (read(output) == picture).all(axis=-1)[mask == 0].all() and (read(output) != picture)[mask > 0].mean() > 0.9
    assert CliRunner().invoke(app, [*given, "much"]).exit_code == 2


def write(path, pixels):
    import pyvips

    image = pyvips.Image.new_from_array(np.ascontiguousarray(pixels))
    names = {1: {1: "b-w", 3: "srgb", 4: "srgb"}, 2: {1: "grey16", 3: "rgb16", 4: "rgb16"}}
    image.copy(interpretation=names[pixels.itemsize][pixels.shape[2]]).write_to_file(str(path))
    return path


def read(path):
    import pyvips

    found = pyvips.Image.new_from_file(str(path)).numpy()
    return found[..., None] if found.ndim == 2 else found
