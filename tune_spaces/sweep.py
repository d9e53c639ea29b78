"""Run what is left of a sweep with Ray Tune, and keep SWEEP/trials.json while it runs."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
import ray.tune
from ray import cloudpickle
from ray.exceptions import RayActorError

from pipelines.progress import Advance, console, stage
from pipelines.run_folder import remember_run, require_same_run
from sleepmami import storage
from sleepmami.config import SweepConfig
from sleepmami.config_edit import to_dict
from sleepmami.errors import ConfigError, SleepMaMiError
from tune_spaces.early_end import scheduler
from tune_spaces.proposals import fixed_points, searcher
from tune_spaces.record import SweepRecord, TrialRecord
from tune_spaces.spaces import Overrides, Space, default_point

# What Tune writes itself is not needed (record.py), and Ctrl-C is to end the command.
TUNE_ENVIRONMENT = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "RAY_AIR_NEW_OUTPUT": "0",  # a banner, whatever `verbose` says
    "TUNE_GLOBAL_CHECKPOINT_S": "3600",
    "TUNE_RESULT_BUFFER_LENGTH": "0",
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",  # each is told in a line
}


ROUNDING = 1e-6  # 0.3 // 0.1 is 2


@dataclass(frozen=True, kw_only=True, slots=True)
class Sweep:
    """What is swept, on what.

    Attributes:
        title: of the progress bar.
        folder: SWEEP.
        trial: runs in each trial with its overrides; reports to Tune.
        space: to search.
        values: of the configuration to start from, by dotted name.
        settings: of the whole sweep; another command's differ.
        total_steps: of a trial that is not ended.
        validate_every: steps between a trial's reports.
        actor: resources of a trial's own process.
        needs: resources of a trial with all that it starts.
        spread: whether a trial starts processes of its own, which may lie on several nodes; its
            own process then ends with it, and them, in place of running the next trial.
    """

    title: str
    folder: str
    trial: Callable[[Overrides], None] | type[ray.tune.Trainable]
    space: Space
    values: dict[str, Any]
    settings: dict[str, Any]
    total_steps: int
    validate_every: int
    actor: dict[str, float]
    needs: dict[str, float]
    spread: bool


def run_sweep(sweep: Sweep, config: SweepConfig) -> SweepRecord:
    """Run all trials that have not ended yet; returns the whole record.

    Needs a Ray session. One trial's failure ends that trial alone.

    Raises:
        ConfigError: SWEEP holds another sweep, the space does not hold the configuration, or the
            cluster has no room for a trial.
    """
    settings = {**sweep.settings, "sweep": _plain(config, sweep)}
    require_same_run(sweep.folder, "sweep", settings)
    record = SweepRecord(sweep.folder)
    default = default_point(sweep.space, sweep.values)
    points = fixed_points(sweep.space, default, config)
    total = len(points) or config.num_trials
    left = total - len(record.ended)
    if not left:
        console.print(f"{sweep.title}: all {total} trials of {sweep.folder} have ended")
        return record
    slots = _slots(sweep)
    remember_run(sweep.folder, "sweep", settings)
    os.environ.update(TUNE_ENVIRONMENT)
    logging.getLogger("ray.tune.tune").setLevel(logging.CRITICAL)  # failures by Tune's names
    if not record.trials:
        record.begin(default)  # trial 0, whichever of the first ones Tune starts first
        record.write()
    else:
        again = len(record.interrupted)
        console.print(
            f"{sweep.title}: {len(record.ended)} of {total} trials have ended, {again} begin again"
        )
    with stage(sweep.title, total, unit="trials") as advance:
        advance(len(record.ended), "")
        _tune(sweep, config, record, left, min(slots, left), advance)
    storage.delete(storage.join(sweep.folder, "ray"))
    return record


def _plain(config: SweepConfig, sweep: Sweep) -> dict[str, Any]:
    values = to_dict(config)
    values.pop("trials_per_gpu")  # how many at once decides nothing
    values.pop("reads")  # is in the space, or is not
    return {
        **values,
        "space": [item.name for item in sweep.space],
        # A training may change these when it goes on; trials are then judged at other steps, or by
        # other people.
        "validate_every": sweep.validate_every,
        "validate_rows": sweep.values["loop.validate_rows"],
        "total_steps": sweep.total_steps,
    }


def _slots(sweep: Sweep) -> int:
    """How many trials the cluster holds at once; ConfigError for none."""
    needs = {kind: amount for kind, amount in sweep.needs.items() if amount}
    if sweep.spread:
        places = [ray.cluster_resources()]  # type: ignore[no-untyped-call]  # Ray's own
    else:
        nodes = ray.nodes()  # type: ignore[no-untyped-call]  # Ray's own
        places = [node["Resources"] for node in nodes if node["Alive"]]
    slots = sum(
        min(int(place.get(kind, 0) / amount + ROUNDING) for kind, amount in needs.items())
        for place in places
    )
    if not slots:
        size = " and ".join(f"{amount:g} {kind}" for kind, amount in needs.items())
        raise ConfigError(
            f"{sweep.title}: found no room for a trial of {size}, expected some: lower "
            "workers.cpus_per_worker or num_workers, or join a larger cluster"
        )
    return slots


def _tune(
    sweep: Sweep,
    config: SweepConfig,
    record: SweepRecord,
    left: int,
    at_once: int,
    advance: Advance,
) -> None:
    resources = ray.tune.PlacementGroupFactory([sweep.actor])
    default = default_point(sweep.space, sweep.values)
    tuner = ray.tune.Tuner(
        ray.tune.with_resources(sweep.trial, resources),
        tune_config=ray.tune.TuneConfig(
            num_samples=left,
            search_alg=searcher(sweep.space, sweep.values, config, record),
            scheduler=scheduler(
                config,
                record,
                total_steps=sweep.total_steps,
                validate_every=sweep.validate_every,
                default=default,
            ),
            max_concurrent_trials=at_once,
            reuse_actors=not sweep.spread,
        ),
        run_config=ray.tune.RunConfig(
            name=f"driver_{time.time_ns()}",  # a known name would continue Tune's own run
            storage_path=storage.absolute(storage.join(sweep.folder, "ray")),
            # of a class Tune would want one at the end
            checkpoint_config=ray.tune.CheckpointConfig(checkpoint_at_end=False),
            callbacks=[Recorder(record, sweep.total_steps, config.objective, advance)],
            verbose=0,
        ),
    )
    tuner.fit()


class Recorder(ray.tune.Callback):
    """In the driver: each report into the record, each end onto the progress bar."""

    def __init__(
        self, record: SweepRecord, total_steps: int, objective: str, advance: Advance
    ) -> None:
        self._record, self._total_steps = record, total_steps
        self._objective, self._advance = objective, advance
        self._of: dict[str, TrialRecord] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Tune writes its callbacks down for a restore of its own, which is not used."""
        return {}

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Give the trial its number."""
        if trial.trial_id not in self._of:
            self._of[trial.trial_id] = self._record.begin(trial.config)
            self._record.write()

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """Keep what our own loop said, and not Tune's additions."""
        if self._objective not in result:
            return
        ours = {name: value for name, value in result.items() if "/" in name or name == "step"}
        rows = {int(row["step"]): row for row in self._of[trial.trial_id].rows}
        rows[int(result["step"])] = {
            name: float(value) for name, value in ours.items() if not name.startswith("config/")
        }
        self._of[trial.trial_id].rows = [rows[step] for step in sorted(rows)]
        self._record.write()

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """It reached its end, or ASHA ended it."""
        mine = self._of[trial.trial_id]
        mine.status = "finished" if mine.steps >= self._total_steps else "stopped"
        self._end(mine)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """It raised, or its process died."""
        mine = self._of.get(trial.trial_id) or self._record.begin(trial.config)
        mine.status, mine.reason = "failed", _reason(trial)
        console.print(f"{mine.name} failed: {mine.reason}")
        self._end(mine)

    def _end(self, trial: TrialRecord) -> None:
        self._record.write()
        value = trial.value(self._objective)
        shown = "" if value is None else f" {self._objective}={value:.4f}"
        self._advance(1, f"{trial.name} {trial.status} after {trial.steps} steps{shown}")


def _reason(trial: Any) -> str:
    """A line on why a trial of Tune's failed."""
    # Tune's own `get_pickled_error` looks where this file is only copied to later
    file = trial.pickled_error_file
    error = cloudpickle.loads(Path(file).read_bytes()) if file else None
    if isinstance(error, RayActorError):
        return "its process died: killed, or out of memory"
    while inner := getattr(error, "cause", None):  # Ray's wrapping is of the wrapped class, too
        error = inner
    while not isinstance(error, SleepMaMiError) and (inner := getattr(error, "__cause__", None)):
        error = inner
    text = str(error if error is not None else "no message")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    kind = "" if isinstance(error, SleepMaMiError) or error is None else f"{type(error).__name__}: "
    return kind + (lines[-1] if lines else "no message")
