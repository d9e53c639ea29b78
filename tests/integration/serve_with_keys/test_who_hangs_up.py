"""Who goes away leaves no work behind in the replicas; who watches a job hears of it as it runs.

An Encoder that hears two windows at a time shows whether it still hears a night: the one window of
a small request then shares its batch.
"""

import io
import re
import socket

import httpx
import numpy as np
import pytest

from tests.integration.serve_with_keys.test_jobs import PART, TUS
from tests.noise_nights import write_noise

pytestmark = pytest.mark.ray

HOURS = 40  # 1200 batches
TRIES = 10  # small requests, each of a batch or two: far fewer than the night would still take
PART_BYTES = 8 * 2**20
NPZ = {"content-type": "application/x-npz", "accept": "application/x-npz"}


@pytest.fixture(scope="module")
def long_edf(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("edf") / "long.edf"
    return write_noise(path, seed=3, seconds=HOURS * 3600).read_bytes()


def windows_in_its_batch(client: httpx.Client) -> float:
    """Of one window sent now: 1 when the Encoder is idle, 2 while it hears a night."""

    def total() -> float:
        found = re.search(r"^sleepmami_batch_windows_sum (\S+)$", client.get("/metrics").text, re.M)
        assert found
        return float(found[1])

    body, before = io.BytesIO(), total()
    np.savez(body, EEG=np.zeros((1, 6000), np.float32))
    answer = client.post("/v1/encode", content=body.getvalue(), headers=NPZ)
    assert answer.status_code == 200
    return total() - before


def tries_until_idle(client: httpx.Client) -> int:
    for tries in range(TRIES):
        if windows_in_its_batch(client) == 1:
            return tries
    return TRIES


def test_a_job_is_told_of_as_it_runs_and_ends_when_it_is_deleted(
    client: httpx.Client, long_edf: bytes
) -> None:
    sent = TUS | {"upload-length": str(len(long_edf))}
    place = client.post("/v1/uploads", headers=sent).headers["location"]
    for first in range(0, len(long_edf), PART_BYTES):
        headers = PART | {"upload-offset": str(first)}
        part = long_edf[first : first + PART_BYTES]
        assert client.patch(place, content=part, headers=headers).status_code == 204
    made = client.post("/v1/jobs", json={"upload_id": place.rpartition("/")[2]})
    job = made.headers["location"]
    with client.stream("GET", f"{job}/events") as events:
        for line in events.iter_lines():
            if '"stage":"encoding"' in line:
                break
        assert client.get(job).json()["state"] == "running"  # the proxy holds nothing back
    assert windows_in_its_batch(client) == 2
    assert client.delete(job).status_code == 204
    assert tries_until_idle(client) < TRIES
    assert client.delete(place, headers=TUS).status_code == 204


def test_a_client_that_hangs_up_leaves_an_idle_encoder(
    client: httpx.Client, long_edf: bytes
) -> None:
    address = (client.base_url.host, client.base_url.port)
    with socket.create_connection(address, timeout=120) as connection:
        connection.sendall(
            b"POST /v1/embeddings HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/edf\r\n"
            b"authorization: %s\r\ncontent-length: %d\r\n\r\n"
            % (client.headers["authorization"].encode(), len(long_edf))
        )
        connection.sendall(long_edf)
        for _ in range(2000):  # it is still read and preprocessed
            if windows_in_its_batch(client) == 2:
                break
        else:
            pytest.fail("the Encoder never heard the night")
    assert tries_until_idle(client) < TRIES
    assert "sleepmami_requests_admitted 0.0" in client.get("/metrics").text
