"""Which nights validate the Macro-Encoder, and how workers get them.

One night a subject, the same each time. Probes are fitted on nights of the train split and scored
on those of the validation split; the test split is not touched.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from sleepmami.config import MacroPretrainConfig
from sleepmami.errors import TrainingError
from sleepmami.psg import Stage
from sleepmami.tables import lance_io
from sleepmami.tables.demographics import DemographicStatistics
from sleepmami.tables.embedding_rows import MicroNight
from sleepmami.tables.rows import read_micro_nights
from sleepmami.training import collectives
from sleepmami.training.batches import MacroBatch, macro_batch
from sleepmami.training.engine import Engine
from sleepmami.training.macro_objective import MacroObjective
from sleepmami.training.macro_validation import (
    NUM_STAGES,
    VALIDATION_SEED,
    ProbeNights,
    ReadNights,
    validate_macro,
)
from sleepmami.training.stratified import stratified_batches

if TYPE_CHECKING:
    from pipelines.pretrain_macro import Subjects

MIN_CONTRAST = 3  # with two subjects the softmax of eq. 4 has one term


@dataclass(frozen=True, kw_only=True, slots=True)
class HeldOut:
    """What a validation reads: nights to probe, and the table's rows of each held-out contrast."""

    probe: ProbeNights
    contrasts: list[list[int]]


def held_out_nights(
    train: Subjects, validation: Subjects, config: MacroPretrainConfig
) -> HeldOut | None:
    """Nights to validate on; None where `loop.validate_every` is 0.

    At most `loop.validate_rows` subjects of the validation split and as many of the train split.

    Raises:
        TrainingError: a split has too few subjects for the probes or for one contrast.
    """
    if not config.loop.validate_every:
        return None
    fit, score = (_one_night_each(s, config.loop.validate_rows) for s in (train, validation))
    places = [(train, n) for n in fit] + [(validation, n) for n in score]
    probe = ProbeNights(
        row=[split.row[n] for split, n in places],
        num_epochs=[split.num_epochs[n] for split, n in places],
        age_years=np.array([split.age_years[n] for split, n in places], np.float64).tolist(),
        female=np.array([split.female[n] for split, n in places], np.bool_).tolist(),
        num_fit=len(fit),
    )
    return HeldOut(probe=probe, contrasts=_contrasts(validation, score, config))


def _one_night_each(subjects: Subjects, most: int) -> list[int]:
    """The first night of at most so many subjects of known age and sex, in the table's order."""
    first: dict[str, int] = {}
    for place, name in enumerate(subjects.subject_id):
        if _known(subjects.age_years[place]) and subjects.female[place] is not None:
            first.setdefault(name, place)
    chosen = np.random.default_rng(VALIDATION_SEED).permutation(list(first.values()))[:most]
    numbers: list[int] = np.sort(chosen).tolist()
    return numbers


def _known(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def _contrasts(
    validation: Subjects, chosen: Sequence[int], config: MacroPretrainConfig
) -> list[list[int]]:
    """Stratified batches of validation nights, as large as those of training or as there are."""
    workers = config.workers.num_workers
    size = min(config.batch_subjects, len(chosen)) // workers * workers
    if size < MIN_CONTRAST:
        raise TrainingError(
            f"loop.validate_every: found {len(chosen)} subjects of the validation split with age, "
            f"sex and BMI, expected at least {max(MIN_CONTRAST, workers)} to contrast over "
            f"{workers} workers: set it to 0, or make the validation split larger"
        )
    batches = stratified_batches(
        [min(validation.num_epochs[n], config.max_epochs) for n in chosen],
        np.array([validation.age_years[n] for n in chosen], np.float64),
        np.array([validation.bmi[n] for n in chosen], np.float64),
        np.array([validation.female[n] for n in chosen], np.float64),
        size,
        VALIDATION_SEED,
        0,
    )
    return [[validation.row[chosen[n]] for n in batch] for batch in batches]


def require_stages(held_out: dict[str, Any], nights_uri: str, version: int) -> None:
    """TrainingError unless `validation/stage_macro_f1` can be measured on what `plain` carries."""
    probe = ProbeNights(**held_out["probe"])
    nights = lance_io.take_rows(nights_uri, probe.row, ["hypnogram"], version=version)
    scored = [
        0 if stages is None else sum(stage != Stage.UNKNOWN for stage in stages)
        for stages in nights.column("hypnogram").to_pylist()
    ]
    to_fit, to_score = sum(scored[: probe.num_fit]), sum(scored[probe.num_fit :])
    if to_fit < NUM_STAGES or not to_score:
        raise TrainingError(
            f"validation/stage_macro_f1: found {to_fit} scored epochs in {probe.num_fit} nights of "
            f"the train split and {to_score} in {len(scored) - probe.num_fit} of the validation "
            f"split, expected at least {NUM_STAGES} and 1: take another objective, or add scorings"
        )


def plain(held_out: HeldOut | None) -> dict[str, Any] | None:
    """For the trip to a worker."""
    return None if held_out is None else dataclasses.asdict(held_out)


def night_validation(
    held_out: dict[str, Any] | None,
    nights_uri: str,
    version: int,
    objective: MacroObjective,
    statistics: DemographicStatistics,
    settings: MacroPretrainConfig,
) -> Callable[[Engine], dict[str, float]] | None:
    """On a worker: the `validate` of what `plain` carried, or None."""
    if held_out is None:
        return None
    probe = ProbeNights(**held_out["probe"])

    def load(rows: Sequence[int]) -> list[MicroNight]:
        return read_micro_nights(lance_io.take_rows(nights_uri, list(rows), version=version))

    def read(rows: Sequence[int]) -> ReadNights:
        nights = load(rows)
        longest = max(len(night.micro) for night in nights)  # whole nights, as embedding reads them
        batch = macro_batch(nights, statistics, longest)
        return ReadNights(batch, [night.hypnogram for night in nights])

    def embed(batch: MacroBatch) -> tuple[Tensor, Tensor]:
        return objective.model.embed(batch.micro_BLMD, batch.modality_valid_BLM, batch.length_B)

    def contrasts() -> Iterator[MacroBatch]:
        for rows in held_out["contrasts"]:
            share = np.array_split(rows, collectives.num_workers())[collectives.rank()]
            nights = load(share.tolist())
            yield macro_batch(nights, statistics, settings.max_epochs, crop=settings.crop)

    return lambda engine: validate_macro(engine, objective, probe, read, embed, contrasts)
