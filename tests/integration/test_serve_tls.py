"""`sleepmami serve` with a certificate: https alone, from the first request to the last event."""

import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import httpx
import pytest

from sleepmami.client import Client, Retries
from sleepmami.errors import ClientError
from tests.certificates import certificate
from tests.processes import clean_environment, left_in_session, started

pytestmark = pytest.mark.ray

SLEEPMAMI = [sys.executable, "-c", "from pipelines.cli import main; main()"]


def serve(bundle: str, certfile: str, keyfile: str) -> list[str]:
    files = [f"ssl_certfile={certfile}", f"ssl_keyfile={keyfile}"]
    settings = [part for file in files for part in ("--set", file)]
    return [*SLEEPMAMI, "serve", bundle, "--port", "0", *settings]


def test_parts_events_and_results_pass_through_tls_behind_serve(
    bundle_folder: str, edf: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    ours, other = certificate(tmp_path / "ours"), certificate(tmp_path / "other")
    with (
        tempfile.TemporaryDirectory(prefix="smm-", dir="/tmp") as folder,
        started(
            serve(bundle_folder, ours.certfile, ours.keyfile),
            stdout=subprocess.PIPE,
            env=clean_environment(TMPDIR=folder),
        ) as process,
    ):
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("ready: https://127.0.0.1:")
        url = line.split()[1]
        with Client(url, verify=ours.ca, part_bytes=100_000) as client:
            job = client.submit(edf, progress=False)  # two parts
            assert [status.state for status in job.events()][-1] == "done"
            assert (job.embeddings().micro == client.embed(edf).micro).all()
            job.delete()
        with (
            Client(url, verify=other.ca, retries=Retries(count=0)) as client,
            pytest.raises(ClientError, match="tls_refused"),
        ):
            client.info()
        with pytest.raises(httpx.RemoteProtocolError):  # plain HTTP is not answered
            httpx.get(url.replace("https:", "http:") + "/health", trust_env=False)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
        assert left_in_session(process.pid, 20) == []


def test_a_pair_that_cannot_be_used_ends_the_command_before_a_model_is_loaded(
    tmp_path: Path,
) -> None:
    ours, other = certificate(tmp_path / "ours"), certificate(tmp_path / "other")
    command = serve(str(tmp_path / "no-bundle"), ours.certfile, other.keyfile)
    done = subprocess.run(
        command, env=clean_environment(), capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 2
    assert "found the key of another certificate" in done.stderr
