"""/v2: the Open Inference Protocol, for clients that speak it to any server. As /v1/encode."""

import asyncio
from typing import Any

from fastapi import APIRouter, FastAPI, Request
from starlette.responses import Response

import sleepmami
from serve_apps.http_errors import V2
from serve_apps.openapi_parts import BINARY, Responses, errors
from serve_apps.quotas import require_windows
from serve_apps.request_body import check_length, whole_body
from serve_apps.routes_encode import MAX_MB, encode_windows
from serve_apps.service import MB, Service
from serve_apps.tensors_v2 import (
    DATATYPES,
    LENGTH_HEADER,
    InferAnswer,
    InferRequest,
    Live,
    ModelMetadata,
    ModelReady,
    Ready,
    ServerMetadata,
    TensorMetadata,
    answer_bytes,
    parse_request,
)
from serve_apps.window_payload import DTYPES, SAMPLES, VALID, checked_windows
from serve_apps.wire import JSON, ModelInfo
from sleepmami.psg import MODALITIES, SEGMENT_EPOCHS

OCTETS = "application/octet-stream"


def add_v2_routes(app: FastAPI, service: Service) -> None:
    """Add the routes."""
    router = APIRouter(prefix=V2, tags=["Open Inference Protocol"])
    _add_metadata(router, service)
    _add_infer(router, service)
    app.include_router(router)


def _add_metadata(router: APIRouter, service: Service) -> None:
    @router.get("", summary="The server.")
    async def v2_server() -> ServerMetadata:
        return ServerMetadata(
            name="sleepmami", version=sleepmami.__version__, extensions=["binary_tensor_data"]
        )

    @router.get("/health/live", summary="The server is alive.")
    async def v2_live() -> Live:
        return Live(live=True)

    @router.get("/health/ready", summary="Its models are loaded.", responses=errors(503))
    async def v2_ready() -> Ready:
        service.admission.require_open()
        await service.backend.models()
        return Ready(ready=True)

    @router.get("/models/{model}", summary="A model's tensors.", responses=errors(404, 422, 503))
    async def v2_model(model: str) -> ModelMetadata:
        return _metadata(await service.model_named(model))

    @router.get(
        "/models/{model}/ready", summary="A model is loaded.", responses=errors(404, 422, 503)
    )
    async def v2_model_ready(model: str) -> ModelReady:
        return ModelReady(name=(await service.model_named(model)).name, ready=True)


def _add_infer(router: APIRouter, service: Service) -> None:
    max_bytes = min(MAX_MB, service.limits.max_body_mb) * MB

    @router.post(
        "/models/{model}/infer",
        summary="Encode windows that are preprocessed already.",
        response_class=Response,
        responses=_infer_answers() | errors(400, 404, 408, 413, 415, 422, 429, 500, 503),
        openapi_extra={
            "requestBody": {
                "required": True,
                "content": {
                    JSON: {"schema": _inlined(InferRequest.model_json_schema())},
                    OCTETS: BINARY,
                },
            },
            "parameters": [
                {
                    "name": "Inference-Header-Content-Length",
                    "in": "header",
                    "required": False,
                    "description": "Bytes of JSON at the start of the body; tensors follow.",
                    "schema": {"type": "string", "pattern": "^[0-9]{1,10}$"},
                }
            ],
        },
    )
    async def infer(request: Request, model: str) -> Response:
        check_length(request, max_bytes)
        require_windows(request)
        named = await service.model_named(model)
        async with service.admission.slot():
            body = await whole_body(request, max_bytes)
            given = request.headers.get(LENGTH_HEADER)
            wanted, arrays = await asyncio.to_thread(parse_request, body, given)
            sent = await asyncio.to_thread(checked_windows, arrays)
            encoded = await encode_windows(service, sent, request, named.name)
        content, json_length = await asyncio.to_thread(answer_bytes, wanted, encoded, named.name)
        if json_length is None:
            return Response(content, media_type=JSON)
        headers = {"content-type": OCTETS, LENGTH_HEADER: str(json_length)}
        return Response(content, headers=headers)


def _metadata(model: ModelInfo) -> ModelMetadata:
    signals = [
        TensorMetadata(name=name, datatype=DATATYPES[DTYPES[name]], shape=[-1, width])
        for name, width in SAMPLES.items()
    ]
    modalities = len(MODALITIES)
    valid = TensorMetadata(name=VALID, datatype="BOOL", shape=[-1, modalities, SEGMENT_EPOCHS])
    shape = [-1, SEGMENT_EPOCHS, modalities]
    return ModelMetadata(
        name=model.name,
        versions=[model.weights_sha256],
        platform="sleepmami",
        inputs=[*signals, valid],
        outputs=[
            TensorMetadata(
                name="micro", datatype="FP32", shape=[*shape, model.micro_dim // modalities]
            ),
            TensorMetadata(name="modality_valid", datatype="BOOL", shape=shape),
        ],
    )


def _infer_answers() -> Responses:
    meaning = (
        "JSON; with Inference-Header-Content-Length, that many bytes of it and then the tensors."
    )
    return {200: {"model": InferAnswer, "description": meaning, "content": {OCTETS: BINARY}}}


def _inlined(schema: dict[str, Any]) -> dict[str, Any]:  # Any: JSON schemas
    """The schema with what it refers to in place of the references."""
    parts = schema.pop("$defs", {})

    def filled(part: Any) -> Any:  # Any: as above
        if isinstance(part, dict):
            if "$ref" in part:
                return filled(parts[part["$ref"].rpartition("/")[2]])
            return {key: filled(value) for key, value in part.items()}
        return [filled(item) for item in part] if isinstance(part, list) else part

    whole: dict[str, Any] = filled(schema)
    return whole
