"""The HTTP application around a fake encoder: no Ray, no model, no socket."""

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from serve_apps import request_body
from serve_apps.app_args import ADDRESS, EmbeddingAppArgs
from serve_apps.backend import Refusal
from serve_apps.http_app import Admission, create_app
from serve_apps.wire import Limits, redacted
from sleepmami.config import ServeConfig
from sleepmami.errors import ConfigError
from sleepmami.inference.embedder import NightEmbedding
from tests.unit.serve_apps.fakes import EDF, MODEL, FakeBackend, call, error_of

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def encoder(embedding: NightEmbedding) -> FakeBackend:
    return FakeBackend(redacted(embedding))


def post(encoder: FakeBackend, content: Any = b"edf", url: str = "", **headers: str) -> Any:
    sent = EDF | {name.replace("_", "-"): value for name, value in headers.items()}
    return call(encoder, lambda c: c.post("/v1/embeddings" + url, content=content, headers=sent))


# ------------------------------------------------------------------------------------- answers


def test_an_embedding_is_answered_with_its_model_and_channels(encoder: FakeBackend) -> None:
    answer = post(encoder).json()
    assert answer["model_id"] == "m-1"
    assert answer["weights_sha256"] == "ab" * 32
    assert answer["channels_used"] == [{"modality": "EEG", "derivation": "rereferenced"}]
    assert answer["modalities_missing"] == ["SPO2"]
    assert answer["micro"]["shape"] == [3, 12]


def test_the_encoder_gets_the_body_as_it_was_sent(encoder: FakeBackend) -> None:
    async def parts() -> Any:
        for part in (b"0       ", b"", b"\xff\x00"):
            yield part

    post(encoder, parts())
    assert encoder.bodies == [b"0       \xff\x00"]


def test_what_curl_declares_unasked_is_taken(encoder: FakeBackend) -> None:
    answer = post(encoder, b"&=%41+", content_type="application/x-www-form-urlencoded")
    assert answer.status_code == 200
    assert encoder.bodies == [b"&=%41+"]


@pytest.mark.parametrize(
    "accept", ["application/json", "application/vnd.apache.arrow.stream", "application/x-npz"]
)
def test_the_answer_has_the_type_asked_for(encoder: FakeBackend, accept: str) -> None:
    assert post(encoder, accept=accept).headers["content-type"] == accept


def test_encoding_float_answers_numbers(encoder: FakeBackend, embedding: NightEmbedding) -> None:
    answer = post(encoder, url="?encoding=float").json()
    assert answer["night"]["data"] == embedding.night.tolist()
    assert answer["cycles"]["data"] == embedding.cycles.tolist()


# -------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("headers", "url", "expected"),
    [
        ({"accept": "text/html"}, "", (406, "not_acceptable")),
        ({"content_type": "multipart/form-data"}, "", (415, "unsupported_media_type")),
        ({"content_encoding": "gzip"}, "", (415, "unsupported_media_type")),
        ({}, "?encoding=hex", (422, "request_invalid")),
        ({}, "?encodng=float", (422, "request_invalid")),
        ({"accept": "application/x-npz"}, "?encoding=float", (422, "request_invalid")),
        ({"content_length": str(2**20 + 1)}, "", (413, "payload_too_large")),
    ],
)
def test_a_wrong_request_is_refused_before_the_encoder(
    encoder: FakeBackend, headers: dict[str, str], url: str, expected: tuple[int, str]
) -> None:
    assert error_of(post(encoder, url=url, **headers)) == expected
    assert encoder.bodies == []


def test_an_empty_body_is_refused(encoder: FakeBackend) -> None:
    assert error_of(post(encoder, b"")) == (400, "empty_body")


def test_a_chunked_body_is_cut_off_at_the_limit(encoder: FakeBackend) -> None:
    sent = 0

    async def endless() -> Any:
        nonlocal sent
        while sent < 64 * 2**20:
            sent += 2**18
            yield bytes(2**18)

    assert error_of(post(encoder, endless())) == (413, "payload_too_large")
    assert encoder.bodies == []


def test_an_upload_that_stops_gives_its_place_back(
    encoder: FakeBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(request_body, "STALL_S", 0.02)

    async def stalled() -> Any:
        yield b"edf"
        await asyncio.sleep(60)

    async def steps(client: httpx.AsyncClient) -> list[httpx.Response]:
        first = await client.post("/v1/embeddings", content=stalled(), headers=EDF)
        return [first, await client.post("/v1/embeddings", content=b"edf", headers=EDF)]

    stopped, next_one = call(encoder, steps, max_running=1)
    assert error_of(stopped) == (408, "upload_stalled")
    assert next_one.status_code == 200
    assert len(encoder.bodies) == 1


@pytest.mark.parametrize("path", ["/docs", "/docs/", "/openapi.json", "/health"])
def test_the_host_of_a_request_is_not_repeated(encoder: FakeBackend, path: str) -> None:
    response = call(encoder, lambda c: c.get(path, headers={"host": "jane-doe"}))
    assert "jane-doe" not in response.text + str(response.headers)


def test_a_declared_length_over_the_limit_is_refused_unread(encoder: FakeBackend) -> None:
    app = create_app(encoder, Admission(Limits(max_body_mb=1, max_running=1, max_queued=1)))
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/v1/embeddings",
        "raw_path": b"/v1/embeddings",
        "root_path": "",
        "scheme": "http",
        "query_string": b"",
        "headers": [(b"content-length", b"99999999")],
        "server": ("test", 80),
        "client": ("test", 1),
        "http_version": "1.1",
    }
    sent: list[Any] = []

    async def receive() -> Any:
        raise AssertionError("the body was read")

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(app(scope, receive, send))
    assert sent[0]["status"] == 413


