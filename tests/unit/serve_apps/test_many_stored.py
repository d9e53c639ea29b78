"""What is stored already costs a new upload or job no file to read, and is counted all the same."""

from pathlib import Path
from typing import Any

import pytest

from serve_apps import job_store, state_folder, upload_store
from serve_apps.http_errors import HttpError
from serve_apps.job_store import Job, JobStore
from serve_apps.state_folder import StateFolder, new_id
from serve_apps.upload_store import UploadStore

STORED = 20


def uploads_in(folder: Path) -> UploadStore:
    return UploadStore(
        StateFolder(str(folder)), retention_s=1e6, max_bytes=1000, max_upload_bytes=1000
    )


def jobs_in(folder: Path) -> JobStore:
    return JobStore(StateFolder(str(folder)), retention_s=1e6)


def make(store: JobStore, owner: str = "a", key_sha256: str | None = None) -> Job:
    return store.create(
        owner, new_id(), model=None, second=False, request_id="r", key_sha256=key_sha256
    )


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the folders whose JSON was read."""
    names: list[str] = []

    def noted(path: Path) -> dict[str, Any] | None:
        names.append(path.parent.name)
        return state_folder.read_json(path)

    monkeypatch.setattr(job_store, "read_json", noted)
    monkeypatch.setattr(upload_store, "read_json", noted)
    return names


def test_an_upload_reads_of_the_others_nothing(tmp_path: Path, read: list[str]) -> None:
    store = uploads_in(tmp_path)
    stored = {store.create("a", 1).id for _ in range(STORED)}
    assert store.held_bytes("a") == STORED
    read.clear()
    store.create("a", 1, "key")
    assert store.made_with("a", "other") is None
    assert not stored & set(read)


def test_a_job_reads_of_the_others_nothing(tmp_path: Path, read: list[str]) -> None:
    store = jobs_in(tmp_path)
    stored = {make(store).id for _ in range(STORED)}
    assert store.made_with("a", "key") is None
    read.clear()
    make(store, key_sha256="key")
    assert store.made_with("a", "other") is None
    assert not stored & set(read)


def test_what_another_process_makes_and_deletes_counts_at_once(tmp_path: Path) -> None:
    here, there = uploads_in(tmp_path), uploads_in(tmp_path)
    first = here.create("a", 700)
    second = there.create("a", 300, "key")
    assert here.held_bytes("a") == 1000
    assert here.held_bytes("b") == 0
    found = here.made_with("a", "key")
    assert found is not None
    assert found.id == second.id
    with pytest.raises(HttpError, match="quota_exceeded"):
        here.create("a", 1)
    there.delete("a", first.id)
    assert here.held_bytes("a") == 300
    assert here.create("a", 700).length == 700
    there.delete("a", second.id)
    assert here.made_with("a", "key") is None


def test_jobs_of_another_process_are_found_and_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_store, "MAX_STORED", 2)
    here, there = jobs_in(tmp_path), jobs_in(tmp_path)
    mine, other = make(here), make(there, key_sha256="key")
    assert here.made_with("a", "key") == other
    assert here.made_with("b", "key") is None
    make(here, "b")
    with pytest.raises(HttpError, match="quota_exceeded"):
        make(here)
    there.delete(mine)
    make(here)
    there.delete(other)
    assert here.made_with("a", "key") is None


NOT_OURS = {
    "length": '{"owner": "a", "length": "x", "created_s": 1e11}',
    "endless": '{"owner": "a", "length": 1e400, "created_s": 1e11}',
    "negative": '{"owner": "a", "length": -9000, "created_s": 1e11}',
    "time": '{"owner": "a", "length": 3, "created_s": "z"}',
    "owner": '{"owner": ["a"], "length": 3, "created_s": 1e11}',
    "deep": "[" * 100_000,
    "job": '{"id": "x", "owner": "a", "upload_id": "u", "created_s": "z", "request_id": "r"}',
    "other release": '{"id": "ID", "owner": "a", "upload_id": "u", "created_s": 1e11, '
    '"request_id": "r", "more": 1}',
}


@pytest.mark.parametrize("name", NOT_OURS)
def test_a_file_that_is_none_of_ours_ends_no_count_and_no_sweep(tmp_path: Path, name: str) -> None:
    store, jobs = uploads_in(tmp_path), jobs_in(tmp_path)
    store.create("a", 100)
    job = make(jobs)
    for folder, file in (("uploads", "meta.json"), ("jobs", "job.json")):
        odd = new_id()
        (tmp_path / folder / odd).mkdir()
        (tmp_path / folder / odd / "data").touch()
        (tmp_path / folder / odd / file).write_text(NOT_OURS[name].replace("ID", odd))
    assert store.held_bytes("a") == 100
    assert store.create("a", 1).length == 1
    assert (store.sweep(), jobs.sweep()) == (0, 0)
    assert list(jobs.all()) == [job]
    assert jobs.made_with("a", "key") is None
