"""Ray Train wiring that every training stage shares: workers, failures, storage, live metrics."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import ray
import ray.train
import ray.train.torch
from ray.exceptions import RayActorError
from ray.train.torch import TorchConfig, TorchTrainer
from ray.util.queue import Empty, Queue
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from pipelines.checkpoint_upload import CheckpointUpload
from pipelines.dashboard import dashboard_line
from pipelines.progress import console, stage
from pipelines.ray_session import require_cluster
from pipelines.run_folder import History, remember_run
from pipelines.trackers import Trackers, open_trackers, require_trackers
from sleepmami import storage
from sleepmami.config import EngineConfig, LoopConfig, OptimizerConfig, WorkersConfig
from sleepmami.errors import ConfigError, SleepMaMiError, TrainingError
from sleepmami.models.cpu import prepare_cpu
from sleepmami.training import loop as training_loop
from sleepmami.training.engine import Engine, Objective, build_engine
from sleepmami.training.loop import Save, Schedule, Step

# How often Ray Train's controller looks at its workers, which is when it takes in a reported
# checkpoint, a death or the end. It has the value from the driver's environment. With Ray's 2 s a
# checkpoint would count later, and a death cost more.
POLL_INTERVAL_VARIABLE = "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S"
POLL_INTERVAL_S = "0.5"


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
    ended: Queue | None = None,
    validate: Callable[[Engine], dict[str, float]] | None = None,
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
        ended: from the driver, not empty once it wants no more; the run then ends at a report.
        validate: the loop's `validate`, of the engine.
    """
    prepare_cpu(workers.threads_per_worker)
    objective.to(ray.train.torch.get_device())
    accumulation = rows_per_worker // min(rows_per_worker, engine.micro_batch)
    built = build_engine(objective, engine, optimizer, schedule.total_steps, accumulation)
    checkpoint = ray.train.get_checkpoint()
    if checkpoint:
        with checkpoint.as_directory() as folder:
            built.load(Path(folder))
    measure = partial(validate, built) if validate else None
    upload = CheckpointUpload()
    training_loop.run(built, batches, schedule, _reporter(queue, upload, ended), measure)
    upload.wait()
    return built


def _reporter(queue: Queue, upload: CheckpointUpload, ended: Queue | None) -> training_loop.Report:
    """The loop's `report`: rank 0's metrics to the driver, everyone's checkpoint to Ray Train.

    Metrics go first: of a step whose checkpoint counts, the driver then surely has them. A death
    costs at most the steps since the last checkpoint but one.
    """
    rank = ray.train.get_context().get_world_rank()

    def report(metrics: dict[str, float], save: Save | None) -> None:
        if rank == 0:
            queue.put((dict(metrics), save is not None))
            if ended is not None and not ended.empty():
                raise TrainingError(f"step {metrics['step']:.0f}: ended by the driver")
        if save:
            upload.start(save, dict(metrics))

    return report


class StopAtOurErrors(ray.train.UserCallback):
    """Ends a run at an error of the project's own, which a restart would only meet again."""

    def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:
        """Runs in Ray Train's controller; what it raises there is not retried."""
        for error in worker_exceptions.values():
            if isinstance(error, SleepMaMiError):
                raise error


def fit(
    worker: Callable[[dict[str, Any]], None],
    config: dict[str, Any],
    *,
    settings: dict[str, Any],
    title: str,
    total_steps: int,
    workers: WorkersConfig,
    loop: LoopConfig,
    run: str,
    name: str,
    metrics: str,
    readers: int = 0,
    told: Callable[[dict[str, float]], None] | None = None,
) -> None:
    """Run `worker` on every training worker, and follow its progress until all are done.

    A run of the same name in the same RUN continues from its newest checkpoint; dead workers are
    replaced up to `workers.max_failures` times.

    Args:
        worker: runs in each worker with `config` plus `"queue"` for live metrics.
        config: plain JSON types.
        settings: of the run, kept in RUN for `require_same_run`.
        title: of the progress bar.
        total_steps: what the bar counts to.
        workers: how many, on what.
        loop: how many checkpoints are kept.
        run: folder or URI under which `ray/NAME` holds the run's state.
        name: of the run.
        metrics: JSON lines to keep, one per report; brought up to date at every checkpoint and
            when the training ends, however it ends.
        readers: CPUs to be left for the tasks that read what the workers train on.
        told: has each row of metrics, too, in the caller's thread; what it raises ends the run,
            and leaves this function when the workers are gone.

    Raises:
        ConfigError: a tracker's package or address is missing, or the cluster is too small for the
            workers and the readers that feed them.
        SleepMaMiError: what a worker raised; a TrainingError when workers died too often.
    """
    require_trackers(loop.trackers, run)
    require_resources(workers, readers=readers)
    remember_run(run, name, settings)
    os.environ.setdefault(POLL_INTERVAL_VARIABLE, POLL_INTERVAL_S)
    queue, ended = _queue_here(), _queue_here() if told else None
    trainer = TorchTrainer(
        worker,
        train_loop_config={**config, "queue": queue, "ended": ended},
        torch_config=TorchConfig(backend="nccl" if workers.use_gpu else "gloo"),
        scaling_config=ray.train.ScalingConfig(
            num_workers=workers.num_workers,
            use_gpu=workers.use_gpu,
            resources_per_worker=_resources_per_worker(workers),
        ),
        run_config=ray.train.RunConfig(
            name=name,
            storage_path=storage.absolute(storage.join(run, "ray")),
            failure_config=ray.train.FailureConfig(max_failures=workers.max_failures),
            checkpoint_config=ray.train.CheckpointConfig(num_to_keep=loop.keep_checkpoints),
            callbacks=[StopAtOurErrors()],  # type: ignore[list-item]  # mypy sees Train V1's class
        ),
    )
    trackers = open_trackers(loop.trackers, run, name, settings)
    failure: list[Exception] = []
    thread = threading.Thread(target=_fit, args=(trainer, failure), daemon=True)
    thread.start()
    try:
        _follow(queue, thread, title, total_steps, History(metrics), trackers, told)
    except BaseException:
        if ended is not None:  # left alive, workers would keep their CPUs until the session ends
            ended.put(True)
            thread.join()
        raise
    queue.shutdown()
    if failure:
        raise root_cause(failure[0], f"{run}: {name}", workers.max_failures) from failure[0]


