"""A service without keys answers to names of this machine alone."""

import asyncio

import httpx
import pytest

from serve_apps.admission import Admission
from serve_apps.http_app import create_app
from serve_apps.openapi import NoBackend
from serve_apps.wire import Limits

LIMITS = Limits(max_body_mb=1, max_running=1, max_queued=1)


def get(host: str, path: str, *, local_only: bool = True) -> httpx.Response:
    app = create_app(NoBackend(), Admission(LIMITS), local_only=local_only)

    async def run() -> httpx.Response:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.get(path, headers={"host": host})

    return asyncio.run(run())


@pytest.mark.parametrize("host", ["127.0.0.1:8000", "127.0.0.1", "localhost:8000", "[::1]:8000"])
def test_a_name_of_this_machine_is_answered(host: str) -> None:
    assert get(host, "/docs").status_code == 200


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:8000", "127.evil.example", "localhost.evil.example", "[", ""],
)
def test_a_page_that_has_given_its_name_our_address_reads_nothing(host: str) -> None:
    answer = get(host, "/metrics")
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "host_unknown")
    assert get(host, "/v2/health/live").json()["error"].startswith("host_unknown: ")
    assert get(host, "/health").status_code == 200  # of whoever watches over it


def test_behind_a_gateway_every_name_is_answered() -> None:
    assert get("sleep.example.org", "/docs", local_only=False).status_code == 200
