"""Every row of the tables in docs/formats.md is tried."""

import re
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from networks import network
from PIL import Image
from test_pictures import picture, pillow, samples, saved, stored, tiff

from lbam_fast import Inpainter, InpaintError
from lbam_fast.inference.mask_values import mask_values
from lbam_fast.pictures import PictureError, output_suffixes, read_picture, readable_suffixes, write_picture

PAGE = Path(__file__).parents[1] / "docs" / "formats.md"
HEIGHT, WIDTH = 37, 53
BOX = (slice(8, 20), slice(9, 30))


def rows(first: str) -> list[list[str]]:
    """The rows of the table whose first column has that title."""
    tables = re.findall(r"(?m)(?:^\|.*\|\n)+", PAGE.read_text(encoding="utf-8"))
    (table,) = [t for t in tables if t.startswith(f"| {first} |")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]


def box_mask(white: object = 255, dtype: object = np.uint8) -> np.ndarray:
    mask = np.zeros((HEIGHT, WIDTH), dtype)
    mask[BOX] = white
    return mask


@pytest.fixture(scope="module")
def inpainter() -> Inpainter:
    return Inpainter(network("official", dtype=torch.float32), detail="off")


def test_the_table_of_files_has_every_suffix() -> None:
    listed = {suffix: row for row in rows("format") for suffix in row[1].split()}
    assert listed.keys() == readable_suffixes()
    assert {suffix for suffix, row in listed.items() if row[2] == "yes"} - {".apng", ".mpo"} == output_suffixes()


@pytest.mark.parametrize("row", rows("format"), ids=lambda row: row[0])
def test_files(tmp_path: Path, row: list[str]) -> None:
    name, suffixes, written, depths, opacity, _ = row
    suffix = suffixes.split()[0]
    if name == "HEIC":
        pytest.importorskip("pillow_heif").from_pillow(pillow(samples(3))).save(tmp_path / "a.heic")
    else:
        saved(tmp_path / f"a{suffix}", pillow(samples(3)))
    assert read_picture(tmp_path / f"a{suffix}").pixels.shape == (HEIGHT, WIDTH, 3)
    for depth, alpha in ((8, False), (16, False), (8, True)):
        can = written == "yes" and str(depth) in depths.split() and (not alpha or opacity == "yes")
        brought = picture(3, np.uint16 if depth == 16 else np.uint8, alpha)
        if can:
            write_picture(tmp_path / f"b{suffix}", brought)
            read = read_picture(tmp_path / f"b{suffix}")
            assert read.pixels.dtype == brought.pixels.dtype and (read.alpha is not None) == alpha
        else:
            with pytest.raises(PictureError):
                write_picture(tmp_path / f"b{suffix}", brought)


@pytest.mark.parametrize("row", rows("stored as"), ids=lambda row: row[0])
def test_modes_of_files(tmp_path: Path, row: list[str]) -> None:
    kind, result, note = row
    image = pillow(samples(3))
    path = tmp_path / "a.tif"
    if kind == "32-bit floating":
        stored(path, tiff(samples(1).astype(np.float32), tag_339=3))
    elif kind == "several pages":
        saved(path, image, save_all=True, append_images=[image])
    else:
        mode = {"1-bit": "1", "palette": "P", "grey": "L", "CMYK": "CMYK"}.get(kind.partition(" with")[0], "RGB")
        mode += {"L": "A", "RGB": "A"}.get(mode, "") if kind.endswith("opacity") else ""
        options = {"transparency": 5 if mode == "P" else (1, 2, 3)} if kind.endswith("colour") else {}
        path = saved(tmp_path / ("a.tif" if mode == "CMYK" else "a.png"), image.convert(mode), **options)
    if result == "refused":
        with pytest.raises(PictureError, match=note):
            read_picture(path)
        return
    read = read_picture(path)
    assert read.pixels.shape[2] == (1 if result.startswith("grey") else 3)
    assert (read.alpha is not None) == result.endswith("opacity")
    assert read.notes == ((note,) if note else ())


