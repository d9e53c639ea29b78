"""A name in every place of a request that has room for one: it comes back nowhere."""

import base64
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from serve_apps.request_log import JsonFormatter
from tests.attacks.service import guarded_app, talk
from tests.payload_corpus import NPZ
from tests.planted import CANARY, names_it, planted_edf

ENCODED = base64.b64encode(CANARY.encode()).decode()
HEADERS = {
    "user-agent": CANARY,
    "referer": f"http://{CANARY}/",
    "x-patient": CANARY,
    "cookie": f"{CANARY}={CANARY}; sleepmami_session={CANARY}",
    "x-request-id": f"<{CANARY}>",
    "traceparent": CANARY,
}
TUS = {"tus-resumable": "1.0.0", "upload-metadata": f"filename {ENCODED},{CANARY} {ENCODED}"}
ACCEPTS = ("application/json", "application/vnd.apache.arrow.stream", NPZ, "application/vnd.safetensors")  # fmt: skip
RESULTS = ("embeddings.arrow", "embeddings.npz", "embeddings.parquet", "embeddings.safetensors",
           "hypnogram.json", "hypnogram.tsv", "report.html", "overview.json", "events", "")  # fmt: skip


@pytest.fixture
def log_lines() -> Iterator[list[str]]:
    """Every line of every logger, as the service writes its own."""
    lines: list[str] = []
    handler = logging.Handler()
    handler.setFormatter(JsonFormatter())
    handler.emit = lambda record: lines.append(handler.format(record))  # type: ignore[method-assign]
    root = logging.getLogger()
    before = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    yield lines
    root.removeHandler(handler)
    root.setLevel(before)


def wrong_requests() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Method, path and what to send: each is refused, and each holds the name."""
    edf = {"content-type": "application/edf"}
    yield "GET", f"/{CANARY}", {}
    yield "GET", f"/v1/jobs/{CANARY}?{CANARY}={CANARY}", {}
    yield "GET", f"/v1/recordings/{CANARY}/embeddings", {}
    yield "GET", f"/v1/jobs/{'a' * 26}/embeddings.{CANARY}", {}
    yield "DELETE", f"/v1/uploads/{CANARY}", {"headers": TUS}
    yield "POST", f"/v1/embeddings?model={CANARY}", {"content": b"x", "headers": edf}
    yield "POST", f"/v1/embeddings?{CANARY}=1", {"content": b"x", "headers": edf}
    yield "POST", "/v1/embeddings", {"content": CANARY.encode(), "headers": edf}
    yield "POST", "/v1/embeddings", {"content": b"x", "headers": {"content-type": CANARY}}
    yield "POST", "/v1/embeddings", {"content": b"x", "headers": edf | {"accept": CANARY}}
    yield "POST", "/v1/embeddings", {"json": {"upload_id": CANARY, CANARY: CANARY}}
    yield "POST", "/v1/jobs", {"json": {"upload_id": CANARY}}
    yield "POST", "/v1/jobs", {"json": {"upload_id": "a" * 26, "model": CANARY}}
    yield "POST", "/v1/neighbors", {"json": {"recording_id": CANARY}}
    yield "POST", "/v1/encode", {"content": CANARY.encode(), "headers": {"content-type": NPZ}}
    yield "POST", f"/v2/models/{CANARY}/infer", {"json": {"id": CANARY}}
    yield "POST", "/v2/models/default/infer", {"json": {"id": CANARY, "inputs": [{"name": CANARY}]}}
    yield "GET", f"/v2/models/{CANARY}", {}
    yield "POST", "/v1/uploads", {"headers": TUS | {"upload-length": CANARY}}
    yield "POST", "/session", {"content": f"key={CANARY}"}
    yield "GET", "/info", {"headers": {"authorization": f"Bearer {CANARY}"}}
    yield "GET", "/docs", {"headers": {"host": CANARY}}
    yield CANARY, "/info", {}


async def visit(client: httpx.AsyncClient) -> list[httpx.Response]:
    """One recording by every way there is, then every wrong request."""
    edf = planted_edf(0)
    kept: list[httpx.Response] = []

    async def ask(method: str, path: str, **sent: Any) -> httpx.Response:
        sent["headers"] = HEADERS | sent.get("headers", {})
        response = await client.request(method, path, **sent)
        kept.append(response)
        return response

    for accept in ACCEPTS:
        headers = {"content-type": "application/edf", "accept": accept}
        assert (
            await ask("POST", "/v1/embeddings", content=edf, headers=headers)
        ).status_code == 200
    headers = {"content-type": "application/edf"}
    assert (await ask("POST", "/v1/inspect", content=edf, headers=headers)).status_code == 200

    made = await ask("POST", "/v1/uploads", headers=TUS | {"upload-length": str(len(edf))})
    place = made.headers["location"]
    part = {"upload-offset": "0", "content-type": "application/offset+octet-stream"}
    assert (await ask("PATCH", place, content=edf, headers=TUS | part)).status_code == 204
    await ask("HEAD", place, headers=TUS)
    job = await ask("POST", "/v1/jobs", json={"upload_id": place.rpartition("/")[2]})
    assert job.status_code == 202
    where = job.headers["location"]
    await ask("GET", f"{where}/events")  # returns when the job has ended
    assert (await ask("GET", where)).json()["state"] == "done"
    for name in RESULTS:
        await ask("GET", f"{where}/{name}" if name else where)
    await ask("DELETE", where)

    for method, path, sent in wrong_requests():
        assert (await ask(method, path, **sent)).status_code < 500, (method, path)
    for path in ("/metrics", "/info", "/docs", "/openapi.json"):
        await ask("GET", path)
    return kept


def test_the_name_is_in_no_answer_no_log_and_no_metric(
    tmp_path: Path, log_lines: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    app, key = guarded_app(tmp_path)
    responses = talk(app, visit, key)
    said = capfd.readouterr()
    written = "\n".join(line for line in log_lines if '"logger": "asyncio"' not in line)

    assert names_it(planted_edf(0))  # what is looked for is there to be found
    assert len(responses) >= 45
    for response in responses:
        told = response.content + repr(response.headers).encode()
        assert not names_it(told), (response.request.method, response.request.url.path)
        assert ENCODED.encode() not in told
        assert key.encode() not in told
    ours = [json.loads(line) for line in log_lines if '"serve_apps.request_log"' in line]
    assert len(ours) == len(responses)
    assert {line["owner"] for line in ours} == {"clinic-a", None}
    assert any(line["stages"].get("encoding") for line in ours)
    without_client = [line for line in log_lines if '"logger": "httpx"' not in line]
    everything = "\n".join(without_client) + said.out + said.err
    assert not names_it(everything.encode())
    assert key not in everything
    assert names_it(written.encode())  # httpx logs the addresses that it asks: the search works
