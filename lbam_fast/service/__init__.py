"""Inpainting over HTTP: the service behind ``lbam-fast serve``, its page, and a client.

>>> with Client("http://127.0.0.1:8000") as client:
...     client.inpaint("photo.jpg", "mask.png").save("filled.jpg")

Names are imported on first use; the service needs ``pip install 'lbam-fast[serve]'``.
"""

from typing import TYPE_CHECKING

from lbam_fast.lazy import looked_up

if TYPE_CHECKING:
    from lbam_fast.service.app import make_app
    from lbam_fast.service.client import Client, Filled
    from lbam_fast.service.errors import ServiceError
    from lbam_fast.service.server import serve
    from lbam_fast.service.settings import Settings

_MODULES = {
    "app": ("make_app",),
    "client": ("Client", "Filled"),
    "errors": ("ServiceError",),
    "server": ("serve",),
    "settings": ("Settings",),
}

__all__ = ["Client", "Filled", "ServiceError", "Settings", "make_app", "serve"]

if not TYPE_CHECKING:
    __getattr__ = looked_up(__name__, _MODULES)
