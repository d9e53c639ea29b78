"""How much better one model is than another on the same people, from both models' predictions.

Both models' figures are computed of the same resamples of subjects, so that what is hard about a
subject for both falls out of the difference. Rows that only one of the two predicted are left out.
Shapes: S subjects, B resamples, R rows, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from sleepmami.errors import TableError
from sleepmami.evaluation import metrics
from sleepmami.evaluation.bootstrap import Estimate, estimate, resampled_counts
from sleepmami.evaluation.metrics import Array, Floats, Ints
from sleepmami.evaluation.predictions import Names, Predictions

ROW_NUMBERS = ("epoch", "second")  # with recording_id what a row is of
GUESS_COLUMNS = ("guess", "p_male", "log_hazard")
NUM_RESAMPLES = 1000
ROWS_AT_ONCE = 1_000_000
RowFigure = Literal["mae", "r2", "auroc"]


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
    task: str, one: Predictions, other: Predictions, confidence: float, outcome: str = ""
) -> Difference | None:
    """One model's headline figure minus the other's; None where they have no row in common.

    Args:
        task: of the predictions; not few-shot, which has none.
        one: predictions of one model.
        other: of the other model.
        confidence: of the interval.
        outcome: of survival; empty for the others.

    Raises:
        TableError: the two name different truths for a row, or a row twice, or columns are missing.
    """
    one, other = one.of_outcome(outcome), other.of_outcome(outcome)
    pairs = _Pairs.of(one, other)
    pairs.require_same_truth()
    if not len(pairs.one):
        return None
    subject_R, num_subjects = _subjects(pairs.one.texts["subject_id"])
    drawn_BS = resampled_counts(num_subjects, NUM_RESAMPLES, 0)
    if task in ("staging", "apnea"):
        name, values = "macro_f1", [counts_figure(c, drawn_BS) for c in pairs.counts(subject_R)]
    else:
        weight_BR, guesses = drawn_BS[:, subject_R], [_guess(side) for side in pairs.both]
        if task in ("age", "bmi", "ahi"):
            name, truth_R = "mae", pairs.one.numbers["truth"]
            values = [rows_figure("mae", truth_R, g, weight_BR) for g in guesses]
        elif task == "sex":
            name, truth_R = "auroc", pairs.one.texts["truth"].codes_in(("male",)) == 0
            values = [rows_figure("auroc", truth_R, g, weight_BR, pairs.fold_R) for g in guesses]
        else:
            time_R, event_R = pairs.one.numbers["time_days"], pairs.one.numbers["event"] == 1
            found = metrics.earlier_event_first(time_R, event_R, pairs.fold_R)
            name, values = "c_index", [metrics.concordance(g, found, weight_BR) for g in guesses]
    return Difference(
        figure=name,
        estimate=less(values[:1], values[1:], confidence),
        num_subjects=num_subjects,
    )


def counts_figure(counts_SCC: Array, drawn_BS: Ints) -> Floats:
    """Macro F1 of each resample [B], of each subject's counts of truth and guess."""
    num_subjects, num_classes, _ = counts_SCC.shape
    summed = drawn_BS @ counts_SCC.reshape(num_subjects, -1)
    return metrics.macro_f1(summed.reshape(len(drawn_BS), num_classes, num_classes))


def rows_figure(
    figure: RowFigure, truth_R: Array, guess_R: Array, weight_BR: Ints, fold_R: Ints | None = None
) -> Floats:
    """A figure of quantities or of two classes, of each resample [B].

    Args:
        figure: which.
        truth_R: a quantity; of auroc whether a row is of the class that ought to score higher.
        guess_R: of the same rows.
        weight_BR: how often each resample has each row.
        fold_R: of auroc: only scores of one fold are compared; None where there is one.
    """
    if figure == "auroc":
        fold_R = np.zeros(len(guess_R), np.int64) if fold_R is None else fold_R
        pairs = metrics.positive_before_negative(truth_R, fold_R)
        return metrics.concordance(guess_R, pairs, weight_BR)
    sums_B = weight_BR @ metrics.regression_sums(truth_R, guess_R, float(truth_R.mean()))
    return metrics.mean_absolute_error(sums_B) if figure == "mae" else metrics.r_squared(sums_B)


