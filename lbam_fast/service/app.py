"""The application: its paths, and what each answers."""

from __future__ import annotations

import asyncio
import json
import logging
import mimetypes
import time
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager
from importlib import resources
from typing import Annotated, Any

from fastapi import FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware

from lbam_fast import __version__
from lbam_fast.inference import Inpainter
from lbam_fast.service import description
from lbam_fast.service.admission import RETRY, Admission, stopping
from lbam_fast.service.engine import Answer, Engine
from lbam_fast.service.errors import ServiceError
from lbam_fast.service.guard import Guard, problem
from lbam_fast.service.logs import log
from lbam_fast.service.metrics import Metrics
from lbam_fast.service.options import Options
from lbam_fast.service.pictures import SUFFIXES
from lbam_fast.service.settings import Settings
from lbam_fast.service.uploads import ClientDisconnect, length_of, read_upload

TOLD = ("LBAM-Notes", "LBAM-Strategy", "Server-Timing", "Retry-After", "X-Request-Id")
"""Headers that pages of other origins may read."""


def make_app(inpainters: Sequence[Inpainter], settings: Settings | None = None) -> FastAPI:
    """The service as an ASGI application, with an inpainter for each device; their mask options have no say.

    The end of its lifespan finishes what was accepted.
    """
    settings = settings or Settings()
    admission = Admission(settings)
    metrics = Metrics(lambda: admission.count, lambda: admission.size)
    engine = Engine(inpainters, settings, told=metrics.batches.observe)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        admission.closed = True
        await asyncio.get_running_loop().run_in_executor(None, engine.close)
        log("stopped")

    app = FastAPI(
        title="lbam_fast",
        version=__version__,
        description=description.SERVICE,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        responses=description.HOST,
        middleware=_middleware(settings, metrics),
        exception_handlers=_HANDLERS,
    )
    app.state.admission, app.state.engine = admission, engine
    _add_inpaint(app, settings, admission, engine, metrics)
    _add_state(app, settings, admission, engine, metrics)
    _add_page(app)
    return app


def _middleware(settings: Settings, metrics: Metrics) -> list[Middleware]:
    found = [Middleware(Guard, settings=settings, metrics=metrics)]
    if settings.origins:
        cors = Middleware(
            CORSMiddleware,
            allow_origins=settings.origins,
            allow_methods=["GET", "POST"],
            allow_headers=["Authorization", "Content-Type"],
            expose_headers=TOLD,
        )
        found.insert(0, cors)
    return found


def _add_inpaint(app: FastAPI, settings: Settings, admission: Admission, engine: Engine, metrics: Metrics) -> None:
    @app.post("/v1/inpaint", response_class=Response, **description.INPAINT)
    async def inpaint(request: Request, options: Annotated[Options, Query()]) -> Response:
        start = time.perf_counter()
        with admission.entry(length_of(request)):
            try:
                async with asyncio.timeout(settings.seconds):
                    upload = await read_upload(request, settings)
                    uploaded = time.perf_counter()
                    answer = await _unless_gone(request, engine.inpaint(upload.image, upload.mask, options))
            except TimeoutError as error:
                raise ServiceError(
                    f"not done within {settings.seconds:g} seconds; try again, or smaller pictures", 503, "timed_out", RETRY
                ) from error
        stages = {"upload": uploaded - start, **answer.stages}
        metrics.seconds.observe(time.perf_counter() - start)
        metrics.pixels.inc(answer.size[0] * answer.size[1])
        for stage, seconds in stages.items():
            metrics.stages.labels(stage).observe(seconds)
        request.state.told = {"size": answer.size, "together": answer.together, "strategy": answer.strategy} | {
            f"{stage}_seconds": round(seconds, 4) for stage, seconds in stages.items()
        }
        return _picture(answer, stages)


