"""The service as a process of its own, for its benchmarks."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
from serve_clients import free_port, wait_ready

ROOT = Path(__file__).resolve().parents[1]
CLI = "from pipelines.cli import main; main()"


@contextlib.contextmanager
def service(bundle: str, *settings: str) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """`sleepmami serve`: its process and URL."""
    port = free_port()
    command = [sys.executable, "-c", CLI, "serve", bundle, "--port", str(port)]
    for setting in settings:
        command += ["--set", setting]
    with running(command, 1) as process:
        wait_ready(url := f"http://127.0.0.1:{port}")
        yield process, url


@contextlib.contextmanager
def lock_server(bundle: str, threads: int) -> Iterator[str]:
    """The server to compare with: lock_server.py."""
    port = free_port()
    command = [sys.executable, str(ROOT / "benchmarks/lock_server.py"), bundle]
    command += ["--port", str(port), "--threads", str(threads)]
    with running(command, threads):
        wait_ready(url := f"http://127.0.0.1:{port}")
        yield url


@contextlib.contextmanager
def serve_here(bundle: str) -> Iterator[tuple[str, Callable[[str], None]]]:
    """The service of a Ray session of this process: its URL, and what exchanges the bundle."""
    from ray import serve

    from pipelines.ray_session import ray_session
    from serve_apps.embedding_app import APP_NAME, EmbeddingAppArgs, build, start, stop
    from sleepmami.config import ServeConfig

    with ray_session():
        url = start(bundle, ServeConfig(port=0, num_replicas=2, cpus_per_preprocessor=0.5))

        def deploy(other: str) -> None:
            args = EmbeddingAppArgs(bundle=other, num_replicas=2, cpus_per_preprocessor=0.5)
            serve.run(build(args), name=APP_NAME)

        yield url, deploy
        stop()


@contextlib.contextmanager
def running(command: list[str], threads: int) -> Iterator[subprocess.Popen[bytes]]:
    """A process that is ended by SIGTERM."""
    environment = os.environ | {"OMP_NUM_THREADS": str(threads), "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, cwd=ROOT)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(150)


def service_processes(process: subprocess.Popen[bytes]) -> list[psutil.Process]:
    """The service's process and those of its Ray; workers are nobody's children, but know it."""
    try:
        parent = psutil.Process(process.pid)
        own = [parent, *parent.children(recursive=True)]
    except psutil.Error:
        return []
    raylets = {str(p.pid) for p in own if p.name() == "raylet"}
    seen = {p.pid for p in own}
    for other in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if other.pid not in seen and other.environ().get("RAY_RAYLET_PID") in raylets:
                own.append(other)
    return own
