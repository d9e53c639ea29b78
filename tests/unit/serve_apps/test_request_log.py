"""One JSON line per request, and none of it from the request."""

import asyncio
import json
import logging
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Request
from starlette.responses import StreamingResponse

from serve_apps import request_log
from serve_apps.http_errors import HttpError, install
from serve_apps.metrics import Metrics
from serve_apps.request_log import JsonFormatter, configure_logs, install_request_log, note_stages


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[dict[str, Any]]]:
    """Our log lines, read back."""
    found: list[dict[str, Any]] = []
    handler = logging.Handler()
    handler.setFormatter(JsonFormatter())
    handler.emit = lambda record: found.append(json.loads(handler.format(record)))  # type: ignore[method-assign]
    logger = logging.getLogger("serve_apps")
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield found
    logger.removeHandler(handler)
    logger.setLevel(before)


def app() -> FastAPI:
    app = FastAPI()
    metrics = Metrics(lambda: 0)

    @app.get("/v1/jobs/{job_id}")
    async def job(job_id: str, request: Request) -> str:
        request.state.owner = "clinic-a"
        metrics.observe_stages({"queued": 0.25, "total": 1.5}, 1, 3)
        return "done"

    @app.get("/fails")
    async def fails() -> str:
        raise ValueError("JANE-DOE")

    @app.get("/refuses")
    async def refuses() -> str:
        raise HttpError("not_an_edf")

    @app.get("/events")
    async def events() -> StreamingResponse:
        async def parts() -> Any:
            yield b"12345"
            yield b"67"

        return StreamingResponse(parts())

    install(app, lambda route, status, seconds: None)
    install_request_log(app)
    return app


def get(path: str, method: str = "GET", **headers: str) -> httpx.Response:
    async def run() -> httpx.Response:
        transport = httpx.ASGITransport(app())
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.request(method, path, headers=headers)

    return asyncio.run(run())


def test_a_request_is_one_line(lines: list[dict[str, Any]]) -> None:
    response = get("/v1/jobs/JANE-DOE?name=JANE-DOE", **{"x-a": "JANE-DOE"})
    (line,) = lines
    assert line.pop("seconds") >= 0
    assert line.pop("time").endswith("+00:00")
    assert line == {
        "level": "info",
        "logger": "serve_apps.request_log",
        "event": "request",
        "request_id": response.headers["x-request-id"],
        "owner": "clinic-a",
        "method": "GET",
        "route": "/v1/jobs/{job_id}",
        "status": 200,
        "bytes_sent": len(response.content),
        "stages": {"queued": 0.25, "total": 1.5},
    }


@pytest.mark.parametrize(
    ("path", "method", "route", "status"),
    [
        ("/JANE-DOE", "GET", "unknown", 404),
        ("/refuses", "GET", "/refuses", 400),
        ("/events", "GET", "/events", 200),
    ],
)
def test_status_and_route_of_each_kind(
    lines: list[dict[str, Any]], path: str, method: str, route: str, status: int
) -> None:
    get(path, method)
    assert [(line["route"], line["status"]) for line in lines] == [(route, status)]
    assert "JANE-DOE" not in json.dumps(lines)


def test_an_answer_in_parts_is_counted_whole(lines: list[dict[str, Any]]) -> None:
    get("/events")
    assert lines[0]["bytes_sent"] == 7


def test_a_method_is_of_the_list_or_other(lines: list[dict[str, Any]]) -> None:
    get("/refuses", "JANE-DOE")
    assert lines[0]["method"] == "other"


def test_a_failure_is_told_by_type_and_place(lines: list[dict[str, Any]]) -> None:
    response = get("/fails")
    assert response.status_code == 500
    told, failed = (
        next(line for line in lines if line.get("event") == "request"),
        next(line for line in lines if "message" in line),
    )
    assert told["status"] == 500
    assert "ValueError" in failed["message"]
    assert response.headers["x-request-id"] in failed["message"]
    assert "JANE-DOE" not in json.dumps([line["message"].split("\n")[0] for line in [failed]])


def test_the_text_of_an_exception_is_not_written() -> None:
    try:
        raise ValueError("JANE-DOE")
    except ValueError:
        record = logging.getLogger("x").makeRecord(
            "x", logging.ERROR, "f", 1, "failed", (), __import__("sys").exc_info()
        )
    line = json.loads(JsonFormatter().format(record))
    assert line["exception"] == "ValueError"
    assert "JANE-DOE" not in json.dumps(line)


def test_stages_of_one_request_are_not_those_of_another(lines: list[dict[str, Any]]) -> None:
    async def run() -> None:
        transport = httpx.ASGITransport(app())
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            await asyncio.gather(client.get("/v1/jobs/a"), client.get("/events"))

    asyncio.run(run())
    assert {line["route"]: bool(line["stages"]) for line in lines} == {
        "/v1/jobs/{job_id}": True,
        "/events": False,
    }


def test_outside_of_a_request_stages_are_nobodys() -> None:
    note_stages({"queued": 1.0})
    assert request_log._stages.get() is None


def test_configured_lines_go_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    ours = logging.getLogger("serve_apps")
    before = (ours.handlers, ours.propagate, ours.level)
    other = logging.getLogger("sleepmami")
    before_other = (other.handlers, other.propagate, other.level)
    try:
        configure_logs()
        configure_logs()  # a second replica in one process
        logging.getLogger("serve_apps.keys").warning("twelve")
    finally:
        ours.handlers, ours.propagate, ours.level = before
        other.handlers, other.propagate, other.level = before_other
    (line,) = capsys.readouterr().err.splitlines()
    assert json.loads(line)["message"] == "twelve"
