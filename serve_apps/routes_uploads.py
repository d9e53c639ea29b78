"""/v1/uploads: resumable uploads by tus 1.0.0 with creation, termination, expiration, checksum.

The protocol is that of tus.io/protocols/resumable-upload. What we leave out: lengths that are not
known at creation, and a method in X-HTTP-Method-Override. Upload-Metadata is not read: it is where
clients put file names, which may name a person.
"""

import asyncio
import base64
import binascii
import re
from email.utils import formatdate
from typing import Any

from fastapi import FastAPI, Request
from starlette.responses import Response

from serve_apps.http_errors import HttpError
from serve_apps.openapi_parts import answer, body_of, errors, headers_of
from serve_apps.quotas import require_bytes
from serve_apps.request_body import (
    blocks,
    check_length,
    content_type_of,
    idempotency_key,
    to_end,
)
from serve_apps.service import MB, Service, owner_of
from serve_apps.upload_store import CHECKSUMS, Part, Upload

VERSION = "1.0.0"
EXTENSIONS = "creation,termination,expiration,checksum"
PART_TYPE = "application/offset+octet-stream"
TUS = {"tus-resumable": VERSION}
_NUMBER = re.compile(r"\d{1,15}")
_HEADERS = {
    "Tus-Resumable": "1.0.0",
    "Upload-Length": "Bytes of the whole file.",
    "Upload-Offset": "Bytes that are there.",
    "Idempotency-Key": "Any text that no other request of this key's has.",
    "Upload-Checksum": "sha1 or sha256, a space, and the base64 of the part's digest.",
}


def add_upload_routes(app: FastAPI, service: Service) -> None:
    """Add the routes."""
    store = service.uploads
    max_part_bytes = service.limits.max_part_mb * MB
    creating = asyncio.Lock()

    @app.options(
        "/v1/uploads",
        summary="What of tus is spoken here.",
        status_code=204,
        responses=answer(204, "In the headers."),
    )
    async def upload_options() -> Response:
        headers = TUS | {
            "tus-version": VERSION,
            "tus-extension": EXTENSIONS,
            "tus-checksum-algorithm": ",".join(CHECKSUMS),
            "tus-max-size": str(service.limits.max_body_mb * MB),
        }
        return Response(status_code=204, headers=headers)

    @app.post(
        "/v1/uploads",
        summary="Begin an upload.",
        description="The answer's Location is where its parts go. Upload-Metadata is not read. "
        "With an Idempotency-Key the request may be sent again: no second upload is begun.",
        status_code=201,
        responses=answer(
            201, "Begun.", headers_of(Location="Of the upload.", Upload_Expires="When it ends.")
        )
        | errors(409, 412, 413, 422, 429, 507),
        openapi_extra=_parameters("Tus-Resumable", "Upload-Length", "Idempotency-Key?"),
    )
    async def create_upload(request: Request) -> Response:
        _require_version(request)
        if request.headers.get("content-length", "0") != "0":
            raise HttpError("request_invalid")  # creation-with-upload, which we do not announce
        length = _number(request, "upload-length")
        if length == 0:
            raise HttpError("empty_body")
        owner, key_sha256 = owner_of(request), idempotency_key(request)
        upload = None
        async with creating:  # no two take the last bytes of a quota, or are made with one key
            if key_sha256 is not None:
                upload = await asyncio.to_thread(store.made_with, owner, key_sha256)
            if upload is None:
                require_bytes(request, await asyncio.to_thread(store.held_bytes, owner), length)
                upload = await to_end(store.create, owner, length, key_sha256)
            elif upload.length != length:
                raise HttpError("idempotency_conflict")
        headers = _expiry(upload) | {"location": f"/v1/uploads/{upload.id}"}
        return Response(status_code=201, headers=headers)

    @app.head(
        "/v1/uploads/{upload_id}",
        summary="How far an upload is.",
        status_code=200,
        responses=answer(
            200,
            "In the headers.",
            headers_of(Upload_Offset="Bytes there.", Upload_Length="Of all."),
        )
        | answer(404, "No such upload.")  # HEAD has no body to say more
        | answer(412, "Another version of tus."),
        openapi_extra=_parameters("Tus-Resumable"),
    )
    async def upload_offset(request: Request, upload_id: str) -> Response:
        _require_version(request)
        upload = await asyncio.to_thread(store.get, owner_of(request), upload_id)
        sizes = {"upload-offset": str(upload.offset), "upload-length": str(upload.length)}
        return Response(headers=_expiry(upload) | sizes | {"cache-control": "no-store"})

    @app.patch(
        "/v1/uploads/{upload_id}",
        summary="Send a part.",
        description="Up to max_part_mb of /info. What arrives before the connection breaks is "
        "kept, unless the part has a checksum: then it counts whole or not at all.",
        status_code=204,
        responses=answer(204, "Kept.", headers_of(Upload_Offset="Bytes there now."))
        | errors(404, 408, 409, 412, 413, 415, 422, 423, 460, 507),
        openapi_extra=_parameters("Tus-Resumable", "Upload-Offset", "Upload-Checksum?")
        | body_of(PART_TYPE),
    )
    async def send_part(request: Request, upload_id: str) -> Response:
        _require_version(request)
        if content_type_of(request, "") != PART_TYPE:
            raise HttpError("unsupported_media_type")
        offset, checksum = _number(request, "upload-offset"), _checksum(request)
        part = await asyncio.to_thread(store.part, owner_of(request), upload_id, offset, checksum)
        with part:
            await _receive(request, part, max_part_bytes)
        upload = await asyncio.to_thread(store.get, owner_of(request), upload_id)
        service.metrics.observe_upload(part.offset - offset)
        return Response(
            status_code=204, headers=_expiry(upload) | {"upload-offset": str(part.offset)}
        )

    @app.delete(
        "/v1/uploads/{upload_id}",
        summary="Delete an upload and its bytes, and cancel the jobs that need it.",
        status_code=204,
        responses=answer(204, "Gone.") | errors(404, 412),
        openapi_extra=_parameters("Tus-Resumable"),
    )
    async def delete_upload(request: Request, upload_id: str) -> Response:
        _require_version(request)
        await asyncio.to_thread(store.get, owner_of(request), upload_id)
        await service.runner.cancel_jobs_of(upload_id)  # first: they would fail without it
        await asyncio.to_thread(store.delete, owner_of(request), upload_id)
        return Response(status_code=204, headers=TUS)


