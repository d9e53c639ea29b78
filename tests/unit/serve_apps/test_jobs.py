"""Jobs over HTTP: progress, results, cancelling, a bounded queue, and a service that begins anew."""

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from serve_apps import job_runner, routes_jobs
from serve_apps.backend import Progress, Refusal
from serve_apps.wire import redacted
from sleepmami.inference.embedder import NightEmbedding
from tests.unit.serve_apps.fakes import TUS, FakeBackend, call, error_of, finished_job, upload
from tests.unit.serve_apps.test_uploads import by_header

STEPS = (Progress("preprocessing", 1, 3), Progress("encoding", 2, 3))


@pytest.fixture
def backend(embedding: NightEmbedding) -> FakeBackend:
    backend = FakeBackend(redacted(embedding))
    backend.steps = STEPS
    return backend


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_runner, "RETRY_S", 0.001)


async def begin(client: httpx.AsyncClient, **headers: str) -> str:
    made = await client.post(
        "/v1/jobs", json={"upload_id": await upload(client, **headers)}, headers=headers
    )
    assert made.status_code == 202
    return made.headers["location"]


async def state_of(client: httpx.AsyncClient, place: str) -> str:
    return (await client.get(place)).json()["state"]


async def until(client: httpx.AsyncClient, place: str, *states: str) -> None:
    while await state_of(client, place) not in states:
        await asyncio.sleep(0.002)


def events_of(text: str) -> list[tuple[int, str, dict[str, Any]]]:
    found = []
    for block in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if line[0] != ":")
        if fields:
            found.append((int(fields["id"]), fields["event"], json.loads(fields["data"])))
    return found


def test_events_tell_progress_and_the_end(backend: FakeBackend) -> None:
    async def steps(client: httpx.AsyncClient) -> str:
        backend.gate = asyncio.Event()
        place = await begin(client)
        reading = asyncio.create_task(client.get(f"{place}/events"))
        await asyncio.sleep(0.01)
        backend.gate.set()
        return (await reading).text

    events = events_of(call(backend, steps))
    ids, names, jobs = zip(*events, strict=True)
    assert list(ids) == sorted(set(ids))
    assert set(names[:-1]) == {"progress"}
    assert names[-1] == "done"
    assert jobs[-1]["results"][0] == "embeddings.arrow"
    assert any(job["stage"] == "encoding" and job["done"] == 2 for job in jobs)


def test_events_go_on_after_the_last_one_seen(backend: FakeBackend) -> None:
    async def steps(client: httpx.AsyncClient) -> list[httpx.Response]:
        place = f"/v1/jobs/{(await finished_job(client, await upload(client)))['id']}/events"
        first = await client.get(place)
        last = str(events_of(first.text)[-1][0])
        earlier = str(int(last) - 1)
        return [
            first,
            await client.get(place, headers={"last-event-id": earlier}),
            await client.get(place, headers={"last-event-id": last}),
            await client.get(place, headers={"last-event-id": "JANE-DOE"}),
        ]

    first, resumed, ended, odd = call(backend, steps)
    assert first.headers["content-type"].startswith("text/event-stream")
    assert [name for _, name, _ in events_of(first.text)] == ["done"]
    assert events_of(resumed.text) == events_of(first.text)
    assert (ended.status_code, ended.text) == (204, "")
    assert events_of(odd.text) == events_of(first.text)


