"""The embedding service on Ray Serve, asked over HTTP."""

import base64
import io
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import pyarrow as pa
import pytest
import yaml

from sleepmami.config import ServeConfig
from sleepmami.errors import CheckpointError, ServiceError
from sleepmami.inference.embedder import Embedder, NightEmbedding
from sleepmami.signals.edf_writer import WriteChannel, write_edf
from sleepmami.signals.preprocess import load_night
from sleepmami.training.checkpoint import load_bundle, save_bundle
from tests.bundles import random_bundle
from tests.processes import clean_environment, left_in_session, started

pytestmark = pytest.mark.ray

ROOT = Path(__file__).resolve().parents[2]
SECRET = "JANE-DOE"
EDF = {"content-type": "application/edf"}
SMALL = ServeConfig(
    port=0, max_body_mb=4, max_ongoing_requests=2, max_queued_requests=4, windows_per_batch=2
)
SLEEPMAMI = [sys.executable, "-c", "from pipelines.cli import main; main()"]


@pytest.fixture(scope="module")
def bundle_folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = str(tmp_path_factory.mktemp("serve") / "bundle")
    save_bundle(folder, random_bundle())
    return folder


@pytest.fixture(scope="module")
def edf(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Three and a half minutes of noise on three channels, a name in the patient field."""
    rng = np.random.default_rng(2)
    seconds = 210
    channels = [
        WriteChannel(
            label=label,
            unit="uV",
            sample_rate_hz=rate,
            samples=rng.normal(0, 30, seconds * rate),
            physical_min=-500.0,
            physical_max=500.0,
        )
        for label, rate in (("C4-M1", 128), ("EOG left", 100), ("EMG chin", 200))
    ]
    path = tmp_path_factory.mktemp("edf") / "night.edf"
    write_edf(path, channels)
    data = path.read_bytes()
    return data[:8] + SECRET.encode().ljust(80) + data[88:]


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


@pytest.mark.parametrize(
    ("number", "send"),
    [(signal.SIGTERM, os.kill), (signal.SIGINT, os.killpg)],  # kill, and Ctrl-C in a terminal
    ids=["sigterm", "ctrl-c"],
)
def test_a_signal_ends_the_command_after_the_upload_in_hand(
    number: signal.Signals, send: Callable[[int, int], None], bundle_folder: str, edf: bytes
) -> None:
    """Exit code 0, no process and no folder left."""
    admitted, signalled = threading.Event(), threading.Event()

    def upload() -> Iterator[bytes]:
        yield edf[:5000]
        admitted.set()
        signalled.wait(30)
        time.sleep(0.5)
        yield edf[5000:]

    with (
        tempfile.TemporaryDirectory(prefix="smm-", dir="/tmp") as folder,
        ThreadPoolExecutor(1) as pool,
        started(
            [*SLEEPMAMI, "serve", bundle_folder, "--port", "0"],
            stdout=subprocess.PIPE,
            env=clean_environment(TMPDIR=folder),
        ) as process,
    ):
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("ready: http://127.0.0.1:")
        url = line.split()[1]
        answer = pool.submit(httpx.post, f"{url}/v1/embeddings", content=upload(), headers=EDF)
        assert admitted.wait(10)
        time.sleep(1)  # until the request is past the proxy
        send(process.pid, number)
        signalled.set()
        assert answer.result(60).status_code == 200
        assert process.wait(60) == 0
        assert left_in_session(process.pid, 20) == []
        assert os.listdir(folder) == []
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{url}/health")


def test_http_gives_the_numbers_of_the_library(
    url: str, edf: bytes, expected: NightEmbedding
) -> None:
    answer = np.load(io.BytesIO(post(url, edf, "application/x-npz").content), allow_pickle=False)
    for name in ("micro", "macro", "night"):
        np.testing.assert_allclose(answer[name], getattr(expected, name), atol=1e-5, rtol=0)
    for name in ("epoch_valid", "modality_valid"):
        assert np.array_equal(answer[name], getattr(expected, name))


def test_all_formats_answer_the_same_night_and_model(
    url: str, edf: bytes, expected: NightEmbedding
) -> None:
    document = post(url, edf).json()
    arrow = pa.ipc.open_stream(post(url, edf, "application/vnd.apache.arrow.stream").content)
    metadata = arrow.read_all().schema.metadata
    for night in (document["night"]["data"], metadata[b"sleepmami.night"]):
        vector = np.frombuffer(base64.b64decode(night), "<f4")
        np.testing.assert_allclose(vector, expected.night, atol=1e-5, rtol=0)
    for info in (document, json.loads(metadata[b"sleepmami.info"])):
        assert info["weights_sha256"] == expected.info["weights_sha256"]
        assert {c["modality"] for c in info["channels_used"]} == {"EEG", "EOG", "EMG"}
        assert info["modalities_missing"] == ["ECG", "RESP", "SPO2"]


def test_nothing_of_the_header_is_answered(url: str, edf: bytes) -> None:
    response = post(url, edf)
    assert response.status_code == 200
    assert SECRET not in response.text
    assert "C4-M1" not in response.text


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 400, "empty_body"),
        (b"PK\x03\x04" + SECRET.encode() * 100, 400, "not_an_edf"),
        (bytes(5 * 2**20), 413, "payload_too_large"),
    ],
    ids=["empty", "not an edf", "too large"],
)
def test_a_bad_body_is_answered_with_its_code(
    url: str, body: bytes, status: int, code: str
) -> None:
    response = post(url, body)
    assert (response.status_code, response.json()["error"]["code"]) == (status, code)
    assert SECRET not in response.text


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
    assert info["limits"] == {"max_body_mb": 4, "max_running": 2, "max_queued": 4}
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
        while "sleepmami_requests_admitted 6.0" not in httpx.get(f"{url}/metrics").text:
            time.sleep(0.1)
        response = post(url, edf)
        done.set()
    assert (response.status_code, response.json()["error"]["code"]) == (429, "overloaded")
    assert response.headers["retry-after"] == "5"
    assert {answer.result() for answer in held} == {200}


def test_a_cluster_too_small_is_said_at_once(ray_cluster: object, bundle_folder: str) -> None:
    from serve_apps.embedding_app import start

    with pytest.raises(ServiceError, match="found 6 CPUs in the cluster; expected 8: 4 for each"):
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


def test_replicas_never_import_ray_data_or_lance() -> None:
    """ray.data registers Arrow extension types that unpickle what a client sent."""
    code = (
        "import sys, json, serve_apps.embedding_app, sleepmami.inference.export;"
        "print(json.dumps([m for m in ('ray.data', 'lance') if m in sys.modules]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True
    )
    assert json.loads(done.stdout) == []
