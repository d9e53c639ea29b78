"""What one trial runs, for each stage that is tuned.

A Macro trial trains in the process of its trial, without Ray Train: the whole training fits on one
device, and starting two workers takes longer than many a trial (docs/tuning.md has the numbers).
The loop, the objective, the batches and the validation are those of `pretrain macro`, and a batch
is the same batch: the contrast runs over all of it whatever the number of workers.

A Micro trial needs workers that read while they train, so it starts a Ray Train run of its own.
"""

from __future__ import annotations

import hashlib
import json
import queue
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import ray.tune

from pipelines.pretrain_macro import train_nights
from pipelines.pretrain_micro import pretrain_micro
from pipelines.train_here import train_here
from sleepmami import storage
from sleepmami.config import MacroPretrainConfig, MicroPretrainConfig
from sleepmami.config_edit import from_dict, replace_at, to_dict
from tune_spaces.spaces import Overrides


def in_one_process(config: MacroPretrainConfig) -> MacroPretrainConfig:
    """The same training by one worker on plain torch; its steps are the same up to rounding."""
    changes = {
        "workers.num_workers": 1,
        "engine.kind": "plain",
        "engine.zero_stage": 0,
        "engine.micro_batch": config.batch_subjects,
    }
    return replace_at(config, changes)


def dgcl_trial(overrides: Overrides, *, plan: dict[str, Any]) -> None:
    """Train the Macro-Encoder in this process.

    Args:
        overrides: of the plan's settings.
        plan: `pretrain_macro.worker_config` of `in_one_process` settings.
    """
    config = replace_at(from_dict(MacroPretrainConfig, plan["macro"]), dict(overrides))
    plan = {**plan, "macro": to_dict(config)}
    train_nights(plan, partial(train_here, told=validations_to(ray.tune.report)))


class MicroTrial(ray.tune.Trainable):
    """Train the Micro-Encoder with Ray Train workers of its own, in a RUN below SWEEP/runs.

    The training runs in a thread, which waits at each report for what Tune decides. A trial that
    is ended waits until its workers are gone: Ray keeps the CPUs of workers whose owner has died,
    and the next trial would wait for them for ever.
    """

    def setup(
        self, config: Overrides, *, corpus: str = "", sweep: str = "", micro: Any = None
    ) -> None:
        """Begin to train with the overrides of `config`."""
        self._rows: queue.Queue[dict[str, float] | BaseException | None] = queue.Queue()
        self._goes_on: queue.Queue[bool] = queue.Queue()
        self._last: dict[str, float] = {}
        settings = replace_at(from_dict(MicroPretrainConfig, micro), dict(config))
        run = storage.join(sweep, "runs", run_name(config))
        self._thread = threading.Thread(target=self._train, args=(corpus, run, settings))
        self._thread.start()

    def step(self) -> dict[str, Any]:
        """The next validated row; the last one again, with `done`, when the training is over."""
        if self._last:
            self._goes_on.put(True)
        row = self._rows.get()
        if isinstance(row, BaseException):
            raise row
        if row is None:
            return {**self._last, "done": True}
        self._last = row
        return dict(row)

    def cleanup(self) -> None:
        """End the training, if it has not ended."""
        self._goes_on.put(False)
        self._thread.join()

    def _train(self, corpus: str, run: str, settings: MicroPretrainConfig) -> None:
        try:
            pretrain_micro(corpus, run, settings, told=validations_to(self._report))
            self._rows.put(None)
        except _EndedError:
            pass
        except BaseException as error:  # handed to Tune's thread, which raises it
            self._rows.put(error)

    def _report(self, row: dict[str, float]) -> None:
        self._rows.put(row)
        if not self._goes_on.get():
            raise _EndedError


class _EndedError(Exception):
    """Tune wants no more of this trial."""


def run_name(overrides: Overrides) -> str:
    """A folder name of the settings, so that a trial that is run again finds its checkpoints."""
    return hashlib.sha256(json.dumps(overrides, sort_keys=True).encode()).hexdigest()[:16]


def validations_to(
    report: Callable[[dict[str, float]], None],
) -> Callable[[dict[str, float]], None]:
    """Hand on the rows of steps that were validated."""

    def told(metrics: dict[str, float]) -> None:
        if any(name.startswith("validation/") for name in metrics):
            report(metrics)

    return told
