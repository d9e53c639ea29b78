"""Bodies of requests: bounded, timed, and kept in a file when they are large."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from fastapi import Request
from pydantic import BaseModel, ValidationError

from serve_apps.backend import Recording
from serve_apps.http_errors import HttpError
from serve_apps.state_folder import new_id, owner_only
from serve_apps.wire import CURL_TYPE, EDF_TYPES, JSON

STALL_S = 60.0  # a client that sends nothing for so long gives its place to another
SPOOL_BYTES = 8 * 2**20  # a larger recording goes to disk as it arrives
BLOCK_BYTES = 2**20  # written at once
TOO_LARGE = "payload_too_large"
IDEMPOTENCY_KEY = "idempotency-key"
REPLAYED = "idempotent-replayed"  # in an answer: no more was done than by the first request
MAX_JSON_BYTES = 2**20  # a night vector as numbers is 30 kB

_Wanted = TypeVar("_Wanted", bound=BaseModel)
_Result = TypeVar("_Result")


async def to_end(function: Callable[..., _Result], *args: Any) -> _Result:  # Any: its arguments
    """Run on a thread, and wait for the thread also when cancelled.

    A thread cannot be stopped: its file must not be closed, cut or deleted while it writes.
    """
    work = asyncio.ensure_future(asyncio.to_thread(function, *args))
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        while not work.done():
            with suppress(asyncio.CancelledError):
                await asyncio.wait({work})
        if not work.cancelled():
            work.exception()  # nobody is left to hear of it
        raise


def content_type_of(request: Request, default: str = EDF_TYPES[0]) -> str:
    """The media type of the body, without its parameters."""
    return request.headers.get("content-type", default).partition(";")[0].strip().lower()


def idempotency_key(request: Request) -> str | None:
    """SHA-256 of the Idempotency-Key, which says that two requests are one; None without it.

    Hashed, because what a client puts into it may be a name.
    """
    key = request.headers.get(IDEMPOTENCY_KEY)
    return None if key is None else hashlib.sha256(key.encode()).hexdigest()


def check_headers(request: Request, max_bytes: int) -> None:
    """Refuse what the headers alone rule out, before a byte of the body is read."""
    if content_type_of(request) not in (*EDF_TYPES, CURL_TYPE):
        raise HttpError("unsupported_media_type")
    check_length(request, max_bytes)


def check_length(request: Request, max_bytes: int, code: str = TOO_LARGE) -> None:
    """Refuse a body that is compressed, or with `code` when longer than that by its own account."""
    if request.headers.get("content-encoding", "identity").strip().lower() != "identity":
        raise HttpError("unsupported_media_type")  # small bytes that become large ones
    declared = request.headers.get("content-length", "")
    if declared.isascii() and declared.isdigit() and int(declared) > max_bytes:
        raise HttpError(code)


async def chunks(request: Request, max_bytes: int, code: str = TOO_LARGE) -> AsyncIterator[bytes]:
    """The body as it arrives; HttpError `code` when too large, upload_stalled after STALL_S."""
    size = 0
    stream = request.stream()
    while True:
        try:
            async with asyncio.timeout(STALL_S):
                chunk = await anext(stream, None)
        except TimeoutError:
            raise HttpError("upload_stalled") from None
        if chunk is None:
            return
        size += len(chunk)
        if size > max_bytes:
            raise HttpError(code)
        if chunk:
            yield chunk


async def blocks(request: Request, max_bytes: int, code: str = TOO_LARGE) -> AsyncIterator[bytes]:
    """The body in pieces of about BLOCK_BYTES, so that few writes are needed.

    What has arrived when the body breaks off comes before the error does.
    """
    held = bytearray()
    try:
        async for chunk in chunks(request, max_bytes, code):
            held += chunk
            if len(held) >= BLOCK_BYTES:
                yield bytes(held)
                held.clear()
    except Exception:
        if held:
            yield bytes(held)
        raise
    if held:
        yield bytes(held)


async def whole_body(request: Request, max_bytes: int) -> bytes:
    """All of a body that is held in memory; HttpError as `chunks`, or empty_body."""
    body = b"".join([chunk async for chunk in chunks(request, max_bytes)])
    if not body:
        raise HttpError("empty_body")
    return body


@asynccontextmanager
async def recording_body(request: Request, max_bytes: int, spool: Path) -> AsyncIterator[Recording]:
    """The whole body: bytes, or above SPOOL_BYTES the path of a file that ends with the block.

    Raises:
        HttpError: as `chunks`, or empty_body or storage_full.
    """
    held = bytearray()
    path: Path | None = None
    try:
        async for block in blocks(request, max_bytes):
            held += block
            if path is not None or len(held) > SPOOL_BYTES:
                path = path or spool / new_id()
                await to_end(_append, path, bytes(held))
                held.clear()
        if path is None and not held:
            raise HttpError("empty_body")
        yield str(path) if path is not None else bytes(held)
    finally:
        if path is not None:
            with suppress(OSError):
                path.unlink()


async def json_body(request: Request, wanted: type[_Wanted]) -> _Wanted:
    """A small JSON body as one of our types; HttpError("request_invalid") without a quotation."""
    if content_type_of(request, JSON) != JSON:  # what a form of another site cannot declare
        raise HttpError("unsupported_media_type")
    check_length(request, MAX_JSON_BYTES)
    text = b"".join([chunk async for chunk in chunks(request, MAX_JSON_BYTES)])
    try:
        return wanted.model_validate_json(text)
    except ValidationError:
        raise HttpError("request_invalid") from None


def _append(path: Path, block: bytes) -> None:
    try:
        with open(path, "ab", opener=owner_only) as file:
            file.write(block)
    except OSError as error:
        raise HttpError("storage_full") from error