async def _receive(request: Request, part: Part, max_part_bytes: int) -> None:
    check_length(request, max_part_bytes, "part_too_large")
    async for block in blocks(request, max_part_bytes, "part_too_large"):
        await to_end(part.write, block)
    await to_end(part.verify)


def _require_version(request: Request) -> None:
    request.state.answer_headers = TUS
    if request.headers.get("tus-resumable") != VERSION:
        request.state.answer_headers = TUS | {"tus-version": VERSION}
        raise HttpError("tus_version_unsupported")


def _number(request: Request, header: str) -> int:
    text = request.headers.get(header, "")
    if not text.isascii() or not _NUMBER.fullmatch(text):
        raise HttpError("request_invalid")
    return int(text)


def _checksum(request: Request) -> tuple[str, bytes] | None:
    text = request.headers.get("upload-checksum")
    if text is None:
        return None
    algorithm, _, digest = text.partition(" ")
    try:
        expected = base64.b64decode(digest, validate=True)
    except binascii.Error:
        raise HttpError("request_invalid") from None
    if algorithm not in CHECKSUMS or len(expected) != CHECKSUMS[algorithm]().digest_size:
        raise HttpError("request_invalid")
    return algorithm, expected


def _expiry(upload: Upload) -> dict[str, str]:
    return TUS | {"upload-expires": formatdate(upload.expires_s, usegmt=True)}


def _parameters(*names: str) -> dict[str, Any]:  # Any: an OpenAPI object
    """Headers of a request; a name with ? may be left out."""
    return {
        "parameters": [
            {
                "name": name.removesuffix("?"),
                "in": "header",
                "required": not name.endswith("?"),
                "description": _HEADERS[name.removesuffix("?")],
                "schema": {"type": "string"},
            }
            for name in names
        ]
    }
