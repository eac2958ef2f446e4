"""App: the HTTP service of one process."""

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Sequence
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
from potstill.serve.release import Served, announced

LOOK_EVERY_S = 0.25
BAD_REQUEST, NOT_FOUND, TOO_LARGE, FAILED, UNAVAILABLE, LATE = 400, 404, 413, 500, 503, 504
# An error repeats what it is about, which may be as long as a body.
MOST_WORDS = 300
# The page loads nothing from elsewhere.
PAGE_POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'"


class PredictRequest(BaseModel):
    """Rows to answer: texts, or objects with the model's columns."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": {"rows": ["great camera, poor battery"]}})

    rows: list[str | dict[str, Any]] = Field(min_length=1, fail_fast=True)


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


class Problem(BaseModel):
    """What is wrong, in one line."""

    error: str


class Told(JSONResponse):
    """JSON in which half a character, such as a text that was cut has at its end, becomes a question mark."""

    def render(self, content: Any) -> bytes:
        """The body."""
        return json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode(errors="replace")


class Service:
    """What a process serves, and its line.

    Args:
        state: the folder in which another version would be announced.
        limits: see there.
        parent: the process that announces, without which this one ends.
    """

    def __init__(self, state: Path, limits: Limits, parent: int) -> None:
        self.limits = limits
        self.served = Served.open(announced(state))
        self.batcher: Batcher[Served] = Batcher(
            lambda served, rows: served.edge.answer(rows, limits.batch_rows),
            limits.batch_rows,
            limits.wait_ms / 1e3,
            limits.time_s / 2,
            measures.batch,
        )
        self._state, self._trouble, self._parent = state, "", parent
        self._tasks: list[asyncio.Task[None]] = []
        measures.serving(self.served.release, None)

    @contextlib.asynccontextmanager
    async def running(self, _: FastAPI) -> AsyncIterator[None]:
        """Answer, and follow what is announced, while the block runs."""
        self._tasks = [asyncio.create_task(work) for work in (self.batcher.work(), self._follow())]
        yield
        for task in self._tasks:
            task.cancel()

    @property
    def ready(self) -> bool:
        """Whether everything that should run does."""
        return bool(self._tasks) and not any(task.done() for task in self._tasks)

    async def ask(self, served: Served, rows: Sequence[Row]) -> list[Answer]:
        """The answers, or the HTTP error that says why there are none."""
        try:
            return await self.batcher.ask(served, list(rows))
        except ValueError as error:
            raise HTTPException(BAD_REQUEST, str(error)) from error
        except OverloadedError as error:
            raise HTTPException(UNAVAILABLE, f"{error}: try again", {"retry-after": "1"}) from error
        except Exception as error:
            _say(f"{type(error).__name__}: {error}")
            raise HTTPException(FAILED, "the service failed; its log says why") from error

    async def _follow(self) -> None:
        """Take up each version that is announced, beside the requests; end with the process that announces."""
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            if os.getppid() != self._parent:
                os.kill(os.getpid(), signal.SIGTERM)
            try:
                await self._look()
                self._trouble = ""
            except Exception as error:  # noqa: BLE001 - what serves goes on, and tries again
                trouble = f"process {os.getpid()} still serves version {self.served.release.version}: {error}"
                if trouble != self._trouble:
                    _say(trouble)
                self._trouble = trouble

    async def _look(self) -> None:
        release, before = announced(self._state), self.served.release
        if release != before:
            self.served = await asyncio.to_thread(Served.open, release)
            measures.serving(release, before)


def make_app(state: Path, limits: Limits, parent: int) -> FastAPI:
    """The service of what is announced in a folder; see `Service`."""
    service = Service(state, limits, parent)
    app = FastAPI(
        title="Potstill",
        summary=f"{service.served.release.name} on a CPU",
        version=__version__,
        lifespan=service.running,
        redirect_slashes=False,
        responses={code: {"model": Problem} for code in (BAD_REQUEST, NOT_FOUND, TOO_LARGE, FAILED, UNAVAILABLE, LATE)},
    )
    app.add_middleware(Bounded, limits=limits)
    app.add_middleware(measures.Timed)
    _errors(app)
    _plain(app, service)
    _open_inference(app, service)
    return app


def _few(rows: Sequence[Row], limits: Limits) -> Sequence[Row]:
    """The rows, if they are no more than allowed."""
    if len(rows) > limits.rows:
        raise HTTPException(TOO_LARGE, f"{len(rows):,} rows; at most {limits.rows:,} a request")
    return rows


def _say(line: str) -> None:
    print(f"potstill: {line}", file=sys.stderr, flush=True)


def _plain(app: FastAPI, service: Service) -> None:
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
        served = service.served
        answers = await service.ask(served, _few(request.rows, service.limits))
        return Told({"model": served.release.name, "version": served.release.version, "answers": answers})

    @app.post("/explain", response_model=ExplainResponse, tags=["plain"])
    async def explain_(request: ExplainRequest) -> Response:
        """Answer a row, and tell what each of its first 60 words adds to the answer: what is lost without it."""
        served = service.served
        column = served.edge.text_columns[0]
        row = {column: request.row} if isinstance(request.row, str) else request.row
        text = row[column] if isinstance(row.get(column), str) else ""
        if len(text) > service.limits.characters:
            raise HTTPException(
                TOO_LARGE, f"{len(text):,} characters; at most {service.limits.characters:,} are explained"
            )
        spans = explain.words_of(text)
        (answer,) = await service.ask(served, [row])
        # Probabilities of two models of a cascade can't be subtracted: the one that has answered goes on.
        speaker = Served(served.release, await asyncio.to_thread(served.edge.answering, row))
        rows = [{**row, column: other} for other in explain.without_each(text, spans)]
        others = await service.ask(speaker, rows) if rows else []
        return Told(
            {
                "model": served.release.name,
                "version": served.release.version,
                "answer": answer,
                "words": [text[start:end] for start, end in spans],
                "weights": explain.weights(served.edge.outcome, answer, others),
            }
        )

    @app.get("/metrics", tags=["plain"], response_class=Response)
    async def metrics() -> Response:
        """Figures for Prometheus, of all processes of the service."""
        return Response(measures.page(), media_type=measures.CONTENT_TYPE)


def _open_inference(app: FastAPI, service: Service) -> None:
    """The Open Inference Protocol, version 2."""
    tags: list[Any] = ["open inference protocol v2"]

    def known(name: str, version: str | None = None) -> Served:
        release = service.served.release
        if name != release.name:
            raise HTTPException(NOT_FOUND, f"no model {name!r}; there is {release.name}")
        if version not in (None, release.version):
            raise HTTPException(NOT_FOUND, f"no version {version} of {name} now; there is {release.version}")
        return service.served

    @app.head("/v2/health/live", include_in_schema=False)
    @app.get("/v2/health/live", tags=tags)
    async def live() -> dict[str, bool]:
        return {"live": True}

    @app.head("/v2/health/ready", include_in_schema=False)
    @app.get("/v2/health/ready", tags=tags)
    async def ready(response: Response) -> dict[str, bool]:
        response.status_code = 200 if service.ready else UNAVAILABLE
        return {"ready": service.ready}

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
        served = known(name, version)
        try:
            answers = await service.ask(served, _few(rows_of(served.edge, request.inputs), service.limits))
            outputs = tensors_of(served.edge.outcome, answers, [output.name for output in request.outputs or ()])
        except ValueError as error:
            raise HTTPException(BAD_REQUEST, str(error)) from error
        told = {"model_name": name, "model_version": served.release.version, "outputs": outputs}
        return Told(told | ({} if request.id is None else {"id": request.id}))


def _errors(app: FastAPI) -> None:
    """Every error of the service is one line of JSON: `{"error": …}`."""

    async def refused(_: Request, error: StarletteHTTPException) -> Response:
        return Told({"error": str(error.detail)[:MOST_WORDS]}, error.status_code, error.headers)

    async def malformed(_: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        if first["type"] == "json_invalid":
            words = f"body: no JSON from character {first['loc'][-1]} on"
        elif len(first["loc"]) == 1:
            words = "body: not read as JSON; is its content-type application/json?"
        else:
            words = f"{'.'.join(map(str, first['loc'][1:]))}: {first['msg']}"
        return Told({"error": words[:MOST_WORDS]}, BAD_REQUEST)

    app.add_exception_handler(StarletteHTTPException, refused)  # type: ignore[arg-type]
    app.add_exception_handler(RequestValidationError, malformed)  # type: ignore[arg-type]
