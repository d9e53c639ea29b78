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
import os
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

GRACE_S = 1.0  # between the end of a Micro trial and that of its process


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


def micro_trial(overrides: Overrides, *, corpus: str, sweep: str, micro: dict[str, Any]) -> None:
    """Train the Micro-Encoder with Ray Train workers of its own, in a RUN below SWEEP/runs.

    When Tune ends the trial, its process ends, and with their owner the controller and the workers
    that it started: left alive they would keep their CPUs, and the next trial would wait for ever.
    """
    config = replace_at(from_dict(MicroPretrainConfig, micro), dict(overrides))
    run = storage.join(sweep, "runs", run_name(overrides))
    try:
        pretrain_micro(corpus, run, config, told=validations_to(ray.tune.report))
    except SystemExit:  # raised by Tune's report, in this thread; another one answers Tune
        threading.Timer(GRACE_S, os._exit, [0]).start()
        raise


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
