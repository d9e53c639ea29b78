"""Uploads on disk: offsets, checksums, quotas, expiry, and what a killed process leaves."""

import hashlib
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from serve_apps import upload_store
from serve_apps.http_errors import HttpError
from serve_apps.state_folder import StateFolder, is_id, new_id
from serve_apps.upload_store import UploadStore

MB = 2**20


class Clock:
    now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(tmp_path: Path, clock: Clock) -> UploadStore:
    return UploadStore(
        StateFolder(str(tmp_path)),
        retention_s=100,
        max_bytes=10 * MB,
        max_upload_bytes=4 * MB,
        clock=clock,
    )


def code_of(error: pytest.ExceptionInfo[HttpError]) -> str:
    return error.value.code


def data_of(store: UploadStore, upload_id: str, owner: str = "a") -> bytes:
    return Path(store.complete_path(owner, upload_id)).read_bytes()


def send(
    store: UploadStore,
    upload_id: str,
    offset: int,
    data: bytes,
    checksum: tuple[str, bytes] | None = None,
) -> None:
    with store.part("a", upload_id, offset, checksum) as part:
        part.write(data[:2])
        part.write(data[2:])
        part.verify()


def break_off(
    store: UploadStore,
    upload_id: str,
    offset: int,
    data: bytes,
    checksum: tuple[str, bytes] | None = None,
) -> None:
    with store.part("a", upload_id, offset, checksum) as part:
        part.write(data)
        raise ConnectionError


def test_parts_make_the_file(store: UploadStore) -> None:
    upload = store.create("a", 6)
    send(store, upload.id, 0, b"abcd")
    assert store.get("a", upload.id).offset == 4
    send(store, upload.id, 4, b"ef")
    assert store.get("a", upload.id).is_complete
    assert data_of(store, upload.id) == b"abcdef"


def test_a_file_is_whole_after_breaks_at_ten_random_places(store: UploadStore) -> None:
    rng = random.Random(3)
    data = rng.randbytes(3 * MB)
    upload = store.create("a", len(data))
    for cut in sorted(rng.sample(range(1, len(data)), 10)):
        offset = store.get("a", upload.id).offset
        with pytest.raises(ConnectionError):
            break_off(store, upload.id, offset, data[offset:cut])
        assert store.get("a", upload.id).offset == cut  # what had arrived is kept
    offset = store.get("a", upload.id).offset
    send(store, upload.id, offset, data[offset:])
    assert data_of(store, upload.id) == data


def test_a_part_that_begins_elsewhere_is_refused(store: UploadStore) -> None:
    upload = store.create("a", 6)
    send(store, upload.id, 0, b"abc")
    for offset in (0, 2, 4):
        with pytest.raises(HttpError) as error, store.part("a", upload.id, offset):
            pass
        assert code_of(error) == "offset_conflict"


def test_bytes_over_the_announced_length_are_refused(store: UploadStore) -> None:
    upload = store.create("a", 3)
    with pytest.raises(HttpError) as error:
        send(store, upload.id, 0, b"abcd")
    assert code_of(error) == "payload_too_large"
    assert store.get("a", upload.id).offset == 2  # of the two writes the first fits


def test_a_second_writer_has_to_wait(store: UploadStore) -> None:
    upload = store.create("a", 6)
    with store.part("a", upload.id, 0) as part:
        part.write(b"ab")
        with pytest.raises(HttpError) as error, store.part("a", upload.id, 2):
            pass
        assert code_of(error) == "upload_busy"
    send(store, upload.id, 2, b"cdef")


@pytest.mark.parametrize("algorithm", ["sha1", "sha256"])
def test_a_part_that_is_not_what_its_checksum_says_leaves_nothing(
    store: UploadStore, algorithm: str
) -> None:
    upload = store.create("a", 6)
    send(store, upload.id, 0, b"ab")
    checksum = (algorithm, hashlib.new(algorithm, b"cdef").digest())
    with pytest.raises(HttpError) as error:
        send(store, upload.id, 2, b"cdeX", checksum)
    assert code_of(error) == "checksum_mismatch"
    assert store.get("a", upload.id).offset == 2
    send(store, upload.id, 2, b"cdef", checksum)
    assert data_of(store, upload.id) == b"abcdef"


def test_a_part_with_a_checksum_that_breaks_off_counts_for_nothing(store: UploadStore) -> None:
    upload = store.create("a", 6)
    with pytest.raises(ConnectionError):
        break_off(store, upload.id, 0, b"abc", ("sha1", hashlib.sha1(b"abcdef").digest()))
    assert store.get("a", upload.id).offset == 0


@pytest.mark.parametrize("checksum", [None, ("sha1", bytes(20))])
def test_a_process_that_ends_in_a_part_leaves_what_it_had_written_or_verified(
    store: UploadStore, checksum: tuple[str, bytes] | None
) -> None:
    upload = store.create("a", 9)
    send(store, upload.id, 0, b"y")
    part = store.part("a", upload.id, 1, checksum).__enter__()
    part.write(b"xxx")
    assert part._file is not None
    part._file.close()  # and nothing else, as the end of a process does
    offset = store.get("a", upload.id).offset
    assert offset == (1 if checksum else 4)
    send(store, upload.id, offset, b"z" * (9 - offset))
    assert data_of(store, upload.id) == b"y" + b"x" * (offset - 1) + b"z" * (9 - offset)


CHILD = """
import sys
from serve_apps.state_folder import StateFolder
from serve_apps.upload_store import UploadStore
folder, upload_id, checksum = sys.argv[1:]
store = UploadStore(StateFolder(folder), retention_s=1e9, max_bytes=2**30, max_upload_bytes=2**30)
with store.part("a", upload_id, 1, ("sha1", bytes(20)) if checksum else None) as part:
    while True:
        part.write(b"x" * 1000)
        print(part.offset, flush=True)
"""


