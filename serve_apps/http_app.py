"""The HTTP application: routes, limits and formats. Knows nothing of Ray.

It is built around anything that embeds a recording, so tests run it without a cluster.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any, Protocol

from fastapi import FastAPI, Query, Request
from pydantic import BaseModel, ConfigDict
from starlette.responses import HTMLResponse, PlainTextResponse, Response

import sleepmami
from serve_apps.backend import Refusal
from serve_apps.docs_page import docs_page
from serve_apps.http_errors import RETRY_STATUSES, HttpError, install, request_id_of
from serve_apps.metrics import CONTENT_TYPE, Metrics
from serve_apps.wire import (
    ANSWER_TYPES,
    ARROW,
    CURL_TYPE,
    EDF_TYPES,
    JSON,
    NPZ,
    EmbeddingAnswer,
    Encoding,
    ErrorAnswer,
    InfoAnswer,
    Limits,
    ModelInfo,
    StatusAnswer,
    embedding_body,
    negotiate,
)
from sleepmami.inference.embedder import NightEmbedding

DESCRIPTION = (
    "Embeddings of whole nights of polysomnography: one vector per 30-s epoch and modality "
    "(micro), one per epoch in the context of its night (macro), one per night. Research use; not "
    "a medical device."
)
EMBED_DESCRIPTION = (
    "The body is one EDF or EDF+ file, at least one minute long. The answer is JSON, an Arrow IPC "
    "stream (one row per epoch) or an npz archive, by the Accept header. Nothing is written to "
    "disk or kept."
)


STALL_S = 60.0  # a client that sends nothing for so long gives its place to another


class NightEncoder(Protocol):
    """What the application needs of whatever embeds recordings."""

    async def embed(self, body: bytes, request_id: str) -> NightEmbedding | Refusal:
        """The redacted embedding of one EDF."""

    async def model(self) -> ModelInfo:
        """The loaded model; HttpError("model_not_ready") while there is none."""


class EmbeddingQuery(BaseModel):
    """Query of POST /v1/embeddings; an unknown parameter is an error."""

    model_config = ConfigDict(extra="forbid")
    encoding: Encoding = "base64"


class Admission:
    """Lets `max_running` requests hold a recording, `max_queued` more wait, and refuses the rest.

    A request is admitted before its body is read: the recordings in memory are at most
    max_running times max_body_mb.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._running = asyncio.Semaphore(limits.max_running)
        self.admitted = 0
        self._closed = False

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        """Wait for a place; HttpError("overloaded") when too many wait, or as `require_open`."""
        self.require_open()
        if self.admitted >= self.limits.max_running + self.limits.max_queued:
            raise HttpError("overloaded")
        self.admitted += 1
        try:
            async with self._running:
                self.require_open()
                yield
        finally:
            self.admitted -= 1

    def require_open(self) -> None:
        """HttpError("model_not_ready") once `drain` was called."""
        if self._closed:
            raise HttpError("model_not_ready")

    async def drain(self) -> None:
        """Admit nobody more, turn away those who wait, and return when no recording is held."""
        self._closed = True
        while self.admitted:
            await asyncio.sleep(0.05)


def create_app(encoder: NightEncoder, admission: Admission) -> FastAPI:
    """The application around one encoder."""
    app = FastAPI(
        title="SleepMaMi",
        version=sleepmami.__version__,
        description=DESCRIPTION,
        docs_url=None,  # the framework's page loads its script from elsewhere
        redoc_url=None,
        redirect_slashes=False,  # a redirect would repeat the request's Host header
        generate_unique_id_function=lambda route: route.name,  # a client's method is called embed
    )
    metrics = Metrics(lambda: admission.admitted)
    install(app, metrics.observe_request)
    _add_service_routes(app, encoder, admission, metrics)
    _add_embedding_route(app, encoder, admission, metrics)
    return app


def _add_service_routes(
    app: FastAPI, encoder: NightEncoder, admission: Admission, metrics: Metrics
) -> None:
    @app.get("/health", summary="The service is alive.")
    async def health() -> StatusAnswer:
        return StatusAnswer(status="ok")

    @app.get("/ready", summary="The model is loaded.", responses=_errors(503))
    async def ready() -> StatusAnswer:
        admission.require_open()
        await encoder.model()
        return StatusAnswer(status="ready")

    @app.get("/info", summary="Model, versions and limits.", responses=_errors(503))
    async def info() -> InfoAnswer:
        return InfoAnswer(
            code_version=sleepmami.__version__,
            model=await encoder.model(),
            limits=admission.limits,
            answer_types=list(ANSWER_TYPES),
        )

    @app.get(
        "/metrics",
        summary="Counters in the Prometheus text format.",
        response_class=PlainTextResponse,
    )
    async def prometheus() -> Response:
        return Response(metrics.text(), headers={"content-type": CONTENT_TYPE})

    @app.get("/docs", summary="The routes of this service, as a page.", response_class=HTMLResponse)
    async def docs() -> HTMLResponse:
        return HTMLResponse(docs_page(app.openapi()))


