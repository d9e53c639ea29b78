"""tus over HTTP, and recordings that were uploaded before."""

import asyncio
import base64
import hashlib
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Request

from serve_apps import request_body
from serve_apps.backend import Refusal
from serve_apps.wire import redacted
from sleepmami.inference.embedder import NightEmbedding
from tests.unit.serve_apps.fakes import TUS, FakeBackend, call, error_of, upload

PART = {"content-type": "application/offset+octet-stream"}


@pytest.fixture
def backend(embedding: NightEmbedding) -> FakeBackend:
    return FakeBackend(redacted(embedding))


async def begin(client: httpx.AsyncClient, length: int = 6, **headers: str) -> str:
    sent = TUS | {"upload-length": str(length)} | headers
    made = await client.post("/v1/uploads", headers=sent)
    assert made.status_code == 201
    return made.headers["location"]


async def patch(
    client: httpx.AsyncClient, place: str, data: Any, offset: int = 0, **headers: str
) -> httpx.Response:
    sent = TUS | PART | {"upload-offset": str(offset)}
    sent |= {name.replace("_", "-"): value for name, value in headers.items()}
    return await client.patch(place, content=data, headers=sent)


def test_options_say_what_is_spoken(backend: FakeBackend) -> None:
    answer = call(backend, lambda client: client.options("/v1/uploads"))
    assert answer.status_code == 204
    assert answer.headers["tus-version"] == "1.0.0"
    assert answer.headers["tus-extension"] == "creation,termination,expiration,checksum"
    assert answer.headers["tus-checksum-algorithm"] == "sha1,sha256"
    assert answer.headers["tus-max-size"] == str(2**20)


def test_parts_arrive_and_head_says_how_far_it_is(backend: FakeBackend) -> None:
    async def steps(client: httpx.AsyncClient) -> list[httpx.Response]:
        place = await begin(client)
        return [
            await patch(client, place, b"abcd"),
            await client.head(place, headers=TUS),
            await patch(client, place, b"ef", 4),
            await client.head(place, headers=TUS),
        ]

    answers = call(backend, steps)
    assert [a.status_code for a in answers] == [204, 200, 204, 200]
    assert [a.headers["upload-offset"] for a in answers] == ["4", "4", "6", "6"]
    assert answers[1].headers["upload-length"] == "6"
    assert answers[1].headers["cache-control"] == "no-store"
    assert all(a.headers["tus-resumable"] == "1.0.0" for a in answers)
    assert answers[1].headers["upload-expires"].endswith(" GMT")


def test_the_location_is_a_path_of_ours(backend: FakeBackend) -> None:
    async def steps(client: httpx.AsyncClient) -> str:
        return await begin(client, host="jane-doe", **{"upload-metadata": "filename SkFORQ=="})

    prefix, name = call(backend, steps).rsplit("/", 1)
    assert prefix == "/v1/uploads"
    assert len(name) == 26


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"upload-length": "6"}, (412, "tus_version_unsupported")),
        (TUS, (422, "request_invalid")),
        (TUS | {"upload-length": "-6"}, (422, "request_invalid")),
        (TUS | {"upload-length": "6.0"}, (422, "request_invalid")),
        (TUS | {"upload-length": "9" * 16}, (422, "request_invalid")),
        (TUS | {"upload-length": "0"}, (400, "empty_body")),
        (TUS | {"upload-length": str(2**20 + 1)}, (413, "payload_too_large")),
        (TUS | {"upload-defer-length": "1"}, (422, "request_invalid")),
    ],
)
def test_a_wrong_creation_is_refused(
    backend: FakeBackend, headers: dict[str, str], expected: tuple[int, str]
) -> None:
    answer = call(backend, lambda client: client.post("/v1/uploads", headers=headers))
    assert error_of(answer) == expected
    assert answer.headers["tus-resumable"] == "1.0.0"


