"""How much of people and of sleep the Macro-Encoder's vectors hold, on nights it never trained on.

The contrastive loss can be low for vectors that say nothing, and its lowest possible value moves
with v and lambda_sex. Probes do not: ridge regressions are fitted on the vectors of training nights
and scored on those of the validation split, so that a collapsed encoder scores 0 in age and 0.5 in
sex. They are fitted on training nights, and not by turns inside the validation split, because that
holds a tenth of the people in a small cohort: enough to score with, too few to fit 1024 weights.

- `validation/age_r2`: share of the variance of age explained, from night vectors.
- `validation/sex_auroc`: chance that a woman's night scores above a man's.
- `validation/probe`: mean of age_r2 and 2 sex_auroc - 1; 0 is chance and 1 is perfect in both.
- `validation/stage_macro_f1`: five stages, from epoch vectors; absent where nights are not scored.
- `validation/dgcl_excess`: the loss of eq. 6 above its lowest possible value, on validation nights.

Shapes: N nights, P epochs taken of each, D width of a vector (both directions), B nights of a
batch.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sleepmami.errors import TrainingError
from sleepmami.psg import Stage
from sleepmami.training import collectives
from sleepmami.training.batches import MacroBatch
from sleepmami.training.engine import Engine
from sleepmami.training.macro_objective import MacroObjective
from sleepmami.training.prefetch import prefetched
from sleepmami.training.probes import auroc, macro_f1, r_squared, ridge, ridge_classes

VALIDATION_SEED = 8  # of the choice of nights
MIN_SUBJECTS = 8  # of each side of a probe; R2 over fewer is noise
MIN_OF_A_SEX = 2
EMBED_NIGHTS = 8  # at once; the same on any number of workers, and so are the vectors
STAGE_EPOCHS = 20_000  # of both sides together, at most
EPOCHS_PER_NIGHT = 64
NUM_STAGES = 5


class ReadNights(NamedTuple):
    """Some nights as the model reads them, and int8 stages of each; None where not scored."""

    batch: MacroBatch
    hypnograms: list[NDArray[np.int8] | None]


Read = Callable[[Sequence[int]], ReadNights]  # rows of the table, in that order
Embed = Callable[[MacroBatch], tuple[Tensor, Tensor]]  # -> macro_BLD, night_BD


@dataclass(frozen=True, kw_only=True, slots=True)
class ProbeNights:
    """Nights that probes read, one a subject: the first `num_fit` to fit on, the rest to score.

    `row` is each night's place in the table.
    """

    row: list[int]
    num_epochs: list[int]
    age_years: list[float]
    female: list[bool]
    num_fit: int

    def __post_init__(self) -> None:
        sides = {"train": slice(self.num_fit), "validation": slice(self.num_fit, None)}
        for split, part in sides.items():
            _require_people(split, self.age_years[part], self.female[part])


def _require_people(split: str, age_years: list[float], female: list[bool]) -> None:
    number, women, ages = len(female), sum(female), len(set(age_years))
    if number < MIN_SUBJECTS or min(women, number - women) < MIN_OF_A_SEX or ages < 2:
        raise TrainingError(
            f"loop.validate_every: found {number} subjects of the {split} split with age, sex and "
            f"a vector, {women} of them women, of {ages} different ages; expected at least "
            f"{MIN_SUBJECTS}, {MIN_OF_A_SEX} of each sex, of different ages: set it to 0, or make "
            "the validation split larger"
        )


def validate_macro(
    engine: Engine,
    objective: MacroObjective,
    nights: ProbeNights,
    read: Read,
    embed: Embed,
    contrasts: Callable[[], Iterator[MacroBatch]],
) -> dict[str, float]:
    """Scores of the probes and the held-out excess; the same numbers on every worker.

    Args:
        engine: trains `objective`; left as it is found.
        objective: whose model makes the vectors.
        nights: to probe.
        read: rows of the table -> nights.
        embed: nights on the engine's device -> vectors of epochs and nights, by `objective.model`.
        contrasts: this worker's share of each batch of validation nights, all of one size.

    Raises:
        TrainingError: on every worker, when a vector or a score is not finite.
    """
    with engine.evaluating():
        vectors = _embed(engine, objective, nights, read, embed)
        if not all(np.isfinite(part).all() for part in vectors):
            raise TrainingError(
                f"step {engine.step}: found vectors of validation nights that are not finite, "
                "expected finite ones to probe"
            )
        scores = _probe(nights, *vectors)
        excess = []
        for batch in contrasts():
            _, metrics = objective(batch.to(engine.device), engine.step)
            excess.append(float(metrics["loss/excess"]))
    scores["validation/dgcl_excess"] = float(np.mean(excess))
    # Vectors are the same on all workers; the last bits of a product may not be on two processors.
    of_first = torch.tensor(list(scores.values()), dtype=torch.float64, device=engine.device)
    if collectives.rank():
        of_first.zero_()
    values = collectives.sum_over_workers(of_first).tolist()
    if not np.isfinite(values).all():
        raise TrainingError(
            f"step {engine.step}: found validation scores {scores}, expected finite ones"
        )
    return dict(zip(scores, values, strict=True))


def _probe(
    nights: ProbeNights,
    night_ND: NDArray[np.float64],
    epoch_NPD: NDArray[np.float64],
    stage_NP: NDArray[np.int64],
) -> dict[str, float]:
    fit, score = slice(nights.num_fit), slice(nights.num_fit, None)
    age_N, female_N = np.array(nights.age_years, np.float64), np.array(nights.female)
    known_NK = np.stack([age_N, female_N.astype(np.float64)], axis=1)
    age_T, female_T = (
        ridge(night_ND[fit], known_NK[fit, k : k + 1], night_ND[score])[:, 0] for k in range(2)
    )
    r2, area = r_squared(age_N[score], age_T), auroc(female_N[score], female_T)
    scores = {
        "validation/age_r2": r2,
        "validation/sex_auroc": area,
        "validation/probe": (r2 + 2 * area - 1) / 2,
    }
    scored_NP = stage_NP != Stage.UNKNOWN
    if scored_NP[fit].sum() >= NUM_STAGES and scored_NP[score].any():
        guess = ridge_classes(
            epoch_NPD[fit][scored_NP[fit]],
            stage_NP[fit][scored_NP[fit]],
            epoch_NPD[score][scored_NP[score]],
            NUM_STAGES,
        )
        scores["validation/stage_macro_f1"] = macro_f1(stage_NP[score][scored_NP[score]], guess)
    return scores


def _embed(
    engine: Engine,
    objective: MacroObjective,
    nights: ProbeNights,
    read: Read,
    embed: Embed,
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    """Night vectors [N, D], vectors of some scored epochs [N, P, D], and their stages [N, P].

    Each worker embeds its share of the batches; places of the others' nights are zeros until the
    sum over workers, which is therefore exact.
    """
    num_nights = len(nights.row)
    num_epochs = max(1, min(EPOCHS_PER_NIGHT, STAGE_EPOCHS // num_nights))
    by_length = np.argsort(nights.num_epochs, kind="stable")
    batches = np.array_split(by_length, -(-num_nights // EMBED_NIGHTS))
    mine = batches[collectives.rank() :: collectives.num_workers()]
    dim = 2 * objective.model.projection.out_features
    night_ND = torch.zeros(num_nights, dim)
    epoch_NPD = torch.zeros(num_nights, num_epochs, dim)
    stage_NP = torch.zeros(num_nights, num_epochs, dtype=torch.int64)  # stage + 1, 0 is unknown
    with contextlib.closing(prefetched(_read_each(read, nights, mine))) as stored:
        for chosen, (batch, hypnograms) in stored:
            macro_BLD, vector_BD = embed(batch.to(engine.device))
            night_ND[chosen] = vector_BD.float().cpu()
            lengths = batch.length_B.tolist()
            for row, index in enumerate(chosen.tolist()):
                taken, stages = _scored_epochs(hypnograms[row], lengths[row], num_epochs)
                vectors_PD = macro_BLD[row, taken.to(engine.device)]
                epoch_NPD[index, : len(taken)] = vectors_PD.float().cpu()
                stage_NP[index, : len(taken)] = stages + 1
    whole = (
        collectives.sum_over_workers(part.to(engine.device)).cpu()
        for part in (night_ND, epoch_NPD, stage_NP)
    )
    night_ND, epoch_NPD, stage_NP = whole
    return night_ND.double().numpy(), epoch_NPD.double().numpy(), stage_NP.numpy() - 1


def _read_each(
    read: Read, nights: ProbeNights, batches: list[NDArray[np.int64]]
) -> Iterator[tuple[NDArray[np.int64], ReadNights]]:
    for chosen in batches:
        yield chosen, read([nights.row[index] for index in chosen])


def _scored_epochs(
    hypnogram: NDArray[np.int8] | None, length: int, num_epochs: int
) -> tuple[Tensor, Tensor]:
    """At most `num_epochs` scored epochs, evenly over the first `length`, and their stages."""
    stages = np.empty(0, np.int64) if hypnogram is None else hypnogram[:length].astype(np.int64)
    scored = np.flatnonzero(stages != Stage.UNKNOWN)
    if len(scored) > num_epochs:
        scored = scored[np.linspace(0, len(scored) - 1, num_epochs).round().astype(np.int64)]
    return torch.from_numpy(scored), torch.from_numpy(stages[scored])