def _add_embedding_route(
    app: FastAPI, encoder: NightEncoder, admission: Admission, metrics: Metrics
) -> None:
    max_body_mb = admission.limits.max_body_mb

    @app.post(
        "/v1/embeddings",
        summary="Embed one recording.",
        description=EMBED_DESCRIPTION,
        response_class=Response,
        responses=_embedding_answers(),
        openapi_extra=_edf_body(),
    )
    async def embed(request: Request, query: Annotated[EmbeddingQuery, Query()]) -> Response:
        answer_type = negotiate(request.headers.get("accept"))
        if answer_type is None:
            raise HttpError("not_acceptable")
        if "encoding" in query.model_fields_set and answer_type != JSON:
            raise HttpError("request_invalid")  # it could have no effect
        check_headers(request, max_body_mb)
        async with admission.slot():
            body = await read_body(request, max_body_mb)
            outcome = await encoder.embed(body, request_id_of(request))
        if isinstance(outcome, Refusal):
            metrics.observe_refusal(outcome.code)
            raise HttpError(outcome.code)
        content = await asyncio.to_thread(embedding_body, outcome, answer_type, query.encoding)
        metrics.observe_embedding(outcome)
        return Response(content, headers={"content-type": answer_type, "vary": "accept"})


def check_headers(request: Request, max_body_mb: int) -> None:
    """Refuse what the headers alone rule out, before a byte of the body is read."""
    content_type = request.headers.get("content-type", EDF_TYPES[0])
    if content_type.partition(";")[0].strip().lower() not in (*EDF_TYPES, CURL_TYPE):
        raise HttpError("unsupported_media_type")
    if request.headers.get("content-encoding", "identity").strip().lower() != "identity":
        raise HttpError("unsupported_media_type")  # small bytes that become large ones
    declared = request.headers.get("content-length", "")
    if declared.isascii() and declared.isdigit() and int(declared) > max_body_mb * 2**20:
        raise HttpError("payload_too_large")


async def read_body(request: Request, max_body_mb: int) -> bytes:
    """The whole body; HttpError when it proves too large, stops coming for STALL_S, or is empty."""
    chunks, size = [], 0
    stream = request.stream()
    while True:
        try:
            async with asyncio.timeout(STALL_S):
                chunk = await anext(stream, None)
        except TimeoutError:
            raise HttpError("upload_stalled") from None
        if chunk is None:
            break
        size += len(chunk)
        if size > max_body_mb * 2**20:
            raise HttpError("payload_too_large")
        chunks.append(chunk)
    if not size:
        raise HttpError("empty_body")
    return b"".join(chunks)


Responses = dict[int | str, dict[str, Any]]  # Any: OpenAPI objects


def _errors(*statuses: int) -> Responses:
    meanings = {
        400: "Not an EDF, or not a whole one.",
        406: "Accept names no type we have.",
        408: "The body stopped coming.",
        413: "Larger than max_body_mb.",
        415: "Content type is not an EDF's, or the body is compressed.",
        422: "A recording that cannot be embedded, or a wrong parameter.",
        429: "Too many requests wait already; try again after Retry-After seconds.",
        500: "The service failed.",
        503: "The model is not there; try again after Retry-After seconds.",
    }
    answers: Responses = {s: {"model": ErrorAnswer, "description": meanings[s]} for s in statuses}
    for status in answers.keys() & set(RETRY_STATUSES):
        seconds = {"description": "Seconds to wait.", "schema": {"type": "integer"}}
        answers[status]["headers"] = {"Retry-After": seconds}
    return answers


def _embedding_answers() -> Responses:
    binary = {"schema": {"type": "string", "format": "binary"}}
    ok = {
        "model": EmbeddingAnswer,
        "description": "The embedding.",
        "content": {ARROW: binary, NPZ: binary},
    }
    return {200: ok} | _errors(400, 406, 408, 413, 415, 422, 429, 500, 503)


def _edf_body() -> dict[str, Any]:  # Any: an OpenAPI object
    schema = {"schema": {"type": "string", "format": "binary"}}
    return {"requestBody": {"required": True, "content": dict.fromkeys(EDF_TYPES, schema)}}
