"""Without keys the service is for this machine alone, also for the pages its browsers show.

A site can give its own name the address 127.0.0.1 (DNS rebinding); a browser then takes answers of
a service here for that site's, and lets its scripts read them. The Host header still says the
site's name, so without keys only names of this machine are answered.
"""

from fastapi import FastAPI
from starlette.datastructures import Headers
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Receive, Scope, Send

from serve_apps.http_errors import error_response
from serve_apps.key_middleware import OPEN_PATHS
from serve_apps.sign_in import is_local


def install_local_only(app: FastAPI) -> None:
    """Answer names of this machine alone; inside the other middleware, as `install_keys`."""
    app.user_middleware.append(Middleware(LocalOnly))


class LocalOnly:
    """Refuses requests to another name, but for /health and /ready."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request; of the other ASGI scopes only lifespan passes."""
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
            return
        is_open = scope["type"] != "http" or scope["path"] in OPEN_PATHS
        if is_open or is_local(Headers(scope=scope)):
            await self.app(scope, receive, send)
            return
        request_id = scope.get("state", {}).get("request_id", "")
        await error_response("host_unknown", request_id, scope["path"])(scope, receive, send)
