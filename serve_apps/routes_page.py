"""The page at / and the files it loads: they lie in serve_apps/page, and need no build.

The page loads nothing from elsewhere and runs no script but its own, which the policy below holds
every browser to. It holds no data of a recording, so it may be asked for again and again.
"""

import hashlib
import json
from dataclasses import dataclass
from importlib.resources import files

from fastapi import FastAPI, Request
from starlette.responses import Response

from serve_apps.http_errors import HttpError
from serve_apps.service import ANONYMOUS, owner_of
from sleepmami.signals.cleaning_words import cleaning_words

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "cache-control": "no-cache",  # asked for again each time, so that all files are of one version
    "cross-origin-opener-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}
INDEX = "index.html"
WORDS = "words.json"  # the lists that the header is cleaned by
TYPES = {
    "css": "text/css; charset=utf-8",
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "json": "application/json",
    "svg": "image/svg+xml",
}
_KEYS_MARK = b'data-keys="no"'


@dataclass(frozen=True, slots=True)
class PageFile:
    """One file as it is sent."""

    body: bytes
    media_type: str

    @property
    def etag(self) -> str:
        """Changes with the bytes."""
        return f'"{hashlib.sha256(self.body).hexdigest()[:32]}"'


def page_files() -> dict[str, PageFile]:
    """All files of the page by name; what is not among them cannot be asked for."""
    found = {WORDS: PageFile(json.dumps(cleaning_words()).encode(), TYPES["json"])}
    for entry in files("serve_apps").joinpath("page").iterdir():
        suffix = entry.name.rpartition(".")[2]
        if suffix in TYPES:
            found[entry.name] = PageFile(entry.read_bytes(), TYPES[suffix])
    return found


def add_page_routes(app: FastAPI) -> None:
    """Add / and /page/NAME; not part of the contract, so not of its document."""
    page = page_files()
    index = page.pop(INDEX)
    signed_in = PageFile(index.body.replace(_KEYS_MARK, b'data-keys="yes"'), index.media_type)

    @app.get("/", include_in_schema=False)
    async def page_index(request: Request) -> Response:
        # only a service with keys can be signed out of
        return _answer(request, index if owner_of(request) == ANONYMOUS else signed_in)

    @app.get("/page/{name}", include_in_schema=False)
    async def page_file(request: Request, name: str) -> Response:
        if name not in page:
            raise HttpError("not_found")
        return _answer(request, page[name])


def _answer(request: Request, file: PageFile) -> Response:
    headers = HEADERS | {"etag": file.etag}
    if request.headers.get("if-none-match") == file.etag:
        return Response(status_code=304, headers=headers)
    return Response(file.body, headers=headers | {"content-type": file.media_type})
