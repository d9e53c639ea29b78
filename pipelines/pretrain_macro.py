"""Macro-Encoder pretraining: micro_nights.lance -> Ray Train workers -> the bundle RUN.

A batch is a stratified choice of subjects from the whole cohort, so workers take its rows from the
table by position; Lance reads single rows as fast as neighbours. See docs/departures.md.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch

from pipelines.night_validation import held_out_nights, night_validation, plain
from pipelines.progress import console, print_outcomes
from pipelines.ray_train import fit, train
from pipelines.run_folder import require_same_run
from sleepmami import storage
from sleepmami.config import DGCLConfig, Factor, MacroPretrainConfig
from sleepmami.config_edit import from_dict, to_dict
from sleepmami.errors import TableError
from sleepmami.models.macro_encoder import MacroEncoder
from sleepmami.tables import lance_io
from sleepmami.tables.demographics import Demographics, DemographicStatistics
from sleepmami.tables.rows import read_micro_nights
from sleepmami.tables.schemas import ANY_RECORDINGS, micro_nights_schema
from sleepmami.training import collectives
from sleepmami.training.batch_balance import pass_balance
from sleepmami.training.batches import MacroBatch, macro_batch
from sleepmami.training.checkpoint import Bundle, bundle_exists, load_bundle, save_bundle
from sleepmami.training.engine import Engine
from sleepmami.training.loop import Schedule
from sleepmami.training.macro_objective import MacroObjective
from sleepmami.training.micro_statistics import Statistics, micro_statistics
from sleepmami.training.stratified import stratified_batches

PASSES_SHOWN = 8  # whose padding and balance are printed


STATISTICS_NIGHTS = 256  # a quarter of a million epochs; all nights of the paper would be 87 GB
STATISTICS_READ = 8  # nights in memory at once


@dataclass(frozen=True, kw_only=True, slots=True)
class Subjects:
    """The nights to train on: where each lies in the table and whose it is, one item a night."""

    row: list[int]
    subject_id: list[str]
    num_epochs: list[int]
    age_years: list[float | None]
    bmi: list[float | None]
    female: list[bool | None]

    def of_batches(self, max_epochs: int) -> dict[str, Any]:  # Any: arrays of several types
        """What a choice of batches looks at: lengths as they will be padded, and whose they are."""
        return {
            "lengths": np.minimum(self.num_epochs, max_epochs),
            "age": np.array(self.age_years, np.float64),  # None becomes NaN
            "bmi": np.array(self.bmi, np.float64),
            "female": np.array(self.female, np.float64),
        }


def pretrain_macro(
    corpus: str, run: str, config: MacroPretrainConfig, *, micro_run: str | None = None
) -> str:
    """Train on RUN/micro_nights.lance; RUN becomes a bundle. Returns RUN.

    Needs a Ray session. Nights without age, sex or BMI are left out, as in Appendix C, unless
    `dgcl.factors` or `dgcl.missing` says otherwise. Running it again continues an interrupted run
    and leaves a finished one.

    Args:
        corpus: its recordings say which subjects are in the train split.
        run: holds micro/ and micro_nights.lance.
        config: model, loss, optimizer, workers.
        micro_run: the folder that holds them, where several Macro-Encoders share a Micro-Encoder.

    Raises:
        CheckpointError: RUN/micro is missing or altered.
        TableError: RUN/micro_nights.lance is missing, of another schema, or of another
            Micro-Encoder than RUN/micro.
        TrainingError: fewer subjects than one batch, or the loss stopped being finite.
        ConfigError: RUN holds a run with other settings or of other data, or the cluster is too
            small.
    """
    source = micro_run or run
    micro = load_bundle(storage.join(source, "micro"))
    version = lance_io.version(storage.join(source, "micro_nights.lance"))
    settings = {**to_dict(config), "data": {"nights_version": version}}
    require_same_run(run, "macro", settings)
    if bundle_exists(run):
        console.print(f"pretrain macro: {run} is already complete")
        return run
    plan = worker_config(corpus, source, config, micro, version)
    plan["run"] = storage.absolute(run)
    subjects = Subjects(**plan["subjects"])
    schedule = Schedule.of(config.loop, plan["steps_per_pass"])
    _print_balance(subjects, config, -(-schedule.total_steps // plan["steps_per_pass"]))
    fit(
        train_worker,
        plan,
        settings=settings,
        title="pretrain macro",
        total_steps=schedule.total_steps,
        workers=config.workers,
        loop=config.loop,
        run=run,
        name="macro",
        metrics=storage.join(run, "macro_metrics.jsonl"),
    )
    return run


def worker_config(
    corpus: str, run: str, config: MacroPretrainConfig, micro: Bundle, version: int
) -> dict[str, Any]:
    """What each worker is given: settings, the nights' places, and what validates; plain values.

    Args:
        corpus: says which subjects are in which split.
        run: holds micro/ and micro_nights.lance.
        config: of the training.
        micro: RUN/micro.
        version: of RUN/micro_nights.lance.

    Raises:
        TableError: as `pretrain_macro`.
        TrainingError: as `pretrain_macro`; also when `loop.validate_every` is set and a split has
            too few subjects to validate with.
    """
    nights_uri = storage.join(run, "micro_nights.lance")
    subjects = _subjects(corpus, nights_uri, version, micro.model_id, config)
    steps_per_pass = len(_batches(subjects, config, pass_index=0))
    statistics = DemographicStatistics.fit(
        (
            Demographics(age_years=age, bmi=bmi)
            for age, bmi in zip(subjects.age_years, subjects.bmi, strict=True)
        ),
        needed=config.dgcl.factors,
    )
    held_out = None
    scale = None
    if config.model.input_scale == "standardized":
        scale = [part.tolist() for part in _input_statistics(nights_uri, version, subjects, config)]
    if config.loop.validate_every:
        validation = _subjects(corpus, nights_uri, version, micro.model_id, config, "validation")
        held_out = held_out_nights(subjects, validation, config)
    return {
        "macro": to_dict(config),
        "run": storage.absolute(run),
        "micro": storage.absolute(storage.join(run, "micro")),
        "micro_dim": micro.micro.model.higher_dim,
        "nights": storage.absolute(nights_uri),
        "nights_version": version,
        "subjects": dataclasses.asdict(subjects),
        "statistics": dataclasses.asdict(statistics),
        "steps_per_pass": steps_per_pass,
        "input_scale": scale,
        "held_out": plain(held_out),
    }


def _input_statistics(
    uri: str, version: int, subjects: Subjects, config: MacroPretrainConfig
) -> tuple[Statistics, Statistics]:
    """mean_MD and deviation_MD of some nights to train on, the same ones each time."""
    rng = np.random.default_rng([config.loop.seed, len(subjects.row)])
    chosen = rng.permutation(len(subjects.row))[:STATISTICS_NIGHTS]
    rows = sorted(subjects.row[index] for index in chosen)
    parts = (rows[at : at + STATISTICS_READ] for at in range(0, len(rows), STATISTICS_READ))
    nights = (
        night
        for part in parts
        for night in read_micro_nights(lance_io.take_rows(uri, part, version=version))
    )
    return micro_statistics(nights)


def _subjects(
    corpus: str,
    nights_uri: str,
    version: int,
    model_id: str,
    config: MacroPretrainConfig,
    wanted: str = "train",
) -> Subjects:
    """The nights of a split that DGCL can read."""
    recordings_uri = storage.join(corpus, "recordings.lance")
    split = lance_io.read_table(
        recordings_uri, columns=["recording_id", "split"], schema=ANY_RECORDINGS
    )
    split_of = dict(zip(*(column.to_pylist() for column in split.columns), strict=True))
    columns = ["recording_id", "subject_id", "num_epochs", "age_years", "sex", "bmi", "model_id"]
    nights = lance_io.read_table(
        nights_uri, columns=[*columns, "cohort"], schema=micro_nights_schema(), version=version
    )
    rows = nights.to_pylist()
    others = sorted({row["model_id"] for row in rows} - {model_id})
    if others:
        raise TableError(
            f"{nights_uri}: found vectors of {', '.join(others)}, expected those of {model_id}, "
            "which is RUN/micro; embed the nights again"
        )
    outcomes: Counter[str] = Counter()
    kept = []
    for index, row in enumerate(rows):
        if split_of.get(row["recording_id"]) != wanted:
            outcomes["held out" if wanted == "train" else "of other splits"] += 1
        elif config.cohorts and row["cohort"] not in config.cohorts:
            outcomes["of other cohorts"] += 1
        elif not is_comparable(row, config.dgcl):
            outcomes[f"without {_needed(config.dgcl)}"] += 1
        elif row["num_epochs"] < config.dgcl.shortest_night:
            outcomes["too short for a cycle"] += 1  # DGCL looks at the ends of cycles alone
        else:
            outcomes["to train on" if wanted == "train" else "to validate on"] += 1
            kept.append((index, row))
    print_outcomes("macro nights", outcomes, [])
    return Subjects(
        row=[index for index, _ in kept],
        subject_id=[row["subject_id"] for _, row in kept],
        num_epochs=[row["num_epochs"] for _, row in kept],
        age_years=[row["age_years"] for _, row in kept],
        bmi=[row["bmi"] for _, row in kept],
        female=[None if row["sex"] is None else row["sex"] == "female" for _, row in kept],
    )


COLUMN_OF: dict[Factor, str] = {"age": "age_years", "sex": "sex", "bmi": "bmi"}


def is_comparable(row: Mapping[str, object], dgcl: DGCLConfig) -> bool:
    """Whether eq. 5 can compare a night with others.

    With `missing="exclude"`, all factors are known; with "available", one of those whose mean
    eq. 5 takes, age or BMI, is (`losses.dgcl.demographic_distance` says when a pair has nothing in
    common).
    """
    if dgcl.missing == "exclude":
        return all(row[COLUMN_OF[factor]] is not None for factor in dgcl.factors)
    return any(row[COLUMN_OF[f]] is not None for f in dgcl.factors if f != "sex")


def _needed(dgcl: DGCLConfig) -> str:
    """In words what a night lacks that is not comparable."""
    names = {"age": "age", "sex": "sex", "bmi": "BMI"}
    if dgcl.missing == "exclude":
        return " or ".join(names[factor] for factor in dgcl.factors)
    return " and ".join(names[factor] for factor in dgcl.factors if factor != "sex")


def _print_balance(subjects: Subjects, config: MacroPretrainConfig, num_passes: int) -> None:
    facts = subjects.of_batches(config.max_epochs)
    passes = range(min(num_passes, PASSES_SHOWN))
    balances = (pass_balance(_batches(subjects, config, pass_index=p), **facts) for p in passes)
    for text, alike in itertools.groupby(enumerate(balances, 1), key=lambda item: str(item[1])):
        numbers = [number for number, _ in alike]
        which = f"pass {numbers[0]}" + (f" to {numbers[-1]}" if len(numbers) > 1 else "")
        console.print(f"macro batches, {which}: {text}")


def _batches(
    subjects: Subjects, config: MacroPretrainConfig, *, pass_index: int
) -> list[np.ndarray[Any, np.dtype[np.int64]]]:
    return stratified_batches(
        **subjects.of_batches(config.max_epochs),
        batch_subjects=config.batch_subjects,
        seed=config.loop.seed,
        pass_index=pass_index,
        subject_ids=subjects.subject_id,
    )


def train_worker(config: dict[str, Any]) -> None:
    """One Ray Train worker. Rank 0 writes the bundle when the schedule is done."""
    engine = train_nights(config, partial(train, queue=config["queue"]))
    if collectives.rank() == 0:
        assert isinstance(engine.objective, MacroObjective)
        settings = from_dict(MacroPretrainConfig, config["macro"])
        micro = load_bundle(config["micro"])
        num_nights = len(config["subjects"]["row"])
        nights = {"nights_version": config["nights_version"], "num_nights": num_nights}
        lineage = {**micro.lineage, "macro": {**nights, "steps": engine.step}}
        bundle = dataclasses.replace(
            micro,
            macro=settings,
            macro_state=engine.objective.model.state_dict(),
            demographics=DemographicStatistics(**config["statistics"]),
            lineage=lineage,
        )
        save_bundle(config["run"], bundle)


def train_nights(config: dict[str, Any], train: Callable[..., Engine]) -> Engine:
    """Train as `worker_config` says; `train` is `ray_train.train` with its queue, or its like."""
    settings = from_dict(MacroPretrainConfig, config["macro"])
    statistics = DemographicStatistics(**config["statistics"])
    subjects = Subjects(**config["subjects"])
    nights, version = config["nights"], config["nights_version"]
    torch.manual_seed(settings.loop.seed)  # the same weights on every worker
    model = MacroEncoder(settings.model, config["micro_dim"])
    if config["input_scale"] is not None:
        model.standardize(*map(torch.tensor, config["input_scale"]))
    objective = MacroObjective(model, settings)
    return train(
        objective,
        engine=settings.engine,
        optimizer=settings.optimizer,
        workers=settings.workers,
        rows_per_worker=settings.batch_subjects // settings.workers.num_workers,
        schedule=Schedule.of(settings.loop, config["steps_per_pass"]),
        batches=night_steps(
            nights, version, subjects, statistics, settings, config["steps_per_pass"]
        ),
        validate=night_validation(
            config["held_out"], nights, version, objective, statistics, settings
        ),
    )


def night_steps(
    nights_uri: str,
    version: int,
    subjects: Subjects,
    statistics: DemographicStatistics,
    settings: MacroPretrainConfig,
    steps_per_pass: int,
) -> Callable[[int], Iterator[list[MacroBatch]]]:
    """`batches(start)`: this worker's share of each step's subjects; the same after a restart."""
    workers, rank = collectives.num_workers(), collectives.rank()
    needed = settings.dgcl.factors if settings.dgcl.missing == "exclude" else ()

    def batches(start: int) -> Iterator[list[MacroBatch]]:
        for pass_index in itertools.count(start // steps_per_pass):
            skipped = start % steps_per_pass if pass_index == start // steps_per_pass else 0
            for chosen in _batches(subjects, settings, pass_index=pass_index)[skipped:]:
                share = np.array_split(chosen, workers)[rank]
                rows = [subjects.row[index] for index in share]
                nights = read_micro_nights(lance_io.take_rows(nights_uri, rows, version=version))
                yield [
                    macro_batch(
                        nights,
                        statistics,
                        settings.max_epochs,
                        crop=settings.crop,
                        needed=needed,
                    )
                ]

    return batches