@pytest.mark.parametrize(
    ("data", "headers", "expected"),
    [
        (b"abc", {"tus_resumable": "0.2.2"}, (412, "tus_version_unsupported")),
        (b"abc", {"content_type": "application/edf"}, (415, "unsupported_media_type")),
        (b"abc", {"content_encoding": "gzip"}, (415, "unsupported_media_type")),
        (b"abc", {"upload_offset": "1"}, (409, "offset_conflict")),
        (b"abc", {"upload_offset": "x"}, (422, "request_invalid")),
        (b"abcdefg", {}, (413, "payload_too_large")),
        (b"abc", {"upload_checksum": "sha1 JANE-DOE"}, (422, "request_invalid")),
        (b"abc", {"upload_checksum": "md5 " + "A" * 22 + "=="}, (422, "request_invalid")),
        (b"abc", {"upload_checksum": "sha1 " + "A" * 27 + "="}, (460, "checksum_mismatch")),
    ],
)
def test_a_wrong_part_is_refused_and_leaves_nothing(
    backend: FakeBackend, data: bytes, headers: dict[str, str], expected: tuple[int, str]
) -> None:
    async def steps(client: httpx.AsyncClient) -> tuple[httpx.Response, httpx.Response]:
        place = await begin(client)
        answer = await patch(client, place, data, **headers)
        return answer, await client.head(place, headers=TUS)

    answer, head = call(backend, steps)
    assert error_of(answer) == expected
    assert head.headers["upload-offset"] == "0"
    assert "JANE-DOE" not in answer.text


def test_a_checksum_that_fits_is_taken(backend: FakeBackend) -> None:
    digest = base64.b64encode(hashlib.sha256(b"abcdef").digest()).decode()

    async def steps(client: httpx.AsyncClient) -> httpx.Response:
        return await patch(
            client, await begin(client), b"abcdef", upload_checksum=f"sha256 {digest}"
        )

    assert call(backend, steps).headers["upload-offset"] == "6"


def test_a_part_is_not_larger_than_told(backend: FakeBackend) -> None:
    async def steps(client: httpx.AsyncClient) -> list[httpx.Response]:
        place = await begin(client, 2 * 2**20)
        declared = await patch(client, place, bytes(2**20 + 1))

        async def pieces() -> Any:
            for _ in range(5):
                yield bytes(2**18)

        return [
            declared,
            await patch(client, place, pieces()),
            await client.head(place, headers=TUS),
        ]

    declared, chunked, head = call(backend, steps, max_body_mb=4, max_part_mb=1)
    assert error_of(declared) == (413, "part_too_large")
    assert error_of(chunked) == (413, "part_too_large")
    assert head.headers["upload-offset"] == str(2**20)  # in order, and so worth keeping


