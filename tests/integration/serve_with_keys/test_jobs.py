"""Uploads and jobs of the service on Ray Serve."""

import io
import json
from pathlib import Path

import httpx
import numpy as np
import pytest

from sleepmami.inference.embedder import Embedder
from sleepmami.signals.preprocess import load_night
from sleepmami.training.checkpoint import load_bundle

pytestmark = pytest.mark.ray

TUS = {"tus-resumable": "1.0.0"}
PART = TUS | {"content-type": "application/offset+octet-stream"}


def upload(client: httpx.Client, edf: bytes) -> str:
    made = client.post("/v1/uploads", headers=TUS | {"upload-length": str(len(edf))})
    place = made.headers["location"]
    middle = len(edf) // 2
    for first, last in ((0, middle), (middle, len(edf))):
        headers = PART | {"upload-offset": str(first)}
        assert client.patch(place, content=edf[first:last], headers=headers).status_code == 204
    return str(place)


def test_a_job_gives_what_the_library_gives(
    client: httpx.Client, bundle_folder: str, edf: bytes, state: Path
) -> None:
    place = upload(client, edf)
    made = client.post("/v1/jobs", json={"upload_id": place.rpartition("/")[2]})
    assert made.status_code == 202
    job = made.headers["location"]
    with client.stream("GET", f"{job}/events") as events:
        lines = list(events.iter_lines())
    assert [line for line in lines if line.startswith("event: ")][-1] == "event: done"
    stages = {json.loads(x[6:])["stage"] for x in lines if x.startswith("data: ")}
    assert {"preprocessing", "night"} <= stages
    answer = client.get(f"{job}/embeddings.npz")
    found = np.load(io.BytesIO(answer.content), allow_pickle=False)
    bundle = load_bundle(bundle_folder)
    night = load_night(edf, bundle.preprocess, recording_id="night")
    expected = Embedder(bundle, windows_per_batch=32).night(night)
    for name in ("micro", "macro", "night"):
        assert np.abs(found[name] - getattr(expected, name)).max() <= 1e-5
    assert client.get(f"{job}/overview.json").json()["num_epochs"] == night.num_epochs
    assert client.get(f"{job}/report.html").status_code == 200
    assert client.delete(job).status_code == client.delete(place, headers=TUS).status_code == 204
    assert list((state / "jobs").iterdir()) == list((state / "uploads").iterdir()) == []


def test_an_upload_is_inspected_where_the_preprocessor_runs(
    client: httpx.Client, edf: bytes
) -> None:
    place = upload(client, edf)
    answer = client.post("/v1/inspect", json={"upload_id": place.rpartition("/")[2]}).json()
    assert answer["ok"]
    assert answer["modalities"]
    client.delete(place, headers=TUS)