def test_a_silent_stream_says_that_it_is_there(
    backend: FakeBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(routes_jobs, "HEARTBEAT_S", 0.005)

    async def steps(client: httpx.AsyncClient) -> str:
        backend.gate = asyncio.Event()
        place = await begin(client)
        reading = asyncio.create_task(client.get(f"{place}/events"))
        await asyncio.sleep(0.1)
        backend.gate.set()
        return (await reading).text

    assert ": still here\n\n" in call(backend, steps)


def test_a_recording_that_cannot_be_embedded_fails_the_job_with_its_code(
    backend: FakeBackend,
) -> None:
    backend.outcome = Refusal("channels_missing")

    async def steps(client: httpx.AsyncClient) -> list[Any]:
        job = await finished_job(client, await upload(client))
        place = f"/v1/jobs/{job['id']}"
        names = ("embeddings.npz", "report.html", "overview.json", "hypnogram.tsv")
        return [job, *[await client.get(f"{place}/{name}") for name in names]]

    job, *answers = call(backend, steps)
    assert job["state"] == "failed"
    assert job["error"]["code"] == "channels_missing"
    assert job["results"] == []
    assert {error_of(answer) for answer in answers} == {(409, "job_not_done")}


def test_a_failure_keeps_its_text_to_itself(
    backend: FakeBackend, caplog: pytest.LogCaptureFixture
) -> None:
    backend.outcome = ValueError("JANE-DOE")
    job = call(backend, lambda client: _finish(client))
    assert job["error"]["code"] == "internal_error"
    assert "JANE-DOE" not in json.dumps(job) + caplog.text


async def _finish(client: httpx.AsyncClient) -> dict[str, Any]:
    return await finished_job(client, await upload(client))


def test_a_model_that_goes_away_is_waited_for(
    backend: FakeBackend,
) -> None:
    backend.outcomes = [Refusal("model_not_ready"), Refusal("overloaded")]
    job = call(backend, _finish)
    assert job["state"] == "done"
    assert len(backend.bodies) == 3


def test_a_model_that_stays_away_fails_the_job(backend: FakeBackend) -> None:
    backend.outcome = Refusal("model_not_ready")
    job = call(backend, _finish)
    assert job["error"]["code"] == "model_not_ready"
    assert len(backend.bodies) == job_runner.MAX_ATTEMPTS


def test_the_queue_is_bounded(backend: FakeBackend) -> None:
    async def steps(client: httpx.AsyncClient) -> list[httpx.Response]:
        backend.gate = asyncio.Event()
        named = {"upload_id": await upload(client)}
        answers = [await client.post("/v1/jobs", json=named) for _ in range(4)]
        backend.gate.set()
        for answer in answers[:3]:
            await until(client, answer.headers["location"], "done")
        return [*answers, await client.post("/v1/jobs", json=named)]

    answers = call(backend, steps, max_jobs=3)
    assert [answer.status_code for answer in answers] == [202, 202, 202, 429, 202]
    assert error_of(answers[3]) == (429, "overloaded")
    assert answers[3].headers["retry-after"] == "5"


def test_deleting_a_running_job_stops_it_at_the_next_step_and_leaves_nothing(
    backend: FakeBackend, tmp_path: Path
) -> None:
    async def steps(client: httpx.AsyncClient) -> list[Any]:
        backend.gate = asyncio.Event()
        place = await begin(client)
        await until(client, place, "running")
        reading = asyncio.create_task(client.get(f"{place}/events"))
        await asyncio.sleep(0.01)
        gone = await client.delete(place)
        assert list((tmp_path / "jobs").iterdir()) == []
        events = (await reading).text
        backend.gate.set()
        while not backend.closed_early:
            await asyncio.sleep(0.002)
        return [gone, await client.get(place), events]

    gone, after, events = call(backend, steps, state=tmp_path)
    assert gone.status_code == 204
    assert error_of(after) == (404, "job_not_found")
    assert events_of(events)[-1][1] == "cancelled"
    assert backend.closed_early == 1
    assert list((tmp_path / "jobs").iterdir()) == []


def test_deleting_a_job_that_waits_spares_the_model(backend: FakeBackend) -> None:
    async def steps(client: httpx.AsyncClient) -> None:
        backend.gate = asyncio.Event()
        first, second = await begin(client), await begin(client)
        assert (await client.delete(second)).status_code == 204
        backend.gate.set()
        await until(client, first, "done")

    call(backend, steps, max_running=1)
    assert len(backend.bodies) == 1


def test_deleting_an_upload_cancels_the_job_that_needs_it(backend: FakeBackend) -> None:
    async def steps(client: httpx.AsyncClient) -> dict[str, Any]:
        backend.gate = asyncio.Event()
        upload_id = await upload(client)
        made = await client.post("/v1/jobs", json={"upload_id": upload_id})
        await client.delete(f"/v1/uploads/{upload_id}", headers=TUS)
        job = (await client.get(made.headers["location"])).json()
        backend.gate.set()
        return job

    assert call(backend, steps)["state"] == "cancelled"


def test_another_keys_job_is_not_there(backend: FakeBackend) -> None:
    async def steps(client: httpx.AsyncClient) -> list[int]:
        place = await begin(client, **{"x-owner": "a"})
        paths = ("", "/events", "/embeddings.npz", "/report.html", "/overview.json")
        statuses = [
            (await client.get(place + path, headers={"x-owner": "b"})).status_code for path in paths
        ]
        statuses.append((await client.delete(place, headers={"x-owner": "b"})).status_code)
        body = {"job_id": place.rpartition("/")[2]}
        answer = await client.post("/v1/neighbors", json=body, headers={"x-owner": "b"})
        return [*statuses, answer.status_code]

    assert set(call(backend, steps, prepare=by_header)) == {404}


@pytest.mark.parametrize("job_id", ["a" * 26, "..", "%2e%2e%2f%2e%2e", "A" * 26, "a" * 27, "%00"])
def test_a_job_that_is_not_there_is_not_found(backend: FakeBackend, job_id: str) -> None:
    answer = call(backend, lambda client: client.get(f"/v1/jobs/{job_id}"))
    assert answer.status_code == 404


def test_a_service_that_begins_anew_goes_on_with_its_jobs(
    backend: FakeBackend, embedding: NightEmbedding, tmp_path: Path
) -> None:
    async def interrupted(client: httpx.AsyncClient) -> list[str]:
        backend.gate = asyncio.Event()
        running, waiting = await begin(client), await begin(client)
        await until(client, running, "running")
        return [running, waiting]

    places = call(backend, interrupted, state=tmp_path, max_running=1)
    later = FakeBackend(redacted(embedding))

    async def steps(client: httpx.AsyncClient) -> list[Any]:
        for place in places:
            await until(client, place, "done")
        return [(await client.get(f"{place}/embeddings.npz")).status_code for place in places]

    assert call(later, steps, state=tmp_path) == [200, 200]
    assert len(later.bodies) == 2


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ({"model": "other"}, (404, "model_unknown")),
        ({"second": True}, (422, "request_invalid")),  # MODEL has no second_dim
        ({"seconds": True}, (422, "request_invalid")),
    ],
)
def test_a_job_asks_for_what_there_is(
    backend: FakeBackend, wanted: dict[str, Any], expected: tuple[int, str]
) -> None:
    async def steps(client: httpx.AsyncClient) -> httpx.Response:
        return await client.post("/v1/jobs", json={"upload_id": await upload(client)} | wanted)

    assert error_of(call(backend, steps)) == expected


