"""Who gets in: every route, both ways of showing a key, quotas. A small app stands for ours."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Request
from starlette.responses import JSONResponse

from serve_apps.http_errors import HttpError, install
from serve_apps.key_middleware import KeyMiddleware, install_keys
from serve_apps.keys import Key, KeyRing, add_key, revoke_key
from serve_apps.quotas import Quotas, require_bytes
from serve_apps.request_body import REPLAYED
from serve_apps.sign_in import Sessions, comes_from_here, cookie_header, form_key

LOCAL = "http://127.0.0.1:8000"
HERE = {"sec-fetch-site": "same-origin"}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "keys.json"


def guarded(file: Path) -> FastAPI:
    app = FastAPI(openapi_url=None)

    @app.api_route("/{path:path}", methods=["GET", "POST", "DELETE"])
    async def anything(path: str, request: Request) -> JSONResponse:
        if path == "fails" or "refuse" in request.query_params:
            raise HttpError("not_an_edf")
        if path == "store":
            require_bytes(request, held=60, more=len(await request.body()))
        headers = {REPLAYED: "true"} if "replayed" in request.query_params else None
        return JSONResponse({"owner": getattr(request.state, "owner", None)}, headers=headers)

    install(app, lambda route, status, seconds: None)
    install_keys(app, KeyRing(str(file)))
    return app


def call(
    file: Path, steps: Callable[[httpx.AsyncClient], Awaitable[Any]], base: str = LOCAL
) -> Any:
    async def run() -> Any:
        transport = httpx.ASGITransport(guarded(file))
        async with httpx.AsyncClient(transport=transport, base_url=base) as client:
            return await steps(client)

    return asyncio.run(run())


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


@pytest.mark.parametrize("path", ["/", "/docs", "/metrics", "/v1/jobs", "/v2/health/live", "/health/", "//health"])  # fmt: skip
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE", "HEAD", "OPTIONS", "PROPFIND"])
def test_without_a_key_nothing_is_served(file: Path, path: str, method: str) -> None:
    add_key(file, "clinic-a")
    response = call(file, lambda c: c.request(method, path))
    assert response.status_code == 401
    assert response.headers["www-authenticate"].startswith("Bearer")
    if method != "HEAD":  # has no body
        error, request_id = response.json()["error"], response.headers["x-request-id"]
        if path.startswith("/v2/"):  # its protocol's shape
            assert error.startswith("unauthorized: ")
            assert error.endswith(f"(request {request_id})")
        else:
            assert (error["code"], error["request_id"]) == ("unauthorized", request_id)


@pytest.mark.parametrize("path", ["/health", "/ready"])
def test_health_and_ready_ask_for_nothing(file: Path, path: str) -> None:
    add_key(file, "clinic-a")
    assert call(file, lambda c: c.get(path)).json() == {"owner": None}


def test_a_key_is_let_in_as_its_owner(file: Path) -> None:
    text, _ = add_key(file, "clinic-a")
    assert call(file, lambda c: c.get("/info", headers=bearer(text))).json() == {
        "owner": "clinic-a"
    }


@pytest.mark.parametrize("form", ["{}", "Basic {}", "Bearer", "Bearer  ", "Bearer {}x", "Token {}"])
def test_what_is_not_a_bearer_key_is_refused(file: Path, form: str) -> None:
    text, _ = add_key(file, "clinic-a")
    headers = {"authorization": form.format(text)}
    assert call(file, lambda c: c.get("/info", headers=headers)).status_code == 401


def test_who_is_refused_is_counted_under_the_route_he_asked_for(file: Path) -> None:
    text, _ = add_key(file, "clinic-a", requests_per_minute=1)
    app, counted = FastAPI(openapi_url=None), []

    @app.get("/v1/jobs/{job_id}")
    async def job(job_id: str) -> None:
        """Never reached without a key."""

    install(app, lambda route, status, seconds: counted.append((route, status)))
    install_keys(app, KeyRing(str(file)))

    async def steps() -> None:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url=LOCAL) as client:
            await client.get("/v1/jobs/JANE-DOE")
            await client.delete("/v1/jobs/JANE-DOE")
            await client.get("/JANE-DOE")
            for _ in range(2):
                await client.get("/v1/jobs/JANE-DOE", headers=bearer(text))

    asyncio.run(steps())
    route = "/v1/jobs/{job_id}"
    assert counted == [(route, 401), (route, 401), ("unknown", 401), (route, 200), (route, 429)]


def test_a_refused_body_is_not_read(file: Path) -> None:
    add_key(file, "clinic-a")
    sent: list[Any] = []

    async def receive() -> Any:
        raise AssertionError("the body was read")

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/v1/embeddings", "headers": []}
    asyncio.run(guarded(file)(scope, receive, send))
    assert sent[0]["status"] == 401


def test_keys_that_cannot_be_read_refuse_everybody(file: Path) -> None:
    text, _ = add_key(file, "clinic-a")

    async def steps(client: httpx.AsyncClient) -> list[httpx.Response]:
        before = await client.get("/info", headers=bearer(text))
        file.chmod(0o644)
        after = await client.get("/info", headers=bearer(text))
        return [before, after, await client.get("/health")]

    before, after, health = call(file, steps)
    assert (before.status_code, after.status_code, health.status_code) == (200, 503, 200)
    assert after.json()["error"]["code"] == "keys_unreadable"
    assert "keys.json" not in after.text


# ------------------------------------------------------------------------------------ browsers


def test_a_browser_is_shown_a_form_that_holds_nothing(file: Path) -> None:
    add_key(file, "clinic-a")
    response = call(file, lambda c: c.get("/", headers={"accept": "text/html,*/*"}))
    assert response.status_code == 401
    assert '<form method="post" action="/session">' in response.text
    assert "script" not in response.text
    assert "default-src 'none'" in response.headers["content-security-policy"]


def sign_in(client: httpx.AsyncClient, key: str, **headers: str) -> Awaitable[httpx.Response]:
    return client.post("/session", data={"key": key}, headers=HERE | headers)


def test_the_form_opens_a_session_that_a_script_cannot_read(file: Path) -> None:
    text, _ = add_key(file, "clinic-a")

    async def steps(client: httpx.AsyncClient) -> list[httpx.Response]:
        return [await sign_in(client, text), await client.get("/info")]

    opened, info = call(file, steps)
    assert (opened.status_code, opened.headers["location"]) == (303, "/")
    cookie = opened.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    assert "Secure" not in cookie  # 127.0.0.1
    assert text not in str(opened.headers)
    assert info.json() == {"owner": "clinic-a"}


def test_to_another_machine_the_cookie_needs_tls(file: Path) -> None:
    text, _ = add_key(file, "clinic-a")
    opened = call(file, lambda c: sign_in(c, text), base="https://ward.example")
    assert opened.headers["set-cookie"].endswith("Secure")


def test_a_wrong_key_is_told_and_opens_nothing(file: Path) -> None:
    text, _ = add_key(file, "clinic-a")

    async def steps(client: httpx.AsyncClient) -> list[httpx.Response]:
        return [await sign_in(client, text + "x"), await client.get("/info")]

    told, info = call(file, steps)
    assert told.status_code == 401
    assert "not a key" in told.text
    assert text not in told.text
    assert info.status_code == 401


def test_a_session_ends_with_sign_out_and_with_its_key(file: Path) -> None:
    text, key = add_key(file, "clinic-a")
    add_key(file, "lab-b")

    async def steps(client: httpx.AsyncClient) -> list[int]:
        await sign_in(client, text)
        stolen = {"cookie": f"sleepmami_session={client.cookies['sleepmami_session']}"}
        out = await client.delete("/session", headers=HERE)
        after_out = await client.get("/info", headers=stolen)
        await sign_in(client, text)
        before = await client.get("/info")
        revoke_key(file, key.id)
        after = await client.get("/info")
        return [r.status_code for r in (out, after_out, before, after)]

    assert call(file, steps) == [204, 401, 200, 401]


@pytest.mark.parametrize(
    ("headers", "allowed"),
    [
        ({"sec-fetch-site": "same-origin"}, True),
        ({"origin": LOCAL}, True),
        ({"sec-fetch-site": "cross-site"}, False),
        ({"sec-fetch-site": "same-site"}, False),
        ({"sec-fetch-site": "none"}, False),
        ({"origin": "http://evil.example"}, False),
        ({"origin": "null"}, False),
        ({"sec-fetch-site": "cross-site", "origin": LOCAL}, False),
        ({}, False),
    ],
)
def test_another_sites_page_cannot_use_the_session(
    file: Path, headers: dict[str, str], allowed: bool
) -> None:
    text, _ = add_key(file, "clinic-a")

    async def steps(client: httpx.AsyncClient) -> list[int]:
        await sign_in(client, text)
        post = await client.post("/v1/jobs", headers=headers)
        bearer_post = await client.post("/v1/jobs", headers=headers | bearer(text))
        return [post.status_code, bearer_post.status_code, (await client.get("/info")).status_code]

    assert call(file, steps) == [200 if allowed else 403, 200, 200]


def test_another_sites_page_cannot_sign_somebody_in(file: Path) -> None:
    text, _ = add_key(file, "clinic-a")
    refused = call(file, lambda c: sign_in(c, text, **{"sec-fetch-site": "cross-site"}))
    assert refused.status_code == 403
    assert "set-cookie" not in refused.headers


@pytest.mark.parametrize(
    "body", [b"", b"key=", b"x" * 5000, b"&".join([b"key=a"] * 50), b"\xff\xfe=%zz"]
)
def test_a_form_that_is_none_opens_nothing(file: Path, body: bytes) -> None:
    add_key(file, "clinic-a")
    response = call(file, lambda c: c.post("/session", content=body, headers=HERE))
    assert response.status_code == 401
    assert "set-cookie" not in response.headers


def test_a_session_is_over_after_twelve_hours() -> None:
    now = 0.0
    sessions = Sessions(clock=lambda: now)
    token = sessions.open("3f9a12cd")
    now = 12 * 3600 - 1
    assert sessions.key_id(token) == "3f9a12cd"
    now = 12 * 3600
    assert sessions.key_id(token) is None
    assert sessions.key_id(token + "x") is None


@pytest.mark.parametrize(
    "headers",
    [{"origin": "http://["}, {"origin": LOCAL, "host": "["}, {"origin": "null"}, {"host": "[::1"}],
)
def test_an_address_that_is_none_is_refused(file: Path, headers: dict[str, str]) -> None:
    text, _ = add_key(file, "clinic-a")
    response = call(file, lambda c: c.post("/session", data={"key": text}, headers=headers))
    assert response.status_code == 403
    here = {"host": "[::1", **HERE}
    assert (
        "Secure" in call(file, lambda c: c.delete("/session", headers=here)).headers["set-cookie"]
    )


def test_form_and_cookie_by_hand() -> None:
    assert form_key(b"key=smm_a-b%2Bc+") == "smm_a-b+c"
    assert cookie_header("t", secure=True, max_age_s=5) == (
        "sleepmami_session=t; Path=/; HttpOnly; SameSite=Strict; Max-Age=5; Secure"
    )
    assert not comes_from_here({"origin": "http://a.example", "host": "a.example:81"})


# -------------------------------------------------------------------------------------- quotas


def key_with(**quotas: int) -> Key:
    return Key(id="0" * 8, owner="a", sha256="0" * 64, created="2026-01-01T00:00:00Z", **quotas)  # type: ignore[arg-type]  # pydantic reads the time


def test_requests_per_minute_by_hand() -> None:
    now = 1000.0
    quotas, key = Quotas(clock=lambda: now), key_with(requests_per_minute=3)
    assert [quotas.take_request(key) for _ in range(4)] == [None, None, None, 20]
    now = 1019.0
    assert quotas.take_request(key) == 1
    now = 1020.0
    assert [quotas.take_request(key) for _ in range(2)] == [None, 20]


def test_no_minute_takes_more_than_twice_the_quota_and_no_hour_more_than_sixty_times() -> None:
    now = 0.0
    quotas, key = Quotas(clock=lambda: now), key_with(requests_per_minute=7)
    taken = []
    for second in range(3600):
        now = float(second)
        taken += [now for _ in range(5) if quotas.take_request(key) is None]
    assert len(taken) <= 7 * 61
    assert max(sum(start <= t < start + 60 for t in taken) for start in taken) <= 14


def test_nights_per_day_begin_anew_at_midnight_utc() -> None:
    now = 86_400.0 * 100 + 86_000
    quotas, key = Quotas(clock=lambda: now), key_with(nights_per_day=2)
    assert [quotas.take_night(key) for _ in range(3)] == [None, None, 400]
    quotas.give_night_back(key, quotas.today())
    assert quotas.take_night(key) is None
    now = 86_400.0 * 101
    assert quotas.take_night(key) is None


def test_too_many_requests_are_told_when_to_come_back(file: Path) -> None:
    text, _ = add_key(file, "clinic-a", requests_per_minute=2)
    second, _ = add_key(file, "clinic-a", requests_per_minute=2)
    other, _ = add_key(file, "lab-b", requests_per_minute=2)

    async def steps(client: httpx.AsyncClient) -> list[httpx.Response]:
        return [await client.get("/info", headers=bearer(k)) for k in (text, second, text, other)]

    responses = call(file, steps)
    assert [r.status_code for r in responses] == [200, 200, 429, 200]
    assert responses[2].json()["error"]["code"] == "quota_exceeded"
    assert 1 <= int(responses[2].headers["retry-after"]) <= 30


def test_a_refused_night_does_not_count(file: Path) -> None:
    text, _ = add_key(file, "clinic-a", nights_per_day=2)
    urls = ["?refuse", "", "?refuse", "", "", "?refuse"]

    async def steps(client: httpx.AsyncClient) -> list[int]:
        sent = [await client.post(f"/v1/embeddings{u}", headers=bearer(text)) for u in urls]
        return [r.status_code for r in [*sent, await client.get("/v1/jobs", headers=bearer(text))]]

    assert call(file, steps) == [400, 200, 400, 200, 429, 429, 200]


@pytest.mark.parametrize(("more", "status"), [(40, 200), (41, 429)])
def test_bytes_stored_are_limited_by_the_key(file: Path, more: int, status: int) -> None:
    text, _ = add_key(file, "clinic-a", bytes_stored=100)
    sent = call(file, lambda c: c.post("/store", content=bytes(more), headers=bearer(text)))
    assert sent.status_code == status


def test_a_websocket_is_closed(file: Path) -> None:
    add_key(file, "clinic-a")
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def never(*args: Any) -> None:
        raise AssertionError("was let in")

    scope = {"type": "websocket", "path": "/", "headers": []}
    asyncio.run(KeyMiddleware(never, KeyRing(str(file)))(scope, never, send))
    assert sent == [{"type": "websocket.close", "code": 1008}]


def test_a_night_that_is_asked_for_twice_with_one_key_counts_once(file: Path) -> None:
    key, _ = add_key(file, "lab", nights_per_day=1)

    async def steps(client: httpx.AsyncClient) -> list[int]:
        async def post(path: str) -> int:
            return (await client.post(path, headers=bearer(key))).status_code

        return [await post("/v1/jobs?replayed"), await post("/v1/jobs"), await post("/v1/jobs")]

    assert call(file, steps) == [200, 200, 429]
