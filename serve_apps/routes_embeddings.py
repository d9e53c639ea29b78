"""/v1/embeddings and /v1/inspect: one recording in a request, its embedding in the answer."""

import asyncio
import dataclasses
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import FastAPI, Query, Request
from pydantic import BaseModel, ConfigDict
from starlette.responses import Response

from serve_apps.backend import EmbedOptions, Inspection, Recording, Refusal
from serve_apps.formats import choose, to_body
from serve_apps.http_errors import ERRORS, HttpError, request_id_of
from serve_apps.openapi_parts import binary_answers, edf_or_upload, errors
from serve_apps.request_body import check_headers, content_type_of, json_body, recording_body
from serve_apps.service import MB, Service, owner_of
from serve_apps.wire import (
    ARROW,
    JSON,
    NPZ,
    SAFETENSORS,
    DType,
    EmbeddingAnswer,
    EmbeddingRequest,
    Encoding,
    InspectAnswer,
    Level,
    negotiate,
)
from sleepmami.psg import MODALITIES

EMBED_DESCRIPTION = (
    "The body is one EDF or EDF+ file, at least one minute long, or JSON that names an upload. "
    "The answer is JSON, an Arrow IPC stream (one row per epoch), an npz archive or safetensors, "
    "by the Accept header. A recording in the body is not kept."
)
INSPECT_DESCRIPTION = (
    "What would be used of a recording, without reading its signals: the body is as of "
    "/v1/embeddings. A file that cannot be used is an answer, not an error. Of a channel's label "
    "only words are told that are known to name signals."
)


class EmbeddingQuery(BaseModel):
    """Query of what answers embeddings; an unknown parameter is an error."""

    model_config = ConfigDict(extra="forbid")
    level: Annotated[list[Level], Query(description="may be repeated")] = ["all"]
    dtype: DType = "float32"
    encoding: Encoding = "base64"


class ModelQuery(EmbeddingQuery):
    """The same, and the name of a model of /info."""

    model: str | None = None


class NoQuery(BaseModel):
    """A query without parameters."""

    model_config = ConfigDict(extra="forbid")


def add_embedding_routes(app: FastAPI, service: Service) -> None:
    """Add the routes."""

    @app.post(
        "/v1/embeddings",
        summary="Embed one recording.",
        description=EMBED_DESCRIPTION,
        response_class=Response,
        responses=binary_answers(ARROW, NPZ, SAFETENSORS, model=EmbeddingAnswer)
        | errors(400, 404, 406, 408, 409, 413, 415, 422, 429, 500, 503, 507),
        openapi_extra=edf_or_upload(EmbeddingRequest),
    )
    async def embed(request: Request, query: Annotated[ModelQuery, Query()]) -> Response:
        answer_type = answer_type_of(request, query)
        if query.model is not None:
            await service.model_named(query.model)
        options = EmbedOptions(model=query.model, second="second" in query.level)
        async with recording_of(request, service) as recording:
            outcome = await service.backend.embed(recording, request_id_of(request), options)
        if isinstance(outcome, Refusal):
            service.metrics.observe_refusal(outcome.code)
            raise HttpError(outcome.code)
        chosen = choose(outcome, query.level, query.dtype)
        content = await asyncio.to_thread(to_body, chosen, answer_type, query.encoding)
        service.metrics.observe_embedding(outcome)
        return Response(content, headers={"content-type": answer_type, "vary": "accept"})

    @app.post(
        "/v1/inspect",
        summary="What would be used of a recording.",
        description=INSPECT_DESCRIPTION,
        responses=errors(400, 404, 408, 409, 413, 415, 422, 429, 500, 503, 507),
        openapi_extra=edf_or_upload(EmbeddingRequest),
    )
    async def inspect(request: Request, query: Annotated[NoQuery, Query()]) -> InspectAnswer:
        async with recording_of(request, service) as recording:
            outcome = await service.backend.inspect(recording, request_id_of(request))
        if isinstance(outcome, Refusal):
            raise HttpError(outcome.code)
        return inspect_answer(outcome)


def answer_type_of(request: Request, query: EmbeddingQuery) -> str:
    """The type to answer with; HttpError not_acceptable, request_invalid."""
    answer_type = negotiate(request.headers.get("accept"))
    if answer_type is None:
        raise HttpError("not_acceptable")
    if "encoding" in query.model_fields_set and answer_type != JSON:
        raise HttpError("request_invalid")  # it could have no effect
    return answer_type


@asynccontextmanager
async def recording_of(request: Request, service: Service) -> AsyncIterator[Recording]:
    """The recording that a request brings or names, while it holds a place."""
    max_bytes = service.limits.max_body_mb * MB
    if content_type_of(request) == JSON:
        named = await json_body(request, EmbeddingRequest)
        async with service.admission.slot():
            yield await asyncio.to_thread(
                service.uploads.complete_path, owner_of(request), named.upload_id
            )
        return
    check_headers(request, max_bytes)
    async with (
        service.admission.slot(),
        recording_body(request, max_bytes, service.state.spool) as recording,
    ):
        yield recording


def inspect_answer(inspection: Inspection) -> InspectAnswer:
    """The JSON shape."""
    found = set(inspection.modalities)
    code = inspection.code
    return InspectAnswer(
        **dataclasses.asdict(inspection),
        message=ERRORS[code].message if code in ERRORS else None,
        modalities_missing=[m.value for m in MODALITIES if m.value not in found],
    )
