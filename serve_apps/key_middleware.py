"""Lets in who shows a key: every route but /health and /ready, before anything of it runs.

Plain ASGI, so no body is held: a request that is refused is answered before its body is read.
"""

import asyncio
import logging
from collections.abc import Mapping
from pathlib import Path

from fastapi import FastAPI
from starlette.datastructures import Headers
from starlette.middleware import Middleware
from starlette.responses import Response
from starlette.routing import Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve_apps.http_errors import error_response
from serve_apps.keys import Key, KeyRing
from serve_apps.quotas import Account, Quotas
from serve_apps.request_body import IDEMPOTENCY_KEY, REPLAYED
from serve_apps.sign_in import (
    FORM_HEADERS,
    MAX_FORM_BYTES,
    SAFE_METHODS,
    SESSION_PATH,
    Sessions,
    comes_from_here,
    cookie_header,
    cookie_of,
    form_key,
    form_page,
    is_local,
)
from sleepmami.errors import ServiceError

logger = logging.getLogger(__name__)

OPEN_PATHS = frozenset({"/health", "/ready"})
PAGES = frozenset({"/", "/docs"})  # where a browser is shown the form
JOBS_PATH = "/v1/jobs"
NIGHT_PATHS = frozenset({"/v1/embeddings", JOBS_PATH})  # a POST here costs a night
CHALLENGE = 'Bearer realm="sleepmami"'
FORM_S = 10.0


def install_keys(app: FastAPI, ring: KeyRing, folder: Path | None = None) -> None:
    """Ask for a key of `ring`; inside the other middleware, so that a refusal has a request id.

    Args:
        app: the application.
        ring: the keys.
        folder: where sessions and quotas are kept; None keeps them in memory.
    """
    app.user_middleware.append(Middleware(KeyMiddleware, ring=ring, folder=folder))


