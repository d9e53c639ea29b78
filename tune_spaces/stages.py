"""`sleepmami tune dgcl` and `sleepmami tune micro`: from a corpus to SWEEP/best.json."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from typing import Any, TypeVar

import ray.tune

from pipelines.night_validation import require_stages
from pipelines.pretrain_macro import worker_config
from pipelines.segment_validation import held_out_rows
from sleepmami import storage
from sleepmami.config import MacroPretrainConfig, MicroPretrainConfig, SweepConfig
from sleepmami.config_edit import flatten, replace_at, to_dict
from sleepmami.errors import ConfigError
from sleepmami.presets import preset, preset_name
from sleepmami.tables import lance_io
from sleepmami.tables.cycle_vectors import NIGHT_VECTOR
from sleepmami.training.checkpoint import load_bundle
from sleepmami.training.loop import Schedule
from sleepmami.training.segment_order import SegmentOrder
from sleepmami.training.segment_reader import split_runs
from tune_spaces.outcome import finish
from tune_spaces.spaces import (
    LEARNING_RATE,
    MICRO,
    READS,
    Overrides,
    Space,
    dgcl_space,
    require_objective,
)
from tune_spaces.sweep import Sweep, run_sweep
from tune_spaces.trials import MicroTrial, dgcl_trial, in_one_process

REPORTS = 9  # of a whole trial where loop.validate_every is 0: rungs at a ninth and a third
WAITING_CPUS = 0.001  # of a process that waits for the workers it started
C = TypeVar("C", MacroPretrainConfig, MicroPretrainConfig)


def tune_dgcl(
    corpus: str,
    run: str,
    sweep: str,
    config: MacroPretrainConfig,
    settings: SweepConfig,
    preset_given: str,
) -> str:
    """Search rho, v and lambda_sex on RUN/micro_nights.lance; returns the URI of best.json.

    Needs a Ray session. The same command continues an interrupted sweep.

    Args:
        corpus: says which subjects are in which split.
        run: holds micro/ and micro_nights.lance, which all trials read and none copies.
        sweep: folder or URI of what the sweep leaves.
        config: to start from, and trial 0.
        settings: of the sweep.
        preset_given: name or file that `config` was made from.

    Raises:
        ConfigError: SWEEP holds another sweep, the objective is a loss, or a part of the space does
            not go together with the configuration.
        TrainingError: too few subjects in a split, no stages for an objective that needs them, or
            trial 0 failed.
    """
    settings = _checked("dgcl", settings)
    micro = load_bundle(storage.join(run, "micro"))
    version = lance_io.version(storage.join(run, "micro_nights.lance"))
    plan = worker_config(corpus, run, in_one_process(_reporting(config, 1)), micro, version)
    if settings.objective == "validation/stage_macro_f1":
        require_stages(plan["held_out"], plan["nights"], version)
    total_steps = Schedule.of(config.loop, plan["steps_per_pass"]).total_steps
    start = _reporting(config, total_steps)
    plan["macro"] = to_dict(in_one_process(start))
    workers = config.workers
    needs = {"CPU": workers.cpus_per_worker}
    if workers.use_gpu:
        needs["GPU"] = 1 / settings.trials_per_gpu
    elif settings.trials_per_gpu != 1:
        raise ConfigError("--trials-per-gpu has no effect with workers.use_gpu=false; leave it out")
    swept = Sweep(
        title="tune dgcl",
        folder=sweep,
        trial=ray.tune.with_parameters(dgcl_trial, plan=plan),
        space=_searched(dgcl_space(config.dgcl.factors), settings, start),
        values=dict(flatten(to_dict(start))),
        settings={
            **to_dict(start),
            "data": {
                "nights_version": version,
                "model_id": micro.model_id,
                "people_sha256": _people_sha256(plan),
            },
            "night_vector": NIGHT_VECTOR,  # of what kind the vectors are that trials are judged by
        },
        total_steps=total_steps,
        validate_every=start.loop.validate_every,
        actor=needs,
        needs=needs,
        spread=False,
    )
    probe = plan["held_out"]["probe"]
    people = {
        "fitted_subjects": probe["num_fit"],
        "scored_subjects": len(probe["row"]) - probe["num_fit"],
    }
    base = _difference(preset(preset_name(preset_given)).macro, config)
    return _run(swept, settings, "macro", preset_given, base, people, config.loop.seed)


def tune_micro(
    corpus: str, sweep: str, config: MicroPretrainConfig, settings: SweepConfig, preset_given: str
) -> str:
    """Search tau, lambda_cl and the masks; returns the URI of best.json.

    Needs a Ray session. The same command continues an interrupted sweep, and a trial that was
    running from its newest checkpoint. Arguments and errors as for `tune_dgcl`.
    """
    settings = _checked("micro", settings)
    if settings.reads:
        raise ConfigError("--reads has no effect on tune micro; leave it out")
    if settings.trials_per_gpu != 1:
        raise ConfigError("--trials-per-gpu has no effect on tune micro; leave it out")
    version = lance_io.version(storage.join(corpus, "segments.lance"))
    order = SegmentOrder.of(config, split_runs(corpus, "train", version=version))
    total_steps = Schedule.of(config.loop, order.steps_per_pass).total_steps
    start = _reporting(config, total_steps)
    held_out = held_out_rows(split_runs(corpus, "validation", version=version), start)
    if not held_out:
        raise ConfigError(
            f"{corpus}: found no segments in the validation split, expected some to judge trials by"
        )
    workers = config.workers
    needs = {"CPU": workers.num_workers * workers.cpus_per_worker + 1 + WAITING_CPUS}
    if workers.use_gpu:
        needs["GPU"] = workers.num_workers
    swept = Sweep(
        title="tune micro",
        folder=sweep,
        trial=ray.tune.with_parameters(
            MicroTrial,
            corpus=storage.absolute(corpus),
            sweep=storage.absolute(sweep),
            micro=to_dict(start),
        ),
        space=_searched(MICRO, settings, start),
        values=dict(flatten(to_dict(start))),
        settings={**to_dict(start), "data": {"segments_version": version}},
        total_steps=total_steps,
        validate_every=start.loop.validate_every,
        actor={"CPU": WAITING_CPUS},
        needs=needs,
        spread=True,
    )
    base = _difference(preset(preset_name(preset_given)).micro, config)
    scored = {"scored_segments": len(held_out)}
    return _run(swept, settings, "micro", preset_given, base, scored, config.loop.seed)


def _people_sha256(plan: dict[str, Any]) -> str:
    """Of whom trials train on and are judged by; of another corpus or split it is another."""
    people = json.dumps([plan["subjects"], plan["held_out"]], sort_keys=True)
    return hashlib.sha256(people.encode()).hexdigest()


def _checked(stage: str, settings: SweepConfig) -> SweepConfig:
    """With the objective's full name; ConfigError for a loss."""
    return dataclasses.replace(settings, objective=require_objective(stage, settings.objective))


