"""The command ``lbam-fast``. PyTorch is imported inside the commands, so that help and version come at once."""

from typing import Annotated

import typer

from lbam_fast.cli.convert import convert
from lbam_fast.cli.doctor import doctor
from lbam_fast.cli.evaluate import evaluate
from lbam_fast.cli.export import export
from lbam_fast.cli.inpaint import inpaint
from lbam_fast.cli.inspect import inspect
from lbam_fast.cli.masks import masks
from lbam_fast.cli.serve import serve
from lbam_fast.cli.train import train

app = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode=None)
for command in (inpaint, masks, serve, train, inspect, evaluate, convert, export, doctor):
    app.command()(command)


def _show_version(wanted: bool) -> None:
    if wanted:
        from lbam_fast import __version__

        typer.echo(f"lbam-fast {__version__}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show it and exit.")] = False,
) -> None:
    """Fill holes in photographs with Learnable Bidirectional Attention Maps. In masks, white is the hole."""