def test_what_arrived_before_a_stall_is_kept(
    backend: FakeBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(request_body, "STALL_S", 0.02)

    async def stalled() -> Any:
        yield b"abc"
        await asyncio.sleep(60)

    async def steps(client: httpx.AsyncClient) -> list[httpx.Response]:
        place = await begin(client)
        return [await patch(client, place, stalled()), await client.head(place, headers=TUS)]

    answer, head = call(backend, steps)
    assert error_of(answer) == (408, "upload_stalled")
    assert head.headers["upload-offset"] == "3"


def test_an_upload_is_embedded_and_inspected_by_its_id(backend: FakeBackend) -> None:
    async def steps(client: httpx.AsyncClient) -> list[httpx.Response]:
        named = {"upload_id": await upload(client, b"an edf")}
        return [
            await client.post("/v1/embeddings", json=named),
            await client.post("/v1/inspect", json=named),
        ]

    answers = call(backend, steps)
    assert [a.status_code for a in answers] == [200, 200]
    assert backend.bodies == [b"an edf", b"an edf"]
    assert all(isinstance(recording, str) for recording in backend.recordings)


def test_an_upload_that_is_not_whole_cannot_be_used(backend: FakeBackend) -> None:
    async def steps(client: httpx.AsyncClient) -> list[httpx.Response]:
        place = await begin(client)
        await patch(client, place, b"abc")
        named = {"upload_id": place.rpartition("/")[2]}
        return [await client.post(path, json=named) for path in ("/v1/embeddings", "/v1/jobs")]

    assert [error_of(answer) for answer in call(backend, steps)] == [(409, "upload_incomplete")] * 2


@pytest.mark.parametrize(
    "body",
    [b"", b"{}", b"[]", b'{"upload_id": 3}', b'{"upload_id": "a", "x": 1}', b"JANE-DOE", b"\xff"],
)
def test_json_that_is_not_the_one_expected_is_not_echoed(backend: FakeBackend, body: bytes) -> None:
    headers = {"content-type": "application/json"}

    async def steps(client: httpx.AsyncClient) -> list[httpx.Response]:
        paths = ("/v1/embeddings", "/v1/jobs", "/v1/neighbors")
        return [await client.post(path, content=body, headers=headers) for path in paths]

    for answer in call(backend, steps):
        assert error_of(answer) == (422, "request_invalid")
        assert "JANE-DOE" not in answer.text


def test_deleting_an_upload_removes_its_bytes(backend: FakeBackend, tmp_path: Path) -> None:
    async def steps(client: httpx.AsyncClient) -> list[httpx.Response]:
        place = "/v1/uploads/" + await upload(client, b"an edf")
        assert list(tmp_path.glob("uploads/*/data"))
        gone = await client.delete(place, headers=TUS)
        assert list(tmp_path.glob("uploads/*")) == []
        return [gone, await client.head(place, headers=TUS), await patch(client, place, b"x")]

    answers = call(backend, steps, state=tmp_path)
    assert [answer.status_code for answer in answers] == [204, 404, 404]


def by_header(app: FastAPI) -> None:
    """Owners as a key check would set them."""

    @app.middleware("http")
    async def key(request: Request, call_next: Any) -> Any:
        request.state.owner = request.headers.get("x-owner", "anonymous")
        return await call_next(request)


def test_another_keys_upload_is_not_there(backend: FakeBackend) -> None:
    async def steps(client: httpx.AsyncClient) -> list[int]:
        place = "/v1/uploads/" + await upload(client, **{"x-owner": "a"})
        b = {"x-owner": "b"}
        named = {"upload_id": place.rpartition("/")[2]}
        return [
            (await client.head(place, headers=TUS | b)).status_code,
            (await patch(client, place, b"x", x_owner="b")).status_code,
            (await client.delete(place, headers=TUS | b)).status_code,
            (await client.post("/v1/embeddings", json=named, headers=b)).status_code,
            (await client.post("/v1/jobs", json=named, headers=b)).status_code,
            (await client.head(place, headers=TUS | {"x-owner": "a"})).status_code,
        ]

    assert call(backend, steps, prepare=by_header) == [404, 404, 404, 404, 404, 200]


def test_the_quota_is_each_keys_own(backend: FakeBackend) -> None:
    async def steps(client: httpx.AsyncClient) -> list[int]:
        sent = TUS | {"upload-length": str(2**20)}
        return [
            (await client.post("/v1/uploads", headers=sent | {"x-owner": owner})).status_code
            for owner in "aab"
        ]

    statuses = call(backend, steps, prepare=by_header, max_uploads_gb=1.5 / 1024)
    assert statuses == [201, 429, 201]


def test_a_large_body_goes_through_a_file_that_does_not_stay(
    backend: FakeBackend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(request_body, "SPOOL_BYTES", 1000)
    monkeypatch.setattr(request_body, "BLOCK_BYTES", 100)
    data = bytes(range(256)) * 10

    async def pieces() -> Any:
        for first in range(0, len(data), 7):
            yield data[first : first + 7]

    async def steps(client: httpx.AsyncClient) -> list[httpx.Response]:
        headers = {"content-type": "application/edf"}
        first = await client.post("/v1/embeddings", content=pieces(), headers=headers)
        backend.outcome = Refusal("not_an_edf")
        return [first, await client.post("/v1/embeddings", content=data, headers=headers)]

    answers = call(backend, steps, state=tmp_path)
    assert [answer.status_code for answer in answers] == [200, 400]
    assert backend.bodies == [data, data]
    assert all(isinstance(recording, str) for recording in backend.recordings)
    assert list((tmp_path / "spool").iterdir()) == []


def test_a_client_that_hangs_up_leaves_no_file(
    backend: FakeBackend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(request_body, "SPOOL_BYTES", 10)
    monkeypatch.setattr(request_body, "BLOCK_BYTES", 10)
    monkeypatch.setattr(request_body, "STALL_S", 0.02)
    seen: list[int] = []

    async def stalled() -> Any:
        yield bytes(100)
        seen.append(len(list((tmp_path / "spool").iterdir())))
        await asyncio.sleep(60)

    async def steps(client: httpx.AsyncClient) -> httpx.Response:
        headers = {"content-type": "application/edf"}
        return await client.post("/v1/embeddings", content=stalled(), headers=headers)

    assert error_of(call(backend, steps, state=tmp_path)) == (408, "upload_stalled")
    assert seen == [1]
    assert list((tmp_path / "spool").iterdir()) == []


def test_an_upload_that_is_begun_twice_with_one_key_is_one_upload(backend: FakeBackend) -> None:
    async def steps(client: httpx.AsyncClient) -> tuple[list[str], httpx.Response]:
        keys = ("a", "a", "b")
        places = [await begin(client, **{"idempotency-key": key}) for key in keys]
        sent = TUS | {"upload-length": "7", "idempotency-key": "a"}
        return places, await client.post("/v1/uploads", headers=sent)

    (first, again, other), unlike = call(backend, steps)
    assert first == again != other
    assert error_of(unlike) == (409, "idempotency_conflict")
