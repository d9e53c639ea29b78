"""The training loop in this very process, without Ray Train: what a trial of a sweep runs.

The same objective, batches, engine and loop as `ray_train.train`; no checkpoints, since a trial
that dies begins again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from sleepmami.config import EngineConfig, OptimizerConfig, WorkersConfig
from sleepmami.models.cpu import prepare_cpu
from sleepmami.training import loop as training_loop
from sleepmami.training.engine import Engine, Objective, build_engine
from sleepmami.training.loop import Save, Schedule, Step


def train_here(
    objective: Objective,
    *,
    engine: EngineConfig,
    optimizer: OptimizerConfig,
    workers: WorkersConfig,
    rows_per_worker: int,
    schedule: Schedule,
    batches: Callable[[int], Iterator[Step]],
    validate: Callable[[Engine], dict[str, float]] | None = None,
    told: Callable[[dict[str, float]], None],
) -> Engine:
    """Run the loop to its end as the only worker; `told` has the row of each report.

    The other arguments are those of `ray_train.train`.
    """
    assert workers.num_workers == 1
    prepare_cpu(workers.threads_per_worker)
    objective.to("cuda" if workers.use_gpu else "cpu")
    accumulation = rows_per_worker // min(rows_per_worker, engine.micro_batch)
    built = build_engine(objective, engine, optimizer, schedule.total_steps, accumulation)

    def report(metrics: dict[str, float], save: Save | None) -> None:
        told(metrics)

    measure = partial(validate, built) if validate else None
    training_loop.run(built, batches, schedule, report, measure)
    return built
