"""The embedding service on Ray Serve, asked over HTTP."""

import base64
import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import httpx
import numpy as np
import pytest
import yaml

from sleepmami.config import ServeConfig
from sleepmami.errors import CheckpointError, ServiceError
from sleepmami.inference.embedder import Embedder, NightEmbedding
from sleepmami.signals.preprocess import load_night
from sleepmami.training.checkpoint import load_bundle

pytestmark = pytest.mark.ray

ROOT = Path(__file__).resolve().parents[2]
SECRET = b"JANE-DOE"
ARROW = "application/vnd.apache.arrow.stream"
EDF = {"content-type": "application/edf"}
SMALL = ServeConfig(
    port=0, max_body_mb=4, max_ongoing_requests=2, max_queued_requests=4, windows_per_batch=2
)


@pytest.fixture(scope="module")
def expected(bundle_folder: str, edf: bytes) -> NightEmbedding:
    """What the library says of the same bytes."""
    bundle = load_bundle(bundle_folder)
    night = load_night(edf, bundle.preprocess, recording_id="night")
    return Embedder(bundle, windows_per_batch=32).night(night)


@pytest.fixture(scope="module")
def url(ray_cluster: object, bundle_folder: str) -> Iterator[str]:
    from serve_apps.embedding_app import start, stop

    yield start(bundle_folder, SMALL)
    stop()


def post(url: str, body: bytes, accept: str = "*/*") -> httpx.Response:
    headers = EDF | {"accept": accept}
    return httpx.post(f"{url}/v1/embeddings", content=body, headers=headers, timeout=60)


# --------------------------------------------------------------------- files that mean no good


def hostile(count: int, records: int, seconds: str, samples: int, label: bytes = b"C4-M1") -> bytes:
    """The header of an EDF of `count` like signals."""

    def cell(value: object, width: int) -> bytes:
        return str(value).encode().ljust(width)

    file = b"".join(
        cell(value, width)
        for value, width in (("0", 8), ("X", 80), ("X", 80), ("01.01.0101.01.01", 16),
                             (256 * (count + 1), 8), ("", 44), (records, 8), (seconds, 8), (count, 4))
    )  # fmt: skip
    columns = [label.ljust(16), b" " * 80, b"uV".ljust(8), b"-500".ljust(8), b"500".ljust(8),
               b"-32768".ljust(8), b"32767".ljust(8), b" " * 80, cell(samples, 8), b" " * 32]  # fmt: skip
    return file + b"".join(column * count for column in columns)


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 400, "empty_body"),
        (b"PK\x03\x04" + SECRET * 100, 400, "not_an_edf"),
        (bytes(5 * 2**20), 413, "payload_too_large"),
        (hostile(512, 70, "1", 25) + bytes(512 * 70 * 50), 422, "signal_unusable"),
        (hostile(512, 70, "1", 50) + bytes(512 * 70 * 100), 422, "signal_unusable"),
        (hostile(1, 2, "30", 10**6) + bytes(4 * 10**6), 422, "signal_unusable"),
        (hostile(1, 10**6, "1e-6", 1) + bytes(2 * 10**6), 422, "recording_too_short"),
        (hostile(1, 1, "1e9", 1) + bytes(2), 422, "recording_too_large"),
        (hostile(1, 99999999, "1", 100) + bytes(1000), 400, "truncated_recording"),
        (hostile(3, 1, "1", 99999999) + bytes(1000), 400, "header_invalid"),
        (hostile(1, 72 * 360, "10", 1, b"SpO2") + bytes(72 * 720), 422, "signal_unusable"),
    ],
    ids=[
        "empty",
        "zip",
        "too large",
        "slow",
        "flat",
        "fast",
        "short",
        "endless",
        "half",
        "huge record",
        "72 h",
    ],
)
def test_a_bad_body_is_answered_with_its_code(
    url: str, body: bytes, status: int, code: str
) -> None:
    response = post(url, body)
    assert (response.status_code, response.json()["error"]["code"]) == (status, code)


def planted(edf: bytes) -> bytes:
    """The recording with a name in every field of free text, and after the label's own words."""
    count = int(edf[252:256])
    data = bytearray(edf)
    for start, width in ((8, 80), (88, 80), (192, 44)):
        data[start : start + width] = SECRET.ljust(width)
    for offset, width in ((16, 80), (136, 80), (224, 32)):  # transducer, prefilter, reserved
        for index in range(count):
            start = 256 + offset * count + index * width
            data[start : start + width] = SECRET.ljust(width)
    data[256:272] = b"C4-M1 " + SECRET.ljust(10)
    return bytes(data)


