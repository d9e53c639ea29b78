"""Clients of the service for its benchmarks: recordings, a bundle, requests and their times."""

from __future__ import annotations

import io
import json
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np
import torch

from sleepmami.config import PreprocessConfig
from sleepmami.models.macro_encoder import MacroEncoder
from sleepmami.models.micro_encoder import MicroEncoder
from sleepmami.presets import preset
from sleepmami.psg import SEGMENT_S, STORED_RATE_HZ
from sleepmami.signals.edf_writer import WriteChannel, write_edf
from sleepmami.training.checkpoint import Bundle, save_bundle

NPZ = {"content-type": "application/edf", "accept": "application/x-npz"}
CHANNELS = (("C4-M1", 256), ("EOG left", 256), ("EMG chin", 256), ("ECG", 256), ("Flow", 64))
TRIES, FIRST_WAIT_S, LONGEST_WAIT_S = 12, 0.1, 5.0


@dataclass(frozen=True, slots=True)
class Answer:
    """One request, all its tries together."""

    status: int  # 0: no connection, or it broke
    seconds: float
    tries: int
    weights: str | None  # weights_sha256 of a 200 answer, None without
    body: bytes
    broken: bool  # the last try's connection broke after it was made
    started_s: float  # of time.perf_counter, when it was first sent


def write_noise(path: Path, minutes: float, seed: int = 2) -> Path:
    """An EDF of all six modalities."""
    rng, seconds = np.random.default_rng(seed), round(minutes * 60)
    channels = [
        WriteChannel(
            label=label,
            unit="uV",
            sample_rate_hz=rate,
            samples=rng.normal(0, 30, seconds * rate),
            physical_min=-500.0,
            physical_max=500.0,
        )
        for label, rate in CHANNELS
    ]
    channels.append(
        WriteChannel(
            label="SpO2",
            unit="%",
            sample_rate_hz=1,
            samples=95 + rng.normal(0, 1, seconds),
            physical_min=0.0,
            physical_max=100.0,
        )
    )
    write_edf(path, channels)
    return path


def write_bundle(folder: str, preset_name: str, seed: int = 0) -> str:
    """A bundle that has learnt nothing: enough to price one."""
    torch.manual_seed(seed)
    settings = preset(preset_name)
    micro, macro = settings.micro, settings.macro
    bundle = Bundle(
        micro=micro,
        micro_state=MicroEncoder(micro.model).state_dict(),
        preprocess=PreprocessConfig(),
        macro=macro,
        macro_state=MacroEncoder(macro.model, micro.model.higher_dim).state_dict(),
    )
    save_bundle(folder, bundle)
    return folder


def free_port() -> int:
    """Of this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_ready(url: str, timeout_s: float = 240) -> None:
    """Until /ready answers 200; TimeoutError."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        try:
            if httpx.get(f"{url}/ready", timeout=5, trust_env=False).status_code == 200:
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.25)
    raise TimeoutError(f"{url} was not ready after {timeout_s:g} s")


def window_npz(seed: int = 2) -> bytes:
    """One window of 60 s of all six modalities, as /v1/encode takes it."""
    rng = np.random.default_rng(seed)
    arrays = {
        modality.value: rng.normal(size=(1, SEGMENT_S * rate)).astype(np.float32)
        for modality, rate in STORED_RATE_HZ.items()
    }
    buffer = io.BytesIO()
    np.savez(buffer, valid=np.ones((1, len(arrays)), np.bool_), **arrays)
    return buffer.getvalue()


def post(client: httpx.Client, url: str, body: bytes, *, retry: bool) -> Answer:
    """One recording, or windows where `body` is an npz; `retry` sends again after 429, 5xx, cuts.

    Waits double, from FIRST_WAIT_S to LONGEST_WAIT_S, over TRIES tries: a client that is told
    Retry-After and comes back no sooner would wait longer, and meet the service no other way.
    """
    started_s, wait_s = time.perf_counter(), FIRST_WAIT_S
    windows = body.startswith(b"PK")
    path = "/v1/encode" if windows else "/v1/embeddings"
    headers = NPZ | {"content-type": "application/x-npz"} if windows else NPZ
    for number in range(1, TRIES + 1):
        tries, status, content, broken = number, 0, b"", False
        try:
            answer = client.post(url + path, content=body, headers=headers)
            status, content = answer.status_code, answer.content
        except httpx.HTTPError as error:
            broken = not isinstance(error, httpx.ConnectError)
        if not retry or status == 200 or (status not in (0, 429) and status < 500):
            break
        time.sleep(wait_s)
        wait_s = min(2 * wait_s, LONGEST_WAIT_S)
    weights = weights_of(content) if status == 200 else None
    took_s = time.perf_counter() - started_s
    return Answer(status, took_s, tries, weights, content, broken, started_s)


def weights_of(npz: bytes) -> str:
    """weights_sha256 of an npz answer."""
    with np.load(io.BytesIO(npz), allow_pickle=False) as arrays:
        weights: str = json.loads(str(arrays["info"]))["weights_sha256"]
    return weights


def load(
    url: str,
    bodies: list[bytes],
    *,
    clients: int,
    retry: bool = False,
    until: threading.Event | None = None,
    into: list[Answer] | None = None,
) -> tuple[list[Answer], float]:
    """Answers to all bodies and the wall seconds, `clients` at a time.

    Args:
        url: of the service.
        bodies: what is sent, in order; with `until`, over and over.
        clients: threads, each with a connection of its own.
        retry: as for `post`.
        until: ends the load when set.
        into: gets the answers as they come.
    """
    local = threading.local()
    lock, counter = threading.Lock(), iter(range(10**9))
    answers: list[Answer] = [] if into is None else into

    def work() -> None:
        local.client = httpx.Client(timeout=600, trust_env=False)
        with local.client:
            while True:
                with lock:
                    index = next(counter)
                if (until is None and index >= len(bodies)) or (until and until.is_set()):
                    return
                body = bodies[index % len(bodies)]
                answer = post(local.client, url, body, retry=retry)
                with lock:
                    answers.append(answer)

    started_s = time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        for future in [pool.submit(work) for _ in range(clients)]:
            future.result()
    return answers, time.perf_counter() - started_s


def percentiles_ms(answers: list[Answer]) -> dict[str, float]:
    """p50, p95 and p99 of the answers that are 200, in milliseconds."""
    seconds = [answer.seconds for answer in answers if answer.status == 200]
    if not seconds:
        return {}
    found = np.percentile(seconds, [50, 95, 99]) * 1000
    return {
        f"p{share}_ms": round(float(ms), 1) for share, ms in zip((50, 95, 99), found, strict=True)
    }


def upload(url: str, num_bytes: int, part_bytes: int = 8 * 2**20) -> None:
    """A resumable upload of zeros, deleted in the end; RuntimeError when a part is refused."""
    tus = {"tus-resumable": "1.0.0"}
    with httpx.Client(timeout=600, trust_env=False) as client:
        made = client.post(f"{url}/v1/uploads", headers=tus | {"upload-length": str(num_bytes)})
        if made.status_code != 201:
            raise RuntimeError(f"an upload was answered {made.status_code}; expected 201")
        place, part = url + made.headers["location"], bytes(part_bytes)
        for offset in range(0, num_bytes, part_bytes):
            headers = tus | {
                "upload-offset": str(offset),
                "content-type": "application/offset+octet-stream",
            }
            body = part[: min(part_bytes, num_bytes - offset)]
            answer = client.patch(place, headers=headers, content=body)
            if answer.status_code != 204:
                raise RuntimeError(f"a part was answered {answer.status_code}; expected 204")
        client.delete(place, headers=tus)
