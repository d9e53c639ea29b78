"""Settings of those who ask for embeddings: whole cohorts, and the HTTP service."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from sleepmami.config.training import Precision
from sleepmami.errors import require


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
    num_replicas: int = 1
    cpus_per_replica: float = 1.0
    threads_per_replica: int = 1
    use_gpu: bool = False
    max_body_mb: int = 1024  # a larger EDF is answered 413
    max_ongoing_requests: int = 16
    max_queued_requests: int = 64  # more are answered 429
    windows_per_batch: int = 32
    precision: Precision = "float32"  # as EmbedConfig's
    both_halves: bool = False  # as EmbedConfig's

    def __post_init__(self) -> None:
        require(0 <= self.port <= 65535, "port", self.port, "in 0..65535")
        for name in (
            "num_replicas",
            "threads_per_replica",
            "max_body_mb",
            "max_ongoing_requests",
            "max_queued_requests",
            "windows_per_batch",
        ):
            require(getattr(self, name) >= 1, name, getattr(self, name), ">= 1")
        require(self.cpus_per_replica > 0, "cpus_per_replica", self.cpus_per_replica, "> 0")
