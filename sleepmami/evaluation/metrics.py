"""Figures of a probe, for one set of subjects or for many resamples of it at once.

Everything is computed from sums that add up over subjects, so that a resample costs one product:
confusion counts [..., C, C] (truth, guess), `regression_sums` [..., 5], and pairs with weights.
Shapes: N nights or epochs, C classes, B resamples. A figure that is not defined is NaN.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int64]
Bools: TypeAlias = NDArray[np.bool_]
Array: TypeAlias = NDArray[Any]  # of either width of float, as the table stores it

PAIRS_AT_ONCE = 4_000_000  # 32 MB of float64


def confusion(truth_N: Array, guess_N: Array, num_classes: int) -> Ints:
    """Counts [C, C]: rows are the truth, columns the guess."""
    cell_N = truth_N.astype(np.int64).ravel() * num_classes + guess_N.astype(np.int64).ravel()
    counts: Ints = np.bincount(cell_N, minlength=num_classes**2)
    return counts.reshape(num_classes, num_classes)


def accuracy(counts: Array) -> Floats:
    """Share of the diagonal."""
    return _ratio(np.trace(counts, axis1=-2, axis2=-1), counts.sum((-2, -1)))


def class_f1(counts: Array) -> Floats:
    """F1 per class [..., C]; NaN for a class that neither occurs nor is guessed."""
    hits = np.diagonal(counts, axis1=-2, axis2=-1)
    return _ratio(2.0 * hits, counts.sum(-1) + counts.sum(-2))


def macro_f1(counts: Array) -> Floats:
    """Mean F1 over the classes that occur or are guessed, as scikit-learn's."""
    f1 = class_f1(counts)
    return _ratio(np.nansum(f1, -1), np.isfinite(f1).sum(-1))


def kappa(counts: Array) -> Floats:
    """Cohen's kappa."""
    total = counts.sum((-2, -1))
    by_chance = _ratio((counts.sum(-1) * counts.sum(-2)).sum(-1), np.square(total.astype(float)))
    return _ratio(accuracy(counts) - by_chance, 1 - by_chance)


def regression_sums(truth_N: Floats, guess_N: Floats, centre: float) -> Floats:
    """Per night [N, 5]: one, absolute error, squared error, truth and its square.

    Args:
        truth_N: what is true.
        guess_N: what the probe says.
        centre: taken off the truth first, so that squares do not cancel; any number near its mean.
    """
    error_N, centred_N = guess_N - truth_N, truth_N - centre
    columns = (np.ones_like(error_N), np.abs(error_N), error_N**2, centred_N, centred_N**2)
    return np.stack(columns, axis=-1)


def mean_absolute_error(sums: Floats) -> Floats:
    """In the unit of the truth."""
    return _ratio(sums[..., 1], sums[..., 0])


def r_squared(sums: Floats) -> Floats:
    """Explained share of the variance; negative where the mean would have been the better guess."""
    spread = sums[..., 4] - _ratio(np.square(sums[..., 3]), sums[..., 0])
    return 1 - _ratio(sums[..., 2], np.where(spread > 1e-12 * sums[..., 4], spread, 0))


def concordance(
    score_N: Floats,
    precedes: Callable[[slice], Bools],
    weight_BN: Array,
) -> Floats:
    """Share of the pairs (i, j), where i ought to score higher than j, in which it does: [B].

    Equal scores count half. A night of weight 2 is there twice.

    Args:
        score_N: of each night.
        precedes: for some rows i, which pairs [rows, N] count.
        weight_BN: how often each resample has each night.
    """
    num = len(score_N)
    weight_BN = weight_BN.astype(np.float64)
    right_B, all_B = np.zeros(len(weight_BN)), np.zeros(len(weight_BN))
    step = max(1, PAIRS_AT_ONCE // max(num, 1))
    for first in range(0, num, step):
        rows = slice(first, min(first + step, num))
        pairs_RN = precedes(rows).astype(np.float64)
        own_R, other_N = score_N[rows, None], score_N[None, :]
        right_RN = pairs_RN * ((own_R > other_N) + 0.5 * (own_R == other_N))
        mine_BR = weight_BN[:, rows]
        right_B += (mine_BR * (weight_BN @ right_RN.T)).sum(1)
        all_B += (mine_BR * (weight_BN @ pairs_RN.T)).sum(1)
    return _ratio(right_B, all_B)


def positive_before_negative(positive_N: Bools, fold_N: Ints) -> Callable[[slice], Bools]:
    """Pairs of the AUROC; scores of two folds are of two probes and are not compared."""

    def precedes(rows: slice) -> Bools:
        same_RN = fold_N[rows, None] == fold_N[None, :]
        pairs_RN: Bools = positive_N[rows, None] & ~positive_N[None, :] & same_RN
        return pairs_RN

    return precedes


def earlier_event_first(time_N: Floats, event_N: Bools, fold_N: Ints) -> Callable[[slice], Bools]:
    """Pairs of Harrell's C-index: i had the event while j was known to be without it.

    At equal times an event precedes a censoring, and two events are not compared. Scores of two
    folds are of two probes and are not compared.
    """

    def precedes(rows: slice) -> Bools:
        mine_R1, theirs_1N = time_N[rows, None], time_N[None, :]
        later_RN = (theirs_1N > mine_R1) | ((theirs_1N == mine_R1) & ~event_N[None, :])
        same_RN = fold_N[rows, None] == fold_N[None, :]
        pairs_RN: Bools = event_N[rows, None] & later_RN & same_RN
        return pairs_RN

    return precedes


def _ratio(over: Array, under: Array) -> Floats:
    over, under = np.asarray(over, np.float64), np.asarray(under, np.float64)
    undefined: Floats = np.full(np.broadcast(over, under).shape, np.nan)
    return np.divide(over, under, out=undefined, where=under != 0)