def less(one: Sequence[Floats], other: Sequence[Floats], confidence: float) -> Estimate:
    """A figure of one model minus another's, of the same resamples [B]; of seeds, their means."""
    return estimate(np.mean(one, axis=0) - np.mean(other, axis=0), confidence)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Pairs:
    """The rows that both models predicted, in the same order."""

    one: Predictions
    other: Predictions

    @classmethod
    def of(cls, one: Predictions, other: Predictions) -> _Pairs:
        if _same_rows(one, other):  # as two probes of one split write them
            return cls(one=one, other=other)
        keys = _keys(one, other)
        for key_R, table in zip(keys, (one, other), strict=True):
            _require_once(key_R, table)
        _, rows, twins = np.intersect1d(*keys, assume_unique=True, return_indices=True)
        order = np.argsort(rows)
        return cls(one=one.where(rows[order]), other=other.where(twins[order]))

    @property
    def both(self) -> tuple[Predictions, Predictions]:
        return self.one, self.other

    @property
    def fold_R(self) -> Ints:
        """A number for each pair of folds."""
        zero = np.zeros(len(self.one), np.int64)
        mine, theirs = (side.numbers.get("fold", zero).astype(np.int64) for side in self.both)
        return np.asarray(mine * (int(theirs.max(initial=0)) + 1) + theirs)

    def require_same_truth(self) -> None:
        for name in ("truth", "event", "time_days"):
            if name in self.one.texts:
                mine, theirs = (side.texts[name] for side in self.both)
                differ_R = mine.code_R != theirs.codes_in(mine.names)
            elif name in self.one.numbers:
                differ_R = self.one.numbers[name] != self.other.numbers[name]
            else:
                continue
            if differ_R.any():
                row = int(np.argmax(differ_R))
                found, other = (_shown(side, name, row) for side in self.both)
                raise TableError(
                    f"found {name} {found!r} and {other!r} for the same row of "
                    f"{_shown(self.one, 'recording_id', row)}; expected predictions of the same "
                    "labels"
                )

    def counts(self, subject_R: Ints) -> list[Ints]:
        """Of each subject and both models, truth and guess [S, C, C]."""
        columns = [self.one.texts["truth"], *(_classes(side) for side in self.both)]
        classes = tuple(dict.fromkeys(name for column in columns for name in column.names))
        size, num_subjects = len(classes), int(subject_R.max()) + 1
        counts = [np.zeros(num_subjects * size**2, np.int64) for _ in self.both]
        for first in range(0, len(subject_R), ROWS_AT_ONCE):
            part = slice(first, first + ROWS_AT_ONCE)
            truth_R, *guesses = (
                Names(names=c.names, code_R=c.code_R[part]).codes_in(classes) for c in columns
            )
            for own, guess_R in zip(counts, guesses, strict=True):
                flat_R = (subject_R[part] * size + truth_R) * size + guess_R
                own += np.bincount(flat_R, minlength=len(own))
        return [own.reshape(num_subjects, size, size) for own in counts]


def _same_rows(one: Predictions, other: Predictions) -> bool:
    mine, theirs = (side.texts["recording_id"] for side in (one, other))
    numbers = [[side.numbers.get(name) for name in ROW_NUMBERS] for side in (one, other)]
    return (
        mine.names == theirs.names
        and np.array_equal(mine.code_R, theirs.code_R)
        and all(
            (a is None and b is None) or (a is not None and b is not None and np.array_equal(a, b))
            for a, b in zip(*numbers, strict=True)
        )
    )


def _keys(one: Predictions, other: Predictions) -> tuple[Ints, Ints]:
    """A number for each row, the same for the same row of both; of both models' recordings."""
    recordings = [side.texts["recording_id"] for side in (one, other)]
    names = tuple(dict.fromkeys(name for column in recordings for name in column.names))
    keys = [column.codes_in(names) for column in recordings]
    for name in ROW_NUMBERS:
        columns = [side.numbers.get(name) for side in (one, other)]
        if any(column is not None for column in columns):
            known = [column for column in columns if column is not None]
            size = max(int(column.max(initial=0)) for column in known) + 2
            # a table without the column has rows of something else: -1
            keys = [
                key * size + (0 if column is None else column.astype(np.int64) + 1)
                for key, column in zip(keys, columns, strict=True)
            ]
    return keys[0], keys[1]


def _require_once(key_R: Ints, table: Predictions) -> None:
    if (np.diff(key_R) > 0).all():
        return
    ordered = np.argsort(key_R, kind="stable")
    again_R = np.diff(key_R[ordered]) == 0
    if again_R.any():
        row = int(ordered[1:][again_R][0])
        raise TableError(
            f"found the same row of {_shown(table, 'recording_id', row)} twice; expected one "
            "prediction of each"
        )


def _subjects(column: Names) -> tuple[Ints, int]:
    """The number of each row's subject among those there are, by their names, and how many."""
    there = np.flatnonzero(np.bincount(column.code_R, minlength=len(column.names)))
    place = np.zeros(len(column.names), np.int64)
    place[sorted(there.tolist(), key=lambda code: column.names[code])] = np.arange(len(there))
    return place[column.code_R], len(there)


def _classes(columns: Predictions) -> Names:
    if "guess" not in columns.texts:
        raise TableError(f"found columns {sorted(columns.columns)}; expected a guess")
    return columns.texts["guess"]


def _guess(columns: Predictions) -> Floats:
    for name in GUESS_COLUMNS:
        if name in columns.numbers:
            return np.asarray(columns.numbers[name], np.float64)
    raise TableError(f"found columns {sorted(columns.columns)}; expected one of {GUESS_COLUMNS}")


def _shown(columns: Predictions, name: str, row: int) -> str:
    if name in columns.texts:
        found = columns.texts[name]
        return found.names[int(found.code_R[row])]
    return f"{columns.numbers[name][row]:g}"
