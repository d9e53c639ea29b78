"""The client's uploads and jobs while the service is killed (SIGKILL) again and again."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from sleepmami.client import Client, Retries
from tests.local_service import write_recording

pytestmark = pytest.mark.endurance

SERVICE = """
import sys
import uvicorn
from serve_apps.local_app import local_app
from sleepmami.config import ServeConfig
from tests.bundles import random_bundle

app = local_app(random_bundle(), config=ServeConfig(state_dir=sys.argv[2]))
uvicorn.run(app, port=int(sys.argv[1]), access_log=False, log_level="error")
"""
KILLS = 5
MB = 2**20


class KilledService:
    """A service in a process that is killed and started again on the same port and folder."""

    def __init__(self, state: Path) -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            self.port = taken.getsockname()[1]
        self.state = state
        self.kills = 0
        self.process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-c", SERVICE, str(self.port), str(self.state)]
        return subprocess.Popen(command, cwd=Path(__file__).resolve().parents[2])

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self.kills += 1
        self.process = self._start()

    def stored(self) -> int:
        return sum(path.stat().st_size for path in self.state.glob("uploads/*/data"))


def test_an_upload_and_a_job_outlive_a_service_that_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    big = tmp_path / "big.edf"
    big.write_bytes(os.urandom(200 * MB))
    write_recording(tmp_path / "night.edf", duration_s=600)
    service = KilledService(tmp_path / "state")
    marks = [(number + 1) * 200 * MB // (KILLS + 1) for number in range(KILLS)]

    def kill_at_marks() -> None:
        for mark in marks:
            while service.stored() < mark:
                time.sleep(0.002)
            service.kill()

    try:
        with Client(
            f"http://127.0.0.1:{service.port}", retries=Retries(count=200, most_s=2.0)
        ) as client:
            client.info()
            killer = threading.Thread(target=kill_at_marks, daemon=True)
            killer.start()
            upload = client.upload(big, progress=False)
            killer.join(60)
            assert service.kills == KILLS
            (data,) = tmp_path.glob(f"state/uploads/{upload.id}/data")
            assert data.read_bytes() == big.read_bytes()
            client.delete_upload(upload)

            job = client.submit(tmp_path / "night.edf", progress=False)
            service.kill()
            job.wait(progress=False)
            service.kill()
            assert job.embeddings().num_epochs == 20
            job.delete()
        assert list(tmp_path.glob("state/uploads/*")) == []
    finally:
        service.process.kill()
        service.process.wait()
