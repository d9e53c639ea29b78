"""What the OpenAPI document says of errors that are made before a route runs.

Keys: how one is shown, and the answers to who has none. Parameters: the framework describes its own
shape for wrong ones, where we answer ours. And of a route that answers a page, it describes errors
as pages too.

The document is the same whether the service has keys or not: a client made from it works with both.
"""

from typing import Any

from fastapi import FastAPI
from pydantic.json_schema import models_json_schema

from serve_apps.http_errors import V2
from serve_apps.key_middleware import OPEN_PATHS
from serve_apps.openapi_parts import errors
from serve_apps.sign_in import COOKIE
from serve_apps.wire import JSON, ErrorAnswer, V2Error

FRAMEWORKS = "HTTPValidationError"  # the schema of its shape
Document = dict[str, Any]  # Any: an OpenAPI object
SCHEMES: Document = {
    "key": {
        "type": "http",
        "scheme": "bearer",
        "description": "A key of `sleepmami keys add`. A service without keys asks for none.",
    },
    "session": {
        "type": "apiKey",
        "in": "cookie",
        "name": COOKIE,
        "description": "What a browser gets for a key, for requests of the service's own page.",
    },
}


def describe_errors(app: FastAPI) -> None:
    """Add all that to the document of `app`."""
    made_by_routes = app.openapi

    def openapi() -> Document:
        if app.openapi_schema is None:
            app.openapi_schema = completed(made_by_routes())
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]  # the framework's own way


def completed(document: Document) -> Document:
    """The document with all that, changed in place."""
    document["components"]["securitySchemes"] = SCHEMES
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            added = {} if path in OPEN_PATHS else _key_answers(path, method)
            if added:
                operation["security"] = [{name: []} for name in SCHEMES]
            responses = added | operation["responses"]
            for status, answer in responses.items():
                if FRAMEWORKS in str(answer):
                    answer["description"] = "A parameter is unknown or has a wrong value."
                if int(status) >= 400 and "content" in answer:
                    answer["content"] = _content(path)
            operation["responses"] = dict(sorted(responses.items()))
    schemas = document["components"]["schemas"]
    for name in (FRAMEWORKS, "ValidationError"):
        schemas.pop(name, None)
    _, shapes = models_json_schema(
        [(ErrorAnswer, "serialization"), (V2Error, "serialization")],
        ref_template="#/components/schemas/{model}",
    )
    document["components"]["schemas"] = dict(sorted((schemas | shapes["$defs"]).items()))
    return document


def _key_answers(path: str, method: str) -> Document:
    found = {}
    for status, described in errors(401, 403, 429, 503).items():
        answer = {name: part for name, part in described.items() if name != "content"}
        has_body = method != "head"
        found[str(status)] = answer | ({"content": _content(path)} if has_body else {})
    return found


def _content(path: str) -> Document:
    shape = "V2Error" if path == V2 or path.startswith(f"{V2}/") else "ErrorAnswer"
    return {JSON: {"schema": {"$ref": f"#/components/schemas/{shape}"}}}
