"""The HTTP application on a port of this machine, in a thread of this process, without Ray."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import uvicorn
from fastapi import FastAPI

from serve_apps.local_app import local_app
from sleepmami.config import ServeConfig
from sleepmami.evaluation.fitted_probe import FittedProbe
from sleepmami.evaluation.linear_probe import LinearProbe
from sleepmami.signals.edf_writer import WriteChannel, write_edf
from sleepmami.training.checkpoint import Bundle
from tests.bundles import random_bundle
from tests.certificates import Certificate

CHANNELS = (("C4-M1", "uV", 100), ("EOG L", "uV", 100), ("Chin EMG", "uV", 200))
STAGES = ("WAKE", "N1", "N2", "N3", "REM")


@contextmanager
def served(app: FastAPI, tls: Certificate | None = None) -> Iterator[str]:
    """The URL while the application runs; its lifespan begins and ends with the block."""
    files = {} if tls is None else {"ssl_certfile": tls.certfile, "ssl_keyfile": tls.keyfile}
    config = uvicorn.Config(app, "127.0.0.1", 0, access_log=False, log_level="warning", **files)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive(), "the application did not start"
        time.sleep(0.01)
    try:
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"{'http' if tls is None else 'https'}://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join()


@contextmanager
def tiny_service(config: ServeConfig | None = None, *, staging: bool = True) -> Iterator[str]:
    """The URL of a service with random weights and, with `staging`, a random staging probe."""
    bundle = random_bundle()
    probe = random_staging_probe(bundle) if staging else None
    with served(local_app(bundle, config=config, staging=probe)) as url:
        yield url


def random_staging_probe(bundle: Bundle) -> FittedProbe:
    """A probe that tells five stages from macro vectors, by chance."""
    assert bundle.macro is not None
    width = 2 * bundle.macro.model.dim
    rng = np.random.default_rng(5)
    return FittedProbe(
        task="staging",
        level="macro",
        classes=STAGES,
        model_id=bundle.model_id,
        weights_sha256=bundle.weights_sha256,
        probe=LinearProbe(
            mean_F=np.zeros(width),
            scale_F=np.ones(width),
            weight_FO=rng.standard_normal((width, len(STAGES))),
            bias_O=np.zeros(len(STAGES)),
        ),
    )


def write_recording(path: Path, duration_s: int = 120, patient: str = "X X X X") -> bytes:
    """A small EDF of noise: EEG, EOG and EMG; returns its bytes."""
    rng = np.random.default_rng(2)
    channels = [
        WriteChannel(
            label=label,
            unit=unit,
            sample_rate_hz=rate_hz,
            samples=rng.normal(0, 30, duration_s * rate_hz),
            physical_min=-500.0,
            physical_max=500.0,
        )
        for label, unit, rate_hz in CHANNELS
    ]
    write_edf(path, channels)
    data = path.read_bytes()
    data = data[:8] + patient.encode().ljust(80) + data[88:]
    path.write_bytes(data)
    return data
