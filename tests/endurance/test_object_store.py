"""The whole walk with corpus, run and result in an object store: `make object-store`.

The store is moto's S3 server in a process beside: it speaks the protocol, it is not Amazon's.
"""

import importlib.util
import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.processes import clean_environment, started

pytestmark = [
    pytest.mark.endurance,
    pytest.mark.skipif(importlib.util.find_spec("moto") is None, reason="needs the s3test extra"),
]

COMMAND = str(Path(sys.executable).with_name("sleepmami"))
QUIET: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
NUM_STEPS = 40
MICRO = ("--preset", "tiny", "--set", f"loop.max_steps={NUM_STEPS}", "--set", "loop.log_every=1")
SMALL_MACRO = ("batch_subjects=4", "engine.micro_batch=2", "loop.max_steps=4")


@pytest.fixture(scope="module")
def environment() -> Iterator[dict[str, str]]:
    """A bucket named `sleep`, and the variables by which pyarrow and Lance find it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    endpoint = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with started(command, **QUIET):
        deadline = time.monotonic() + 30
        while True:
            try:
                httpx.put(f"{endpoint}/sleep").raise_for_status()
                break
            except httpx.TransportError:
                assert time.monotonic() < deadline, "moto's server did not start"
                time.sleep(0.2)
        yield clean_environment(
            AWS_ENDPOINT_URL=endpoint,  # pyarrow
            AWS_ENDPOINT=endpoint,  # Lance
            AWS_ALLOW_HTTP="true",
            AWS_ACCESS_KEY_ID="test",
            AWS_SECRET_ACCESS_KEY="test",
            AWS_REGION="us-east-1",
        )


def sleepmami(environment: dict[str, str], *arguments: str) -> str:
    with started(
        [COMMAND, *arguments], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as process:
        output, _ = process.communicate(timeout=400)
    assert process.returncode == 0, output
    return output


def objects(environment: dict[str, str], prefix: str) -> int:
    answer = httpx.get(f"{environment['AWS_ENDPOINT']}/sleep", params={"prefix": prefix})
    return answer.raise_for_status().text.count("<Key>")


def losses(environment: dict[str, str], run: str) -> list[float]:
    code = (
        "import sys; from sleepmami import storage; "
        "sys.stdout.buffer.write(storage.read_bytes(sys.argv[1]))"
    )
    command = [sys.executable, "-c", code, f"{run}/micro/metrics.jsonl"]
    text = subprocess.run(command, env=environment, capture_output=True, check=True).stdout
    return [json.loads(line)["loss/total"] for line in text.splitlines()]


def test_everything_in_an_object_store(environment: dict[str, str], tmp_path: Path) -> None:
    simulated = ("--set", "num_subjects=10", "--set", "duration_h=1.7")
    sleepmami(environment, "simulate", str(tmp_path / "sim"), "--preset", "tiny", *simulated)
    people = ("--metadata", str(tmp_path / "sim" / "metadata.csv"))
    scorings = ("--annotations", str(tmp_path / "sim" / "annotations"))
    corpus, run, out = "s3://sleep/corpus", "s3://sleep/run", "s3://sleep/out"
    sleepmami(environment, "ingest", str(tmp_path / "sim" / "edf"), corpus, *people, *scorings)
    sleepmami(environment, "verify", corpus)
    sleepmami(environment, "pretrain", "micro", corpus, "s3://sleep/whole", *MICRO)

    training = ("pretrain", "micro", corpus, run, *MICRO, "--set", "loop.checkpoint_every=5")
    with started([COMMAND, *training], env=environment, **QUIET):
        deadline = time.monotonic() + 120
        while not objects(environment, "run/ray/micro/checkpoint_"):
            assert time.monotonic() < deadline, "no checkpoint came"
            time.sleep(0.2)
    assert not objects(environment, "run/micro/manifest.json")  # killed before its end
    sleepmami(environment, *training)  # goes on from a checkpoint in the store
    assert losses(environment, run) == losses(environment, "s3://sleep/whole")

    sleepmami(environment, "embed", "micro", corpus, run, "--preset", "tiny")
    small = [part for setting in SMALL_MACRO for part in ("--set", setting)]
    sleepmami(environment, "pretrain", "macro", corpus, run, "--preset", "tiny", *small)
    sleepmami(environment, "embed", "cohort", corpus, run, out, "--preset", "tiny")
    assert "10 already there" in sleepmami(
        environment, "embed", "cohort", corpus, run, out, "--preset", "tiny"
    )
