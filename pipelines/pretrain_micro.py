"""Micro-Encoder pretraining: segments.lance -> Ray Data -> Ray Train workers -> RUN/micro."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import ray
import ray.train
import ray.train.torch
import torch

from pipelines.progress import console
from pipelines.ray_train import fit, train
from pipelines.run_folder import require_same_run
from pipelines.segment_source import stream
from pipelines.segment_validation import held_out_rows, held_out_steps
from sleepmami import storage
from sleepmami.config import MicroPretrainConfig, PreprocessConfig
from sleepmami.config_edit import from_dict, to_dict
from sleepmami.errors import TrainingError
from sleepmami.models.micro_encoder import MicroEncoder
from sleepmami.tables import lance_io
from sleepmami.training import collectives
from sleepmami.training.batches import SegmentBatch
from sleepmami.training.checkpoint import Bundle, bundle_exists, save_bundle
from sleepmami.training.engine import Engine
from sleepmami.training.loop import Schedule
from sleepmami.training.micro_validation import validate_micro
from sleepmami.training.objectives import MicroObjective
from sleepmami.training.segment_order import SegmentOrder, digest_of, lanes_of
from sleepmami.training.segment_reader import split_runs, step_batches


def pretrain_micro(
    corpus: str,
    run: str,
    config: MicroPretrainConfig,
    told: Callable[[dict[str, float]], None] | None = None,
) -> str:
    """Train on the corpus's train split; returns the URI of the bundle RUN/micro.

    Needs a Ray session. Running it again continues an interrupted run and leaves a finished one.

    Args:
        corpus: recordings and segments.
        run: where the run's state and the bundle go.
        config: model, loss, optimizer, workers.
        told: has each row of metrics besides RUN/micro/metrics.jsonl.

    Raises:
        TableError: the corpus is missing, or of another schema.
        TrainingError: too few segments for one batch, or the loss stopped being finite.
        ConfigError: RUN holds a run with other settings or of other data, or the cluster is too
            small.
    """
    output = storage.join(run, "micro")
    segments_uri = storage.join(corpus, "segments.lance")
    version = lance_io.version(segments_uri)
    runs = split_runs(corpus, "train", version=version)
    # the version alone does not tell: new metadata may move nights to another split or cohort
    data = {"segments_version": version, "train_rows_digest": digest_of(runs)}
    settings = {**to_dict(config), "data": data}
    require_same_run(run, "micro", settings)
    if bundle_exists(output):
        console.print(f"pretrain micro: {output} is already complete")
        return output
    order = SegmentOrder.of(config, runs)
    if order.steps_per_pass < 1:
        raise TrainingError(
            f"{segments_uri}: found {order.rows_per_pass} segments to train on, expected at least "
            f"batch_size={config.batch_size}; add nights or lower batch_size"
        )
    held_out = held_out_rows(split_runs(corpus, "validation", version=version), config)
    if config.loop.validate_every and not held_out:
        console.print("pretrain micro: no segments in the validation split; nothing is validated")
    schedule = _schedule(config, order, held_out)
    recordings_metadata = lance_io.metadata(storage.join(corpus, "recordings.lance"))
    fit(
        train_worker,
        {
            "micro": to_dict(config),
            "preprocess": json.loads(recordings_metadata["config"])["preprocess"],
            "segments": storage.absolute(segments_uri),
            "version": version,
            "runs": ray.put(runs),
            "held_out": held_out,
            "output": storage.absolute(output),
            "lineage": {"segments_version": version, "num_segments": order.rows_per_pass},
        },
        settings=settings,
        title="pretrain micro",
        total_steps=schedule.total_steps,
        workers=config.workers,
        loop=config.loop,
        run=run,
        name="micro",
        metrics=storage.join(output, "metrics.jsonl"),
        readers=1,
        told=told,
    )
    return output


def train_worker(config: dict[str, Any]) -> None:
    """One Ray Train worker. Rank 0 writes the bundle when the schedule is done."""
    settings = from_dict(MicroPretrainConfig, config["micro"])
    torch.manual_seed(settings.loop.seed)  # the same weights on every worker
    objective = MicroObjective(MicroEncoder(settings.model), settings, settings.loop.seed)
    order = SegmentOrder.of(settings, ray.get(config["runs"]))
    schedule = _schedule(settings, order, config["held_out"])
    lanes, device = lanes_of(collectives.rank(), settings), ray.train.torch.get_device()

    def batches(start: int) -> Iterator[list[SegmentBatch]]:
        chunks = order.chunks(lanes, start, schedule.total_steps)
        read = stream(config["segments"], config["version"], chunks)
        return step_batches(read, lanes, start, schedule.total_steps, device)

    engine = train(
        objective,
        engine=settings.engine,
        optimizer=settings.optimizer,
        workers=settings.workers,
        rows_per_worker=settings.batch_size // settings.workers.num_workers,
        schedule=schedule,
        batches=batches,
        queue=config["queue"],
        ended=config["ended"],
        validate=_validation(objective, settings, config),
    )
    if collectives.rank() == 0:
        bundle = Bundle(
            micro=settings,
            micro_state=objective.model.state_dict(),
            # what one laboratory's labels mean, or its cut files are worth, is no part of a model
            preprocess=replace(
                from_dict(PreprocessConfig, config["preprocess"]), channels=(), truncated="reject"
            ),
            lineage={"micro": {**config["lineage"], "steps": engine.step}},
        )
        save_bundle(config["output"], bundle)


def _schedule(config: MicroPretrainConfig, order: SegmentOrder, held_out: list[int]) -> Schedule:
    schedule = Schedule.of(config.loop, order.steps_per_pass)
    return schedule if held_out else replace(schedule, validate_every=0)


def _validation(
    objective: MicroObjective, settings: MicroPretrainConfig, config: dict[str, Any]
) -> Callable[[Engine], dict[str, float]] | None:
    if not config["held_out"]:
        return None
    steps = held_out_steps(
        config["segments"], config["held_out"], settings, version=config["version"]
    )
    return lambda engine: validate_micro(engine, objective, steps)
