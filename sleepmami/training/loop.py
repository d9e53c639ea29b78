"""The only training loop: fetch, step, log, checkpoint. Knows neither Micro from Macro nor Ray."""

import contextlib
import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from sleepmami.config import LoopConfig
from sleepmami.errors import TrainingError
from sleepmami.training import collectives
from sleepmami.training.engine import Batch, Engine
from sleepmami.training.prefetch import prefetched
from sleepmami.training.throughput import memory_metrics, peak_flops, step_flops

Step = Sequence[Batch]  # the micro batches of one optimizer step
Save = Callable[[Path], None]  # writes this worker's part of a checkpoint into a folder
Report = Callable[[dict[str, float], Save | None], None]
Validate = Callable[[], dict[str, float]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Schedule:
    """How many steps to train, and every how many to speak and to save."""

    total_steps: int
    log_every: int
    checkpoint_every: int
    validate_every: int = 0

    @classmethod
    def of(cls, config: LoopConfig, steps_per_pass: int) -> "Schedule":
        """The schedule of `num_passes` over the data, cut at `max_steps`.

        Raises:
            TrainingError: one pass holds no full step.
        """
        if steps_per_pass < 1:
            raise TrainingError("found too little data for one step; expected at least one batch")
        total = config.num_passes * steps_per_pass
        if config.max_steps:
            total = min(total, config.max_steps)
        return cls(
            total_steps=total,
            log_every=config.log_every,
            checkpoint_every=config.checkpoint_every,
            validate_every=config.validate_every,
        )

    def is_due(self, step: int, every: int) -> bool:
        """Whether what happens `every` steps (0: never) and at the end happens after `step`."""
        return bool(every) and (step == self.total_steps or step % every == 0)


def run(
    engine: Engine,
    batches: Callable[[int], Iterator[Step]],
    schedule: Schedule,
    report: Report,
    validate: Validate | None = None,
) -> None:
    """Train from `engine.step` (0, or where `engine.load` left off) to `schedule.total_steps`.

    Every worker calls `report` at the same steps: every `log_every` steps without `Save`, every
    `checkpoint_every` steps and at the end with one, for a checkpoint of this very step: it is to
    be called before `report` returns. The metrics are means over the steps since the
    last report and over all workers; every `validate_every` steps and at the end, those of
    `validate` are added to them.

    Args:
        engine: executes steps.
        batches: `batches(start)` yields the micro batches of steps start, start + 1, ...; the same
            ones whether or not training was interrupted before `start`. They are made in another
            thread, one step ahead.
        schedule: lengths in steps.
        report: where metrics and checkpoints go.
        validate: measures on held-out data, with the same result on every worker; must leave the
            engine as it finds it. None when the schedule never asks for it.

    Raises:
        TrainingError: on every worker, for a loss that is not finite or data that ends early.
    """
    assert (validate is None) == (schedule.validate_every == 0)
    clock: _Clock | None = None
    window = _Window()
    wanted = itertools.islice(batches(engine.step), schedule.total_steps - engine.step)
    with contextlib.closing(prefetched(wanted)) as steps:
        while engine.step < schedule.total_steps:
            fetch_start = time.perf_counter()
            micro_batches = next(steps, ())
            _require_whole_step(micro_batches, engine, schedule)
            wait_s = time.perf_counter() - fetch_start
            if clock is None:
                clock = _Clock.start(engine, micro_batches, schedule.total_steps)
                window = _Window(waited_s=wait_s)
            window.add(engine.train_step(micro_batches), micro_batches, wait_s)
            saves = schedule.is_due(engine.step, schedule.checkpoint_every)
            validates = validate and schedule.is_due(engine.step, schedule.validate_every)
            if not (saves or validates or engine.step % schedule.log_every == 0):
                continue
            metrics = window.close(clock, engine.step)
            if validate and validates:
                metrics |= validate()
            report(metrics, engine.save if saves else None)
            window = _Window()


def _require_whole_step(micro_batches: Step, engine: Engine, schedule: Schedule) -> None:
    whole = len(micro_batches) == engine.accumulation
    if not collectives.all_true(whole, engine.device):
        raise TrainingError(
            f"step {engine.step}: found too little data on at least one worker (worker "
            f"{collectives.rank()} has {len(micro_batches)} of {engine.accumulation} micro "
            f"batches), expected enough for {schedule.total_steps} steps on each"
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class _Clock:
    """What one worker's speed is measured against, and since when."""

    device: torch.device
    step_flops: float
    peak_flops: float | None
    total_steps: int
    first_step: int
    began: float

    @classmethod
    def start(cls, engine: Engine, micro_batches: Step, total_steps: int) -> "_Clock":
        config = engine.config
        return cls(
            device=engine.device,
            step_flops=step_flops(engine, micro_batches[0]),
            peak_flops=peak_flops(engine.device, config.precision, config.peak_tflops),
            total_steps=total_steps,
            first_step=engine.step,
            began=time.perf_counter(),
        )

    def eta_s(self, step: int) -> float:
        """Seconds left at the mean pace so far, with all that steps were held up by."""
        pace_s = (time.perf_counter() - self.began) / (step - self.first_step)
        return (self.total_steps - step) * pace_s


class _Window:
    """Metrics of the steps since the last report."""

    def __init__(self, waited_s: float = 0.0) -> None:
        self._start = time.perf_counter() - waited_s
        self._metrics: list[dict[str, Tensor]] = []
        self._wait_s = 0.0
        self._num_rows = 0
        self._row_name = ""

    def add(self, metrics: dict[str, Tensor], micro_batches: Step, wait_s: float) -> None:
        self._metrics.append(metrics)
        self._wait_s += wait_s
        self._num_rows += sum(batch.num_rows for batch in micro_batches)
        self._row_name = micro_batches[0].row_name

    def close(self, clock: _Clock, step: int) -> dict[str, float]:
        """Means over steps and workers; a metric that no worker could measure is left out."""
        metrics = self._means()
        elapsed_s = time.perf_counter() - self._start
        flops_per_s = clock.step_flops * len(self._metrics) / elapsed_s
        speed = [self._num_rows / elapsed_s, self._wait_s / elapsed_s, flops_per_s]
        means = collectives.mean_over_workers(torch.tensor(speed, device=clock.device))
        rate, wait, flops_per_s = means.tolist()
        metrics[f"data/{self._row_name}_per_s"] = rate * collectives.num_workers()
        metrics["data/wait_fraction"] = wait
        if clock.peak_flops:
            metrics["compute/mfu"] = flops_per_s / clock.peak_flops
        metrics |= memory_metrics(clock.device)
        metrics["eta_s"] = clock.eta_s(step)
        metrics["step"] = step
        return metrics

    def _means(self) -> dict[str, float]:
        names = sorted(self._metrics[0])
        table = torch.stack([torch.stack([row[name] for name in names]) for row in self._metrics])
        means = table.double().nanmean(dim=0)
        there = ~means.isnan()
        sums = torch.stack([means.nan_to_num(), there.double()])
        total, count = collectives.sum_over_workers(sums).tolist()
        return {name: value / n for name, value, n in zip(names, total, count, strict=True) if n}
