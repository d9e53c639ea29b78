"""Where the metrics of a training go besides metrics.jsonl: TensorBoard, MLflow, Weights & Biases.

Each package is an extra and imported only when asked for. Trackers see numbers, names of metrics
and settings of the run; no path, no command line, no host name and no console output.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from pipelines.progress import console
from sleepmami import storage
from sleepmami.config import Tracker
from sleepmami.config_edit import flatten
from sleepmami.errors import ConfigError

PROJECT = "sleepmami"
PACKAGES: dict[Tracker, str] = {"tensorboard": "tensorboard", "mlflow": "mlflow", "wandb": "wandb"}
MLFLOW_URI_VARIABLE = "MLFLOW_TRACKING_URI"


class Door(Protocol):
    """One tracker, open for one run."""

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Take in the metrics of a step; steps come in ascending order, each once."""

    def close(self, *, finished: bool) -> None:
        """Write what is left."""


def require_trackers(names: Sequence[Tracker], run: str) -> None:
    """ConfigError unless every tracker can be opened for `run`; opens none."""
    for name in names:
        if importlib.util.find_spec(PACKAGES[name]) is None:
            raise ConfigError(
                f"loop.trackers: found {name!r} but no package {PACKAGES[name]!r}; install it "
                f"with: pip install 'sleepmami[{name}]'"
            )
    if "tensorboard" in names and not storage.is_local(run):
        raise ConfigError(
            f"loop.trackers: 'tensorboard' writes into RUN, found {run}, expected a local folder"
        )
    if "mlflow" in names and not os.environ.get(MLFLOW_URI_VARIABLE):
        raise ConfigError(
            f"loop.trackers: 'mlflow' found no {MLFLOW_URI_VARIABLE} in the environment, expected "
            "the address of a tracking server"
        )


class Trackers:
    """All trackers of a run. One that fails is given up, and said so; training goes on."""

    def __init__(self, doors: Mapping[Tracker, Door]) -> None:
        self._doors = dict(doors)

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Hand the metrics of a step to each."""
        self._each(lambda door: door.log(step, metrics))

    def close(self, *, finished: bool) -> None:
        """End all."""
        self._each(lambda door: door.close(finished=finished))

    def _each(self, call: Callable[[Door], None]) -> None:
        for name, door in list(self._doors.items()):
            try:
                call(door)
            except Exception as error:  # a server that is down must not end days of training
                del self._doors[name]
                console.print(
                    f"{name}: gave up, {type(error).__name__}: {error}; metrics.jsonl has all"
                )


def open_trackers(
    names: Sequence[Tracker], run: str, name: str, settings: Mapping[str, Any]
) -> Trackers:
    """The trackers of a run, which a continued run takes up where they were left.

    Args:
        names: from `loop.trackers`.
        run: folder or URI of the run.
        name: of the stage in it, `micro` or `macro`.
        settings: of the run, plain JSON types.

    Raises:
        ConfigError: one cannot be opened, such as a server that does not answer.
    """
    doors: dict[Tracker, Callable[[str, str, Mapping[str, Any]], Door]] = {
        "tensorboard": TensorBoard,
        "mlflow": MLflow,
        "wandb": WeightsAndBiases,
    }
    opened: dict[Tracker, Door] = {}
    for each in names:
        try:
            opened[each] = doors[each](run, name, settings)
        except Exception as error:  # each package has its own
            Trackers(opened).close(finished=False)
            said = (str(error).splitlines() or ["no message"])[0]
            raise ConfigError(
                f"loop.trackers: {each!r} could not be opened, found {type(error).__name__}: "
                f"{said}; mend it, or leave it out"
            ) from error
    return Trackers(opened)


def run_id(run: str, name: str) -> str:
    """The same for the same stage of the same run; says nothing of where it lies."""
    return hashlib.sha256(f"{storage.absolute(run)}\0{name}".encode()).hexdigest()[:16]


class TensorBoard:
    """Event files in RUN/tensorboard/NAME."""

    def __init__(self, run: str, name: str, settings: Mapping[str, Any]) -> None:
        from torch.utils.tensorboard import SummaryWriter

        folder = storage.absolute(storage.join(run, "tensorboard", name))
        self._writer = SummaryWriter(folder)

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """One scalar a metric."""
        for key, value in metrics.items():
            self._writer.add_scalar(key, value, step)
        self._writer.flush()

    def close(self, *, finished: bool) -> None:
        """Close the event file."""
        self._writer.close()


class MLflow:
    """A run of the experiment `sleepmami` at $MLFLOW_TRACKING_URI."""

    def __init__(self, run: str, name: str, settings: Mapping[str, Any]) -> None:
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        from mlflow import MlflowClient
        from mlflow.entities import Param

        self._client = MlflowClient(tracking_uri=os.environ[MLFLOW_URI_VARIABLE])
        experiment = self._client.get_experiment_by_name(PROJECT)
        place = experiment.experiment_id if experiment else self._client.create_experiment(PROJECT)
        tag = f"{PROJECT}.run"
        id_ = run_id(run, name)
        found = self._client.search_runs([place], filter_string=f"tags.`{tag}` = '{id_}'")
        if found:
            self._run_id = found[0].info.run_id
            self._client.update_run(self._run_id, status="RUNNING")
        else:
            made = self._client.create_run(place, tags={tag: id_}, run_name=name)
            self._run_id = made.info.run_id
            values = [Param(key, str(value)) for key, value in flatten(settings)]
            for first in range(0, len(values), 100):  # as many as a server takes at once
                self._client.log_batch(self._run_id, params=values[first : first + 100])

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """One batch a step."""
        from mlflow.entities import Metric

        now_ms = int(time.time() * 1000)
        values = [Metric(key, value, now_ms, step) for key, value in metrics.items()]
        self._client.log_batch(self._run_id, metrics=values)

    def close(self, *, finished: bool) -> None:
        """Say how the run ended."""
        self._client.set_terminated(self._run_id, "FINISHED" if finished else "KILLED")


class WeightsAndBiases:
    """A run of the project `sleepmami`; WANDB_MODE and the like are read from the environment."""

    def __init__(self, run: str, name: str, settings: Mapping[str, Any]) -> None:
        import wandb

        self._end_service = wandb.teardown
        private = wandb.Settings(
            console="off",
            disable_code=True,
            disable_git=True,
            host="",
            silent=True,
            x_disable_machine_info=True,
            x_disable_meta=True,
            x_disable_stats=True,
        )
        self._run = wandb.init(
            project=PROJECT,
            id=run_id(run, name),
            name=name,
            config=dict(settings),
            dir=storage.absolute(run) if storage.is_local(run) else None,
            resume="allow",
            settings=private,
        )

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """One row a step."""
        self._run.log(dict(metrics), step=step)

    def close(self, *, finished: bool) -> None:
        """Send or write what is left."""
        self._run.finish(exit_code=0 if finished else 1)
        self._end_service()  # what writes the run; `finish` returns before it has
