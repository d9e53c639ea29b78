"""Settings of those who ask for embeddings: whole cohorts, and the HTTP service."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import Literal

from sleepmami.config.training import Precision
from sleepmami.errors import require


def is_loopback(host: str) -> bool:
    """Nobody outside this machine can reach what listens there."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


@dataclass(frozen=True, kw_only=True, slots=True)
class EmbedConfig:
    """Embedding of epochs and nights, in batch and behind HTTP."""

    windows_per_batch: int = 32  # segments one forward pass takes
    precision: Precision = "float32"  # of the Micro-Encoder's products: embedder.py
    both_halves: bool = False  # mean of each epoch heard as first and second half: embedder.py
    nights_per_commit: int = 16
    cohorts: tuple[str, ...] = ()  # whose nights; none named: of all
    num_actors: int = 1
    cpus_per_actor: float = 1.0
    threads_per_actor: int = 1
    use_gpu: bool = False

    def __post_init__(self) -> None:
        for name in ("windows_per_batch", "nights_per_commit", "num_actors", "threads_per_actor"):
            require(getattr(self, name) >= 1, name, getattr(self, name), ">= 1")
        require(self.cpus_per_actor > 0, "cpus_per_actor", self.cpus_per_actor, "> 0")
        once = len(set(self.cohorts)) == len(self.cohorts)
        require(once, "cohorts", self.cohorts, "a list of different names")


@dataclass(frozen=True, kw_only=True, slots=True)
class BandPowersConfig:
    """The band-power baseline: `sleepmami/evaluation/band_powers.py`."""

    scale: Literal["night", "physical"] = "night"  # as the encoder hears it; microvolts, percent
    nights_per_commit: int = 16
    cpus_per_night: float = 1.0

    def __post_init__(self) -> None:
        require(self.nights_per_commit >= 1, "nights_per_commit", self.nights_per_commit, ">= 1")
        require(self.cpus_per_night > 0, "cpus_per_night", self.cpus_per_night, "> 0")


@dataclass(frozen=True, kw_only=True, slots=True)
class ServeConfig:
    """The HTTP service."""

    host: str = "127.0.0.1"
    port: int = 8000
    ssl_certfile: str | None = None  # PEM, with its chain: the port speaks https alone
    ssl_keyfile: str | None = None  # of the certificate, without a passphrase, mode 0600
    num_replicas: int = 1  # Encoders of each model
    max_replicas: int | None = None  # up to how many when requests wait; None: always num_replicas
    cpus_per_replica: float = 1.0
    threads_per_replica: int = 1
    use_gpu: bool = False
    num_preprocessors: int = 1  # each reads one recording at a time
    max_preprocessors: int | None = None  # as max_replicas
    cpus_per_preprocessor: float = 1.0
    max_body_mb: int = 1024  # a larger EDF is answered 413
    max_ongoing_requests: int = 16
    max_queued_requests: int = 64  # more are answered 429
    windows_per_batch: int = 32  # of all requests together
    batch_wait_ms: float = 2.0  # how long an idle Encoder waits for a batch to fill
    precision: Precision = "float32"  # as EmbedConfig's
    both_halves: bool = False  # as EmbedConfig's
    keys_file: str | None = None  # of `sleepmami keys`; every route but /health and /ready asks
    behind_gateway: bool = False  # something in front asks who comes; for a host others can reach
    state_dir: str | None = None  # where uploads and jobs lie; None: they end with the service
    retention_h: float = 24.0  # after which uploads and jobs are deleted
    max_uploads_gb: float = 20.0  # that one key may hold
    max_jobs: int = 64  # that wait or run; one more is answered 429
    cohort: str | None = None  # OUT of `embed cohort`, served beside the model

    def __post_init__(self) -> None:
        require(
            self.keys_file is not None or self.behind_gateway or is_loopback(self.host),
            "host",
            self.host,
            "of this machine alone (127.0.0.1) without keys_file; set behind_gateway=true where a "
            "gateway asks who comes",
        )
        require(
            self.keys_file is None or not self.behind_gateway,
            "behind_gateway",
            self.behind_gateway,
            "false with keys_file: it would have no effect",
        )
        for given, other in (("ssl_certfile", "ssl_keyfile"), ("ssl_keyfile", "ssl_certfile")):
            alone = getattr(self, given) is not None and getattr(self, other) is None
            require(not alone, given, getattr(self, given), f"together with {other}")
        require(0 <= self.port <= 65535, "port", self.port, "in 0..65535")
        for name in (
            "num_replicas",
            "threads_per_replica",
            "num_preprocessors",
            "max_body_mb",
            "max_ongoing_requests",
            "max_queued_requests",
            "windows_per_batch",
            "max_jobs",
        ):
            require(getattr(self, name) >= 1, name, getattr(self, name), ">= 1")
        for name in ("retention_h", "max_uploads_gb"):
            require(getattr(self, name) > 0, name, getattr(self, name), "> 0")
        require(self.cpus_per_replica > 0, "cpus_per_replica", self.cpus_per_replica, "> 0")
        cpus = self.cpus_per_preprocessor
        require(cpus > 0, "cpus_per_preprocessor", cpus, "> 0")
        require(0 <= self.batch_wait_ms <= 1000, "batch_wait_ms", self.batch_wait_ms, "in 0..1000")
        for most, least in (
            ("max_replicas", "num_replicas"),
            ("max_preprocessors", "num_preprocessors"),
        ):
            limit, start = getattr(self, most), getattr(self, least)
            require(limit is None or limit > start, most, limit, f"> {least} ({start}), or none")
