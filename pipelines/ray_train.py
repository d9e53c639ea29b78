"""Ray Train wiring that every training stage shares: workers, failures, storage, live metrics."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import ray
import ray.train
import ray.train.torch
import torch
from ray.data import Dataset
from ray.train.torch import TorchConfig, TorchTrainer
from ray.util.queue import Empty, Queue

from pipelines.progress import console, stage
from sleepmami import storage
from sleepmami.config import EngineConfig, LoopConfig, OptimizerConfig, WorkersConfig
from sleepmami.errors import ConfigError, TrainingError
from sleepmami.training import loop as training_loop
from sleepmami.training.engine import Engine, Objective, build_engine
from sleepmami.training.loop import Schedule, Step

# The controller registers a reported checkpoint when it next polls; a worker that dies before loses
# it. The default of 2 s costs up to 2 s of finished steps per failure.
POLL_INTERVAL_S = "0.2"
SHOWN_METRICS = (
    "loss/total",
    "loss/reconstruction",
    "loss/contrastive",
    "loss/excess",
    "data/segments_per_s",
)


def train(
    objective: Objective,
    *,
    engine: EngineConfig,
    optimizer: OptimizerConfig,
    workers: WorkersConfig,
    rows_per_worker: int,
    schedule: Schedule,
    batches: Callable[[int], Iterator[Step]],
    queue: Queue,
) -> Engine:
    """Inside a worker: continue from the newest checkpoint, if any, and run the loop to its end.

    Args:
        objective: model and loss, with the same weights on every worker.
        engine: what executes a step.
        optimizer: AdamW and its schedule.
        workers: threads of this process.
        rows_per_worker: this worker's share of a batch.
        schedule: how long.
        batches: the loop's batches.
        queue: to the driver, for metrics.
    """
    torch.set_num_threads(workers.threads_per_worker)
    objective.to(ray.train.torch.get_device())
    accumulation = rows_per_worker // min(rows_per_worker, engine.micro_batch)
    built = build_engine(objective, engine, optimizer, schedule.total_steps, accumulation)
    checkpoint = ray.train.get_checkpoint()
    if checkpoint:
        with checkpoint.as_directory() as folder:
            built.load(Path(folder))
    training_loop.run(built, batches, schedule, _reporter(queue))
    return built


def _reporter(queue: Queue) -> Callable[[dict[str, float], Path | None], None]:
    """The loop's `report`: metrics and checkpoints to Ray Train, rank 0's metrics to the driver."""
    rank = ray.train.get_context().get_world_rank()

    def report(metrics: dict[str, float], folder: Path | None) -> None:
        if rank == 0:
            queue.put(dict(metrics))
        checkpoint = ray.train.Checkpoint.from_directory(folder) if folder else None
        ray.train.report(dict(metrics), checkpoint=checkpoint)

    return report


def fit(
    worker: Callable[[dict[str, Any]], None],
    config: dict[str, Any],
    *,
    title: str,
    total_steps: int,
    workers: WorkersConfig,
    loop: LoopConfig,
    run: str,
    name: str,
    datasets: dict[str, Dataset] | None = None,
) -> list[dict[str, float]]:
    """Run `worker` on every training worker and return rank 0's metrics, one dict per report.

    A run of the same name in the same RUN continues from its newest checkpoint; dead workers are
    replaced up to `workers.max_failures` times.

    Args:
        worker: runs in each worker with `config` plus `"queue"` for live metrics.
        config: plain JSON types.
        title: of the progress bar.
        total_steps: what the bar counts to.
        workers: how many, on what.
        loop: how many checkpoints are kept.
        run: folder or URI under which `ray/NAME` holds the run's state.
        name: of the run.
        datasets: Ray datasets split over the workers.

    Raises:
        ConfigError: the cluster is too small for the workers and the readers that feed them.
        TrainingError: the training failed more often than allowed.
    """
    require_resources(workers)
    queue = Queue()
    trainer = TorchTrainer(
        worker,
        train_loop_config={**config, "queue": queue},
        torch_config=TorchConfig(backend="nccl" if workers.use_gpu else "gloo"),
        scaling_config=ray.train.ScalingConfig(
            num_workers=workers.num_workers,
            use_gpu=workers.use_gpu,
            resources_per_worker={"CPU": workers.cpus_per_worker}
            | ({"GPU": 1} if workers.use_gpu else {}),
        ),
        run_config=ray.train.RunConfig(
            name=name,
            storage_path=storage.absolute(storage.join(run, "ray")),
            failure_config=ray.train.FailureConfig(max_failures=workers.max_failures),
            checkpoint_config=ray.train.CheckpointConfig(num_to_keep=loop.keep_checkpoints),
            worker_runtime_env={"env_vars": {"OMP_NUM_THREADS": str(workers.threads_per_worker)}},
        ),
        datasets=datasets,
    )
    failure: list[BaseException] = []
    thread = threading.Thread(target=_fit, args=(trainer, failure), daemon=True)
    thread.start()
    history = _follow(queue, thread, title, total_steps)
    queue.shutdown()
    if failure:
        raise TrainingError(f"{run}: {name} stopped: {_root_cause(failure[0])}") from failure[0]
    return history


def _fit(trainer: TorchTrainer, failure: list[BaseException]) -> None:
    try:
        trainer.fit()
    except Exception as error:  # handed to the caller's thread, which raises it
        failure.append(error)


def _root_cause(error: BaseException) -> str:
    """The worker's own last line, from under Ray's wrappers."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__


