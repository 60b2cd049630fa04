"""``lbam-fast inspect``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lbam_fast.cli.common import ArgumentError, failing_with_message, make_folder, print_note, print_warning
from lbam_fast.config import HoleColour

if TYPE_CHECKING:
    from torch import Tensor

    from lbam_fast.inspection import Pixels
    from lbam_fast.model import LBAM

GREY = 128
"""Of the hole in ``given.png``."""


def inspect(
    weights: Annotated[Path, typer.Argument(help="Weights: .safetensors or .pth.")],
    image: Annotated[Path, typer.Argument(help="Picture.")],
    mask: Annotated[Path, typer.Argument(help="Mask of the picture's size, white = hole unless --hole black.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for the pictures.")],
    hole: Annotated[HoleColour, typer.Option(help="Colour of the hole in the mask.")] = "white",
    preset: Annotated[str | None, typer.Option(help="The network that the weights belong to, where several fit.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files that exist.")] = False,
) -> None:
    """Show what the attention has learned: its maps of this mask, layer by layer, and its curves g_A.

    Writes given.png and filled.png, forward_1.png to reverse_6.png (dark is the least value of a map, yellow its largest),
    maps.tsv with these values, and curves.png.
    """
    with failing_with_message():
        from lbam_fast.checkpoints import load_checkpoint
        from lbam_fast.inspection import InspectionError, attention_maps, attention_pictures, curve_picture

        model = load_checkpoint(weights, preset)
        given, filled, known = _filled(model, image, mask, hole)
        height, width = given.shape[:2]
        shown = {"given": given, "filled": filled}
        for name, picture in attention_pictures(model, known).items():
            shown[name.replace(" ", "_")] = picture[:height, :width]
        try:
            shown["curves"] = curve_picture(model)
        except InspectionError as error:
            print_warning(f"without curves.png: {error}")
        table = ["map\trows\tcolumns\tleast\tmean\tlargest"]
        for name, values in attention_maps(model, known).items():
            rows, columns = values.shape
            table.append(f"{name}\t{rows}\t{columns}\t{values.min():.4f}\t{values.mean():.4f}\t{values.max():.4f}")
        _write(output, shown, "\n".join([*table, ""]), overwrite)
        print_note(f"{len(shown)} pictures and maps.tsv: {output}")


def _filled(model: LBAM, image: Path, mask: Path, hole: HoleColour) -> tuple[Pixels, Pixels, Tensor]:
    """The picture with its hole in grey, the same filled, both [H, W, 3] uint8, and the known pixels [1, 1, H', W'], padded."""
    import numpy as np
    import torch

    from lbam_fast.inference import Inpainter, MaskOptions, find_hole
    from lbam_fast.inference.padding import padded
    from lbam_fast.pictures import read_mask, read_picture

    picture, values = read_picture(image), read_mask(mask, hole)
    pixels = picture.pixels if picture.pixels.dtype == np.uint8 else (picture.pixels // 257).astype(np.uint8)
    pixels = np.broadcast_to(pixels, (*pixels.shape[:2], 3)).copy()
    filled = Inpainter(model, device="cpu", hole=hole, detail="off")(pixels, values)
    holes = find_hole(values, MaskOptions(hole)).filled
    known = torch.from_numpy(~holes).float()[None, None]
    return np.where(holes[..., None], np.uint8(GREY), pixels), filled, padded(known)


def _write(folder: Path, pictures: dict[str, Pixels], table: str, overwrite: bool) -> None:
    """NAME.png of each, and maps.tsv. Raises ArgumentError where files exist that may not be replaced, or cannot be written."""
    from lbam_fast.files import replace_file
    from lbam_fast.pictures import Picture, write_picture

    names = [*(f"{name}.png" for name in pictures), "maps.tsv"]
    if not overwrite and (existing := [folder / name for name in names if (folder / name).exists()]):
        raise ArgumentError(f"{existing[0]} exists already: choose another folder, or add --overwrite")
    make_folder(folder)
    for name, pixels in pictures.items():
        picture = Picture(pixels, alpha=None, format="PNG", exif=None, icc_profile=None, notes=(), lossless=True)
        write_picture(folder / f"{name}.png", picture)
    try:
        replace_file(folder / "maps.tsv", table.encode())
    except OSError as error:
        raise ArgumentError(f"cannot write {folder / 'maps.tsv'} ({error.strerror}); choose another folder") from error