def made(form: str, kind: str) -> object:
    """A picture of that form and kind, as the table names them."""
    if form == "tensor":
        values = torch.from_numpy(samples(3)).permute(2, 0, 1)
        dtype = getattr(torch, kind)
        return (values / 255).to(dtype) if dtype.is_floating_point else values
    if form == "array":
        dtype = np.dtype(kind)
        return (samples(3) / 255).astype(dtype) if dtype.kind == "f" else samples(3).astype(dtype)
    if kind.startswith("I;16"):
        return Image.fromarray(samples(1, np.uint16)[..., 0].astype(">u2" if kind.endswith("B") else "<u2"))
    return Image.fromarray(samples(1)[..., 0].astype(np.float32)) if kind == "F" else pillow(samples(3)).convert(kind)


def kind_of(result: object) -> str:
    if isinstance(result, Image.Image):
        return f"PIL {result.mode}"
    if isinstance(result, torch.Tensor):
        return f"tensor {result.dtype}".replace("torch.", "")
    return f"array {result.dtype.str if result.dtype.byteorder == '>' else result.dtype}"


@pytest.mark.parametrize("row", rows("given"), ids=lambda row: row[0])
def test_pictures_from_python(inpainter: Inpainter, row: list[str]) -> None:
    given = made(*row[0].split())
    if row[1] == "refused":
        with pytest.raises(InpaintError):
            inpainter(given, box_mask())
        return
    result = inpainter(given, box_mask())
    assert kind_of(result) == row[1]
    if row[0] == row[1]:
        before, after = (np.asarray(x.float() if isinstance(x, torch.Tensor) else x) for x in (given, result))
        known = box_mask() == 0
        same = before == after
        assert same[..., known].all() if isinstance(given, torch.Tensor) else same[known].all()
        assert not same.all()


@pytest.mark.parametrize("row", rows("mask"), ids=lambda row: row[0])
def test_masks_of_every_depth(row: list[str]) -> None:
    dtype, white, ones, eight = row

    def read(value: object) -> tuple[np.ndarray, int]:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            return mask_values(box_mask(value, np.dtype(dtype)), "white", 10**9), len(caught)

    values, warned = read(int(white))
    assert np.array_equal(values == 1, box_mask() > 0) and (dtype == "bool" or not warned)
    values, warned = read(1)
    assert np.array_equal(values == 1, box_mask() > 0) and bool(warned) == ("warning" in ones)
    if eight == "refused":
        with pytest.raises(InpaintError):
            read(255)
    elif eight == "white":
        assert np.array_equal(read(255)[0] == 1, box_mask() > 0)


@pytest.mark.parametrize("row", rows("mask for 3 images"), ids=lambda row: row[0])
def test_layouts_of_masks(inpainter: Inpainter, row: list[str]) -> None:
    layout, meaning = row
    images = np.stack([samples(3) // (i + 1) for i in range(3)])
    plain = box_mask()
    each = np.stack([np.roll(plain, 4 * i, axis=0) for i in range(3)])
    if layout.startswith("list of"):
        brought: object = list(each[: int(layout[-1])])
    else:
        form, _, shape = layout.rpartition("[")
        sizes = [{"H": HEIGHT, "W": WIDTH}.get(s) or int(s) for s in re.split(r",\s*", shape.rstrip("]"))]
        few = each if meaning == "one each" else plain[None]
        axes = {2: few[0], 3: few if sizes[0] != HEIGHT else few[0][..., None]}
        axes[4] = few[..., None] if form == "array " else few[:, None]
        array = np.broadcast_to(axes[len(sizes)], sizes).copy()
        brought = torch.from_numpy(array) if form == "tensor " else array
    given = torch.from_numpy(images).permute(0, 3, 1, 2) if isinstance(brought, torch.Tensor) else images
    if meaning == "refused":
        with pytest.raises(InpaintError, match="2 masks for 3 images"):
            inpainter(given, brought)
        return
    result = inpainter(given, brought)
    result = result.permute(0, 2, 3, 1).numpy() if isinstance(result, torch.Tensor) else result
    for image, filled, mask in zip(images, result, each if meaning == "one each" else [plain] * 3, strict=True):
        assert np.array_equal(filled[mask == 0], image[mask == 0])
        assert (filled != image).any(-1)[mask > 0].mean() > 0.9
