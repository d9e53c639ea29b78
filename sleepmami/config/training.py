"""Settings that every training has: optimizer, engine, workers and loop; Table 9 and beyond."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from sleepmami.errors import ConfigError, require

Precision = Literal["float32", "bfloat16"]
Tracker = Literal["tensorboard", "mlflow", "wandb"]
VALIDATE_ROWS = 2048


@dataclass(frozen=True, kw_only=True, slots=True)
class OptimizerConfig:
    """AdamW with cosine annealing; defaults are the Micro-Encoder's half of Table 9."""

    learning_rate: float = 5e-4
    final_learning_rate: float = 1e-8
    beta1: float = 0.9
    beta2: float = 0.99
    weight_decay: float = 0.05
    warmup_fraction: float = (
        0.02  # of all steps; Table 9 names warm-up for Macro only: departures.md
    )
    clip_norm: float = 1.0  # the paper names none: departures.md

    def __post_init__(self) -> None:
        require(self.learning_rate > 0, "optimizer.learning_rate", self.learning_rate, "> 0")
        ok = 0 <= self.final_learning_rate <= self.learning_rate
        require(
            ok, "optimizer.final_learning_rate", self.final_learning_rate, "in 0..learning_rate"
        )
        for name in ("beta1", "beta2"):
            require(
                0 <= getattr(self, name) < 1, f"optimizer.{name}", getattr(self, name), "in [0, 1)"
            )
        require(self.weight_decay >= 0, "optimizer.weight_decay", self.weight_decay, ">= 0")
        ok = 0 <= self.warmup_fraction < 1
        require(ok, "optimizer.warmup_fraction", self.warmup_fraction, "in [0, 1)")
        require(self.clip_norm > 0, "optimizer.clip_norm", self.clip_norm, "> 0")


@dataclass(frozen=True, kw_only=True, slots=True)
class EngineConfig:
    """What executes a step. `plain` is torch DDP, the same five methods without DeepSpeed."""

    kind: Literal["deepspeed", "plain"] = "deepspeed"
    zero_stage: Literal[0, 1, 2] = 1
    precision: Precision = "float32"
    micro_batch: int = 64  # rows one worker takes at once; the rest of the batch accumulates
    peak_tflops: float = 0.0  # of one device, for MFU; 0 = known by its name, a CPU is measured

    def __post_init__(self) -> None:
        require(self.micro_batch >= 1, "engine.micro_batch", self.micro_batch, ">= 1")
        require(self.peak_tflops >= 0, "engine.peak_tflops", self.peak_tflops, ">= 0")
        if self.kind == "plain" and self.zero_stage:
            raise ConfigError(
                f"engine.zero_stage={self.zero_stage} has no effect with engine.kind='plain'; "
                "set it to 0"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkersConfig:
    """Ray Train workers: two on the CPU by default; on a cluster as many as there are GPUs."""

    num_workers: int = 2
    use_gpu: bool = False
    cpus_per_worker: float = 1.0
    threads_per_worker: int = 1
    max_failures: int = 3  # worker deaths survived by restarting from the newest checkpoint

    def __post_init__(self) -> None:
        require(self.num_workers >= 1, "workers.num_workers", self.num_workers, ">= 1")
        require(self.cpus_per_worker > 0, "workers.cpus_per_worker", self.cpus_per_worker, "> 0")
        require(
            self.threads_per_worker >= 1,
            "workers.threads_per_worker",
            self.threads_per_worker,
            ">= 1",
        )
        require(self.max_failures >= 0, "workers.max_failures", self.max_failures, ">= 0")


@dataclass(frozen=True, kw_only=True, slots=True)
class LoopConfig:
    """How long a training runs and how often it speaks and saves."""

    num_passes: int = 3  # Table 9 "training epochs"
    max_steps: int = 0  # stop earlier; 0 = run all passes
    log_every: int = 10
    checkpoint_every: int = 200
    keep_checkpoints: int = 2
    validate_every: int = 0  # steps; also at the end; 0 = never
    # at most, of the validation split: segments in whole batches, or nights and as many to fit on
    validate_rows: int = VALIDATE_ROWS
    trackers: tuple[Tracker, ...] = ()  # besides metrics.jsonl: docs/training.md
    seed: int = 20260210

    def __post_init__(self) -> None:
        require(self.num_passes >= 1, "loop.num_passes", self.num_passes, ">= 1")
        require(self.max_steps >= 0, "loop.max_steps", self.max_steps, ">= 0")
        require(self.validate_every >= 0, "loop.validate_every", self.validate_every, ">= 0")
        require(self.validate_rows >= 1, "loop.validate_rows", self.validate_rows, ">= 1")
        require(self.seed >= 0, "loop.seed", self.seed, ">= 0")
        once = len(set(self.trackers)) == len(self.trackers)
        require(once, "loop.trackers", self.trackers, "each at most once")
        if not self.validate_every and self.validate_rows != VALIDATE_ROWS:
            raise ConfigError(
                f"loop.validate_rows={self.validate_rows} has no effect with "
                f"loop.validate_every=0; set it to {VALIDATE_ROWS}"
            )
        for name in ("log_every", "checkpoint_every", "keep_checkpoints"):
            require(getattr(self, name) >= 1, f"loop.{name}", getattr(self, name), ">= 1")


def require_even_batch(name: str, batch: int, num_workers: int, micro_batch: int) -> None:
    """Each worker takes batch / num_workers rows, in whole micro batches once it exceeds one."""
    share, rest = divmod(batch, num_workers)
    ok = rest == 0 and share >= 1 and share % min(share, micro_batch) == 0
    expected = f"a multiple of num_workers ({num_workers}), and of micro batches ({micro_batch})"
    require(ok, name, batch, expected)
