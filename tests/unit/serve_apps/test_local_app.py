"""The application over a real socket with a real, tiny model: what the library says, HTTP says."""

import io
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest

from sleepmami.config import ServeConfig
from sleepmami.inference.embedder import Embedder, NightEmbedding
from sleepmami.signals.preprocess import load_night
from tests.bundles import random_bundle
from tests.local_service import STAGES, tiny_service, write_recording

TUS = {"tus-resumable": "1.0.0"}
PART = TUS | {"content-type": "application/offset+octet-stream"}
NAME = "JANE-DOE"


@pytest.fixture(scope="module")
def edf(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return write_recording(tmp_path_factory.mktemp("edf") / "night.edf", patient=NAME)


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("state")


@pytest.fixture(scope="module")
def client(state: Path) -> Iterator[httpx.Client]:
    with (
        tiny_service(ServeConfig(state_dir=str(state), windows_per_batch=4)) as url,
        httpx.Client(base_url=url, timeout=60, trust_env=False) as client,
    ):
        yield client


@pytest.fixture(scope="module")
def expected(edf: bytes) -> NightEmbedding:
    bundle = random_bundle()
    night = load_night(edf, bundle.preprocess, recording_id="night")
    return Embedder(bundle, windows_per_batch=4).night(night)


@pytest.fixture(scope="module")
def job(client: httpx.Client, edf: bytes) -> str:
    """The path of a job that is done, of an upload in two parts."""
    made = client.post("/v1/uploads", headers=TUS | {"upload-length": str(len(edf))})
    place = made.headers["location"]
    for first in (0, 1000):
        last = 1000 if first == 0 else len(edf)
        headers = PART | {"upload-offset": str(first)}
        assert client.patch(place, content=edf[first:last], headers=headers).status_code == 204
    made = client.post("/v1/jobs", json={"upload_id": place.rpartition("/")[2]})
    with client.stream("GET", made.headers["location"] + "/events") as events:
        lines = [line for line in events.iter_lines() if line.startswith("event: ")]
    assert lines[-1] == "event: done"
    return str(made.headers["location"])


def npz_of(answer: httpx.Response) -> dict[str, np.ndarray]:
    assert answer.status_code == 200, answer.text
    return dict(np.load(io.BytesIO(answer.content), allow_pickle=False))


def test_a_body_a_job_and_the_library_agree(
    client: httpx.Client, edf: bytes, job: str, expected: NightEmbedding
) -> None:
    headers = {"content-type": "application/edf", "accept": "application/x-npz"}
    body = npz_of(client.post("/v1/embeddings", content=edf, headers=headers))
    stored = npz_of(client.get(f"{job}/embeddings.npz"))
    for name in ("micro", "macro", "cycles", "night"):
        assert np.array_equal(body[name], stored[name])
        assert np.abs(body[name] - getattr(expected, name)).max(initial=0) <= 1e-5


def test_the_overview_has_what_the_recording_has(client: httpx.Client, job: str) -> None:
    overview = client.get(f"{job}/overview.json").json()
    assert [c["modality"] for c in overview["channels"]] == ["EEG", "EOG", "EMG"]
    assert overview["channels"][0]["shape"] == [4, 59]


def test_the_hypnogram_has_a_stage_for_each_epoch(client: httpx.Client, job: str) -> None:
    hypnogram = client.get(f"{job}/hypnogram.json").json()
    assert len(hypnogram["stages"]) == 4
    assert set(hypnogram["stages"]) <= set(STAGES)
    assert np.sum(hypnogram["probabilities"], axis=1) == pytest.approx(1, abs=1e-3)


def test_inspection_tells_what_embedding_uses(client: httpx.Client, edf: bytes) -> None:
    headers = {"content-type": "application/edf"}
    answer = client.post("/v1/inspect", content=edf, headers=headers).json()
    assert answer["ok"]
    assert answer["modalities"] == ["EEG", "EOG", "EMG"]
    assert answer["modalities_missing"] == ["ECG", "RESP", "SPO2"]
    refused = client.post("/v1/inspect", content=b"x" * 300, headers=headers).json()
    assert (refused["ok"], refused["code"]) == (False, "not_an_edf")


def test_the_name_in_the_header_is_in_nothing_but_the_upload(
    client: httpx.Client, edf: bytes, job: str, state: Path
) -> None:
    names = ("", "/events", "/overview.json", "/hypnogram.json", "/hypnogram.tsv", "/report.html")
    files = ("arrow", "npz", "parquet", "safetensors")
    texts = [client.get(f"{job}{name}").content for name in names]
    texts += [client.get(f"{job}/embeddings.{suffix}").content for suffix in files]
    assert all(NAME.encode() not in text.replace(b"\0", b"") for text in texts)
    holders = [p for p in state.rglob("*") if p.is_file() and NAME.encode() in p.read_bytes()]
    assert [path.name for path in holders] == ["data"]


def test_seconds_come_when_they_are_asked_for(client: httpx.Client, edf: bytes, job: str) -> None:
    headers = {"content-type": "application/edf", "accept": "application/x-npz"}
    body = npz_of(client.post("/v1/embeddings?level=second", content=edf, headers=headers))
    made = client.post("/v1/uploads", headers=TUS | {"upload-length": str(len(edf))})
    place = made.headers["location"]
    client.patch(place, content=edf, headers=PART | {"upload-offset": "0"})
    wanted = {"upload_id": place.rpartition("/")[2], "second": True}
    other = client.post("/v1/jobs", json=wanted).headers["location"]
    assert "event: done" in client.get(f"{other}/events").text
    stored = npz_of(client.get(f"{other}/embeddings.npz"))
    model = client.get("/info").json()["model"]
    assert body["second"].shape == (120, model["second_dim"])  # two minutes
    assert np.array_equal(stored["second"], body["second"])
    assert "micro" in stored
    assert "micro" not in body
    refused = client.get(f"{job}/embeddings.npz?level=second")
    assert refused.json()["error"]["code"] == "request_invalid"