@pytest.mark.parametrize("accept", ["application/json", "application/x-npz", ARROW])
def test_a_name_in_the_header_is_neither_answered_nor_logged(
    url: str, ray_cluster: Path, edf: bytes, accept: str
) -> None:
    for body, status in ((planted(edf), 200), (planted(edf)[:-1000], 400)):
        response = post(url, body, accept)
        assert response.status_code == status
        said = response.content.replace(b"\0", b"")  # npz holds text as UTF-32
        assert SECRET not in said
        assert b"C4-M1" not in said
    logs = [file for file in ray_cluster.rglob("*") if file.suffix in {".log", ".err", ".out"}]
    assert len(logs) > 10
    assert [file.name for file in logs if SECRET in file.read_bytes()] == []


# ------------------------------------------------------------------------------ requests like that


@pytest.mark.parametrize(
    ("request_text", "status"),
    [
        ("POST /v1/embeddings HTTP/1.1\r\nHost: localhost\r\nContent-Length: -5\r\n", 400),
        ("POST /v1/embeddings HTTP/1.1\r\nHost: localhost\r\nContent-Length: JANE-DOE\r\n", 400),
        ("POST /v1/embeddings HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nContent-Length: 6\r\n", 400),
        ("POST /v1/embeddings HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999\r\n", 413),
        ("POST /v1/embeddings HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nJANE-DOE\r\n", 400),
        ("POST /v1/embeddings HTTP/1.1\r\nHost: localhost\r\nContent-Encoding: gzip\r\nContent-Length: 9\r\n", 415),
        ("POST /v1/embeddings HTTP/1.1\r\nHost: localhost\r\nContent-Type: JANE-DOE\r\n", 415),
        ("POST /v1/embeddings?JANE-DOE=1 HTTP/1.1\r\nHost: localhost\r\n", 422),
        ("POST /v1/embeddings/ HTTP/1.1\r\nHost: JANE-DOE\r\n", 403),
        ("GET /../../JANE-DOE HTTP/1.1\r\nHost: localhost\r\n", 404),
        ("GET /docs HTTP/1.1\r\nHost: [JANE-DOE\r\n", 403),
        ("HEAD /v1/embeddings HTTP/1.1\r\nHost: localhost\r\n", 405),
        ("OPTIONS /v1/embeddings HTTP/1.1\r\nHost: localhost\r\n", 405),
        ("TRACE /v1/embeddings HTTP/1.1\r\nHost: localhost\r\nX-A: JANE-DOE\r\n", 405),
        ("\x00JANE-DOE\r\n", 400),
    ],
)  # fmt: skip
def test_an_odd_request_is_refused_and_not_repeated(
    url: str, request_text: str, status: int
) -> None:
    answer = exchange(url, request_text.encode() + b"Connection: close\r\n\r\n")
    assert answer.startswith(f"HTTP/1.1 {status} ".encode())
    assert SECRET not in answer


def exchange(url: str, request: bytes) -> bytes:
    """What comes back for bytes on a connection of their own."""
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        connection.sendall(request)
        parts = []
        with suppress(ConnectionResetError):  # it hung up on what we still sent
            while part := connection.recv(65536):
                parts.append(part)
    return b"".join(parts)


def wait_until_admitted(url: str, count: int) -> None:
    """Until so many requests hold a recording or wait."""
    deadline = time.monotonic() + 20
    while f"sleepmami_requests_admitted {count}.0" not in httpx.get(f"{url}/metrics").text:
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_a_client_that_hangs_up_gives_its_place_back(url: str, edf: bytes) -> None:
    """More of them than there are places; Serve takes a moment to notice."""
    host, port = url.removeprefix("http://").split(":")
    start = f"POST /v1/embeddings HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(edf)}\r\n\r\n"
    for _ in range(8):
        with socket.create_connection((host, int(port))) as connection:
            connection.sendall(start.encode() + edf[:5000])
    wait_until_admitted(url, 0)
    assert post(url, edf).status_code == 200


def test_a_truncated_file_is_refused_and_the_service_goes_on(url: str, edf: bytes) -> None:
    assert post(url, edf[:-1000]).json()["error"]["code"] == "truncated_recording"
    assert post(url, edf).status_code == 200


def test_the_request_id_comes_back_once(url: str) -> None:
    response = httpx.post(f"{url}/v1/embeddings", headers=EDF | {"x-request-id": "req.1"})
    assert response.json()["error"]["request_id"] == "req.1"
    assert response.headers.get_list("x-request-id") == ["req.1"]
    made = httpx.get(f"{url}/nothing")
    assert made.headers.get_list("x-request-id") == [made.json()["error"]["request_id"]]