def test_a_refused_recording_is_answered_with_its_code_and_our_words(encoder: FakeBackend) -> None:
    encoder.outcome = Refusal("channels_missing")
    response = post(encoder)
    assert error_of(response) == (422, "channels_missing")
    assert "EEG" in response.json()["error"]["message"]


def test_an_exception_is_answered_without_its_text(
    encoder: FakeBackend, caplog: pytest.LogCaptureFixture
) -> None:
    encoder.outcome = ValueError("patient JANE-DOE")
    response = post(encoder)
    assert error_of(response) == (500, "internal_error")
    assert "JANE-DOE" not in response.text + caplog.text


def test_nothing_of_a_wrong_request_is_echoed(encoder: FakeBackend) -> None:
    response = post(encoder, url="?encoding=JANE-DOE&JANE-DOE=1")
    assert response.status_code == 422
    assert "JANE-DOE" not in response.text


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("GET", "/v1/nothing", (404, "not_found")),
        ("GET", "/v1/embeddings", (405, "method_not_allowed")),
        ("GET", "/redoc", (404, "not_found")),
        ("POST", "/v1/embeddings/", (404, "not_found")),
        ("POST", "//v1/embeddings", (404, "not_found")),
        ("POST", "/v1/embeddings%00", (404, "not_found")),
        ("OPTIONS", "/v1/embeddings", (405, "method_not_allowed")),
    ],
)
def test_wrong_routes_have_the_same_error_shape(
    encoder: FakeBackend, method: str, path: str, expected: tuple[int, str]
) -> None:
    assert error_of(call(encoder, lambda client: client.request(method, path))) == expected


def test_one_request_more_than_fits_is_overloaded(encoder: FakeBackend) -> None:
    async def steps(client: httpx.AsyncClient) -> list[httpx.Response]:
        encoder.gate = asyncio.Event()

        def send() -> asyncio.Task[httpx.Response]:
            return asyncio.create_task(client.post("/v1/embeddings", content=b"x", headers=EDF))

        admitted = [send(), send(), send()]  # one runs, two wait
        while not encoder.bodies:
            await asyncio.sleep(0)
        refused = await send()
        assert len(encoder.bodies) == 1  # those that wait hold no body
        assert (await client.get("/health")).status_code == 200
        encoder.gate.set()
        return [*(await asyncio.gather(*admitted)), refused, await send()]

    responses = call(encoder, steps, max_running=1, max_queued=2)
    assert [r.status_code for r in responses] == [200, 200, 200, 429, 200]
    assert error_of(responses[3]) == (429, "overloaded")
    assert responses[3].headers["retry-after"] == "5"


def test_draining_answers_who_is_embedded_and_turns_away_who_waits(encoder: FakeBackend) -> None:
    gate = encoder.gate = asyncio.Event()
    admission = Admission(Limits(max_body_mb=1, max_running=1, max_queued=2))

    async def run() -> list[httpx.Response]:
        transport = httpx.ASGITransport(create_app(encoder, admission))
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:

            def send() -> asyncio.Task[httpx.Response]:
                return asyncio.create_task(client.post("/v1/embeddings", content=b"x", headers=EDF))

            admitted = [send(), send(), send()]
            while not encoder.bodies:
                await asyncio.sleep(0)
            drained = asyncio.create_task(admission.drain())
            await asyncio.sleep(0)
            late = [await send(), await client.get("/ready")]
            assert not drained.done()
            gate.set()
            await drained
            return [*(await asyncio.gather(*admitted)), *late]

    responses = asyncio.run(run())
    assert [r.status_code for r in responses] == [200, 503, 503, 503, 503]
    assert {error_of(r)[1] for r in responses[1:]} == {"model_not_ready"}
    assert len(encoder.bodies) == 1


# ------------------------------------------------------------------------------ ids and service


def test_a_request_id_is_kept_when_given_and_made_when_not(encoder: FakeBackend) -> None:
    given = post(encoder, b"", x_request_id="req.1").json()["error"]["request_id"]
    made = post(encoder, b"")
    assert given == "req.1"
    assert made.headers["x-request-id"] == made.json()["error"]["request_id"]
    assert len(made.headers["x-request-id"]) == 32


def test_a_request_id_that_is_not_an_id_is_replaced(encoder: FakeBackend) -> None:
    response = post(encoder, b"", x_request_id="<script>")
    assert "<script>" not in response.text


