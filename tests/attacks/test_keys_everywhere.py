"""Without a key, every route of the contract but /health and /ready refuses."""

from pathlib import Path
from typing import Any

import httpx

from tests.attacks.service import guarded_app, route_paths, talk

OPEN = {"/health", "/ready"}
UNLISTED = [("GET", "/"), ("GET", "/docs"), ("GET", "/openapi.json"), ("GET", "/nothing"),
            ("POST", "/health"), ("GET", "/health/"), ("GET", "/ready/x"), ("GET", "/static/x")]  # fmt: skip


def test_every_route_but_two_asks_for_a_key(tmp_path: Path) -> None:
    app, key = guarded_app(tmp_path)
    routes = route_paths(app.openapi()) + UNLISTED

    async def steps(client: httpx.AsyncClient) -> list[Any]:
        wrong = {"authorization": f"Bearer {key[:-1]}"}
        return [
            (method, path, (await client.request(method, path, headers=headers)).status_code)
            for method, path in routes
            for headers in ({}, wrong, {"cookie": "sleepmami_session=x"})
        ]

    answered = talk(app, steps)
    guarded = [entry for entry in answered if entry[1] not in OPEN]
    print(f"{len(guarded) // 3} routes ask for a key, {len(OPEN)} do not")
    assert len(guarded) >= 3 * 30
    assert {status for _, _, status in guarded} == {401}
    assert {status for _, path, status in answered if path in OPEN} == {200, 405}


def test_with_the_key_no_route_says_401(tmp_path: Path) -> None:
    app, key = guarded_app(tmp_path)

    async def steps(client: httpx.AsyncClient) -> set[int]:
        routes = route_paths(app.openapi())
        return {(await client.request(*route)).status_code for route in routes}

    statuses = talk(app, steps, key)
    assert not statuses & {401, 403, 500}
    assert {200, 404} < statuses
