"""One JSON line per request, and our other log lines in the same form.

A line holds what we made or what is on a list: ids, the route's template, the status, the owner of
the key, seconds. Of the request itself nothing is written: no path, no query, no header, no name of
a file; of an exception its type and the lines it passed, never its text. A test sends a name in
every place that a request has for one and looks for it in all that is written.
"""

import json
import logging
import sys
import time
from collections.abc import Mapping
from contextvars import ContextVar
from datetime import UTC, datetime

from fastapi import FastAPI
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

logger = logging.getLogger(__name__)

OURS = ("serve_apps", "sleepmami")  # the loggers whose lines are ours
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
GONE = 499  # the client went away before an answer began
_stages: ContextVar[dict[str, float] | None] = ContextVar("stages", default=None)


class JsonFormatter(logging.Formatter):
    """A record as one line of JSON; `fields` of its extra are keys of their own."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line: dict[str, object] = {
            "time": at,
            "level": record.levelname.lower(),
            "logger": record.name,
        }
        fields: Mapping[str, object] | None = getattr(record, "fields", None)
        line |= {"message": record.getMessage()} if fields is None else fields
        if record.exc_info and record.exc_info[0] is not None:
            line["exception"] = record.exc_info[0].__name__  # its text may quote a header
        return json.dumps(line)


def configure_logs() -> None:
    """Write our lines to this process's standard error; once, by whoever starts the process."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    for name in OURS:
        ours = logging.getLogger(name)
        ours.handlers, ours.propagate = [handler], False
        ours.setLevel(logging.INFO)


def note_stages(seconds: Mapping[str, float]) -> None:
    """Where the time of the request in hand went; without one, as in a job, nothing is noted."""
    noted = _stages.get()
    if noted is not None:
        noted.update(seconds)


def install_request_log(app: FastAPI) -> None:
    """Write a line per request; inside what gives it its id, outside what asks for a key."""
    app.user_middleware.append(Middleware(RequestLog))


class RequestLog:
    """Writes the line when the answer is whole."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request; other ASGI scopes pass through."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        status, sent = 0, 0
        started_s = time.perf_counter()
        noted: dict[str, float] = {}
        token = _stages.set(noted)

        async def watch(message: Message) -> None:
            nonlocal status, sent
            if message["type"] == "http.response.start":
                status = message["status"]
            elif message["type"] == "http.response.body":
                sent += len(message.get("body", b""))
            await send(message)

        failed = False
        try:
            await self.app(scope, receive, watch)
        except Exception:
            failed = True
            raise
        finally:
            _stages.reset(token)
            state = scope.get("state", {})
            method = scope["method"]
            logger.info(
                "request",
                extra={
                    "fields": {
                        "event": "request",
                        "request_id": state.get("request_id"),
                        "owner": state.get("owner"),
                        "method": method if method in METHODS else "other",
                        "route": getattr(scope.get("route"), "path", "unknown"),
                        "status": status or (500 if failed else GONE),
                        "seconds": round(time.perf_counter() - started_s, 4),
                        "bytes_sent": sent,
                        "stages": {stage: round(s, 4) for stage, s in noted.items()},
                    }
                },
            )
