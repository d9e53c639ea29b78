"""Two requests at once, requests that are cancelled, and a disk that fails while jobs wait."""

import asyncio
import base64
import hashlib
import os
import threading
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI

from serve_apps import job_runner
from serve_apps.backend import Progress
from serve_apps.http_errors import HttpError
from serve_apps.job_store import JobStore
from serve_apps.request_body import to_end
from serve_apps.state_folder import StateFolder
from serve_apps.upload_store import Part, UploadStore
from serve_apps.wire import ModelInfo, redacted
from sleepmami.inference.embedder import NightEmbedding
from tests.unit.serve_apps.fakes import (
    MODEL,
    TUS,
    FakeBackend,
    call,
    error_of,
    finished_job,
    upload,
)


@pytest.fixture
def backend(embedding: NightEmbedding) -> FakeBackend:
    return FakeBackend(redacted(embedding))


def test_two_uploads_at_once_do_not_share_the_last_bytes_of_a_quota(backend: FakeBackend) -> None:
    def limited(app: FastAPI) -> None:
        @app.middleware("http")
        async def by_key(request, call_next):  # type: ignore[no-untyped-def]
            request.state.bytes_stored = 100
            return await call_next(request)

    async def steps(client: httpx.AsyncClient) -> list[int]:
        sent = TUS | {"upload-length": "60"}
        asked = (client.post("/v1/uploads", headers=sent) for _ in range(8))
        return sorted(answer.status_code for answer in await asyncio.gather(*asked))

    assert call(backend, steps, prepare=limited) == [201] + [429] * 7


def test_a_thread_is_waited_for_when_its_request_is_cancelled() -> None:
    done: list[str] = []

    async def run() -> None:
        begun, may_end = threading.Event(), threading.Event()

        def work() -> None:
            begun.set()
            may_end.wait(10)
            done.append("work")

        task = asyncio.create_task(to_end(work))
        await asyncio.to_thread(begun.wait, 10)
        for _ in range(3):
            task.cancel()
            await asyncio.sleep(0)
        assert not task.done()
        may_end.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert done == ["work"]

    asyncio.run(run())


def test_what_a_thread_raises_arrives() -> None:
    def fail() -> None:
        raise HttpError("storage_full")

    with pytest.raises(HttpError, match="storage_full"):
        asyncio.run(to_end(fail))