def test_a_job_that_is_asked_for_twice_with_one_key_is_made_once(backend: FakeBackend) -> None:
    async def steps(client: httpx.AsyncClient) -> tuple[list[httpx.Response], int]:
        named = {"upload_id": await upload(client)}
        key = {"idempotency-key": "k-1"}
        made = [await client.post("/v1/jobs", json=named, headers=key) for _ in range(2)]
        other = await client.post("/v1/jobs", json=named | {"model": "default"}, headers=key)
        made.append(await client.post("/v1/jobs", json=named, headers={"idempotency-key": "k-2"}))
        await until(client, made[0].headers["location"], "done")
        await until(client, made[2].headers["location"], "done")
        return [*made, other], len(backend.bodies)

    (first, again, new, other), runs = call(backend, steps)
    assert first.status_code == again.status_code == new.status_code == 202
    assert first.headers["location"] == again.headers["location"] != new.headers["location"]
    assert "idempotent-replayed" not in first.headers
    assert again.headers["idempotent-replayed"] == "true"
    assert error_of(other) == (409, "idempotency_conflict")
    assert runs == 2


def test_the_key_of_a_job_is_known_after_a_restart_and_kept_as_a_hash(
    backend: FakeBackend, tmp_path: Path
) -> None:
    key = {"idempotency-key": "JANE-DOE"}

    async def first(client: httpx.AsyncClient) -> tuple[str, str]:
        upload_id = await upload(client)
        made = await client.post("/v1/jobs", json={"upload_id": upload_id}, headers=key)
        await until(client, made.headers["location"], "done")
        return upload_id, made.headers["location"]

    upload_id, place = call(backend, first, state=tmp_path)

    async def again(client: httpx.AsyncClient) -> str:
        made = await client.post("/v1/jobs", json={"upload_id": upload_id}, headers=key)
        return made.headers["location"]

    assert call(backend, again, state=tmp_path) == place
    kept = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert all(b"JANE" not in path.read_bytes() for path in kept)
