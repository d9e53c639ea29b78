"""Uploads that are cut, damaged and lost on the way, and arrive as they were."""

import asyncio
import os
from pathlib import Path

import httpx
import numpy as np
import pytest

from sleepmami.client import Upload
from sleepmami.errors import ApiError, ClientError
from tests.unit.client.fake_service import (
    Answer,
    FakeService,
    async_client_of,
    client_of,
    error,
    faults_of,
)

DATA = np.random.default_rng(3).bytes(100_000)
PART = 10_000


def sent(service: FakeService, data: bytes = DATA) -> FakeService:
    """The service after an upload, which arrived as it was."""
    with client_of(service, part_bytes=PART) as client:
        upload = client.upload(data, progress=False)
    assert bytes(service.uploads[upload.id]) == data
    assert upload.length == len(data)
    return service


class CutAtOffsets:
    """The connection breaks when so many bytes of the file have gone out, once each.

    What went out of a part before the cut is lost or, with `keep`, was stored, though its checksum
    is not whole: a service may do either.
    """

    def __init__(self, offsets: list[int], keep: bool) -> None:
        self.offsets = offsets
        self.keep = keep
        self.service = FakeService(self)

    def __call__(self, request: httpx.Request) -> Answer:
        if request.method != "PATCH":
            return None
        first = int(request.headers["upload-offset"])
        due = [o for o in self.offsets if first <= o < first + len(request.content)]
        if not due:
            return None
        self.offsets.remove(due[0])
        upload_id = request.url.path.rpartition("/")[2]
        if self.keep:
            self.service.put(upload_id, first, request.content[: due[0] - first])
        return httpx.WriteError("cut")


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("seed", range(10))
def test_an_upload_that_is_cut_ten_times_arrives_byte_by_byte(seed: int, keep: bool) -> None:
    rng = np.random.default_rng(seed)
    cuts = CutAtOffsets(sorted(rng.integers(0, len(DATA), 10).tolist()), keep)
    sent(cuts.service)
    assert cuts.offsets == []
    assert cuts.service.begun == 1


def test_the_async_client_survives_the_same() -> None:
    cuts = CutAtOffsets([0, 15_000, 15_001, 99_999], keep=True)

    async def run() -> Upload:
        async with async_client_of(cuts.service, part_bytes=PART) as client:
            return await client.upload(DATA, progress=False)

    upload = asyncio.run(run())
    assert bytes(cuts.service.uploads[upload.id]) == DATA
    assert cuts.offsets == []


def test_a_whole_upload_asks_nothing_twice() -> None:
    assert sent(FakeService()).methods() == ["POST"] + ["PATCH"] * 10


def test_a_part_whose_answer_was_lost_is_not_sent_again() -> None:
    service = FakeService()
    lost: list[httpx.Request] = []

    def faults(request: httpx.Request) -> Answer:
        if request.method == "PATCH" and not lost:
            lost.append(request)
            service.answer(request)
            return httpx.ReadError("the answer was cut off")
        return None

    service.faults = faults
    assert sent(service).methods() == ["POST", "PATCH", "HEAD"] + ["PATCH"] * 9


def test_a_part_that_the_service_lost_is_sent_again() -> None:
    """It acknowledged three parts, lost power, and has one of them."""
    service = FakeService()

    def faults(request: httpx.Request) -> Answer:
        if len(service.seen) == 5:
            (held,) = service.uploads.values()
            del held[PART + 77 :]
        return None

    service.faults = faults
    methods = sent(service).methods()
    assert methods[4:6] == ["PATCH", "HEAD"]
    assert service.begun == 1


def test_a_damaged_part_is_sent_again() -> None:
    service = FakeService()

    def faults(request: httpx.Request) -> Answer:
        if len(service.seen) == 3:
            damaged = bytearray(request.content)
            damaged[5] ^= 1
            return service.answer(
                httpx.Request("PATCH", request.url, headers=request.headers, content=bytes(damaged))
            )
        return None

    service.faults = faults
    assert sent(service).methods()[:5] == ["POST", "PATCH", "PATCH", "HEAD", "PATCH"]


@pytest.mark.parametrize("status", [423, 429, 503, 502, 409, 408, 460])
def test_a_part_is_tried_again(status: int) -> None:
    faults = faults_of(None, None, error(status, "some_code", retry_after="0"))
    assert sent(FakeService(faults)).methods()[2:5] == ["PATCH", "HEAD", "PATCH"]


def test_an_upload_that_the_service_forgot_is_begun_anew() -> None:
    service = FakeService()

    def faults(request: httpx.Request) -> Answer:
        if len(service.seen) == 4:
            service.uploads.clear()
        return None

    service.faults = faults
    assert sent(service).begun == 2


def test_a_service_that_forgets_every_upload_is_not_asked_forever() -> None:
    service = FakeService()

    def faults(request: httpx.Request) -> Answer:
        if request.method == "PATCH" and request.headers["upload-offset"] != "0":
            service.uploads.clear()
        return None

    service.faults = faults
    with client_of(service, part_bytes=PART) as client, pytest.raises(ApiError) as caught:
        client.upload(DATA, progress=False)
    assert caught.value.status == 404
    assert len(service.seen) < 40


