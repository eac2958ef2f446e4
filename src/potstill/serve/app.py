"""App: the HTTP service of one process."""

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException as StarletteHTTPException

from potstill import __version__
from potstill.edge import Row
from potstill.serve import explain, measures
from potstill.serve.batching import Answer, Batcher, OverloadedError
from potstill.serve.limits import Bounded, Limits
from potstill.serve.protocol import InferRequest, metadata, rows_of, tensors_of
from potstill.serve.release import Served, Watched

LOOK_EVERY_S = 0.25
BAD_REQUEST, NOT_FOUND, TOO_LARGE, UNAVAILABLE = 400, 404, 413, 503
# The page loads nothing from elsewhere.
PAGE_POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'"


class PredictRequest(BaseModel):
    """Rows to answer: texts, or objects with the model's columns."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": {"rows": ["great camera, poor battery"]}})

    rows: list[str | dict[str, Any]] = Field(min_length=1)


class PredictResponse(BaseModel):
    """Answers in the order of the rows, all of one version."""

    model: str
    version: str
    answers: list[dict[str, Any]]


class ExplainRequest(BaseModel):
    """A row whose answer is to be explained."""

    model_config = ConfigDict(extra="forbid")

    row: str | dict[str, Any]


class ExplainResponse(BaseModel):
    """An answer, and by task what each word of the first text column added to it."""

    model: str
    version: str
    answer: dict[str, Any]
    words: list[str]
    weights: dict[str, list[float]]


@dataclass
class Service:
    """What a process serves now.

    Attributes:
        watched: where another version would be announced.
        limits: see there.
        served: what answers.
    """

    watched: Watched
    limits: Limits
    served: Served

    @classmethod
    def start(cls, state: Path, limits: Limits) -> "Service":
        """Open what is announced in a folder."""
        watched = Watched(state)
        release = watched.news()
        assert release is not None  # noqa: S101 - the first look always finds one
        measures.serving(release, None)
        return cls(watched, limits, Served.open(release))

    async def follow(self) -> None:
        """Take up each version that is announced, beside the requests; until cancelled."""
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            # What can't be read now is announced anew, or not at all: what serves goes on.
            with contextlib.suppress(OSError):
                await self.look()

    async def look(self) -> None:
        """Take up another version if there is one. Requests that are being answered keep theirs."""
        release = self.watched.news()
        if release is not None:
            before, self.served = self.served.release, await asyncio.to_thread(Served.open, release)
            measures.serving(release, before)


def make_app(state: Path, limits: Limits) -> FastAPI:
    """The service of what is announced in a folder."""
    service = Service.start(state, limits)
    batcher: Batcher[Served] = Batcher(
        lambda: service.served,
        lambda served, rows: served.edge.answer(rows, limits.batch_rows),
        limits.batch_rows,
        limits.wait_ms / 1e3,
        limits.waiting_rows,
        measures.batch,
    )

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        tasks = [asyncio.create_task(work) for work in (batcher.work(), service.follow())]
        yield
        for task in tasks:
            task.cancel()

    app = FastAPI(
        title="Potstill",
        summary=f"{service.served.release.name} on a CPU",
        version=__version__,
        lifespan=lifespan,
    )
    app.add_middleware(Bounded, limits=limits)
    app.add_middleware(measures.Timed)
    _errors(app)
    _plain(app, service, batcher)
    _open_inference(app, service, batcher)
    return app


async def _asked(batcher: Batcher[Served], limits: Limits, rows: Sequence[Row]) -> tuple[Served, list[Answer]]:
    """The answers, or the HTTP error that says why there are none."""
    if len(rows) > limits.rows:
        raise HTTPException(TOO_LARGE, f"{len(rows):,} rows; at most {limits.rows:,} a request")
    try:
        return await batcher.ask(list(rows))
    except ValueError as error:
        raise HTTPException(BAD_REQUEST, str(error)) from error
    except OverloadedError as error:
        raise HTTPException(UNAVAILABLE, f"{error}: try again", headers={"retry-after": "1"}) from error


def _plain(app: FastAPI, service: Service, batcher: Batcher[Served]) -> None:
    """The page and the plain routes."""

    @app.get("/", response_class=HTMLResponse, include_in_schema=False)
    async def page() -> Response:
        text = files("potstill.serve").joinpath("page.html").read_text(encoding="utf-8")
        return HTMLResponse(text, headers={"content-security-policy": PAGE_POLICY})

    @app.get("/model", tags=["plain"])
    async def model() -> dict[str, Any]:
        """What is served now, what it takes and what it gives."""
        return metadata(service.served.release.name, service.served.release.version, service.served.edge)

    @app.post("/predict", response_model=PredictResponse, tags=["plain"])
    async def predict(request: PredictRequest) -> Response:
        """Answer rows."""
        served, answers = await _asked(batcher, service.limits, request.rows)
        release = served.release
        return JSONResponse({"model": release.name, "version": release.version, "answers": answers})

    @app.post("/explain", response_model=ExplainResponse, tags=["plain"])
    async def explain_(request: ExplainRequest) -> Response:
        """Answer a row, and tell what each of its first 60 words adds to the answer: what is lost without it."""
        column = service.served.edge.text_columns[0]
        row = {column: request.row} if isinstance(request.row, str) else request.row
        text = row.get(column) if isinstance(row.get(column), str) else ""
        spans = explain.words_of(str(text))
        rows = [row, *({**row, column: other} for other in explain.without_each(str(text), spans))]
        served, (answer, *others) = await _asked(batcher, service.limits, rows)
        return JSONResponse(
            {
                "model": served.release.name,
                "version": served.release.version,
                "answer": answer,
                "words": [str(text)[start:end] for start, end in spans],
                "weights": explain.weights(served.edge.outcome, answer, others),
            }
        )

    @app.get("/metrics", tags=["plain"], response_class=Response)
    async def metrics() -> Response:
        """Figures for Prometheus, of all processes of the service."""
        return Response(measures.page(), media_type=measures.CONTENT_TYPE)


def _open_inference(app: FastAPI, service: Service, batcher: Batcher[Served]) -> None:
    """The Open Inference Protocol, version 2."""
    tags: list[Any] = ["open inference protocol v2"]

    def known(name: str, version: str | None = None) -> Served:
        release = service.served.release
        if name != release.name:
            raise HTTPException(NOT_FOUND, f"no model {name!r}; there is {release.name}")
        if version not in (None, release.version):
            raise HTTPException(NOT_FOUND, f"no version {version} of {name} now; there is {release.version}")
        return service.served

    @app.get("/v2/health/live", tags=tags)
    async def live() -> dict[str, bool]:
        return {"live": True}

    @app.get("/v2/health/ready", tags=tags)
    async def ready() -> dict[str, bool]:
        return {"ready": True}

    @app.get("/v2", tags=tags)
    async def server() -> dict[str, Any]:
        return {"name": "potstill", "version": __version__, "extensions": []}

    @app.get("/v2/models/{name}", tags=tags)
    @app.get("/v2/models/{name}/versions/{version}", tags=tags)
    async def model(name: str, version: str | None = None) -> dict[str, Any]:
        served = known(name, version)
        return metadata(name, served.release.version, served.edge)

    @app.get("/v2/models/{name}/ready", tags=tags)
    @app.get("/v2/models/{name}/versions/{version}/ready", tags=tags)
    async def model_ready(name: str, version: str | None = None) -> dict[str, Any]:
        return {"name": known(name, version).release.name, "ready": True}

    @app.post("/v2/models/{name}/infer", tags=tags)
    @app.post("/v2/models/{name}/versions/{version}/infer", tags=tags)
    async def infer(name: str, request: InferRequest, version: str | None = None) -> Response:
        try:
            rows = rows_of(known(name, version).edge, request.inputs)
            served, answers = await _asked(batcher, service.limits, rows)
            outputs = tensors_of(served.edge.outcome, answers, [output.name for output in request.outputs])
        except ValueError as error:
            raise HTTPException(BAD_REQUEST, str(error)) from error
        told = {"model_name": name, "model_version": served.release.version, "outputs": outputs}
        return JSONResponse(told | ({} if request.id is None else {"id": request.id}))


def _errors(app: FastAPI) -> None:
    """Every error is one line of JSON: `{"error": …}`."""

    async def refused(_: Request, error: StarletteHTTPException) -> Response:
        return JSONResponse({"error": str(error.detail)}, error.status_code, error.headers)

    async def malformed(_: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"][1:])) or "body"
        return JSONResponse({"error": f"{where}: {first['msg']}"}, BAD_REQUEST)

    async def broken(_: Request, error: Exception) -> Response:
        print(f"potstill: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
        return JSONResponse({"error": "the service failed; its log says why"}, 500)

    app.add_exception_handler(StarletteHTTPException, refused)  # type: ignore[arg-type]
    app.add_exception_handler(RequestValidationError, malformed)  # type: ignore[arg-type]
    app.add_exception_handler(Exception, broken)