def _picture(answer: Answer, stages: dict[str, float]) -> Response:
    headers = {
        "Content-Disposition": f'inline; filename="filled{answer.suffix}"',
        "LBAM-Strategy": answer.strategy,
        "Server-Timing": ", ".join(f"{stage};dur={1000 * seconds:.1f}" for stage, seconds in stages.items()),
        "Cache-Control": "no-store",
    }
    if answer.notes:
        headers["LBAM-Notes"] = json.dumps(answer.notes)
    return Response(answer.data, headers=headers, media_type=answer.media_type)


async def _unless_gone(request: Request, work: Coroutine[Any, Any, Answer]) -> Answer:
    """The result of the work, which is given up if the client goes away. Raises ClientDisconnect then."""
    doing, gone = asyncio.ensure_future(work), asyncio.ensure_future(_disconnected(request))
    try:
        await asyncio.wait((doing, gone), return_when=asyncio.FIRST_COMPLETED)
        if doing.done():
            return doing.result()
        raise ClientDisconnect
    finally:
        gone.cancel()
        doing.cancel()


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _add_state(app: FastAPI, settings: Settings, admission: Admission, engine: Engine, metrics: Metrics) -> None:
    @app.get("/healthz", summary="Whether the process answers")
    async def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/readyz", summary="Whether it takes requests", responses={503: description.INPAINT["responses"][503]})
    async def readyz() -> dict[str, str]:
        if admission.closed or not engine.alive:
            raise stopping()
        if admission.count >= settings.queue:
            raise ServiceError("the queue is full", 503, "queue_full", RETRY)
        return {"status": "ready"}

    @app.get("/v1/limits", summary="What a request may hold", responses=description.KEY)
    async def limits() -> dict[str, int | list[str]]:
        return {
            "max_body": settings.max_body,
            "max_pixels": settings.max_pixels,
            "formats": [name.lower() for name in SUFFIXES],
        }

    @app.get("/metrics", summary="Counts for Prometheus", response_class=Response, responses=_METRICS)
    async def told() -> Response:
        return Response(metrics.text(), media_type="text/plain; version=0.0.4")


_METRICS: dict[int | str, dict[str, Any]] = {
    200: {"content": {"text/plain": {"schema": {"type": "string"}}}, "description": "In Prometheus' text format."},
    **description.KEY,
}


def _add_page(app: FastAPI) -> None:
    """The page's files, which are in memory from now on: no name from outside is looked up on disk."""
    folder = resources.files("lbam_fast.service") / "static"
    files = {file.name: file.read_bytes() for file in folder.iterdir() if file.is_file()}

    def answer(name: str) -> Response:
        if name not in files:
            raise HTTPException(404)
        kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
        return Response(files[name], media_type=kind, headers={"Cache-Control": "no-cache"})

    @app.get("/", include_in_schema=False)
    async def page() -> Response:
        return answer("index.html")

    @app.get("/docs", include_in_schema=False)
    async def docs() -> Response:
        return answer("docs.html")

    @app.get("/static/{name}", include_in_schema=False)
    async def static(name: str) -> Response:
        return answer(name)


async def _refused(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, ServiceError)
    return problem(error)


async def _invalid(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    found = "; ".join(f"{'.'.join(map(str, each['loc'][1:]))}: {each['msg']}" for each in error.errors())
    return problem(ServiceError(f"the query cannot be used: {found}", 422, "bad_option"))


async def _http_error(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    code = {404: "not_found", 405: "method"}.get(error.status_code, "bad_request")
    answer = problem(ServiceError(error.detail, error.status_code, code))
    answer.headers.update(error.headers or {})
    return answer


async def _gone(_: Request, error: Exception) -> Response:
    log("client gone", logging.DEBUG)
    return Response(status_code=400)  # nobody reads it


_HANDLERS: dict[Any, Any] = {
    ServiceError: _refused,
    RequestValidationError: _invalid,
    HTTPException: _http_error,
    ClientDisconnect: _gone,
}