def test_a_part_that_is_cancelled_while_it_is_written_leaves_nothing_unverified(
    backend: FakeBackend, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The write that was under way when the request ended must not land after the cut."""
    begun, may_write = threading.Event(), threading.Event()
    write = Part.write

    def slow(part: Part, chunk: bytes) -> None:
        assert part._file is not None
        entered = os.dup(part._file.fileno())  # as a system call holds the file that it writes to
        begun.set()
        may_write.wait(10)
        os.write(entered, chunk)
        os.close(entered)
        part.offset += len(chunk)

    async def steps(client: httpx.AsyncClient) -> tuple[int, bytes]:
        data = b"0123456789"
        made = await client.post("/v1/uploads", headers=TUS | {"upload-length": "20"})
        place = made.headers["location"]
        digest = base64.b64encode(hashlib.sha256(data).digest()).decode()
        headers = TUS | {
            "upload-offset": "0",
            "content-type": "application/offset+octet-stream",
            "upload-checksum": f"sha256 {digest}",
        }
        monkeypatch.setattr(Part, "write", slow)
        part = asyncio.create_task(client.patch(place, content=data, headers=headers))
        await asyncio.to_thread(begun.wait, 10)
        part.cancel()
        await asyncio.sleep(0.01)
        may_write.set()
        with pytest.raises(asyncio.CancelledError):
            await part
        monkeypatch.setattr(Part, "write", write)
        offset = int((await client.head(place, headers=TUS)).headers["upload-offset"])
        again = await client.patch(place, content=data, headers=headers)
        assert again.status_code == 204
        return offset, (tmp_path / "uploads" / place.rpartition("/")[2] / "data").read_bytes()

    assert call(backend, steps, state=tmp_path) == (0, b"0123456789")


def test_jobs_run_on_where_the_folder_cannot_be_swept(
    backend: FakeBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    swept: list[str] = []

    def fail(store: object, *args: object) -> int:
        swept.append(type(store).__name__)
        raise PermissionError

    for kind, name in ((StateFolder, "clean"), (UploadStore, "sweep"), (JobStore, "sweep")):
        monkeypatch.setattr(kind, name, fail)

    async def steps(client: httpx.AsyncClient) -> str:
        while len(swept) < 3:
            await asyncio.sleep(0.002)
        return (await finished_job(client, await upload(client)))["state"]

    assert call(backend, steps) == "done"
    assert sorted(swept) == ["JobStore", "StateFolder", "UploadStore"]


def test_an_upload_that_is_deleted_while_it_is_swept_is_no_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = UploadStore(
        StateFolder(str(tmp_path)), retention_s=100, max_bytes=9, max_upload_bytes=9
    )
    gone = store.create("a", 3)
    listed = list(store._folders())
    store.delete("a", gone.id)
    monkeypatch.setattr(store, "_folders", lambda: iter(listed))
    assert store.sweep() == 0


def test_a_full_disk_fails_a_job_and_not_those_after_it(
    backend: FakeBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend.steps = [Progress("encoding", 1, 2)]
    is_full = True
    write = job_runner.JobStore.write_result

    def writes(store: JobStore, job: job_runner.Job, name: str, data: bytes) -> None:
        if is_full and job.state != "queued":
            raise HttpError("storage_full")
        write(store, job, name, data)

    monkeypatch.setattr(JobStore, "write_result", writes)

    async def steps(client: httpx.AsyncClient) -> list[str]:
        nonlocal is_full
        upload_id = await upload(client)
        for _ in range(3):  # more than there are workers
            made = await client.post("/v1/jobs", json={"upload_id": upload_id})
            assert made.status_code == 202
        while (await client.get("/metrics")).text.find("sleepmami_jobs 0.0") < 0:
            await asyncio.sleep(0.002)
        is_full = False
        return (await finished_job(client, upload_id))["state"]

    assert call(backend, steps, max_running=4) == "done"


def test_a_job_that_cannot_be_written_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = JobStore(StateFolder(str(tmp_path)), retention_s=100)

    def full(path: Path, data: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("serve_apps.job_store.write_whole", full)
    with pytest.raises(HttpError, match="storage_full"):
        store.create("a", "u", model=None, second=False, request_id="r")
    assert list((tmp_path / "jobs").iterdir()) == []


def test_an_event_id_of_before_a_restart_is_not_taken_for_the_end(
    backend: FakeBackend, tmp_path: Path
) -> None:
    """Progress is not saved, so ids told before a restart could be those of the end after it."""
    backend.steps = [Progress("encoding", i, 30) for i in range(30)]

    async def first(client: httpx.AsyncClient) -> str:
        backend.gate = asyncio.Event()
        made = await client.post("/v1/jobs", json={"upload_id": await upload(client)})
        place = made.headers["location"]
        while (await client.get(place)).json()["done"] != 29:
            await asyncio.sleep(0.002)
        return place

    place = call(backend, first, state=tmp_path)
    backend.gate = None

    async def second(client: httpx.AsyncClient) -> list[int]:
        while (await client.get(place)).json()["state"] != "done":
            await asyncio.sleep(0.002)
        told = [{"last-event-id": str(seen)} for seen in range(100)]
        answers = [await client.get(f"{place}/events", headers=headers) for headers in told]
        return [answer.status_code for answer in answers]

    assert set(call(backend, second, state=tmp_path)) == {200}


def test_a_model_that_is_away_is_not_one_that_is_unknown(
    embedding: NightEmbedding, backend: FakeBackend
) -> None:
    class TwoModels(FakeBackend):
        names = ("default", "new")

        async def models(self) -> list[ModelInfo]:
            return [MODEL]  # `new` has no replica

    async def steps(client: httpx.AsyncClient) -> list[tuple[int, str]]:
        headers = {"content-type": "application/edf"}
        asked = [f"/v1/embeddings?model={name}" for name in ("new", "newer")]
        answers = [await client.post(path, content=b"x", headers=headers) for path in asked]
        return [error_of(answer) for answer in answers]

    found = call(TwoModels(redacted(embedding)), steps)
    assert found == [(503, "model_not_ready"), (404, "model_unknown")]


def test_watchers_are_bounded_and_leave_their_places(
    backend: FakeBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_runner, "MAX_WATCHERS", 2)

    async def steps(client: httpx.AsyncClient) -> list[int]:
        backend.gate = asyncio.Event()
        made = await client.post("/v1/jobs", json={"upload_id": await upload(client)})
        events = f"{made.headers['location']}/events"
        watching = [asyncio.create_task(client.get(events)) for _ in range(2)]
        await asyncio.sleep(0.05)
        refused = await client.get(events)
        watching[0].cancel()
        await asyncio.sleep(0.05)
        watching.append(asyncio.create_task(client.get(events)))
        await asyncio.sleep(0.05)
        backend.gate.set()
        assert error_of(refused) == (429, "overloaded")
        return [(await watcher).status_code for watcher in watching[1:]]

    assert call(backend, steps) == [200, 200]
