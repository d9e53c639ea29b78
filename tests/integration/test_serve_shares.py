"""A long night heard by two Encoders at once, and small requests that travel together."""

import io
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import numpy as np
import pytest

from serve_apps.night_calls import num_shares
from serve_apps.small_requests import MAX_RECORDING_BYTES
from sleepmami.config import ServeConfig
from sleepmami.inference.embedder import Embedder
from sleepmami.signals.preprocess import load_night
from sleepmami.training.checkpoint import load_bundle
from tests.noise_nights import write_noise

pytestmark = pytest.mark.ray

NPZ = {"content-type": "application/edf", "accept": "application/x-npz"}
EPOCHS = 301  # an odd night: its last window overlaps the one before it
CONFIG = ServeConfig(
    port=0, num_replicas=2, cpus_per_replica=0.5, cpus_per_preprocessor=0.5, windows_per_batch=8
)


@pytest.fixture(scope="module")
def long_edf(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("edf") / "long.edf"
    return write_noise(path, seed=3, seconds=EPOCHS * 30).read_bytes()


@pytest.fixture(scope="module")
def url(ray_cluster: object, bundle_folder: str) -> Iterator[str]:
    from serve_apps.embedding_app import start, stop

    yield start(bundle_folder, CONFIG)
    stop()


def post(url: str, body: bytes, level: str = "all") -> dict[str, np.ndarray]:
    answer = httpx.post(f"{url}/v1/embeddings?level={level}", content=body, headers=NPZ, timeout=60)
    assert answer.status_code == 200, answer.text
    with np.load(io.BytesIO(answer.content), allow_pickle=False) as arrays:
        return dict(arrays)


def test_a_night_in_shares_has_the_librarys_vectors(
    url: str, bundle_folder: str, long_edf: bytes
) -> None:
    assert num_shares(EPOCHS, CONFIG.num_replicas) == 2
    bundle = load_bundle(bundle_folder)
    night = load_night(long_edf, bundle.preprocess, recording_id="night")
    expected = Embedder(bundle, windows_per_batch=32).night(night, seconds=True)
    in_shares, alone = post(url, long_edf), post(url, long_edf, "second")
    for name in ("micro", "macro", "cycles", "night"):
        np.testing.assert_allclose(in_shares[name], getattr(expected, name), atol=1e-5, rtol=0)
    assert expected.second is not None
    np.testing.assert_allclose(alone["second"], expected.second, atol=1e-5, rtol=0)


def test_small_requests_together_have_the_vectors_they_have_alone(url: str, edf: bytes) -> None:
    """And a bad one among them is refused alone."""
    assert len(edf) < MAX_RECORDING_BYTES
    alone = post(url, edf)
    bad = edf[:-1000]

    def ask(index: int) -> httpx.Response:
        body = bad if index % 5 == 0 else edf
        return httpx.post(f"{url}/v1/embeddings", content=body, headers=NPZ, timeout=60)

    with ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(ask, range(40)))
    assert [answer.status_code for answer in answers] == [400, 200, 200, 200, 200] * 8
    for answer in answers:
        if answer.status_code == 200:
            with np.load(io.BytesIO(answer.content), allow_pickle=False) as arrays:
                for name in ("micro", "macro", "night"):
                    np.testing.assert_allclose(arrays[name], alone[name], atol=1e-5, rtol=0)


def test_who_hangs_up_takes_nobody_along(url: str, edf: bytes) -> None:
    """Serve may cancel the calls of a request whose client has gone; others travel in them too."""
    address = (httpx.URL(url).host, httpx.URL(url).port)
    head = b"POST /v1/embeddings HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/edf\r\n"

    def hang_up(index: int) -> None:
        with socket.create_connection(address, timeout=60) as connection:
            connection.sendall(head + b"content-length: %d\r\n\r\n" % len(edf) + edf)
            time.sleep(0.01 * (index % 10))  # in every place that a request goes through

    def stay(_: int) -> int:
        return httpx.post(f"{url}/v1/embeddings", content=edf, headers=NPZ, timeout=60).status_code

    with ThreadPoolExecutor(10) as those_who_stay, ThreadPoolExecutor(6) as those_who_go:
        gone = those_who_go.map(hang_up, range(60))
        assert list(those_who_stay.map(stay, range(60))) == [200] * 60
        list(gone)
    for _ in range(200):  # a proxy notices late who has gone
        if "sleepmami_requests_admitted 0.0" in httpx.get(f"{url}/metrics").text:
            return
        time.sleep(0.1)
    raise AssertionError("who has gone still holds a place")
