"""The embedding service on Ray Serve, asked over HTTP."""

import base64
import io
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
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

pytestmark = [
    pytest.mark.ray,
    # Ray Serve's own settings classes, when it is imported.
    pytest.mark.filterwarnings("ignore::pydantic.warnings.PydanticDeprecatedSince20"),
]

ROOT = Path(__file__).resolve().parents[2]
SECRET = "JANE-DOE"
EDF = {"content-type": "application/edf"}
SMALL = ServeConfig(port=0, max_body_mb=4, max_ongoing_requests=2, windows_per_batch=2)


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


def test_run_serves_until_a_signal(ray_cluster: object, bundle_folder: str) -> None:
    """First in this file: it takes Serve down with it."""
    from serve_apps.embedding_app import run

    urls = []

    def ready(url: str) -> None:
        urls.append(url)
        assert httpx.get(f"{url}/ready").status_code == 200
        os.kill(os.getpid(), signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    run(bundle_folder, SMALL, ready=ready)
    assert signal.getsignal(signal.SIGTERM) is before
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{urls[0]}/health")


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
    assert info["limits"] == {"max_body_mb": 4, "max_running": 2, "max_queued": 64}
    post(url, edf)
    lines = httpx.get(f"{url}/metrics").text.splitlines()
    line = next(
        x for x in lines if x.startswith('sleepmami_modality_missing_total{modality="ECG"}')
    )
    assert float(line.split()[1]) >= 1


def test_a_port_in_use_is_named(bundle_folder: str) -> None:
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