def _follow(
    queue: Queue, thread: threading.Thread, title: str, total_steps: int
) -> list[dict[str, float]]:
    by_step: dict[int, dict[str, float]] = {}  # a replayed step replaces the lost one
    done = 0
    with stage(title, total_steps, unit="steps") as advance:
        while thread.is_alive() or not queue.empty():
            try:
                metrics = queue.get(timeout=0.5)
            except Empty:
                continue
            step = int(metrics["step"])
            by_step[step] = metrics
            advance(max(step, done) - done, shown(metrics))
            done = max(step, done)
            if not console.is_terminal:
                console.print(f"  step {step}/{total_steps}  {shown(metrics)}")
    thread.join()
    return [by_step[step] for step in sorted(by_step)]


def shown(metrics: Mapping[str, float]) -> str:
    """The metrics a person follows, in one line."""
    return "  ".join(f"{n.split('/')[1]} {metrics[n]:.4g}" for n in SHOWN_METRICS if n in metrics)


def require_resources(workers: WorkersConfig) -> None:
    """ConfigError unless the workers fit beside at least one CPU for readers.

    Without the check Ray waits for ever, saying nothing.
    """
    there = ray.cluster_resources()
    cpus, gpus = there.get("CPU", 0.0), there.get("GPU", 0.0)
    need = workers.num_workers * workers.cpus_per_worker + 1
    if cpus < need:
        raise ConfigError(
            f"workers: {workers.num_workers} x {workers.cpus_per_worker:g} CPUs and one to read "
            f"need {need:g}, the cluster has {cpus:g}; lower workers.num_workers or cpus_per_worker"
        )
    if workers.use_gpu and gpus < workers.num_workers:
        raise ConfigError(
            f"workers: {workers.num_workers} GPUs needed, the cluster has {gpus:g}; "
            "lower workers.num_workers or set workers.use_gpu=false"
        )


def write_history(uri: str, history: list[dict[str, float]]) -> None:
    """Metrics as JSON lines, joined to those of earlier runs that this one continued."""
    by_step: dict[int, dict[str, float]] = {}
    if storage.exists(uri):
        for line in storage.read_bytes(uri).decode().splitlines():
            row = json.loads(line)
            by_step[int(row["step"])] = row
    by_step |= {int(row["step"]): row for row in history}
    text = "".join(json.dumps(by_step[step]) + "\n" for step in sorted(by_step))
    storage.write_bytes(uri, text.encode())


def require_same_run(uri: str, config: dict[str, Any]) -> None:
    """Remember a run's settings; ConfigError when RUN already holds one with others."""
    if not storage.exists(uri):
        storage.write_bytes(uri, json.dumps(config, indent=2).encode())
        return
    there = json.loads(storage.read_bytes(uri))
    changed = sorted(_differences(there, config))
    if changed:
        raise ConfigError(
            f"{uri}: found a run with other {', '.join(changed)}; expected the same settings to "
            "continue it: use these, or a new RUN"
        )


def _differences(one: Any, other: Any, at: str = "") -> list[str]:  # Any: JSON
    if isinstance(one, dict) and isinstance(other, dict):
        return [
            name
            for key in sorted(set(one) | set(other))
            for name in _differences(one.get(key), other.get(key), f"{at}.{key}" if at else key)
        ]
    return [] if one == other else [at]
