"""Join the Ray cluster a command was given, or start one inside this process."""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path

import ray

from sleepmami.errors import ConfigError, ServiceError

# Logical CPUs a one-machine cluster declares at least: two training workers plus the Ray Data tasks
# that feed them. With fewer, workers hold every CPU and the readers wait for ever.
MIN_LOCAL_CPUS = 4
# Least size of its object store. The reads ahead of a training worker take up to 0.44 GB of it with
# the paper's settings (segment_source.py); what does not fit goes through the disk.
LOCAL_OBJECT_STORE_BYTES = 1 << 30
OBJECT_STORE_SHARE = 20  # of the machine's memory, where that is more: a server of eight GPUs
# Ray's folder of sockets: a unix socket path may have 107 characters, so it stays short.
SESSION_ROOT = "sleepmami-ray-"


@contextlib.contextmanager
def ray_session(address: str | None = None) -> Iterator[None]:
    """Run the body connected to Ray.

    Args:
        address: of a running cluster (`ray://`, `auto`, host:port). None takes `RAY_ADDRESS`, which
            is set inside a Ray job, and without it starts a private cluster on this machine that
            ends with the body.

    Raises:
        ServiceError: no cluster answers at the address, or it refuses the token.
    """
    if ray.is_initialized():
        yield
        return
    address = address or os.environ.get("RAY_ADDRESS")
    if address:
        _join(address)
        try:
            yield
        finally:
            ray.shutdown()
        return
    folder = Path(tempfile.mkdtemp(prefix=SESSION_ROOT))
    # torch makes this folder wherever an optimizer imports its compiler; the session's goes with it
    torch_folder = "TORCHINDUCTOR_CACHE_DIR"
    is_ours = torch_folder not in os.environ
    if is_ours:
        os.environ[torch_folder] = str(folder / "torch")
    try:
        start_local(folder)
        yield
    finally:
        ray.shutdown()
        if is_ours:
            del os.environ[torch_folder]
        shutil.rmtree(folder, ignore_errors=True)


def _join(address: str) -> None:
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.WARNING)
    except (ConnectionError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ServiceError(
            f"--address {address}: found {reason}; expected a running Ray cluster and its token"
        ) from error


def start_local(
    folder: Path, *, num_cpus: int | None = None, include_dashboard: bool = False
) -> None:
    """Start a one-machine cluster whose sockets and logs lie under `folder`.

    Ray switches token authentication on for it. The token is handed down through the environment,
    because the one Ray writes by itself lies world-readable in the home folder; it stays set for
    the life of the process, because Ray reads it once.
    """
    os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    with warnings.catch_warnings():
        # Ray forks only to start its daemons, which replace the process at once
        warnings.filterwarnings("ignore", message="lance is not fork-safe")
        _init_local(folder, num_cpus, include_dashboard)


def _init_local(folder: Path, num_cpus: int | None, include_dashboard: bool) -> None:
    ray.init(
        address="local",
        num_cpus=num_cpus or max(MIN_LOCAL_CPUS, (os.cpu_count() or 1) + 2),
        include_dashboard=include_dashboard,
        object_store_memory=object_store_bytes(),
        log_to_driver=False,
        logging_level=logging.ERROR,
        _temp_dir=str(folder),
    )


def object_store_bytes() -> int:
    """Of a cluster on this machine: never more than half of /dev/shm, unless that is tiny."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    shared = shutil.disk_usage("/dev/shm").free if os.path.isdir("/dev/shm") else 0
    return max(LOCAL_OBJECT_STORE_BYTES, min(memory // OBJECT_STORE_SHARE, shared // 2))


def require_cluster(cpus: float, gpus: float, what: str, *, count: int = 1, settings: str) -> None:
    """ConfigError unless the cluster's nodes hold `count` processes of a size at the same time.

    Without the check Ray waits for ever, saying nothing.

    Args:
        cpus: of each process.
        gpus: of each process.
        what: the processes, for the message.
        count: how many run at once.
        settings: what to change, for the message.
    """
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]  # Ray's own
    need = {kind: amount for kind, amount in (("CPU", cpus), ("GPU", gpus)) if amount}
    rounding = 1e-6  # 0.3 // 0.1 is 2
    places = sum(
        min(int(node.get(kind, 0) / amount + rounding) for kind, amount in need.items())
        for node in nodes
    )
    if places >= count:
        return
    size = " and ".join(f"{amount:g} {kind}" for kind, amount in need.items())
    there = "; ".join(
        ", ".join(f"{node.get(kind, 0):g} {kind}" for kind in ("CPU", "GPU")) for node in nodes
    )
    raise ConfigError(
        f"{what}: found room for {places} processes of {size} on {len(nodes)} nodes ({there}); "
        f"expected room for {count}: lower {settings}, or join a larger cluster"
    )