def _queue_here() -> Queue:
    """A queue beside the driver, so that losing any other node costs a restart and not the run."""
    here = ray.get_runtime_context().get_node_id()
    beside = NodeAffinitySchedulingStrategy(here, soft=False)
    return Queue(actor_options={"num_cpus": 0, "scheduling_strategy": beside})


def _fit(trainer: TorchTrainer, failure: list[Exception]) -> None:
    try:
        trainer.fit()
    except Exception as error:  # handed to the caller's thread, which raises it
        failure.append(error)


def root_cause(error: Exception, what: str, max_failures: int) -> SleepMaMiError:
    """The error to show for what Ray Train raised: a worker's own, or one naming the last death.

    Args:
        error: from `TorchTrainer.fit`.
        what: the run, for the message.
        max_failures: deaths that were allowed.
    """
    if isinstance(error, ray.train.ControllerError):
        cause = error.controller_failure
        if isinstance(cause, SleepMaMiError):
            return cause
        return TrainingError(f"{what} stopped: {_in_a_line(cause)}")
    failures = error.worker_failures if isinstance(error, ray.train.WorkerGroupError) else {}
    if not failures:
        return TrainingError(f"{what} stopped: {_in_a_line(error)}")
    # A dead worker breaks the connections of the others, whose RuntimeErrors say less.
    rank = min(failures, key=lambda rank: (isinstance(failures[rank], RuntimeError), rank))
    return TrainingError(
        f"{what} stopped: worker {rank} {_in_a_line(failures[rank])}; that was one failure more "
        f"than workers.max_failures={max_failures}; the same command continues from the newest "
        "checkpoint"
    )


def _in_a_line(error: BaseException) -> str:
    if isinstance(getattr(error, "health_check_failure", None), RayActorError):
        return "died: killed, or out of memory"
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"raised {type(error).__name__}: {lines[-1] if lines else 'no message'}"


def _follow(
    queue: Queue,
    thread: threading.Thread,
    title: str,
    total_steps: int,
    history: History,
    trackers: Trackers,
    told: Callable[[dict[str, float]], None] | None = None,
) -> None:
    """Show and keep what arrives in the queue until the thread ends and nothing is left."""
    done, last = 0, 0
    with stage(title, total_steps, unit="steps", pace=False) as advance:
        try:
            while thread.is_alive() or not queue.empty():
                try:
                    metrics, is_checkpoint = queue.get(timeout=0.5)
                except Empty:
                    continue
                step = int(metrics["step"])
                is_new = step > history.last_step
                history.add(metrics)
                if is_checkpoint:
                    history.write()
                if is_new:  # trackers cannot take a row back, and may take minutes to fail
                    trackers.log(step, metrics)
                if told:
                    told(metrics)
                if step <= last:
                    console.print(f"{title}: a worker died; restarted before step {step}")
                advance(max(step, done) - done, dashboard_line(metrics))
                done, last = max(step, done), step
        except KeyboardInterrupt:
            console.print(f"{title}: stopped; the same command continues from the last checkpoint")
            raise
        finally:
            history.write()
            trackers.close(finished=history.last_step == total_steps)
    thread.join()


def require_resources(workers: WorkersConfig, *, readers: int) -> None:
    """ConfigError unless the cluster holds the workers, each on one node, beside `readers` CPUs."""
    cpus, gpus = workers.cpus_per_worker, float(workers.use_gpu)
    lower = "workers.num_workers or cpus_per_worker"
    require_cluster(cpus, gpus, "workers", count=workers.num_workers, settings=lower)
    resources = ray.cluster_resources()  # type: ignore[no-untyped-call]  # Ray's own
    there = resources.get("CPU", 0)
    wanted = workers.num_workers * cpus + readers
    if there < wanted - 1e-6:  # 3 * 0.1 > 0.3
        raise ConfigError(
            f"workers: found {there:g} CPUs, expected {wanted:g} for {workers.num_workers} workers "
            f"of {cpus:g} CPU and {readers} reader; lower {lower}"
        )


def _resources_per_worker(workers: WorkersConfig) -> dict[str, float]:
    return {"CPU": workers.cpus_per_worker} | ({"GPU": 1.0} if workers.use_gpu else {})