@pytest.mark.parametrize("offset", ["", "-1", "many", "100001"])
def test_an_offset_that_cannot_be_is_an_error(offset: str) -> None:
    faults = faults_of(
        None, httpx.ReadError(""), httpx.Response(200, headers={"upload-offset": offset})
    )
    with (
        client_of(FakeService(faults), part_bytes=PART) as client,
        pytest.raises(ApiError) as caught,
    ):
        client.upload(DATA, progress=False)
    assert caught.value.code == "answer_invalid"


def test_a_service_that_acknowledges_nothing_is_not_asked_forever() -> None:
    def faults(request: httpx.Request) -> Answer:
        if request.method == "PATCH":
            return httpx.Response(204, headers={"upload-offset": "0"})
        return None

    service = FakeService(faults)
    with client_of(service, part_bytes=PART) as client, pytest.raises(ApiError):
        client.upload(DATA, progress=False)
    assert service.methods().count("PATCH") == 6


def test_parts_go_to_the_service_that_was_named() -> None:
    elsewhere = httpx.Response(201, headers={"location": "http://evil.example/v1/uploads/upload1"})
    service = FakeService(faults_of(elsewhere))
    service.uploads["upload1"], service.lengths["upload1"] = bytearray(), len(DATA)
    sent(service)
    assert {request.url.host for request in service.seen} == {"service"}


def test_a_large_recording_is_uploaded_embedded_and_deleted() -> None:
    service = FakeService()
    with client_of(service, part_bytes=PART) as client:
        night = client.embed(DATA)
    assert night.night is not None
    assert night.night[0] == len(DATA)
    assert service.embedded == [DATA]
    assert service.uploads == {}


def test_an_upload_that_is_lost_before_it_is_embedded_is_sent_again() -> None:
    service = FakeService()
    asked: list[str] = []

    def faults(request: httpx.Request) -> Answer:
        if request.url.path == "/v1/embeddings":
            asked.append(request.url.path)
            if len(asked) == 1:
                service.uploads["upload1"] = service.uploads["upload1"][:-1]
        return None

    service.faults = faults
    with client_of(service, part_bytes=PART) as client:
        client.embed(DATA)
    assert (service.embedded, service.begun, service.uploads) == ([DATA], 2, {})


def test_a_recording_that_is_refused_leaves_no_upload() -> None:
    service = FakeService()
    with client_of(service, part_bytes=PART) as client, pytest.raises(ApiError):
        client.embed(b"bad" + DATA)
    assert service.uploads == {}


def test_a_later_process_goes_on_where_the_first_was_cut(tmp_path: Path) -> None:
    night, record = tmp_path / "JANE-DOE.edf", tmp_path / "upload.json"
    night.write_bytes(DATA)
    service = FakeService(faults_of(None, None, None, None, *[httpx.ConnectError("")] * 20))
    with client_of(service, part_bytes=PART) as client, pytest.raises(ApiError):
        client.upload(night, progress=False, record=record)
    assert "JANE" not in record.read_text()
    service.faults, already = faults_of(), len(service.seen)
    with client_of(service, part_bytes=PART) as client:
        upload = client.upload(night, progress=False, record=record)
    assert bytes(service.uploads[upload.id]) == DATA
    assert service.methods()[already:] == ["HEAD"] + ["PATCH"] * 7
    assert not record.exists()


def test_a_record_of_another_file_or_service_is_not_gone_on_with(tmp_path: Path) -> None:
    night, record = tmp_path / "night.edf", tmp_path / "upload.json"
    night.write_bytes(DATA)
    service = FakeService(faults_of(None, None, *[httpx.ConnectError("")] * 20))
    with client_of(service, part_bytes=PART) as client, pytest.raises(ApiError):
        client.upload(night, progress=False, record=record)
    night.write_bytes(DATA[::-1])
    service.faults = faults_of()
    with client_of(service, part_bytes=PART) as client:
        upload = client.upload(night, progress=False, record=record)
    assert service.begun == 2
    assert bytes(service.uploads[upload.id]) == DATA[::-1]
    record.write_text("[1]")
    with client_of(service, part_bytes=PART) as client:
        client.upload(night, progress=False, record=record)
    assert service.begun == 3


@pytest.mark.parametrize("change", ["grows", "shrinks", "is touched"])
def test_a_file_that_changes_on_the_way_is_an_error(tmp_path: Path, change: str) -> None:
    night = tmp_path / "night.edf"
    night.write_bytes(DATA)
    service = FakeService()

    def faults(request: httpx.Request) -> Answer:
        if len(service.seen) == 3:
            if change == "is touched":
                os.utime(night, ns=(1, 1))
            else:
                night.write_bytes(DATA * 2 if change == "grows" else DATA[:50_000])
        return None

    service.faults = faults
    with client_of(service, part_bytes=PART) as client, pytest.raises(ClientError) as caught:
        client.upload(night, progress=False)
    assert caught.value.code == "file_changed"
    assert "night.edf" not in str(caught.value)


def test_a_file_that_is_not_there_is_an_os_error(tmp_path: Path) -> None:
    with client_of(FakeService()) as client, pytest.raises(FileNotFoundError):
        client.upload(tmp_path / "none.edf", progress=False)


def test_an_upload_is_begun_with_one_idempotency_key() -> None:
    service = sent(FakeService(faults_of(httpx.ReadError(""), httpx.ReadError(""))))
    keys = [r.headers["idempotency-key"] for r in service.seen if r.method == "POST"]
    assert len(keys) == 3
    assert len(set(keys)) == 1
