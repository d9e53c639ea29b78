"""`sleepmami serve` as a process of its own: it ends on a signal and leaves nothing."""

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.processes import clean_environment, left_in_session, started

pytestmark = pytest.mark.ray

SLEEPMAMI = [sys.executable, "-c", "from pipelines.cli import main; main()"]
EDF = {"content-type": "application/edf"}


@pytest.mark.parametrize(
    ("number", "send"),
    [
        # both end the same wait (tests/unit/serve_apps/test_stop_signals.py), but Ctrl-C in a
        # terminal reaches Ray's processes too
        pytest.param(signal.SIGTERM, os.kill, id="sigterm", marks=pytest.mark.endurance),
        pytest.param(signal.SIGINT, os.killpg, id="ctrl-c"),
    ],
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
