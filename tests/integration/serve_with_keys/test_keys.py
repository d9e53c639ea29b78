"""Keys, windows and log lines where they count: behind Serve's proxy, in replicas."""

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from serve_apps.keys import add_key, revoke_key
from sleepmami.config import ServeConfig
from sleepmami.errors import ConfigError
from sleepmami.inference.windows import night_epochs, night_windows
from sleepmami.signals.preprocess import load_night
from sleepmami.training.checkpoint import load_bundle
from tests.attacks.service import route_paths
from tests.payload_corpus import NPZ, attacks, npz

pytestmark = pytest.mark.ray

CANARY = "Quibblex"


def test_without_a_key_only_health_and_ready_answer(client: httpx.Client) -> None:
    document = client.get("/openapi.json").json()
    found = {
        path: httpx.request(method, f"{client.base_url}{path}").status_code
        for method, path in route_paths(document)
    }
    assert found.pop("/health") == found.pop("/ready") == 200
    assert len(found) >= 20
    assert set(found.values()) == {401}


def test_a_key_works_at_once_and_ends_at_once(client: httpx.Client, keys: Path) -> None:
    text, key = add_key(keys, "lab-b")
    headers = {"authorization": f"Bearer {text}"}
    assert client.get("/info", headers=headers).status_code == 200
    revoke_key(keys, key.id)
    assert client.get("/info", headers=headers).status_code == 401
    assert client.get("/info").status_code == 200


def test_encode_and_embed_of_one_night_agree(
    client: httpx.Client, bundle_folder: str, edf: bytes
) -> None:
    night = load_night(edf, load_bundle(bundle_folder).preprocess, recording_id="night")
    headers = {"accept": NPZ, "content-type": "application/edf"}
    whole = np.load(io.BytesIO(client.post("/v1/embeddings", content=edf, headers=headers).content))
    headers["content-type"] = NPZ
    body = npz(night_windows(night))
    encoded = np.load(io.BytesIO(client.post("/v1/encode", content=body, headers=headers).content))
    micro = night_epochs(encoded["micro"], night.num_epochs).reshape(night.num_epochs, -1)
    assert np.abs(micro - whole["micro"]).max() <= 1e-5


def test_hostile_bodies_leave_the_replicas_as_they_were(
    client: httpx.Client, tmp_path: Path
) -> None:
    canary = tmp_path / "canary"
    for attack in attacks(canary):
        if attack.name.startswith(("batch with", "schema with")):
            continue  # two hundred of them: tests/attacks
        headers = {"content-type": attack.content_type}
        answer = client.post("/v1/encode", content=attack.body, headers=headers)
        assert 400 <= answer.status_code < 500, attack.name
    assert not canary.exists()
    assert client.get("/ready").status_code == 200


def lines_of(cluster: Path) -> Iterator[dict[str, Any]]:
    for file in cluster.rglob("worker-*.err"):
        for line in file.read_text(errors="replace").splitlines():
            if '"event": "request"' in line:
                yield json.loads(line)


def test_each_request_is_a_line_of_json_in_the_replicas_log(
    client: httpx.Client, ray_cluster: Path, edf: bytes
) -> None:
    headers = {"content-type": "application/edf", "user-agent": CANARY, "referer": CANARY}
    embedded = client.post(
        "/v1/embeddings", content=edf, headers=headers | {"x-request-id": "r-77"}
    )
    refused = client.get(f"/v1/jobs/{CANARY}?name={CANARY}", headers=headers)
    client.get("/info", headers={"authorization": f"Bearer {CANARY}", "x-request-id": "r-78"})
    assert (embedded.status_code, refused.status_code) == (200, 404)
    lines = {line["request_id"]: line for line in lines_of(ray_cluster)}
    line = lines["r-77"]
    assert (line["owner"], line["route"], line["status"]) == ("clinic-a", "/v1/embeddings", 200)
    assert {"preprocessing", "encoding", "night"} <= line["stages"].keys()
    assert (lines["r-78"]["owner"], lines["r-78"]["status"]) == (None, 401)
    metrics = client.get("/metrics").text
    assert 'sleepmami_stage_seconds_count{stage="encoding"}' in metrics
    everywhere = [
        path for path in ray_cluster.rglob("*") if path.suffix in {".log", ".err", ".out"}
    ]
    assert len(everywhere) > 10
    assert [path.name for path in everywhere if CANARY.encode() in path.read_bytes()] == []


def test_a_key_file_that_is_none_is_told_before_anything_starts(
    ray_cluster: object, bundle_folder: str, tmp_path: Path
) -> None:
    from serve_apps.embedding_app import start

    with pytest.raises(ConfigError, match=r"none\.json"):
        start(bundle_folder, ServeConfig(port=0, keys_file=str(tmp_path / "none.json")))
