"""The command ``lbam-fast``."""

import typer

from lbam_fast.cli.train import train

app = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode=None)
app.command()(train)


@app.callback()
def main() -> None:
    """Fill holes in photographs with Learnable Bidirectional Attention Maps."""
