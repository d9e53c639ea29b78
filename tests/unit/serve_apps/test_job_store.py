"""Jobs on disk: whole or not there, expiring, and never begun without end."""

import asyncio
import dataclasses
import json
from pathlib import Path

import pytest

from serve_apps.http_errors import HttpError
from serve_apps.job_runner import MAX_ATTEMPTS
from serve_apps.job_store import Job, JobStore
from serve_apps.state_folder import StateFolder, new_id
from serve_apps.wire import redacted
from sleepmami.inference.embedder import NightEmbedding
from tests.unit.serve_apps.fakes import FakeBackend, call


class Clock:
    now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(tmp_path: Path, clock: Clock) -> JobStore:
    return JobStore(StateFolder(str(tmp_path)), retention_s=100, clock=clock)


def make(store: JobStore, owner: str = "a") -> Job:
    return store.create(owner, new_id(), model=None, second=False, request_id="r-1")


def test_a_job_comes_back_as_it_was_saved(store: JobStore) -> None:
    job = dataclasses.replace(make(store), state="running", attempts=2, version=7)
    store.save(job)
    assert store.get("a", job.id) == job
    assert list(store.all()) == [job]


def test_jobs_come_oldest_first(store: JobStore, clock: Clock) -> None:
    made = []
    for _ in range(3):
        made.append(make(store))
        clock.now_s += 1
    assert list(store.all()) == made


def test_an_ended_job_expires_and_one_that_waits_does_not(store: JobStore, clock: Clock) -> None:
    waits, ended = make(store), dataclasses.replace(make(store), state="done")
    store.save(ended)
    store.write_result(ended, "embedding.npz", b"x")
    clock.now_s += 101
    with pytest.raises(HttpError, match="job_not_found"):
        store.get("a", ended.id)
    assert store.sweep() == 1
    assert list(store.all()) == [waits]


def test_nothing_is_written_to_a_job_that_was_deleted(store: JobStore, tmp_path: Path) -> None:
    job = make(store)
    store.delete(job)
    with pytest.raises(HttpError, match="job_not_found"):
        store.save(job)
    with pytest.raises(HttpError, match="job_not_found"):
        store.write_result(job, "embedding.npz", b"x")
    assert store.read_result(job, "embedding.npz") is None
    assert list((tmp_path / "jobs").iterdir()) == []


@pytest.mark.parametrize(
    "content", [b"", b"{}", b'{"id": "a"}', b'{"id": "a", "state": "done", "new": 1}']
)
def test_what_is_no_job_is_not_there(store: JobStore, tmp_path: Path, content: bytes) -> None:
    name = new_id()
    (tmp_path / "jobs" / name).mkdir()
    (tmp_path / "jobs" / name / "job.json").write_bytes(content)
    with pytest.raises(HttpError, match="job_not_found"):
        store.get("a", name)
    assert list(store.all()) == []


@pytest.mark.parametrize("job_id", ["", "..", "../uploads", "a" * 27, "A" * 26])
def test_what_is_no_id_has_no_folder(store: JobStore, job_id: str) -> None:
    with pytest.raises(HttpError, match="job_not_found"):
        store.get("a", job_id)
    with pytest.raises(ValueError, match="no id"):
        store.folder_of(job_id)


def test_a_job_that_may_end_the_service_is_not_begun_for_ever(
    embedding: NightEmbedding, tmp_path: Path
) -> None:
    store = JobStore(StateFolder(str(tmp_path)), retention_s=1e12)
    job = dataclasses.replace(make(store, "anonymous"), state="running", attempts=MAX_ATTEMPTS)
    store.save(job)
    backend = FakeBackend(redacted(embedding))

    async def steps(client: object) -> dict[str, object]:
        while True:
            found = await client.get(f"/v1/jobs/{job.id}")  # type: ignore[attr-defined]
            if found.json()["state"] != "running":
                return dict(found.json())
            await asyncio.sleep(0.002)

    found = call(backend, steps, state=tmp_path)
    assert found["state"] == "failed"
    assert found["error"]["code"] == "internal_error"  # type: ignore[index]
    assert backend.bodies == []
    assert json.loads((tmp_path / "jobs" / job.id / "job.json").read_text())["state"] == "failed"