def _reporting(config: C, total_steps: int) -> C:
    """With validation, which trials are judged by: REPORTS times where it is off."""
    if config.loop.validate_every:
        return config
    return replace_at(config, {"loop.validate_every": -(-total_steps // REPORTS)})


def _searched(space: Space, settings: SweepConfig, start: C) -> Space:
    """With the learning rate and `dgcl.reads` where asked for.

    Raises:
        ConfigError: `start` does not go together with a bound or an option, so that some trials
            could only fail.
    """
    space = (*space, LEARNING_RATE) if settings.learning_rate else space
    space = (*space, READS) if settings.reads else space
    for item in space:
        for value in item.grid(2):
            try:
                replace_at(start, {item.name: value})
            except ConfigError as error:
                raise ConfigError(
                    f"{item.name}={value!r} is searched, and does not go together with the "
                    f"configuration to start from: {error}"
                ) from error
    return space


def _difference(usual: object, config: object) -> Overrides:
    """Settings of `config` that are not those of `usual`, by dotted name."""
    there = dict(flatten(to_dict(usual)))
    return {name: v for name, v in flatten(to_dict(config)) if there.get(name) != v}


def _run(
    swept: Sweep,
    settings: SweepConfig,
    stage: str,
    preset_given: str,
    base: Overrides,
    scored: dict[str, int],
    seed: int,
) -> str:
    record = run_sweep(swept, settings)
    about: dict[str, Any] = {
        "search": settings.search,
        "scheduler": settings.scheduler,
        "seeds": {"training": [seed], "proposals": settings.seed},
        "steps": swept.total_steps,
        **scored,
    }
    return finish(
        swept.folder,
        record,
        swept.space,
        settings.objective,
        stage=stage,
        preset=preset_name(preset_given),
        base=base,
        about=about,
    )
