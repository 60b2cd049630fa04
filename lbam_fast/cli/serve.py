"""``lbam-fast serve``: its flags are the settings of the service."""

from __future__ import annotations

import inspect
from dataclasses import fields
from importlib import import_module
from typing import Annotated, Any, get_type_hints

import typer

from lbam_fast.cli.common import failing_with_message
from lbam_fast.service.settings import ENVIRONMENT, Settings

PACKAGES = ("fastapi", "uvicorn", "prometheus_client", "python_multipart")
"""Of the extra, asked for before PyTorch is waited for."""


def serve(**settings: Any) -> None:
    """Fill pictures over HTTP, with a page at / to paint holes on. In masks, white is the hole, unless a request says otherwise.

    Listens on this machine alone unless --host says otherwise. SIGTERM and Ctrl-C finish what was accepted. Each option may be
    given in the environment too. Needs: pip install 'lbam-fast[serve]'.
    """
    with failing_with_message():
        chosen = Settings(**settings)
        from lbam_fast.service.errors import naming_the_extra

        with naming_the_extra():
            for name in PACKAGES:
                import_module(name)
        from lbam_fast.service.server import serve as serve_until_stopped

        serve_until_stopped(chosen)


def _flags() -> inspect.Signature:
    hints = get_type_hints(Settings)
    return inspect.Signature(
        [
            inspect.Parameter(
                each.name,
                inspect.Parameter.KEYWORD_ONLY,
                default=each.default,
                annotation=Annotated[
                    hints[each.name],
                    typer.Option(help=each.metadata["help"], envvar=f"{ENVIRONMENT}{each.name.upper()}", show_envvar=False),
                ],
            )
            for each in fields(Settings)
        ]
    )


serve.__signature__ = _flags()  # type: ignore[attr-defined]
serve.__annotations__ = {name: each.annotation for name, each in serve.__signature__.parameters.items()}  # type: ignore[attr-defined]