def test_ready_follows_the_model_and_health_does_not(encoder: FakeBackend) -> None:
    encoder.loaded = False

    async def steps(client: httpx.AsyncClient) -> list[int]:
        return [(await client.get(path)).status_code for path in ("/health", "/ready", "/info")]

    assert call(encoder, steps) == [200, 503, 503]
    encoder.loaded = True
    assert call(encoder, steps) == [200, 200, 200]


def test_info_names_model_and_limits(encoder: FakeBackend) -> None:
    info = call(encoder, lambda client: client.get("/info"), max_body_mb=3).json()
    assert info["model"] == MODEL.model_dump()
    assert info["models"] == [MODEL.model_dump()]
    assert info["limits"] == {
        "max_body_mb": 3,
        "max_running": 4,
        "max_queued": 4,
        "max_part_mb": 8,
        "max_uploads_gb": 20.0,
        "max_jobs": 64,
        "retention_h": 24.0,
    }
    assert info["hypnogram_models"] == []
    assert info["cohort_recordings"] is None


def test_metrics_count_answers_refusals_and_missing_modalities(encoder: FakeBackend) -> None:
    async def steps(client: httpx.AsyncClient) -> str:
        await client.post("/v1/embeddings", content=b"x", headers=EDF)
        await client.get("/JANE-DOE")
        encoder.outcome = Refusal("not_an_edf")
        await client.post("/v1/embeddings", content=b"x", headers=EDF)
        return (await client.get("/metrics")).text

    lines = call(encoder, steps).splitlines()
    assert 'sleepmami_requests_total{route="/v1/embeddings",status="200"} 1.0' in lines
    assert 'sleepmami_requests_total{route="unknown",status="404"} 1.0' in lines
    assert 'sleepmami_modality_missing_total{modality="SPO2"} 1.0' in lines
    assert 'sleepmami_modality_missing_total{modality="EEG"} 0.0' in lines
    assert 'sleepmami_recordings_refused_total{code="not_an_edf"} 1.0' in lines
    assert "sleepmami_epochs_embedded_total 3.0" in lines


def test_docs_list_every_route_and_load_nothing(encoder: FakeBackend) -> None:
    async def steps(client: httpx.AsyncClient) -> tuple[str, dict[str, Any]]:
        return (await client.get("/docs")).text, (await client.get("/openapi.json")).json()

    page, openapi = call(encoder, steps)
    assert all(f"{path}</code>" in page for path in openapi["paths"])
    assert "<script" not in page
    assert "src=" not in page
    assert "$URL/v1/embeddings" in page


def test_openapi_describes_the_bodies_and_all_answers(encoder: FakeBackend) -> None:
    openapi = call(encoder, lambda client: client.get("/openapi.json")).json()
    operation = openapi["paths"]["/v1/embeddings"]["post"]
    assert set(operation["requestBody"]["content"]) == {
        "application/octet-stream",
        "application/edf",
        "application/json",
    }
    content = operation["responses"]["200"]["content"]
    assert content["application/json"]["schema"]["$ref"].endswith("/EmbeddingAnswer")
    assert set(content) == {
        "application/json",
        "application/vnd.apache.arrow.stream",
        "application/vnd.safetensors",
        "application/x-npz",
    }
    assert operation["responses"]["422"]["content"]["application/json"]["schema"]["$ref"].endswith(
        "/ErrorAnswer"
    )


# -------------------------------------------------------------------------------- arguments


def test_arguments_are_serve_config_without_the_address() -> None:
    ours = EmbeddingAppArgs(bundle="runs/a")
    config = ServeConfig()
    assert {name: getattr(config, name) for name in ServeConfig.__slots__} == {
        **ours.model_dump(exclude={"bundle", "models", "canary"}),
        **{name: getattr(config, name) for name in ADDRESS},
    }
    assert ADDRESS == ("host", "port", "ssl_certfile", "ssl_keyfile")


def test_a_misspelt_argument_is_refused() -> None:
    with pytest.raises(ValueError, match="num_replica"):
        EmbeddingAppArgs.model_validate({"bundle": "a", "num_replica": 2})


def test_an_argument_out_of_range_is_refused() -> None:
    with pytest.raises(ConfigError, match="max_body_mb"):
        EmbeddingAppArgs(bundle="a", max_body_mb=0).config()


def test_the_cluster_file_holds_valid_arguments_and_names_this_app() -> None:
    deploy = yaml.safe_load((ROOT / "cluster/serve/embedding.yaml").read_text())
    (application,) = deploy["applications"]
    EmbeddingAppArgs.model_validate(application["args"]).config()
    assert application["import_path"] == "serve_apps.embedding_app:build"


@pytest.mark.parametrize("path", ["/info", "/v1/jobs/none", "/nowhere", "/docs"])
def test_no_answer_is_kept_or_taken_for_another_type(encoder: FakeBackend, path: str) -> None:
    headers = call(encoder, lambda client: client.get(path)).headers
    assert headers["cache-control"] == "no-store"
    assert headers["x-content-type-options"] == "nosniff"
