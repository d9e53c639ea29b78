"""Every error the service answers: one JSON shape (and that of /v2), one table of codes, our texts.

The text of an exception never crosses the HTTP edge and never reaches a log: it may quote a
recording's header. The client gets the code, a fixed sentence and a request id to report.
"""

import logging
import re
import time
import traceback
import uuid
from collections.abc import Callable
from typing import NamedTuple

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve_apps.wire import JSON, ErrorAnswer, ErrorBody, V2Error
from sleepmami.errors import RecordingCode, SleepMaMiError

logger = logging.getLogger(__name__)

RETRY_STATUSES = (423, 429, 503)
RETRY_AFTER_S = 5
V2 = "/v2"
REQUEST_ID_HEADER = "x-request-id"
# Of every answer that does not say otherwise: no browser or gateway keeps what is told of a night,
# and no browser takes an answer for another type than it is.
SAFE_HEADERS = ((b"cache-control", b"no-store"), (b"x-content-type-options", b"nosniff"))
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


class ErrorKind(NamedTuple):
    """What one code means over HTTP."""

    status: int
    message: str


INTERNAL = "internal_error"
# 400: these bytes are not a recording. 422: a recording, but not one we can embed.
ERRORS: dict[str, ErrorKind] = {
    RecordingCode.UNREADABLE: ErrorKind(400, "The recording could not be read."),
    RecordingCode.NOT_AN_EDF: ErrorKind(400, "The body is not an EDF or EDF+ file."),
    RecordingCode.HEADER_INVALID: ErrorKind(400, "A field of the EDF header is not valid."),
    RecordingCode.TRUNCATED_RECORDING: ErrorKind(
        400, "The file is shorter than its header says; was the upload complete?"
    ),
    RecordingCode.DISCONTINUOUS_RECORDING: ErrorKind(
        422, "The data records overlap, run backwards or are mostly missing."
    ),
    RecordingCode.RECORDING_TOO_SHORT: ErrorKind(
        422, "The recording is shorter than the least duration."
    ),
    RecordingCode.RECORDING_TOO_LARGE: ErrorKind(
        422, "The recording is longer or larger than is taken."
    ),
    RecordingCode.CHANNELS_MISSING: ErrorKind(
        422, "No channel of the recording is one of EEG, EOG, EMG, ECG, RESP, SPO2."
    ),
    RecordingCode.SIGNAL_UNUSABLE: ErrorKind(
        422, "No channel of the recording carries a usable signal."
    ),
    RecordingCode.ANNOTATION_INVALID: ErrorKind(422, "The annotations could not be read."),
    "empty_body": ErrorKind(400, "The request has no body; send the EDF file as the body."),
    "not_found": ErrorKind(404, "There is no such route; see /docs."),
    "upload_not_found": ErrorKind(
        404, "There is no such upload: never made, deleted, expired, or another key's."
    ),
    "job_not_found": ErrorKind(
        404, "There is no such job: never made, deleted, expired, or another key's."
    ),
    "recording_not_found": ErrorKind(404, "The cohort has no recording of that id."),
    "no_cohort": ErrorKind(404, "The service was started without a cohort."),
    "no_staging_probe": ErrorKind(404, "The model's bundle has no staging probe."),
    "no_overview": ErrorKind(404, "The job has no overview of the channels."),
    "model_unknown": ErrorKind(404, "There is no model of that name; see models of /info."),
    "method_not_allowed": ErrorKind(405, "The route does not take this method; see /docs."),
    "not_acceptable": ErrorKind(
        406, "None of the types in Accept can be sent; see answer_types of /info."
    ),
    "upload_incomplete": ErrorKind(409, "The upload has not all arrived; see its Upload-Offset."),
    "offset_conflict": ErrorKind(
        409, "Upload-Offset is not where the upload ends; ask for it with HEAD."
    ),
    "job_not_done": ErrorKind(409, "The job has no results yet, or will have none."),
    "weights_mismatch": ErrorKind(
        409, "The vectors are of other weights than the cohort's; distances would mean nothing."
    ),
    "idempotency_conflict": ErrorKind(
        409, "The Idempotency-Key was used for another request; make a new one."
    ),
    "tus_version_unsupported": ErrorKind(412, "Send Tus-Resumable: 1.0.0."),
    "part_too_large": ErrorKind(413, "The part is larger than max_part_mb of /info."),
    "upload_busy": ErrorKind(423, "Another request writes to this upload; try again later."),
    "checksum_mismatch": ErrorKind(460, "The part is not what its checksum says; send it again."),
    "upload_stalled": ErrorKind(408, "The body stopped coming; send the request again."),
    "payload_too_large": ErrorKind(413, "The body is larger than max_body_mb of /info."),
    "unsupported_media_type": ErrorKind(
        415, "Send the EDF file as it is, with content type application/octet-stream."
    ),
    "request_invalid": ErrorKind(422, "A parameter is unknown or has a wrong value; see /docs."),
    "dtype_unfit": ErrorKind(422, "A number does not fit float16; ask for float32."),
    "quota_exceeded": ErrorKind(
        429, "The quota of this key is used up; delete uploads and jobs, or try again later."
    ),
    "overloaded": ErrorKind(429, "Too many requests wait already; try again later."),
    "payload_invalid": ErrorKind(400, "The body is not a plain array file of the declared type."),
    "pickle_forbidden": ErrorKind(422, "The body holds Python objects; only numbers are read."),
    "extension_type_forbidden": ErrorKind(422, "Arrow extension types are not read."),
    "windows_invalid": ErrorKind(
        422, "Names, shapes or numbers are not those of preprocessed windows; see /docs."
    ),
    "unauthorized": ErrorKind(401, "Send a key of this service: Authorization: Bearer KEY."),
    "cross_site_request": ErrorKind(403, "A page of another site may not use this session."),
    "host_unknown": ErrorKind(
        403, "Without keys only a name of this machine is answered, as 127.0.0.1."
    ),
    "keys_unreadable": ErrorKind(503, "The service cannot read its keys; tell its operator."),
    "model_not_ready": ErrorKind(503, "The model is not there at the moment; try again later."),
    "storage_full": ErrorKind(507, "The service's disk is full; tell its operator."),
    INTERNAL: ErrorKind(500, "The service failed; report the request id to its operator."),
}  # fmt: skip


