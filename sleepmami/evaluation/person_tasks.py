"""Age, BMI, AHI, sex and follow-up: a number per night from one vector of the night.

Shapes: N nights, F features, S subjects, B resamples.

A night is its night vector, or the mean of its valid epochs' micro or macro vectors, over which the
paper is silent. Of a person with several nights, age to sex take each night; follow-up takes the
first by its recording id, because times count from it and an event happens to a person once.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import expit

from sleepmami.config import Level, ProbeConfig, Task
from sleepmami.errors import TableError
from sleepmami.evaluation import metrics
from sleepmami.evaluation.bootstrap import Estimate, estimate, resampled_counts
from sleepmami.evaluation.cox import CoxLoss
from sleepmami.evaluation.embeddings import Embeddings, ProbeNight
from sleepmami.evaluation.folds import Fold
from sleepmami.evaluation.linear_probe import Loss, ProbeFit, fit_probe
from sleepmami.evaluation.metrics import Array, Bools, Floats, Ints
from sleepmami.evaluation.probe_losses import AbsoluteError, CrossEntropy, class_weights
from sleepmami.evaluation.results import Figure, FoldResult, PredictionSink

QUANTITIES = {"age": "age_years", "bmi": "bmi", "ahi": "ahi"}
SEXES = ("female", "male")


@dataclass(frozen=True, kw_only=True, slots=True)
class PersonAnswer:
    """Figures of one question; see ProbeResult."""

    num_events: int  # 0 where nothing happens
    figures: tuple[Figure, ...]
    folds: tuple[FoldResult, ...]


def night_features(
    embeddings: Embeddings, level: Level, places: Sequence[int]
) -> tuple[Array, Bools]:
    """Features [N, F] of nights in ascending places; False where no epoch of a night is valid."""
    rows, valid = [], []
    for vectors in embeddings.read(places, level):
        there = bool(vectors.valid_L.any())
        valid.append(there)
        kept = vectors.x_LF[vectors.valid_L] if there else np.zeros_like(vectors.x_LF[:1])
        rows.append(kept.mean(0, dtype=np.float64).astype(np.float32))
    return np.stack(rows), np.array(valid)


def labelled_nights(
    task: Task, nights: Sequence[ProbeNight], outcome: str
) -> tuple[list[int], Counter[str]]:
    """Numbers of the nights that a question can be asked of, and why not of the others."""
    usable: list[int] = []
    left_out: Counter[str] = Counter()
    followed: dict[str, str] = {}
    if task == "survival":
        for night in sorted(nights, key=lambda night: night.recording_id):
            followed.setdefault(str(night.subject_id), night.recording_id)
    for number, night in enumerate(nights):
        reason = None
        if task != "survival":
            known = night.sex in SEXES
            if task in QUANTITIES:
                known = getattr(night, QUANTITIES[task]) is not None
            reason = None if known else f"no {task}"
        elif followed[str(night.subject_id)] != night.recording_id:
            reason = f"later night of a person followed for {outcome}"
        else:
            found = [o for o in night.outcomes or () if o.name == outcome]
            reason = None if found else f"no follow-up of {outcome}"
            if found and found[0].prevalent:
                reason = f"{outcome} before the night"
        if reason:
            left_out[reason] += 1
        else:
            usable.append(number)
    return usable, left_out


def answer(
    task: Task,
    x_NF: Array,
    nights: Sequence[ProbeNight],
    folds: Sequence[Fold],
    config: ProbeConfig,
    outcome: str,
    sink: PredictionSink = None,
) -> PersonAnswer:
    """Fit and test the probes of one question.

    Args:
        task: one of people.
        x_NF: of `night_features`.
        nights: of `labelled_nights`.
        folds: of the nights.
        config: see ProbeConfig.
        outcome: of survival; empty for the others.
        sink: takes the predictions.

    Raises:
        TableError: nothing to tell apart in a fit set, or nobody to compare in the test sets.
    """
    subject_ids = np.array([str(night.subject_id) for night in nights])
    if task == "survival":
        asked: _Question = _FollowUp(nights, outcome)
    elif task == "sex":
        asked = _Sex(nights)
    else:
        asked = _Quantity(np.array([getattr(night, QUANTITIES[task]) for night in nights], float))
    guess_N, fold_N = np.full(len(nights), np.nan), np.full(len(nights), -1)
    results = []
    for number, fold in enumerate(folds):
        fit, test = np.flatnonzero(fold.fit_N), np.flatnonzero(fold.test_N)
        loss, read = asked.loss(fit)
        fitted = fit_probe(
            x_NF[fit].astype(np.float64),
            subject_ids[fit],
            loss,
            penalties=config.penalties,
            inner_folds=config.inner_folds,
            seed=config.seed,
        )
        guess_N[test], fold_N[test] = read(fitted.probe.scores(x_NF[test])), number
        results.append(_fold_result(outcome, fold, fitted, subject_ids))
    tested = np.flatnonzero(fold_N >= 0)
    names, subject_N = np.unique(subject_ids[tested], return_inverse=True)
    drawn_BS = resampled_counts(len(names), config.num_resamples, config.seed)
    values = asked.figures(tested, guess_N[tested], fold_N[tested], drawn_BS[:, subject_N])
    figures = {name: estimate(value_B, config.confidence) for name, value_B in values.items()}
    asked.require_defined(figures)
    if sink is not None:
        sink(
            {
                "recording_id": [nights[n].recording_id for n in tested.tolist()],
                "subject_id": subject_ids[tested].tolist(),
                **({"outcome": [outcome] * len(tested)} if outcome else {}),
                "fold": fold_N[tested].tolist(),
                **asked.truth(tested),
                asked.guess: guess_N[tested].tolist(),
            }
        )
    return PersonAnswer(
        num_events=asked.num_events(tested),
        figures=tuple(Figure(name, outcome, found) for name, found in figures.items()),
        folds=tuple(results),
    )


Read = Callable[[Floats], Floats]


class _Question(ABC):
    """A loss for each fit set, and figures of the guesses of all test sets."""

    guess = "guess"

    @abstractmethod
    def loss(self, fit: Ints) -> tuple[Loss, Read]:
        """What is fitted on some nights, and how the probe's scores are read."""

    @abstractmethod
    def figures(
        self, tested: Ints, guess_N: Floats, fold_N: Ints, weight_BN: Ints
    ) -> dict[str, Floats]:
        """Of the tested nights, each resample of them at once."""

    @abstractmethod
    def truth(self, tested: Ints) -> dict[str, list[str | int | float]]:
        """Columns of the predictions table."""

    def num_events(self, tested: Ints) -> int:
        return 0

    def require_defined(self, figures: dict[str, Estimate]) -> None:
        """Refuse a test set in which there is nothing to tell apart."""
        for name, found in figures.items():
            if not np.isfinite(found.value):
                raise TableError(
                    f"found nobody to compare in the test set, so that there is no {name}; "
                    "expected people of both kinds"
                )