class KeyMiddleware:
    """Finds the owner of a request: `state.owner`, and its limits, `bytes_stored` and `account`."""

    def __init__(self, app: ASGIApp, ring: KeyRing, folder: Path | None = None) -> None:
        self.app = app
        self.ring = ring
        self.quotas = Quotas(folder and folder / "quotas.json")
        self.sessions = Sessions(folder and folder / "sessions.json")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request; of the other ASGI scopes only lifespan passes."""
        if scope["type"] == "lifespan":
            await self.app(scope, self._writing(receive), send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        elif scope["path"] in OPEN_PATHS:
            await self.app(scope, receive, send)
        else:
            try:
                await self._guard(scope, receive, send)
            except ServiceError as error:
                logger.error("%s", error)  # names the file, which is the operator's
                await _refusal("keys_unreadable", scope)(scope, receive, send)

    def _writing(self, receive: Receive) -> Receive:
        """Write the quotas when the service ends, before the folder may go with it."""

        async def received() -> Message:
            message = await receive()
            if message["type"] == "lifespan.shutdown":
                self.quotas.write()
            return message

        return received

    async def _guard(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        if scope["path"] == SESSION_PATH:
            try:
                response = await self._session(scope, headers, receive)
            except OSError as error:
                logger.error("sessions cannot be written: %s", error.strerror)
                response = _refusal("storage_full", scope)
            await response(scope, receive, send)
            return
        key, by_cookie = self._key_of(headers)
        if key is None:
            await _unauthorized(scope, headers)(scope, receive, send)
        elif by_cookie and scope["method"] not in SAFE_METHODS and not comes_from_here(headers):
            await _refusal("cross_site_request", scope)(scope, receive, send)
        else:
            await self._admit(key, scope, receive, send)

    def _key_of(self, headers: Headers) -> tuple[Key | None, bool]:
        """The key, and whether a cookie stood for it; what Authorization says comes first."""
        given = headers.get("authorization")
        if given is not None:
            scheme, _, text = given.partition(" ")
            return (self.ring.find(text.strip()) if scheme.lower() == "bearer" else None), False
        token = cookie_of(headers)
        key_id = None if token is None else self.sessions.key_id(token)
        return (None if key_id is None else self.ring.by_id(key_id)), True

    async def _admit(self, key: Key, scope: Scope, receive: Receive, send: Send) -> None:
        state = scope.setdefault("state", {})
        state["owner"] = key.owner
        state["bytes_stored"] = key.bytes_stored
        account = state["account"] = Account(self.quotas, key)
        wait_s = self.quotas.take_request(key)
        costs_night = scope["method"] == "POST" and scope["path"] in NIGHT_PATHS
        if wait_s is None and costs_night:
            wait_s = self.quotas.take_night(key)
            if wait_s is not None and _may_be_replayed(scope):
                account.night_wait_s, wait_s, costs_night = wait_s, None, False
        if wait_s is not None:
            await _quota_exceeded(scope, wait_s)(scope, receive, send)
        elif costs_night:
            await self._with_night(key, scope, receive, send)
        else:
            await self.app(scope, receive, send)

    async def _with_night(self, key: Key, scope: Scope, receive: Receive, send: Send) -> None:
        served, day = False, self.quotas.today()

        async def watch(message: Message) -> None:
            nonlocal served
            if message["type"] == "http.response.start":
                replayed = REPLAYED in Headers(raw=message["headers"])  # counted the first time
                served = message["status"] < 400 and not replayed
            await send(message)

        try:
            await self.app(scope, receive, watch)
        finally:
            if not served:
                self.quotas.give_night_back(key, day)

    async def _session(self, scope: Scope, headers: Headers, receive: Receive) -> Response:
        """POST with a form opens a session, DELETE ends it."""
        if scope["method"] not in ("POST", "DELETE"):
            return _refusal("method_not_allowed", scope)
        if not comes_from_here(headers):
            return _refusal("cross_site_request", scope)
        if scope["method"] == "DELETE":
            token = cookie_of(headers)
            if token is not None:
                self.sessions.close(token)
            taken_away = cookie_header("", secure=not is_local(headers), max_age_s=0)
            return Response(status_code=204, headers={"set-cookie": taken_away})
        body = await _form_body(receive)
        key = None if body is None else self.ring.find(form_key(body))
        if key is None:
            return _form(wrong=True)
        if (wait_s := self.quotas.take_request(key)) is not None:
            return _quota_exceeded(scope, wait_s)
        cookie = cookie_header(self.sessions.open(key.id), secure=not is_local(headers))
        return Response(status_code=303, headers={"location": "/", "set-cookie": cookie})


def _may_be_replayed(scope: Scope) -> bool:
    """Whether it may be a job of before, counted then; if not, its route asks `require_night`."""
    return scope["path"] == JOBS_PATH and IDEMPOTENCY_KEY in Headers(scope=scope)


def _refusal(code: str, scope: Scope) -> Response:
    _note_route(scope)
    return error_response(code, scope.get("state", {}).get("request_id", ""), scope["path"])


def _quota_exceeded(scope: Scope, wait_s: int) -> Response:
    refusal = _refusal("quota_exceeded", scope)
    refusal.headers["retry-after"] = str(wait_s)
    return refusal


def _note_route(scope: Scope) -> None:
    """Leave for log and metrics what the router would, which a refused request never reaches."""
    for route in scope["app"].routes if "app" in scope else ():
        if route.matches(scope)[0] is not Match.NONE:
            scope["route"] = route
            return


def _unauthorized(scope: Scope, headers: Mapping[str, str]) -> Response:
    if scope["path"] in PAGES and "text/html" in headers.get("accept", ""):
        _note_route(scope)
        return _form(wrong=False)
    response = _refusal("unauthorized", scope)
    response.headers["www-authenticate"] = CHALLENGE
    return response


def _form(*, wrong: bool) -> Response:
    headers = FORM_HEADERS | {"www-authenticate": CHALLENGE}  # no browser asks for a Bearer itself
    return Response(form_page(wrong=wrong), 401, headers)


async def _form_body(receive: Receive) -> bytes | None:
    """A short body; None when it is too long, or does not come."""
    body = b""
    try:
        async with asyncio.timeout(FORM_S):
            while True:
                message = await receive()
                if message["type"] != "http.request":
                    return None
                part: bytes = message.get("body", b"")
                body += part
                if len(body) > MAX_FORM_BYTES:
                    return None
                if not message.get("more_body", False):
                    return body
    except TimeoutError:
        return None