@pytest.mark.endurance  # seconds to start a process
@pytest.mark.parametrize("checksum", ["", "sha1"])
def test_a_killed_process_leaves_what_it_had_written_or_verified(
    tmp_path: Path, checksum: str
) -> None:
    store = UploadStore(
        StateFolder(str(tmp_path)), retention_s=1e9, max_bytes=2**30, max_upload_bytes=2**30
    )
    upload = store.create("a", 2**29)
    send(store, upload.id, 0, b"y")
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(tmp_path), upload.id, checksum], stdout=subprocess.PIPE
    )
    assert child.stdout is not None
    told = [int(child.stdout.readline()) for _ in range(50)][-1]
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    child.stdout.close()
    offset = store.get("a", upload.id).offset
    assert offset == 1 if checksum else offset >= told
    with store.part("a", upload.id, offset) as part:  # and it goes on from there
        part.write(b"z")
    path = tmp_path / "uploads" / upload.id / "data"
    assert path.read_bytes() == b"y" + b"x" * (offset - 1) + b"z"


def test_another_owner_sees_nothing(store: UploadStore) -> None:
    upload = store.create("a", 6)
    for attempt in (store.get, store.delete, store.complete_path):
        with pytest.raises(HttpError) as error:
            attempt("b", upload.id)
        assert code_of(error) == "upload_not_found"
    assert store.get("a", upload.id).length == 6


@pytest.mark.parametrize(
    "upload_id",
    ["", ".", "..", "../jobs", "a" * 25, "a" * 27, "A" * 26, "a" * 25 + "/", "\0" * 26, "é" * 26,
     "../../etc/passwd".ljust(26, "a"), "a" * 26 + "\n"],
)  # fmt: skip
def test_what_is_no_id_never_becomes_a_path(
    store: UploadStore, upload_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upload_store, "read_json", lambda path: pytest.fail("a path was made"))
    with pytest.raises(HttpError) as error:
        store.get("a", upload_id)
    assert code_of(error) == "upload_not_found"


def test_ids_have_the_form_of_ids_and_do_not_repeat() -> None:
    made = {new_id() for _ in range(1000)}
    assert len(made) == 1000
    assert all(is_id(name) for name in made)


def test_announced_bytes_count_against_the_owner(store: UploadStore) -> None:
    for _ in range(2):
        store.create("a", 4 * MB)
    with pytest.raises(HttpError) as error:
        store.create("a", 3 * MB)
    assert code_of(error) == "quota_exceeded"
    store.create("b", 3 * MB)
    assert store.held_bytes("a") == 8 * MB


def test_deleting_gives_the_quota_back(store: UploadStore) -> None:
    uploads = [store.create("a", 4 * MB), store.create("a", 4 * MB)]
    store.delete("a", uploads[0].id)
    store.create("a", 4 * MB)


def test_a_file_over_the_limit_is_refused_at_once(store: UploadStore) -> None:
    with pytest.raises(HttpError) as error:
        store.create("a", 4 * MB + 1)
    assert code_of(error) == "payload_too_large"


def test_a_full_disk_is_said_before_the_upload_begins(
    store: UploadStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(StateFolder, "free_bytes", lambda self: upload_store.SPARE_BYTES + 9)
    store.create("a", 9)
    with pytest.raises(HttpError) as error:
        store.create("a", 10)
    assert code_of(error) == "storage_full"


def test_deleting_removes_the_bytes_and_stops_the_writer(
    store: UploadStore, tmp_path: Path
) -> None:
    upload = store.create("a", 2 * MB)

    def write_on() -> None:
        with store.part("a", upload.id, 0) as part:
            part.write(b"a" * MB)
            store.delete("a", upload.id)
            assert list((tmp_path / "uploads").iterdir()) == []
            part.write(b"a")

    with pytest.raises(HttpError) as error:
        write_on()
    assert code_of(error) == "upload_not_found"


def test_an_upload_expires_and_is_swept(store: UploadStore, clock: Clock, tmp_path: Path) -> None:
    old = store.create("a", 6)
    clock.now_s += 60
    young = store.create("a", 6)
    clock.now_s += 41
    with pytest.raises(HttpError):
        store.get("a", old.id)
    assert store.sweep() == 1
    assert [folder.name for folder in (tmp_path / "uploads").iterdir()] == [young.id]


def test_the_sweep_spares_what_a_job_needs(store: UploadStore, clock: Clock) -> None:
    upload = store.create("a", 6)
    send(store, upload.id, 0, b"abcdef")
    clock.now_s += 101
    assert store.sweep({upload.id}) == 0
    assert Path(store.complete_path("a", upload.id, even_expired=True)).read_bytes() == b"abcdef"
    assert store.sweep() == 1


def test_the_sweep_takes_what_is_no_upload(
    store: UploadStore, clock: Clock, tmp_path: Path
) -> None:
    left = tmp_path / "uploads" / new_id()
    left.mkdir()
    (left / "data").write_bytes(b"x")
    clock.now_s = left.stat().st_mtime + 99
    assert store.sweep() == 0  # it may just be being made
    clock.now_s += 2
    assert store.sweep() == 1
    assert not left.exists()


def test_nothing_is_readable_by_others(store: UploadStore, tmp_path: Path) -> None:
    upload = store.create("a", 6)
    assert tmp_path.stat().st_mode & 0o077 == 0
    assert (tmp_path / "uploads" / upload.id / "data").stat().st_mode & 0o077 == 0
