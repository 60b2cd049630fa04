"""What every request passes on its way: the key, headers of the answer, the log; and answers that come before the body has."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
import uuid
from http import HTTPStatus
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lbam_fast.service.errors import ServiceError
from lbam_fast.service.logs import log
from lbam_fast.service.metrics import Metrics
from lbam_fast.service.settings import Settings

LOCKED = ("/v1/", "/metrics")
"""Paths that ask for the key, where there is one."""
DRAIN_SECONDS = 2.0
"""How long a body is still taken once it is refused, so that the client reads the answer before it finds the line cut."""
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def problem(error: ServiceError) -> JSONResponse:
    """The answer that a refusal is: application/problem+json of RFC 9457, with ``code`` for programs."""
    content = {"title": HTTPStatus(error.status).phrase, "status": error.status, "code": error.code, "detail": str(error)}
    headers = {} if error.retry_after is None else {"Retry-After": str(error.retry_after)}
    if error.status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = "Bearer"
    return JSONResponse(content, error.status, headers, "application/problem+json")


class Guard:
    """Around the application; see the module."""

    def __init__(self, app: ASGIApp, settings: Settings, metrics: Metrics) -> None:
        self._app, self._settings, self._metrics = app, settings, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = _Exchange(scope, receive, send)
        try:
            self._check(scope["path"], Headers(scope=scope))
        except ServiceError as error:
            await problem(error)(scope, exchange.receive, exchange.send)
        else:
            try:
                await self._app(scope, exchange.receive, exchange.send)
            except Exception as error:
                log("failed", logging.ERROR, exc_info=error, id=exchange.id)
                if exchange.status:
                    raise
                await problem(ServiceError("an error of the service; its log has more", 500, "internal"))(
                    scope, exchange.receive, exchange.send
                )
        route = getattr(scope.get("route"), "path", "other")
        self._metrics.answers.labels(route, str(exchange.status)).inc()
        level = logging.INFO if route.startswith("/v1/") or exchange.status >= 400 else logging.DEBUG
        log("answered", level, **exchange.told(), path=route, method=scope["method"], **scope.get("state", {}).get("told", {}))

    def _check(self, path: str, headers: Headers) -> None:
        host = headers.get("host")
        if host is not None and not self._settings.answers_to(host):
            raise ServiceError(
                f"the header Host is {host[:80]!r}, expected localhost or another of this service's names, which its setting "
                "hosts lists",
                400,
                "host",
            )
        if "content-length" in headers and "transfer-encoding" in headers:
            raise ServiceError("expected Content-Length or Transfer-Encoding, not both", 400, "bad_request")
        if not path.startswith(LOCKED):
            return
        if headers.get("sec-fetch-site") == "cross-site" and headers.get("origin") not in self._settings.origins:
            raise ServiceError("pages of other sites may not call this service", 403, "cross_site")
        key = self._settings.api_key
        if key is None:
            return
        kind, _, given = headers.get("authorization", "").partition(" ")
        if kind.lower() != "bearer" or not secrets.compare_digest(given.strip().encode(), key.encode()):
            raise ServiceError("expected the header Authorization: Bearer KEY with this service's key", 401, "key")


class _Exchange:
    """One request and its answer. An answer that is ready before the body is in is sent first; then some of the rest is taken."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.id, self.status, self._start = uuid.uuid4().hex, 0, time.perf_counter()
        self._receive, self._send, self._scope = receive, send, scope
        headers = Headers(scope=scope)
        self._bodiless = not headers.get("transfer-encoding") and headers.get("content-length", "0") == "0"
        self._complete = self._bodiless or headers.get("expect") is not None

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.disconnect" or not message.get("more_body", False):
            self._complete = True
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(raw=message.setdefault("headers", []))
            headers["X-Request-Id"] = self.id
            for name, value in HEADERS.items():
                headers.setdefault(name, value)
        elif message["type"] == "http.response.body" and not message.get("more_body", False) and not self._complete:
            await self._send({**message, "more_body": True})
            await self._drain()
            message = {"type": "http.response.body"}
        await self._send(message)

    async def _drain(self) -> None:
        try:
            async with asyncio.timeout(DRAIN_SECONDS):
                while not self._complete:
                    await self.receive()
        except TimeoutError:
            pass

    def told(self) -> dict[str, Any]:
        client = self._scope.get("client")
        return {
            "id": self.id,
            "client": client[0] if client else None,
            "status": self.status,
            "seconds": round(time.perf_counter() - self._start, 4),
        }
