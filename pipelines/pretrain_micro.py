"""Micro-Encoder pretraining: segments.lance -> Ray Data -> Ray Train workers -> RUN/micro."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pyarrow as pa
import ray
import ray.train
import torch
from ray.data import DataIterator

from pipelines.progress import console
from pipelines.ray_data import quiet
from pipelines.ray_train import fit, train
from pipelines.run_folder import require_same_run
from pipelines.segment_source import SegmentSource, count_rows, rows_of
from pipelines.segment_validation import held_out_rows, held_out_steps
from sleepmami import storage
from sleepmami.config import MicroPretrainConfig, PreprocessConfig
from sleepmami.config_edit import from_dict, to_dict
from sleepmami.errors import TrainingError
from sleepmami.models.micro_encoder import MicroEncoder
from sleepmami.tables import lance_io
from sleepmami.tables.schemas import RECORDINGS
from sleepmami.training import collectives
from sleepmami.training.batches import SegmentBatch, segment_batch
from sleepmami.training.checkpoint import Bundle, bundle_exists, save_bundle
from sleepmami.training.engine import Engine
from sleepmami.training.loop import Schedule
from sleepmami.training.micro_validation import validate_micro
from sleepmami.training.objectives import MicroObjective


def pretrain_micro(corpus: str, run: str, config: MicroPretrainConfig) -> str:
    """Train on the corpus's train split; returns the URI of the bundle RUN/micro.

    Needs a Ray session. Running it again continues an interrupted run and leaves a finished one.

    Raises:
        TableError: the corpus is missing, or of another schema.
        TrainingError: too few segments for one batch, to train or to validate on, or the loss
            stopped being finite.
        ConfigError: RUN holds a run with other settings or of other data, or the cluster is too
            small.
    """
    output = storage.join(run, "micro")
    segments_uri = storage.join(corpus, "segments.lance")
    version = lance_io.version(segments_uri)
    settings = {**to_dict(config), "data": {"segments_version": version}}
    require_same_run(run, "micro", settings)
    if bundle_exists(output):
        console.print(f"pretrain micro: {output} is already complete")
        return output
    runs = rows_of(segments_uri, _recordings(corpus, "train"), version=version)
    num_rows = count_rows(runs)
    workers = config.workers.num_workers
    steps_per_pass = (num_rows // workers) // (config.batch_size // workers)
    if steps_per_pass < 1:
        raise TrainingError(
            f"{segments_uri}: found {num_rows} segments to train on, expected at least "
            f"batch_size={config.batch_size}; add nights or lower batch_size"
        )
    held_out = held_out_rows(
        segments_uri, _recordings(corpus, "validation"), config, version=version
    )
    schedule = Schedule.of(config.loop, steps_per_pass)
    recordings_metadata = lance_io.metadata(storage.join(corpus, "recordings.lance"))
    quiet()
    source = SegmentSource(storage.absolute(segments_uri), version, runs, config.loop.seed)
    fit(
        train_worker,
        {
            "micro": to_dict(config),
            "preprocess": json.loads(recordings_metadata["config"])["preprocess"],
            "steps_per_pass": steps_per_pass,
            "segments": storage.absolute(segments_uri),
            "held_out": held_out,
            "output": storage.absolute(output),
            "lineage": {"segments_version": version, "num_segments": num_rows},
        },
        settings=settings,
        title="pretrain micro",
        total_steps=schedule.total_steps,
        workers=config.workers,
        loop=config.loop,
        run=run,
        name="micro",
        metrics=storage.join(output, "metrics.jsonl"),
        datasets={"train": ray.data.read_datasource(source)},
    )
    return output


def _recordings(corpus: str, split: str) -> list[str]:
    recordings = lance_io.read_table(
        storage.join(corpus, "recordings.lance"),
        columns=["recording_id"],
        filter=f"rejected_code IS NULL AND split = '{split}'",
        schema=RECORDINGS,
    )
    ids: list[str] = recordings.column("recording_id").to_pylist()
    return ids


def train_worker(config: dict[str, Any]) -> None:
    """One Ray Train worker. Rank 0 writes the bundle when the schedule is done."""
    settings = from_dict(MicroPretrainConfig, config["micro"])
    torch.manual_seed(settings.loop.seed)  # the same weights on every worker
    objective = MicroObjective(MicroEncoder(settings.model), settings, settings.loop.seed)
    shard = ray.train.get_dataset_shard("train")
    engine = train(
        objective,
        engine=settings.engine,
        optimizer=settings.optimizer,
        workers=settings.workers,
        rows_per_worker=settings.batch_size // settings.workers.num_workers,
        schedule=Schedule.of(settings.loop, config["steps_per_pass"]),
        batches=segment_steps(shard, settings, config["steps_per_pass"]),
        queue=config["queue"],
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


def _validation(
    objective: MicroObjective, settings: MicroPretrainConfig, config: dict[str, Any]
) -> Callable[[Engine], dict[str, float]] | None:
    if not config["held_out"]:
        return None
    version = config["lineage"]["segments_version"]
    steps = held_out_steps(config["segments"], config["held_out"], settings, version=version)
    return lambda engine: validate_micro(engine, objective, steps)


def segment_steps(
    shard: DataIterator, settings: MicroPretrainConfig, steps_per_pass: int
) -> Callable[[int], Iterator[list[SegmentBatch]]]:
    """`batches(start)`: the micro batches of each step from `start` on, pass after pass.

    Every pass has an order of its own, the same whenever a run is started. A resumed run begins the
    passes it has done without reading them, and reads past the steps it has done of the one it
    left. With several workers Ray Data deals a pass out as workers ask, so their shares of it may
    differ from those before the interruption; with one, no row is seen twice or missed.
    """
    rows = settings.batch_size // settings.workers.num_workers
    micro_batch = min(rows, settings.engine.micro_batch)
    accumulation = rows // micro_batch

    def tables(pass_index: int) -> Iterator[pa.Table]:
        return iter(
            shard.iter_batches(
                batch_format="pyarrow",
                batch_size=micro_batch,
                drop_last=True,
                prefetch_batches=2,
                local_shuffle_buffer_size=settings.shuffle_buffer or None,
                local_shuffle_seed=settings.loop.seed + pass_index,
            )
        )

    def batches(start: int) -> Iterator[list[SegmentBatch]]:
        first_pass, done = divmod(start, steps_per_pass)
        for pass_index in range(first_pass):
            next(tables(pass_index), None)  # what counts as a reading is that it has begun
        for pass_index in itertools.count(first_pass):
            skipped = done if pass_index == first_pass else 0
            rest = itertools.islice(tables(pass_index), skipped * accumulation, None)
            stream = (segment_batch(table) for table in rest)
            for _ in range(steps_per_pass - skipped):
                yield list(itertools.islice(stream, accumulation))

    return batches