class HttpError(SleepMaMiError):
    """A request that is answered with an error; `code` is a key of ERRORS."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


def error_response(code: str, request_id: str, path: str = "") -> Response:
    """The answer for `code`; a code without an entry is internal_error.

    Args:
        code: a key of ERRORS.
        request_id: what a client reports.
        path: of the request; below /v2 the Open Inference Protocol's shape is answered.
    """
    code = code if code in ERRORS else INTERNAL
    kind = ERRORS[code]
    body: ErrorAnswer | V2Error
    if path == V2 or path.startswith(f"{V2}/"):
        body = V2Error(error=f"{code}: {kind.message} (request {request_id})")
    else:
        body = ErrorAnswer(error=ErrorBody(code=code, message=kind.message, request_id=request_id))
    headers = {"retry-after": str(RETRY_AFTER_S)} if kind.status in RETRY_STATUSES else None
    return Response(body.model_dump_json(), kind.status, headers, media_type=JSON)


def install(app: FastAPI, observe: Callable[[str, int, float], None]) -> None:
    """Answer every error of `app` in the one shape and give every request an id.

    Args:
        app: gets handlers and the outermost middleware.
        observe: called once per request with route template, status and seconds.
    """

    async def answer_http_error(request: Request, error: Exception) -> Response:
        code = error.code if isinstance(error, HttpError) else INTERNAL
        response = error_for(request, code)
        response.headers.update(getattr(request.state, "answer_headers", {}))  # of tus
        return response

    async def answer_framework_error(request: Request, error: Exception) -> Response:
        status = error.status_code if isinstance(error, HTTPException) else 500
        codes = {404: "not_found", 405: "method_not_allowed"}
        response = error_for(request, codes.get(status, INTERNAL))
        if isinstance(error, HTTPException) and error.headers:
            response.headers.update(error.headers)  # Allow, of 405
        return response

    async def answer_invalid(request: Request, error: Exception) -> Response:
        return error_for(request, "request_invalid")

    app.add_exception_handler(HttpError, answer_http_error)
    app.add_exception_handler(HTTPException, answer_framework_error)
    app.add_exception_handler(RequestValidationError, answer_invalid)
    app.add_middleware(RequestMiddleware, observe=observe)


def error_for(request: Request, code: str) -> Response:
    """The answer to one request."""
    return error_response(code, request_id_of(request), request.scope["path"])


def request_id_of(request: Request) -> str:
    """The id RequestMiddleware gave this request."""
    request_id: str = request.state.request_id
    return request_id


def log_failure(error: BaseException, request_id: str) -> None:
    """Log where an unexpected exception came from: its type and frames, never its text."""
    frames = "".join(traceback.format_tb(error.__traceback__))
    logger.error("request %s failed: %s\n%s", request_id, type(error).__name__, frames)


class RequestMiddleware:
    """Outermost: the request's id, the last catch of exceptions, and one observation.

    The framework's own last catch answers and raises again, which writes the exception's text to
    the server's log.
    """

    def __init__(self, app: ASGIApp, observe: Callable[[str, int, float], None]) -> None:
        self.app = app
        self.observe = observe

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request; other ASGI scopes pass through."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        given = dict(scope["headers"]).get(REQUEST_ID_HEADER.encode(), b"").decode("latin-1")
        echoed = _REQUEST_ID.fullmatch(given) is not None
        request_id = given if echoed else uuid.uuid4().hex
        scope.setdefault("state", {})["request_id"] = request_id
        started_s = time.perf_counter()
        status = 0

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                present = {name.lower() for name, _ in message["headers"]}
                missing = [pair for pair in SAFE_HEADERS if pair[0] not in present]
                message["headers"] = [*message["headers"], *missing]
                # Serve's proxy gives every request an id and returns it itself.
                if not echoed:
                    header = (REQUEST_ID_HEADER.encode(), request_id.encode())
                    message["headers"] = [*message["headers"], header]
            await send(message)

        try:
            await self.app(scope, receive, send_with_id)
        except ClientDisconnect:
            pass  # nobody to answer
        except Exception as error:
            log_failure(error, request_id)
            if not status:
                answer = error_response(INTERNAL, request_id, scope["path"])
                await answer(scope, receive, send_with_id)
        finally:
            route = getattr(scope.get("route"), "path", "unknown")
            self.observe(route, status or 499, time.perf_counter() - started_s)
