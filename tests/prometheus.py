"""A real Prometheus on this machine that scrapes one service, with our rules; and traffic for it."""

import contextlib
import io
import json
import math
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
ALERTS = ROOT / "cluster" / "prometheus" / "alerts.yaml"
DASHBOARD = ROOT / "cluster" / "grafana" / "sleepmami.json"
RATE_INTERVAL = "30s"  # what Grafana puts in for $__rate_interval: at least four scrapes
EDF = {"content-type": "application/edf"}
TUS = {"tus-resumable": "1.0.0"}

Series = dict[tuple[str, ...], float]  # label values, sorted by their names: value


class Prometheus:
    """What a running one answers."""

    def __init__(self, http: httpx.Client) -> None:
        self._http = http

    def query(self, expression: str) -> Series:
        """The series of an instant query; fails with Prometheus' words for what it cannot read."""
        expression = expression.replace("$__rate_interval", RATE_INTERVAL)
        answer = self._http.get("/api/v1/query", params={"query": expression}).json()
        assert answer["status"] == "success", f"{expression}: {answer.get('error')}"
        return {
            tuple(value for _, value in sorted(row["metric"].items()) if _ != "__name__"): float(
                row["value"][1]
            )
            for row in answer["data"]["result"]
        }

    def rules(self) -> dict[str, dict[str, Any]]:  # Any: JSON values
        """Our alerts by name, as Prometheus has them."""
        groups = self._http.get("/api/v1/rules").json()["data"]["groups"]
        return {rule["name"]: rule for group in groups for rule in group["rules"]}

    def until(self, is_so: Callable[["Prometheus"], bool], what: str, seconds: float = 60) -> None:
        """Wait for what the next scrapes have to show."""
        deadline = time.monotonic() + seconds
        while not is_so(self):
            assert time.monotonic() < deadline, f"Prometheus did not see: {what}"
            time.sleep(0.2)


@contextlib.contextmanager
def scraping(url: str, folder: Path, key: str, ca: str | None = None) -> Iterator[Prometheus]:
    """Prometheus, scraping `url` every second with our rules; skips where it is not there.

    Args:
        url: of the service.
        folder: for its files.
        key: that it shows.
        ca: file of the authority, of a service with TLS.
    """
    program = shutil.which("prometheus")
    if program is None:
        pytest.skip("prometheus is not there; Debian has it in the package of that name")
    (folder / "scrape.key").write_text(key + "\n")
    scheme, _, target = url.partition("://")
    job: dict[str, Any] = {
        "job_name": "sleepmami",
        "scheme": scheme,
        "authorization": {"credentials_file": str(folder / "scrape.key")},
        "static_configs": [{"targets": [target]}],
    }
    if ca is not None:
        job["tls_config"] = {"ca_file": ca}
    config = {
        "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(ALERTS)],
        "scrape_configs": [job],
    }
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [program, f"--config.file={folder}/prometheus.yml", "--log.level=warn"]
    command += [f"--storage.tsdb.path={folder}/tsdb", f"--web.listen-address=127.0.0.1:{port}"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            here = f"http://127.0.0.1:{port}"
            _wait_ready(here, process)
            with httpx.Client(base_url=here, timeout=30, trust_env=False) as http:
                yield Prometheus(http)
        finally:
            process.terminate()


def _wait_ready(url: str, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()[1]
        with contextlib.suppress(httpx.HTTPError):
            if httpx.get(f"{url}/-/ready", trust_env=False).status_code == 200:
                return
        time.sleep(0.1)
    raise AssertionError("Prometheus did not start")


def dashboard_queries() -> list[tuple[str, str, str]]:
    """Panel, legend and expression of everything the dashboard asks."""
    panels = json.loads(DASHBOARD.read_text())["panels"]
    return [(p["title"], t["legendFormat"], t["expr"]) for p in panels for t in p["targets"]]


def everything_once(http: httpx.Client, edf: bytes, *, poor_key: str, nights: int = 4) -> int:
    """Traffic of each kind; returns how many nights were embedded.

    Args:
        http: with the service's address and a key.
        edf: a recording.
        poor_key: a key that may ask once a minute.
        nights: how many by /v1/embeddings; one more is a job.
    """
    for _ in range(nights):
        assert http.post("/v1/embeddings", content=edf, headers=EDF).status_code == 200
    assert http.post("/v1/inspect", content=edf, headers=EDF).status_code == 200
    assert http.post("/v1/embeddings", content=b"no EDF " * 100, headers=EDF).status_code == 400
    assert http.post("/v1/embeddings", content=edf[:-500], headers=EDF).status_code == 400
    assert http.post("/v1/embeddings", content=edf, headers={"accept": "text/csv"}).is_client_error
    body = io.BytesIO()
    np.savez(body, EEG=np.random.default_rng(3).standard_normal((6, 6000)).astype(np.float32))
    npz = {"content-type": "application/x-npz"}
    assert http.post("/v1/encode", content=body.getvalue(), headers=npz).status_code == 200
    _job(http, edf)
    assert http.get("/info", headers={"authorization": "Bearer nobody"}).status_code == 401
    poor = {"authorization": f"Bearer {poor_key}"}
    assert [http.get("/info", headers=poor).status_code for _ in range(3)] == [200, 429, 429]
    assert http.get("/nothing").status_code == 404
    assert http.get("/health").status_code == http.get("/ready").status_code == 200
    return nights + 1


def _job(http: httpx.Client, edf: bytes) -> None:
    """Upload, embed in the background, watch, fetch, delete."""
    made = http.post("/v1/uploads", headers=TUS | {"upload-length": str(len(edf))})
    upload = made.headers["location"]
    part = TUS | {"upload-offset": "0", "content-type": "application/offset+octet-stream"}
    assert http.patch(upload, content=edf, headers=part).status_code == 204
    made = http.post("/v1/jobs", json={"upload_id": upload.rpartition("/")[2]})
    job = made.headers["location"]
    assert "event: done" in http.get(f"{job}/events", timeout=120).text
    assert http.get(f"{job}/embeddings.npz").status_code == 200
    assert http.delete(job).status_code == 204
    assert http.delete(upload, headers=TUS).status_code == 204


def finite(series: Series) -> bool:
    """No division by nothing."""
    return all(math.isfinite(value) for value in series.values())
