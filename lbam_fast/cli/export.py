"""``lbam-fast export``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lbam_fast.cli.common import ArgumentError, failing_with_message, print_note
from lbam_fast.files import is_same_file


def export(
    target: Annotated[Path, typer.Argument(metavar="OUT", help="File to write, such as lbam.onnx.")],
    onnx: Annotated[bool, typer.Option("--onnx", help="Write ONNX whatever OUT is called; the only format so far.")] = False,
    weights: Annotated[Path | None, typer.Option(help="Weights: .safetensors or .pth; else the embedded ones.")] = None,
    preset: Annotated[str | None, typer.Option(help="The network that they belong to, where several fit.")] = None,
    opset: Annotated[int, typer.Option(help="Version of the ONNX operators, 13 or newer.")] = 17,
    check: Annotated[bool, typer.Option(help="Run the graph in ONNX Runtime and compare it with the model.")] = True,
) -> None:
    """Write the network as an ONNX graph with inputs image and mask (1 = known): any batch, sizes multiples of 128."""
    with failing_with_message():
        from lbam_fast.checkpoints import load_checkpoint
        from lbam_fast.export import export_onnx
        from lbam_fast.inference import embedded_weights

        if not onnx and target.suffix.lower() != ".onnx":
            raise ArgumentError(f"cannot tell the format of {target}: end its name in .onnx, or give --onnx")
        source = weights or embedded_weights()
        if is_same_file(source, target):
            raise ArgumentError(f"{target} holds the weights and would be overwritten: choose another output")
        model = load_checkpoint(source, preset)
        difference = export_onnx(model, target, opset=opset, check=check)
        if difference is not None:
            verdict = f"checked in ONNX Runtime, differs from the model by {difference:.1e} at most"
        else:
            verdict = "not checked: ONNX Runtime is not installed" if check else "not checked"
        print_note(f"{target}: preset {model.config.preset_name}, base width {model.config.base_width}; {verdict}")
