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
) -> None:
    """Convert weights between safetensors and PyTorch's .pth, which the published code reads."""
    with failing_with_message():
        import torch

        from lbam_fast.checkpoints import load_checkpoint, save_checkpoint

        if is_same_file(source, target):
            raise ArgumentError(f"{target} is the input and would be overwritten: choose another output")
        model = load_checkpoint(source, preset)
        save_checkpoint(model, target, getattr(torch, dtype))
        count = sum(parameter.numel() for parameter in model.parameters())
        width = model.config.base_width
        print_note(f"{target}: preset {model.config.preset_name}, base width {width}, {count:,} parameters in {dtype}")
