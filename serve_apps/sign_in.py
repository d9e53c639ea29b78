"""How a browser shows its key: a form, and a session cookie that stands for the key afterwards.

The cookie is a random word that means something to this service alone; the key is not in it, not in
an address and not in the page. HttpOnly keeps it from scripts, SameSite=Strict and the check of
where a request comes from keep other sites from using it. A session ends after SESSION_S, with the
state folder, and at once when its key is revoked or expires. What is kept of it is a hash.
"""

import hashlib
import secrets
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from pydantic import BaseModel, ConfigDict

from serve_apps.state_file import StateFile
from sleepmami.config.embedding import is_loopback

COOKIE = "sleepmami_session"
SESSION_PATH = "/session"
SESSION_S = 12 * 3600
MAX_SESSIONS = 10_000  # those that were opened first end first
MAX_OF_KEY = 1000  # so that one key's many sign-ins do not end the sessions of others
MAX_FORM_BYTES = 4096
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
FORM_HEADERS = {
    "content-type": "text/html; charset=utf-8",
    "cache-control": "no-store",
    "content-security-policy": (
        "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; "
        "frame-ancestors 'none'; base-uri 'none'"
    ),
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}

_FORM = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>SleepMaMi: sign in</title>
<style>
:root {{ color-scheme: light dark; }}
body {{ font: 1rem/1.5 system-ui, sans-serif; max-width: 26rem; margin: 15vh auto; padding: 1rem; }}
input, button {{ font: inherit; width: 100%; box-sizing: border-box; padding: .6rem; }}
button {{ margin-top: .8rem; }}
</style>
</head>
<body>
<main>
<h1>SleepMaMi</h1>
{told}
<form method="post" action="/session">
<label for="key">Key of this service</label>
<input id="key" name="key" type="password" autocomplete="current-password" required autofocus>
<button>Sign in</button>
</form>
</main>
</body>
</html>
"""


class OpenSessions(BaseModel):
    """By the SHA-256 of the cookie, in hex: the key's id, and when it ends, in s since 1970."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    sessions: dict[str, tuple[str, float]] = {}


class Sessions:
    """The open sessions.

    Args:
        file: that keeps them over a restart; None keeps them in memory.
        clock: seconds since 1970; tests set it.
    """

    def __init__(self, file: Path | None = None, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._file = StateFile(file, OpenSessions())

    def open(self, key_id: str) -> str:
        """A new cookie for a key; OSError when it cannot be kept."""
        token = secrets.token_urlsafe(32)
        now = self._clock()

        def with_it(before: OpenSessions) -> OpenSessions:
            left = [(name, it) for name, it in before.sessions.items() if it[1] > now]
            own = [name for name, it in left if it[0] == key_id]
            gone = set(own[: max(0, len(own) - MAX_OF_KEY + 1)])
            left = [session for session in left if session[0] not in gone]
            left = left[max(0, len(left) - MAX_SESSIONS + 1) :]
            return OpenSessions(sessions=dict(left) | {_hashed(token): (key_id, now + SESSION_S)})

        self._file.change(with_it)
        return token

    def key_id(self, token: str) -> str | None:
        """The key a cookie stands for; None when the session is over."""
        key_id, ends_s = self._file.read().sessions.get(_hashed(token), (None, 0.0))
        return None if self._clock() >= ends_s else key_id

    def close(self, token: str) -> None:
        """End a session, if there is one; OSError when that cannot be kept."""
        name = _hashed(token)
        if name in self._file.read().sessions:
            self._file.change(lambda before: OpenSessions(sessions=_without(before, name)))


def _without(before: OpenSessions, name: str) -> dict[str, tuple[str, float]]:
    return {other: session for other, session in before.sessions.items() if other != name}


def _hashed(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()


def form_page(*, wrong: bool) -> str:
    """The page that asks for a key."""
    told = '<p role="alert">That is not a key of this service.</p>' if wrong else ""
    return _FORM.format(told=told)


def form_key(body: bytes) -> str:
    """The field `key` of a sent form; empty without one."""
    try:
        fields = parse_qs(body.decode("latin-1"), max_num_fields=4)
    except ValueError:  # more fields than the form has
        return ""
    return fields.get("key", [""])[0].strip()


def cookie_header(token: str, *, secure: bool, max_age_s: int = SESSION_S) -> str:
    """Set-Cookie; `max_age_s` 0 takes the cookie away."""
    parts = [f"{COOKIE}={token}", "Path=/", "HttpOnly", "SameSite=Strict", f"Max-Age={max_age_s}"]
    return "; ".join([*parts, "Secure"] if secure else parts)


def cookie_of(headers: Mapping[str, str]) -> str | None:
    """Our cookie, if the browser sent one."""
    for part in headers.get("cookie", "").split(";"):
        name, _, value = part.strip().partition("=")
        if name == COOKIE:
            return value
    return None


def is_local(headers: Mapping[str, str]) -> bool:
    """The browser speaks to its own machine, where no TLS is needed and Secure is not kept."""
    try:
        name = urlsplit(f"//{headers.get('host', '')}").hostname or ""
    except ValueError:  # no address at all, as "[::1"
        return False
    return is_loopback(name)


def comes_from_here(headers: Mapping[str, str]) -> bool:
    """A page of this service sent the request, as far as the browser tells.

    Sec-Fetch-Site cannot be set by a script; browsers leave it out over plain HTTP to another
    machine, where Origin is what there is. Without either it is no browser's doing.
    """
    site = headers.get("sec-fetch-site")
    if site is not None:
        return site == "same-origin"
    origin = headers.get("origin")
    try:
        return origin is not None and urlsplit(origin).netloc == headers.get("host")
    except ValueError:  # no address at all
        return False
