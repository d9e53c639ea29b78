"""Large uploads do not grow the process that takes them."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from sleepmami.training.checkpoint import save_bundle
from tests.bundles import random_bundle

pytestmark = pytest.mark.endurance

MB = 2**20
PART_MB = 8
UPLOAD_MB = int(os.environ.get("SLEEPMAMI_UPLOAD_MB", "200"))  # 1024: figure R10
NUM_PARALLEL = 4
MAX_GROWTH_MB = 64
TUS = {"tus-resumable": "1.0.0"}
PART = TUS | {"content-type": "application/offset+octet-stream"}
APP = """
import sys
from serve_apps.local_app import local_app
from sleepmami.config import ServeConfig
from sleepmami.training.checkpoint import load_bundle
from tests.local_service import served

with served(local_app(load_bundle(sys.argv[1]), config=ServeConfig(state_dir=sys.argv[2]))) as url:
    print(url, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def service(tmp_path: Path) -> Iterator[tuple[str, int]]:
    """URL and process id."""
    save_bundle(str(tmp_path / "bundle"), random_bundle())
    process = subprocess.Popen(
        [sys.executable, "-c", APP, str(tmp_path / "bundle"), str(tmp_path / "state")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    yield process.stdout.readline().strip(), process.pid
    process.stdin.close()
    process.wait()
    process.stdout.close()


def memory_mb(pid: int, field: str) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(field))


def upload(url: str, num_mb: int) -> None:
    with httpx.Client(base_url=url, timeout=120, trust_env=False) as client:
        made = client.post("/v1/uploads", headers=TUS | {"upload-length": str(num_mb * MB)})
        place = made.headers["location"]
        for first in range(0, num_mb, PART_MB):
            data = bytes(min(PART_MB, num_mb - first) * MB)
            headers = PART | {"upload-offset": str(first * MB)}
            assert client.patch(place, content=data, headers=headers).status_code == 204


def post(url: str, num_mb: int) -> None:
    """One body: no EDF, and refused as such once it is all there."""
    with httpx.Client(base_url=url, timeout=120, trust_env=False) as client:
        body = (bytes(MB) for _ in range(num_mb))
        headers = {"content-type": "application/edf"}
        answer = client.post("/v1/embeddings", content=body, headers=headers)
        assert answer.json()["error"]["code"] == "not_an_edf"


@pytest.mark.parametrize("send", [upload, post])
def test_parallel_uploads_do_not_grow_the_process(service: tuple[str, int], send: object) -> None:
    url, pid = service
    upload(url, 16)  # what is made once
    post(url, 16)
    before = memory_mb(pid, "VmRSS")
    Path(f"/proc/{pid}/clear_refs").write_text("5")  # the peak is counted from here
    senders = [
        threading.Thread(target=send, args=(url, UPLOAD_MB))  # type: ignore[arg-type]
        for _ in range(NUM_PARALLEL)
    ]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join()
    growth = memory_mb(pid, "VmHWM") - before
    print(f"\n{NUM_PARALLEL} x {UPLOAD_MB} MB: {before:.0f} MB, grew by {growth:.0f} MB")
    assert growth <= MAX_GROWTH_MB
