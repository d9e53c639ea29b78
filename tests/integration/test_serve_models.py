"""Several models behind one service, and what becomes of requests when replicas die or change."""

import io
import json
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import httpx
import numpy as np
import psutil
import pytest

from sleepmami.config import ServeConfig
from sleepmami.inference.embedder import Embedder, NightEmbedding
from sleepmami.signals.preprocess import load_night
from sleepmami.training.checkpoint import load_bundle, save_bundle
from tests.bundles import random_bundle

pytestmark = pytest.mark.ray

NPZ = {"content-type": "application/edf", "accept": "application/x-npz"}
CONFIG = ServeConfig(port=0, num_replicas=1, max_ongoing_requests=8, windows_per_batch=4)


@pytest.fixture(scope="module")
def other_folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Other weights, and recordings prepared otherwise: mains hum is cut out at 50 Hz."""
    folder = str(tmp_path_factory.mktemp("other") / "bundle")
    save_bundle(folder, random_bundle(seed=12, notch_hz=50.0))
    return folder


@pytest.fixture(scope="module")
def expected(bundle_folder: str, other_folder: str, edf: bytes) -> dict[str, NightEmbedding]:
    """What the library says of the same bytes, by weights."""
    found = {}
    for folder in (bundle_folder, other_folder):
        bundle = load_bundle(folder)
        night = load_night(edf, bundle.preprocess, recording_id="night")
        found[bundle.weights_sha256] = Embedder(bundle, windows_per_batch=32).night(night)
    return found


@pytest.fixture(scope="module")
def url(ray_cluster: object, bundle_folder: str, other_folder: str) -> Iterator[str]:
    from serve_apps.embedding_app import start, stop

    yield start(bundle_folder, CONFIG, models={"new": other_folder}, canary={"new": 0.5})
    stop()


def ask(url: str, body: bytes, name: str = "r", model: str | None = None) -> httpx.Response:
    return httpx.post(
        f"{url}/v1/embeddings",
        content=body,
        headers=NPZ | {"x-request-id": name},
        params={"model": model} if model else {},
        timeout=60,
        trust_env=False,
    )


def weights_if_right(answer: httpx.Response, expected: dict[str, NightEmbedding]) -> str:
    """The weights an answer names, once its vectors are found to be those weights' own."""
    assert answer.status_code == 200
    arrays = np.load(io.BytesIO(answer.content))
    weights: str = json.loads(str(arrays["info"]))["weights_sha256"]
    for name in ("micro", "macro", "night"):
        want = getattr(expected[weights], name)
        np.testing.assert_allclose(arrays[name], want, atol=1e-5, rtol=0)
    return weights


def test_a_model_is_asked_for_by_name(
    url: str, edf: bytes, expected: dict[str, NightEmbedding]
) -> None:
    models = httpx.get(f"{url}/info", trust_env=False).json()["models"]
    assert [(m["name"], m["default"], m["canary_share"]) for m in models] == [
        ("default", True, 0.0),
        ("new", False, 0.5),
    ]
    for model in models:
        weights = weights_if_right(ask(url, edf, model=model["name"]), expected)
        assert weights == model["weights_sha256"]
    unknown = ask(url, edf, model="old")
    assert (unknown.status_code, unknown.json()["error"]["code"]) == (404, "model_unknown")


def test_the_canary_gets_its_share_and_the_same_request_the_same_model(
    url: str, edf: bytes, expected: dict[str, NightEmbedding]
) -> None:
    names = [f"r-{i}" for i in range(16)]
    with ThreadPoolExecutor(4) as pool:
        once = list(pool.map(lambda n: weights_if_right(ask(url, edf, n), expected), names))
        again = list(pool.map(lambda n: weights_if_right(ask(url, edf, n), expected), names))
    assert once == again
    assert set(once) == set(expected)


def replicas(kind: str) -> list[psutil.Process]:
    """Processes of a deployment's replicas, of this test's own cluster."""
    raylets = {str(p.pid) for p in psutil.Process().children() if p.name() == "raylet"}
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            ours = process.environ().get("RAY_RAYLET_PID") in raylets
            if ours and f":{kind}" in " ".join(process.cmdline()):
                found.append(process)
    assert found
    return found


@pytest.mark.parametrize("kind", ["Encoder", "Preprocessor"])
def test_a_replica_that_is_killed_costs_a_503_at_most(
    url: str, edf: bytes, expected: dict[str, NightEmbedding], kind: str
) -> None:
    codes: list[int] = []
    stop = threading.Event()

    def insist() -> None:
        while not stop.is_set():
            answer = ask(url, edf, model="default")
            codes.append(answer.status_code)
            if answer.status_code == 200:
                weights_if_right(answer, expected)
            else:
                assert answer.json()["error"]["code"] == "model_not_ready"
                assert answer.headers["retry-after"]
                time.sleep(0.2)

    with ThreadPoolExecutor(3) as pool:
        works = [pool.submit(insist) for _ in range(3)]
        time.sleep(1)
        for process in replicas(kind):
            process.send_signal(signal.SIGKILL)
        deadline = time.monotonic() + 60
        killed_at = len(codes)
        while 200 not in codes[killed_at + 8 :] and time.monotonic() < deadline:
            time.sleep(0.2)
        stop.set()
        for work in works:
            work.result()
    assert set(codes) <= {200, 503}
    assert codes[-1] == 200


def test_new_weights_are_rolled_out_without_a_mixed_answer(
    ray_cluster: Path, url: str, edf: bytes, other_folder: str, expected: dict[str, NightEmbedding]
) -> None:
    """The default model's bundle becomes the other one, whose preprocessing differs too."""
    from ray import serve

    from serve_apps.embedding_app import APP_NAME, EmbeddingAppArgs, build

    seen: list[str] = []
    stop = threading.Event()

    def insist() -> None:
        while not stop.is_set():
            answer = ask(url, edf, model="default")
            if answer.status_code == 503:
                time.sleep(0.2)
            else:
                seen.append(weights_if_right(answer, expected))

    (old, new) = expected
    with ThreadPoolExecutor(3) as pool:
        works = [pool.submit(insist) for _ in range(3)]
        time.sleep(1)
        args = EmbeddingAppArgs(bundle=other_folder, models={"new": other_folder})
        serve.run(build(args), name=APP_NAME)
        deadline = time.monotonic() + 30
        while new not in seen[-3:] and time.monotonic() < deadline:
            time.sleep(0.2)
        stop.set()
        for work in works:
            work.result()
    assert seen[0] == old
    assert seen[-1] == new