def test_parallel_requests_wait_for_their_turn(
    url: str, edf: bytes, expected: NightEmbedding
) -> None:
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda _: post(url, edf).json(), range(6)))
    for answer in answers:
        night = np.frombuffer(base64.b64decode(answer["night"]["data"]), "<f4")
        np.testing.assert_allclose(night, expected.night, atol=1e-5, rtol=0)


def test_info_and_metrics_are_those_of_this_service(url: str, edf: bytes) -> None:
    info = httpx.get(f"{url}/info").json()
    expected = {"max_body_mb": 4, "max_running": 2, "max_queued": 4}
    assert {name: info["limits"][name] for name in expected} == expected
    post(url, edf)
    lines = httpx.get(f"{url}/metrics").text.splitlines()
    line = next(
        x for x in lines if x.startswith('sleepmami_modality_missing_total{modality="ECG"}')
    )
    assert float(line.split()[1]) >= 1


def test_one_request_too_many_is_answered_429(ray_cluster: object, url: str, edf: bytes) -> None:
    """Two hold a recording whose upload stalls, four wait behind them, one more is turned away."""
    done = threading.Event()

    def stalled() -> Iterator[bytes]:
        yield edf[:1000]
        done.wait(30)
        yield edf[1000:]

    def send() -> int:
        return httpx.post(
            f"{url}/v1/embeddings", content=stalled(), headers=EDF, timeout=60
        ).status_code

    with ThreadPoolExecutor(6) as pool:
        held = [pool.submit(send) for _ in range(6)]
        wait_until_admitted(url, 6)
        response = post(url, edf)
        done.set()
    assert (response.status_code, response.json()["error"]["code"]) == (429, "overloaded")
    assert response.headers["retry-after"] == "5"
    assert {answer.result() for answer in held} == {200}


def test_a_cluster_too_small_is_said_at_once(ray_cluster: object, bundle_folder: str) -> None:
    from serve_apps.embedding_app import start

    words = "found 6 CPUs in the cluster; expected 9: 4 for each of 2 Encoders"
    with pytest.raises(ServiceError, match=words):
        start(bundle_folder, ServeConfig(port=0, num_replicas=2, cpus_per_replica=4))
    with pytest.raises(ServiceError, match="GPUs in the cluster; expected 99"):
        start(
            bundle_folder, ServeConfig(port=0, num_replicas=99, cpus_per_replica=0.01, use_gpu=True)
        )


def test_without_a_ray_session_nothing_is_started(
    bundle_folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from serve_apps import embedding_app

    monkeypatch.setattr(embedding_app.ray, "is_initialized", lambda: False)
    with pytest.raises(ServiceError, match="no Ray session"):
        embedding_app.start(bundle_folder, SMALL)


def test_a_port_in_use_is_named(ray_cluster: object, bundle_folder: str) -> None:
    from serve_apps.embedding_app import start

    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(ServiceError, match=f"cannot listen on 127.0.0.1:{port}"):
            start(bundle_folder, ServeConfig(port=port))


def test_a_folder_that_is_no_bundle_is_refused_before_ray_starts(tmp_path: Path) -> None:
    from serve_apps.embedding_app import start

    with pytest.raises(CheckpointError):
        start(str(tmp_path), SMALL)


def test_serve_turns_the_cluster_files_arguments_into_ours() -> None:
    """Serve reads the parameter type of `build` at run time; a string there is silently a dict."""
    import inspect

    from serve_apps.embedding_app import EmbeddingAppArgs, build

    (parameter,) = inspect.signature(build).parameters.values()
    assert parameter.annotation is EmbeddingAppArgs


def test_the_cluster_file_has_only_keys_that_serve_knows() -> None:
    """Serve's own schema checks types and lets misspelt keys pass."""
    from ray.serve.schema import HTTPOptionsSchema, ServeApplicationSchema, ServeDeploySchema

    deploy = yaml.safe_load((ROOT / "cluster/serve/embedding.yaml").read_text())
    ServeDeploySchema.model_validate(deploy)
    assert set(deploy) <= set(ServeDeploySchema.model_fields)
    assert set(deploy["http_options"]) <= set(HTTPOptionsSchema.model_fields)
    assert set(deploy["applications"][0]) <= set(ServeApplicationSchema.model_fields)


def test_replicas_never_import_ray_data() -> None:
    """ray.data registers Arrow extension types that unpickle what a client sent."""
    code = (
        "import sys, json, serve_apps.embedding_app, sleepmami.inference.export;"
        "print(json.dumps([m for m in ('ray.data',) if m in sys.modules]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True
    )
    assert json.loads(done.stdout) == []
