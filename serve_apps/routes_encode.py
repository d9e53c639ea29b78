"""/v1/encode: windows that the client has preprocessed itself, their epochs' micro vectors back.

Shapes: B windows of 60 s, E epochs of a window (2), M modalities (6), D features.
"""

import asyncio
import io
import json
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
import safetensors.numpy
from fastapi import FastAPI, Query, Request
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict
from starlette.responses import Response

from serve_apps.backend import Refusal
from serve_apps.http_errors import HttpError, request_id_of
from serve_apps.openapi_parts import binary_answers, body_of, errors
from serve_apps.quotas import counted_windows, require_windows
from serve_apps.request_body import check_length, content_type_of, whole_body
from serve_apps.service import MB, Service
from serve_apps.window_payload import WINDOW_TYPES, SentWindows, windows_of
from serve_apps.wire import (
    ARROW,
    JSON,
    NPZ,
    SAFETENSORS,
    Base64Array,
    Encoding,
    FloatArray,
    Wire,
    encode_array,
    negotiate,
)
from sleepmami.psg import SEGMENT_EPOCHS

MAX_MB = 256  # a night of 24 hours is 160 MB; these bytes are held in memory
INFO_KEY = "sleepmami.info"

DESCRIPTION = (
    "Windows of 60 s in the form that training reads: npz, an Arrow IPC stream or safetensors with "
    "the arrays EEG, EOG, EMG, ECG (float32[B, 6000]), RESP (float32[B, 3000]), SPO2 "
    "(float32[B, 60]), each a z-score over its night, and valid (bool[B, 6, 2] or bool[B, 6]; flat "
    "in Arrow). sleepmami.inference.windows.night_windows makes them. A modality that is absent is "
    "left out."
)


class EncodeQuery(BaseModel):
    """Query of /v1/encode; an unknown parameter is an error."""

    model_config = ConfigDict(extra="forbid", protected_namespaces=())
    model: str | None = None
    encoding: Encoding = "base64"


class EncodeAnswer(Wire):
    """POST /v1/encode as JSON. `micro` is [B, 2, 6, D], zero where modality_valid is not."""

    model_id: str
    weights_sha256: str
    code_version: str
    precision: str
    num_windows: int
    modality_valid: list[list[list[bool]]]
    micro: Base64Array | FloatArray | list[list[list[list[float]]]]


@dataclass(frozen=True, kw_only=True, slots=True)
class EncodedWindows:
    """What the Micro-Encoder says of each epoch of some windows.

    Attributes:
        micro_BEMD: float32[B, 2, 6, D]; exactly zero where not valid.
        valid_BEM: bool[B, 2, 6], as it was sent.
        info: what made the numbers; plain JSON types.
    """

    micro_BEMD: NDArray[np.float32]
    valid_BEM: NDArray[np.bool_]
    info: dict[str, Any]  # Any: JSON values


def add_encode_routes(app: FastAPI, service: Service) -> None:
    """Add the routes."""
    max_bytes = min(MAX_MB, service.limits.max_body_mb) * MB

    @app.post(
        "/v1/encode",
        summary="Encode windows that are preprocessed already.",
        description=DESCRIPTION,
        response_class=Response,
        responses=binary_answers(ARROW, NPZ, SAFETENSORS, model=EncodeAnswer)
        | errors(400, 404, 406, 408, 413, 415, 422, 429, 500, 503),
        openapi_extra=body_of(*WINDOW_TYPES),
    )
    async def encode(request: Request, query: Annotated[EncodeQuery, Query()]) -> Response:
        answer_type = negotiate(request.headers.get("accept"))
        if answer_type is None:
            raise HttpError("not_acceptable")
        if "encoding" in query.model_fields_set and answer_type != JSON:
            raise HttpError("request_invalid")  # it could have no effect
        content_type = content_type_of(request, "")
        if content_type not in WINDOW_TYPES:
            raise HttpError("unsupported_media_type")
        check_length(request, max_bytes)
        require_windows(request)
        async with service.admission.slot():
            body = await whole_body(request, max_bytes)
            sent = await asyncio.to_thread(windows_of, body, content_type, max_bytes)
            del body
            encoded = await encode_windows(service, sent, request, query.model)
        content = await asyncio.to_thread(encoded_body, encoded, answer_type, query.encoding)
        return Response(content, headers={"content-type": answer_type, "vary": "accept"})


async def encode_windows(
    service: Service, sent: SentWindows, request: Request, model: str | None
) -> EncodedWindows:
    """The vectors of the windows, which are of the key's quota; HttpError with a refusal's code."""
    with counted_windows(request, len(sent.valid_BSE)):
        found = await service.backend.encode(sent.batch, request_id_of(request), model)
        if isinstance(found, Refusal):
            raise HttpError(found.code)
    rows, _, num_modalities = sent.valid_BSE.transpose(0, 2, 1).shape
    micro_BEMD = found.micro_LMD.reshape(rows, SEGMENT_EPOCHS, num_modalities, -1)
    valid_BEM = sent.valid_BSE.transpose(0, 2, 1)
    # Of a stream with one usable epoch the model gives both; an unusable one has no vector.
    masked = np.where(valid_BEM[..., None], micro_BEMD, np.float32(0))
    return EncodedWindows(micro_BEMD=masked, valid_BEM=valid_BEM, info=found.info)


def encoded_body(encoded: EncodedWindows, answer_type: str, encoding: Encoding) -> bytes:
    """The body of a 200 answer."""
    info = encoded.info | {"num_windows": len(encoded.valid_BEM)}
    arrays = {
        "micro": np.ascontiguousarray(encoded.micro_BEMD),
        "modality_valid": np.ascontiguousarray(encoded.valid_BEM),
    }
    if answer_type == NPZ:
        buffer = io.BytesIO()
        np.savez(buffer, info=np.array(json.dumps(info)), **arrays)  # type: ignore[arg-type]  # numpy's stub takes the keywords for allow_pickle
        return buffer.getvalue()
    if answer_type == SAFETENSORS:
        return safetensors.numpy.save(arrays, {"info": json.dumps(info)})
    if answer_type == ARROW:
        return _stream_of(arrays, info)
    micro = encoded.micro_BEMD
    shown = encode_array(micro, encoding) if encoding == "base64" else micro.tolist()
    valid = encoded.valid_BEM.tolist()
    return EncodeAnswer(**info, modality_valid=valid, micro=shown).model_dump_json().encode()


def _stream_of(arrays: dict[str, NDArray[Any]], info: dict[str, Any]) -> bytes:  # Any: as above
    """One row per window; each array's row is flat, in C order."""
    columns = {}
    for name, array in arrays.items():
        flat = array.reshape(len(array), -1)
        columns[name] = pa.FixedSizeListArray.from_arrays(pa.array(flat.reshape(-1)), flat.shape[1])
    table = pa.table(columns).replace_schema_metadata({INFO_KEY: json.dumps(info)})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    body: bytes = sink.getvalue().to_pybytes()
    return body
