"""Pieces of the OpenAPI document that routes share."""

from typing import Any

from pydantic import BaseModel

from serve_apps.http_errors import RETRY_STATUSES
from serve_apps.wire import EDF_TYPES, JSON

IDEMPOTENCY_KEY = {
    "parameters": [
        {
            "name": "Idempotency-Key",
            "in": "header",
            "required": False,
            "description": "Any text that no other request of this key's has.",
            "schema": {"type": "string"},
        }
    ]
}
Responses = dict[int | str, dict[str, Any]]  # Any: OpenAPI objects
BINARY = {"schema": {"type": "string", "format": "binary"}}
_MEANINGS = {
    400: "Not an EDF, or not a whole one.",
    401: "No key, or none of this service's; WWW-Authenticate says how to send one.",
    403: "A page of another site may not use this session, or not call this machine by its name.",
    404: "Not there: the code says what.",
    406: "Accept names no type we have.",
    408: "The body stopped coming.",
    409: "Not as things stand: the code says why.",
    412: "Another version of tus.",
    413: "Too large.",
    415: "Content type is not one of those taken, or the body is compressed.",
    422: "A recording that cannot be embedded, or a wrong parameter.",
    423: "Another request writes to it; try again after Retry-After seconds.",
    429: "Too many requests or bytes; try again after Retry-After seconds.",
    460: "The part is not what its checksum says.",
    500: "The service failed.",
    503: "The model is not there; try again after Retry-After seconds.",
    507: "The service's disk is full.",
}


def errors(*statuses: int) -> Responses:
    """Error answers of a route; `openapi_errors.py` completes them with their shape.

    A `model` here would cost: the framework makes a validator for each status of each route.
    """
    answers: Responses = {status: {"description": _MEANINGS[status]} for status in statuses}
    if 401 in answers:
        how = {"description": "Bearer.", "schema": {"type": "string"}}
        answers[401]["headers"] = {"WWW-Authenticate": how}
    for status in answers.keys() & set(RETRY_STATUSES):
        seconds = {"description": "Seconds to wait.", "schema": {"type": "integer"}}
        answers[status]["headers"] = {"Retry-After": seconds}
    for answer in answers.values():
        answer["content"] = {JSON: {}}
    return answers


def binary_answers(*types: str, model: type[BaseModel] | None = None) -> Responses:
    """A 200 answer of one of some types, beside JSON of `model`."""
    answer: dict[str, Any] = {
        "description": "The result.",
        "content": dict.fromkeys(types, BINARY),
    }  # Any: an OpenAPI object
    if model is not None:
        answer["model"] = model
    return {200: answer}


def answer(
    status: int,
    description: str,
    headers: dict[str, Any] | None = None,
    content: dict[str, Any] | None = None,
) -> Responses:
    """An answer that is no error; `headers` as `headers_of` gives them."""
    parts: dict[str, Any] = {"description": description}  # Any: an OpenAPI object
    if headers:
        parts["headers"] = headers
    if content:
        parts["content"] = content
    return {status: parts}


def headers_of(**names: str) -> dict[str, Any]:  # Any: an OpenAPI object
    """Answer headers by name, with `_` for `-`, and what each means."""
    return {
        name.replace("_", "-"): {"description": meaning, "schema": {"type": "string"}}
        for name, meaning in names.items()
    }


def body_of(*types: str) -> dict[str, Any]:  # Any: an OpenAPI object
    """A body of bytes, as an argument of a route."""
    return {"requestBody": {"required": True, "content": dict.fromkeys(types, BINARY)}}


def json_body_of(model: type[BaseModel]) -> dict[str, Any]:  # Any: an OpenAPI object
    """A JSON body, as an argument of a route; `model` refers to no other."""
    schema = {"schema": model.model_json_schema()}
    return {"requestBody": {"required": True, "content": {JSON: schema}}}


def edf_or_upload(model: type[BaseModel]) -> dict[str, Any]:  # Any: an OpenAPI object
    """A recording's bytes, or JSON that names an upload."""
    content: dict[str, Any] = dict.fromkeys(EDF_TYPES, BINARY)
    content[JSON] = {"schema": model.model_json_schema()}
    return {"requestBody": {"required": True, "content": content}}
