"""How much better one model is than another on the same people, from both models' predictions.

Both models' figures are computed of the same resamples of subjects, so that what is hard about a
subject for both falls out of the difference. Rows that only one of the two predicted are left out.
Shapes: S subjects, B resamples, R rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sleepmami.errors import TableError
from sleepmami.evaluation import metrics
from sleepmami.evaluation.bootstrap import Estimate, estimate, resampled_counts
from sleepmami.evaluation.metrics import Floats, Ints

ROW_KEYS = ("recording_id", "epoch", "second")
GUESS_COLUMNS = ("guess", "p_male", "log_hazard")
Columns = Mapping[str, Sequence[str]]
NUM_RESAMPLES = 1000


@dataclass(frozen=True, kw_only=True, slots=True)
class Difference:
    """A figure of one model minus that of another.

    Attributes:
        figure: that is compared.
        estimate: of the difference, over subjects.
        num_subjects: that both were tested on.
    """

    figure: str
    estimate: Estimate
    num_subjects: int


def difference(
    task: str, one: Columns, other: Columns, confidence: float, outcome: str = ""
) -> Difference | None:
    """Of macro F1, error, AUROC or C-index, by the task; None without a row in common.

    Args:
        task: of the predictions; not few-shot, which has none.
        one: predictions of one model, as `probe --csv` writes them.
        other: of the other model.
        confidence: of the interval.
        outcome: of survival; empty for the others.

    Raises:
        TableError: the two name different truths for a row, or columns are missing.
    """
    one, other = _of(one, outcome), _of(other, outcome)
    rows, truth, guesses, fold_R = _common(one, other)
    if not rows:
        return None
    subjects, subject_R = np.unique([one["subject_id"][r] for r in rows], return_inverse=True)
    drawn_BS = resampled_counts(len(subjects), NUM_RESAMPLES, 0)
    if task in ("staging", "apnea"):
        name, values = "macro_f1", [_macro_f1(truth, g, subject_R, drawn_BS) for g in guesses]
    elif task in ("age", "bmi", "ahi"):
        errors = [np.abs(np.asarray(g, float) - np.asarray(truth, float)) for g in guesses]
        weight_BR = drawn_BS[:, subject_R]
        name, values = "mae", [weight_BR @ error_R / weight_BR.sum(1) for error_R in errors]
    else:
        if task == "sex":
            male_R = np.asarray(truth) == "male"
            name, pairs = "auroc", metrics.positive_before_negative(male_R, fold_R)
        else:
            event_R = np.array([one["event"][r] == "1" for r in rows])
            time_R = np.array([float(one["time_days"][r]) for r in rows])
            name, pairs = "c_index", metrics.earlier_event_first(time_R, event_R, fold_R)
        weight_BR = drawn_BS[:, subject_R]
        values = [metrics.concordance(np.asarray(g, float), pairs, weight_BR) for g in guesses]
    return Difference(
        figure=name,
        estimate=estimate(values[0] - values[1], confidence),
        num_subjects=len(subjects),
    )


def _common(
    one: Columns, other: Columns
) -> tuple[list[int], list[str], tuple[list[str], list[str]], Ints]:
    """Rows of `one` that are in both, their truth, both models' guesses, and the fold in both."""
    place = {key: number for number, key in enumerate(_keys(other))}
    pairs = [(row, place[key]) for row, key in enumerate(_keys(one)) if key in place]
    truths, their_truths = _truths(one), _truths(other)
    truth = [truths[row] for row, _ in pairs]
    for row, twin in pairs:
        if truths[row] != their_truths[twin]:
            raise TableError(
                f"found truth {truths[row]!r} and {their_truths[twin]!r} for the same row "
                f"of {one['recording_id'][row]}; expected predictions of the same labels"
            )
    guesses = (
        [_guess(one)[row] for row, _ in pairs],
        [_guess(other)[twin] for _, twin in pairs],
    )
    folds = [f"{_fold(one, row)} {_fold(other, twin)}" for row, twin in pairs]
    fold_R = np.unique(folds, return_inverse=True)[1]
    return [row for row, _ in pairs], truth, guesses, fold_R


def _fold(columns: Columns, row: int) -> str:
    return columns["fold"][row] if "fold" in columns else ""


def _of(columns: Columns, outcome: str) -> Columns:
    """The rows of one outcome; all of them where none is named."""
    if not outcome:
        return columns
    chosen = [row for row, name in enumerate(columns["outcome"]) if name == outcome]
    return {name: [values[row] for row in chosen] for name, values in columns.items()}


def _truths(columns: Columns) -> Sequence[str]:
    if "truth" in columns:
        return columns["truth"]
    pairs = zip(columns["event"], columns["time_days"], strict=True)
    return [f"event {event}, {days} days" for event, days in pairs]


def _keys(columns: Columns) -> list[tuple[str, ...]]:
    return list(zip(*(columns[name] for name in ROW_KEYS if name in columns), strict=True))


def _guess(columns: Columns) -> Sequence[str]:
    for name in GUESS_COLUMNS:
        if name in columns:
            return columns[name]
    raise TableError(f"found columns {sorted(columns)}; expected one of {GUESS_COLUMNS}")


def _macro_f1(
    truth: Sequence[str], guess: Sequence[str], subject_R: Ints, drawn_BS: Ints
) -> Floats:
    classes = np.unique([*truth, *guess])
    truth_R, guess_R = np.searchsorted(classes, truth), np.searchsorted(classes, guess)
    num_classes, num_subjects = len(classes), drawn_BS.shape[1]
    flat_R = (subject_R * num_classes + truth_R) * num_classes + guess_R
    counts = np.bincount(flat_R, minlength=num_subjects * num_classes**2)
    summed = drawn_BS @ counts.reshape(num_subjects, -1)
    return metrics.macro_f1(summed.reshape(len(drawn_BS), num_classes, num_classes))