class _Quantity(_Question):
    """Table 10's MAE, against the median of the fit set as the guess for everybody."""

    def __init__(self, value_N: Floats) -> None:
        self._value_N = value_N
        self._median_N = np.full(len(value_N), np.nan)

    def loss(self, fit: Ints) -> tuple[Loss, Read]:
        loss = AbsoluteError(self._value_N[fit])
        # of those the fold tests, that is, who is not fitted
        others = np.setdiff1d(np.arange(len(self._value_N)), fit)
        self._median_N[others] = loss.centre
        return loss, loss.quantity

    def figures(
        self, tested: Ints, guess_N: Floats, fold_N: Ints, weight_BN: Ints
    ) -> dict[str, Floats]:
        truth_N, weight = self._value_N[tested], weight_BN.astype(float)
        centre = float(truth_N.mean())
        sums_B = weight @ metrics.regression_sums(truth_N, guess_N, centre)
        median_B = weight @ metrics.regression_sums(truth_N, self._median_N[tested], centre)
        return {
            "mae": metrics.mean_absolute_error(sums_B),
            "r2": metrics.r_squared(sums_B),
            "mae_of_median": metrics.mean_absolute_error(median_B),
        }

    def truth(self, tested: Ints) -> dict[str, list[str | int | float]]:
        return {"truth": self._value_N[tested].tolist()}


class _Sex(_Question):
    """Cross entropy without weights; the guess is the probability of male."""

    guess = "p_male"

    def __init__(self, nights: Sequence[ProbeNight]) -> None:
        self._male_N = np.array([night.sex == "male" for night in nights])

    def loss(self, fit: Ints) -> tuple[Loss, Read]:
        target_N1 = self._male_N[fit, None].astype(np.int64)
        loss = CrossEntropy(target_N1, class_weights(target_N1, 2, "none"))
        return loss, lambda score_N2: np.asarray(expit(score_N2[:, 1] - score_N2[:, 0]))

    def figures(
        self, tested: Ints, guess_N: Floats, fold_N: Ints, weight_BN: Ints
    ) -> dict[str, Floats]:
        male_N = self._male_N[tested]
        right_N = (guess_N > 0.5) == male_N
        pairs = metrics.positive_before_negative(male_N, fold_N)
        return {
            "auroc": metrics.concordance(guess_N, pairs, weight_BN),
            "accuracy": (weight_BN @ right_N) / weight_BN.sum(1),
        }

    def truth(self, tested: Ints) -> dict[str, list[str | int | float]]:
        return {"truth": ["male" if male else "female" for male in self._male_N[tested]]}


class _FollowUp(_Question):
    """Eq. 7; the guess is h, the log of the relative hazard."""

    guess = "log_hazard"

    def __init__(self, nights: Sequence[ProbeNight], outcome: str) -> None:
        found = [next(o for o in n.outcomes or () if o.name == outcome) for n in nights]
        self._time_N = np.array([o.time_days for o in found], float)
        self._event_N = np.array([o.event for o in found], np.bool_)

    def loss(self, fit: Ints) -> tuple[Loss, Read]:
        loss = CoxLoss(self._time_N[fit], self._event_N[fit])
        return loss, lambda score_N1: np.asarray(score_N1[:, 0])

    def figures(
        self, tested: Ints, guess_N: Floats, fold_N: Ints, weight_BN: Ints
    ) -> dict[str, Floats]:
        pairs = metrics.earlier_event_first(self._time_N[tested], self._event_N[tested], fold_N)
        return {"c_index": metrics.concordance(guess_N, pairs, weight_BN)}

    def num_events(self, tested: Ints) -> int:
        return int(self._event_N[tested].sum())

    def truth(self, tested: Ints) -> dict[str, list[str | int | float]]:
        return {
            "event": self._event_N[tested].astype(int).tolist(),
            "time_days": self._time_N[tested].tolist(),
        }


def _fold_result(group: str, fold: Fold, fitted: ProbeFit, subject_ids: Array) -> FoldResult:
    return FoldResult(
        group=group,
        num_fit_subjects=len(np.unique(subject_ids[fold.fit_N])),
        num_fit_rows=int(fold.fit_N.sum()),
        num_test_subjects=len(np.unique(subject_ids[fold.test_N])),
        penalty=fitted.penalty,
        penalty_chosen=fitted.chosen,
    )
