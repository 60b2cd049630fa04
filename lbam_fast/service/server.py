"""The service as a process: network, connections, graceful stop."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import Any

import torch
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from lbam_fast.inference import Inpainter
from lbam_fast.service.admission import RETRY
from lbam_fast.service.app import make_app
from lbam_fast.service.errors import ServiceError
from lbam_fast.service.logs import log, start_logging
from lbam_fast.service.settings import Settings

_TOO_MANY = f"HTTP/1.1 503 Service Unavailable\r\nRetry-After: {RETRY}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode()


def serve(settings: Settings) -> None:
    """Serve until SIGINT or SIGTERM, then finish what was accepted. Raises ServiceError, and as Inpainter does."""
    listening = _listen(settings.host, settings.port)
    with listening:
        start_logging(settings.log_level)
        app = make_app(_inpainters(settings), settings)
        config = uvicorn.Config(
            app,
            http=_protocol(settings),
            ws="none",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=settings.keep_alive,  # type: ignore[arg-type] # seconds, handed to call_later
            timeout_graceful_shutdown=round(settings.stop_seconds),
        )
        listening.listen(config.backlog)  # else who reads the next line may come too early
        host, port = listening.getsockname()[:2]
        log("listening", url=f"http://{f'[{host}]' if ':' in host else host}:{port}", key=settings.api_key is not None)
        uvicorn.Server(config).run([listening])


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        with contextlib.ExitStack() as stack:
            listening = stack.enter_context(socket.socket(family, kind, protocol))
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind(address)
            stack.pop_all()
            return listening
    except OSError as error:
        raise ServiceError(
            f"cannot listen on {host}, port {port} ({error.strerror or error}); choose another --host or --port"
        ) from error


def _inpainters(settings: Settings) -> list[Inpainter]:
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    names = settings.devices
    if names == ["auto"] and torch.cuda.is_available():
        names = [f"cuda:{i}" for i in range(torch.cuda.device_count())]
    options: dict[str, Any] = {"preset": settings.preset, "dtype": settings.dtype, "max_pixels": settings.max_pixels}
    return [Inpainter.from_pretrained(settings.weights, device=name, **options) for name in names]


def _protocol(settings: Settings) -> type[H11Protocol]:
    """HTTP of connections that are limited in number, and in the time between a request's first byte and its last header."""

    class Limited(H11Protocol):
        _waiting: asyncio.TimerHandle | None = None

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            if len(self.connections) > settings.connections:
                transport.write(_TOO_MANY)
                transport.close()
                return
            self._waiting = self.loop.call_later(settings.header_seconds, self._end)

        def data_received(self, data: bytes) -> None:
            if self.transport.is_closing():
                return
            super().data_received(data)
            at_work = self.cycle is not None and not self.cycle.response_complete
            if at_work and self._waiting is not None:
                self._waiting.cancel()
                self._waiting = None
            elif not at_work and self._waiting is None:
                self._waiting = self.loop.call_later(settings.header_seconds, self._end)

        def connection_lost(self, exc: Exception | None) -> None:
            if self._waiting is not None:
                self._waiting.cancel()
            super().connection_lost(exc)

        def _end(self) -> None:
            self._waiting = None
            at_work = self.cycle is not None and not self.cycle.response_complete
            if not at_work and not self.transport.is_closing():
                self.transport.close()

    return Limited
