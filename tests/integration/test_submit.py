"""`sleepmami submit` against a head that cluster/ray/single_node.sh starts, token authentication on."""

import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from sleepmami.signals.edf_writer import WriteChannel, write_edf
from sleepmami.tables import lance_io
from tests.processes import clean_environment, in_session, left_in_session, started

pytestmark = pytest.mark.ray

SCRIPT = Path(__file__).resolve().parents[2] / "cluster" / "ray" / "single_node.sh"
BIN = Path(sys.executable).parent  # of the environment that has ray and sleepmami


@dataclass
class Head:
    """A running head: its job server's address, and the environment that reaches it."""

    address: str
    environment: dict[str, str]

    def submit(self, *command: str, **changed: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(BIN / "sleepmami"), "submit", self.address, *command],
            env=self.environment | changed,
            capture_output=True,
            text=True,
            timeout=120,
        )


@pytest.fixture(scope="module")
def head() -> Iterator[Head]:
    """The script is started in a session of its own, and its `stop` leaves nothing of it."""
    # short: Ray makes sockets below it, and their paths may have 107 characters
    with tempfile.TemporaryDirectory(prefix="smm-", dir="/tmp") as folder:
        port, dashboard_port = free_ports(2)
        token = Path(folder) / "home" / "auth_token"
        environment = clean_environment(
            PATH=f"{BIN}:{os.environ['PATH']}",
            SLEEPMAMI_HOME=str(token.parent),
            TMPDIR=folder,
            PORT=port,
            DASHBOARD_PORT=dashboard_port,
            RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S="1",  # no job runs when the head is stopped
        )
        with started([str(SCRIPT), "start"], env=environment) as script:
            assert script.wait(180) == 0, (token.parent / "head.log").read_text()
            assert in_session(script.pid)
            assert token.stat().st_mode & 0o077 == 0
            token_environment = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token)}
            yield Head(f"http://127.0.0.1:{dashboard_port}", environment | token_environment)
            subprocess.run([str(SCRIPT), "stop"], env=environment, check=True, timeout=90)
            assert left_in_session(script.pid, 20) == []


def free_ports(count: int) -> list[str]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [str(server.getsockname()[1]) for server in sockets]
    for server in sockets:
        server.close()
    return ports


def only_line(text: str) -> str:
    """The one line of an error; a trace has more."""
    (line,) = text.splitlines()
    return line


def test_a_stage_that_uses_ray_runs_on_the_head(head: Head, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    channel = WriteChannel(
        label="C4-M1",
        unit="uV",
        sample_rate_hz=100,
        samples=rng.normal(0, 30, 120 * 100),
        physical_min=-500.0,
        physical_max=500.0,
    )
    (tmp_path / "edf").mkdir()
    write_edf(tmp_path / "edf" / "night.edf", [channel])
    corpus = tmp_path / "corpus"
    done = head.submit(
        "ingest", str(tmp_path / "edf"), str(corpus), "--cohort", "c", "--keep-names"
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "ingest: 1 ingested" in done.stdout
    assert "succeeded" in done.stdout.splitlines()[-1]
    recordings = lance_io.read_table(str(corpus / "recordings.lance"))
    assert recordings.select(["recording_id", "cohort", "num_epochs"]).to_pylist() == [
        {"recording_id": "night", "cohort": "c", "num_epochs": 4}
    ]
    # a job has a driver when its command connected to this head, not to a Ray of its own
    code = (
        "import sys, json; from ray.job_submission import JobSubmissionClient;"
        "jobs = JobSubmissionClient(sys.argv[1]).list_jobs();"
        "print(json.dumps([[j.entrypoint, j.driver_info is not None] for j in jobs]))"
    )
    listed = subprocess.run(
        [sys.executable, "-c", code, head.address],
        env=head.environment,
        check=True,
        capture_output=True,
        text=True,
    )
    ((entrypoint, has_driver),) = json.loads(listed.stdout)
    assert entrypoint.startswith("sleepmami ingest ")
    assert has_driver


def test_a_command_that_fails_is_one_line_and_exit_code_1(head: Head, tmp_path: Path) -> None:
    done = head.submit(
        "ingest", str(tmp_path / "no such folder"), str(tmp_path / "corpus"), "--keep-names"
    )
    assert done.returncode == 1
    assert f"error: {tmp_path}/no such folder: found no folder there" in done.stdout
    assert "found status FAILED; expected SUCCEEDED" in only_line(done.stderr)


def test_a_wrong_token_is_refused(head: Head, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("0" * 64)
    done = head.submit("doctor", RAY_AUTH_TOKEN_PATH=str(tmp_path / "token"))
    assert done.returncode == 1
    assert "Invalid authentication token" in only_line(done.stderr)
    assert done.stdout == ""


def test_no_token_is_refused(head: Head) -> None:
    done = head.submit("doctor", RAY_AUTH_MODE="disabled")
    assert done.returncode == 1
    assert "Missing authentication token" in only_line(done.stderr)


def test_a_head_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    address = f"http://127.0.0.1:{port}"
    done = Head(address, clean_environment()).submit("doctor")
    assert done.returncode == 1
    assert f"error: {address}: found Failed to connect" in only_line(done.stderr)
