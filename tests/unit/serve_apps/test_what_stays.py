"""Requests leave nothing in the process or on disk: what is made for one ends with it."""

import gc
import urllib.parse
from itertools import pairwise
from pathlib import Path

import httpx
import pytest

from serve_apps.backend import Progress, Refusal
from serve_apps.wire import redacted
from sleepmami.inference.embedder import NightEmbedding
from tests.unit.serve_apps.fakes import EDF, TUS, FakeBackend, call, finished_job, upload

WARM_UP, ROUNDS, SERIES = 4, 6, 3


@pytest.fixture
def backend(embedding: NightEmbedding) -> FakeBackend:
    backend = FakeBackend(redacted(embedding))
    backend.steps = (Progress("preprocessing", 1, 2),)
    return backend


async def every_kind(client: httpx.AsyncClient, number: int) -> None:
    """Answers, refusals, paths and ids that no other round has, and a job from upload to delete."""
    own = {"x-request-id": f"round-{number}"}
    for accept in ("application/json", "application/x-npz", "application/vnd.apache.arrow.stream"):
        asked = await client.post(
            "/v1/embeddings", content=b"edf", headers=EDF | own | {"accept": accept}
        )
        assert asked.status_code == 200
    assert (await client.post("/v1/inspect", content=b"edf", headers=EDF)).status_code == 200
    assert (await client.post("/v1/encode", content=b"x")).status_code == 415
    assert (await client.get(f"/nothing/{number}")).status_code == 404
    assert (await client.get(f"/v1/jobs/{number:026d}")).status_code == 404
    assert (await client.get("/metrics")).status_code == 200
    upload_id = await upload(client, **{"idempotency-key": f"key-{number}"})
    place = f"/v1/jobs/{(await finished_job(client, upload_id))['id']}"
    assert (await client.get(f"{place}/embeddings.npz")).status_code == 200
    assert (await client.get(f"{place}/events")).status_code == 200
    assert (await client.delete(place)).status_code == 204
    assert (await client.delete(f"/v1/uploads/{upload_id}", headers=TUS)).status_code == 204


def test_requests_leave_no_objects_behind(backend: FakeBackend) -> None:
    async def steps(client: httpx.AsyncClient) -> int:
        for number in range(WARM_UP):
            await every_kind(client, number)
        counts = [num_objects(backend)]
        for number in range(WARM_UP, WARM_UP + SERIES * ROUNDS):
            await every_kind(client, number)
            if (number - WARM_UP) % ROUNDS == ROUNDS - 1:
                counts.append(num_objects(backend))
        # what other tests of this process left running makes objects too, but not in each series
        return min(after - before for before, after in pairwise(counts))

    assert call(backend, steps) < ROUNDS  # less than one a round of 20 requests


def num_objects(backend: FakeBackend) -> int:
    """Objects that the collector tracks, without what the fake notes."""
    backend.bodies.clear()
    backend.recordings.clear()
    backend.options.clear()
    urllib.parse.clear_cache()  # the test's client keeps 128 addresses
    gc.collect()
    return len(gc.get_objects())


def test_what_was_deleted_or_refused_is_nowhere_on_disk(
    backend: FakeBackend, tmp_path: Path
) -> None:
    async def steps(client: httpx.AsyncClient) -> None:
        await every_kind(client, 0)
        backend.outcome = Refusal("not_an_edf")
        upload_id = await upload(client)
        job = await finished_job(client, upload_id)
        assert job["state"] == "failed"
        assert (await client.delete(f"/v1/jobs/{job['id']}")).status_code == 204
        assert (await client.delete(f"/v1/uploads/{upload_id}", headers=TUS)).status_code == 204

    call(backend, steps, state=tmp_path / "state")
    assert [file.name for file in (tmp_path / "state").rglob("*") if file.is_file()] == [
        "jobs.lock"
    ]
    folders = [folder.name for folder in (tmp_path / "state").rglob("*") if folder.is_dir()]
    assert sorted(folders) == ["jobs", "spool", "uploads"]
