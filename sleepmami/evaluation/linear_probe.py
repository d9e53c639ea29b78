"""Linear probes: a loss of scores plus a ridge penalty, brought to its minimum by L-BFGS.

L-BFGS goes in coordinates of `curvature.py`, in which it takes 5 to 25 passes over the rows. A
penalty is chosen on at most so many rows as the caller says; the probe is fitted on all.

Shapes: N rows, F features, O outputs.

Departures from the paper: Table 10 descends its losses by AdamW (weight decay 1e-4) under a cosine
for 3 passes. The losses are convex, so a penalty has one minimum, which is found here whatever the
order of batches; where three passes stop short of it, that is a regulariser, and its part is taken
by the penalty, chosen on subjects that were not fitted. Features are z-scored first, which Adam's
step per weight makes up for in part.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from scipy.optimize import OptimizeResult, minimize

from sleepmami.errors import TrainingError
from sleepmami.evaluation.curvature import (
    ROWS_AT_ONCE,
    even_coordinates,
    product,
    sampled_rows,
)
from sleepmami.evaluation.folds import subject_folds
from sleepmami.evaluation.metrics import Array, Floats, Ints

MAX_STEPS = 1000
PAST_STEPS = 20
PATH_TOLERANCE = 1e-6  # penalties differ by more than what is left then
TOLERANCE = {4: 1e-8, 8: 1e-11}  # by the bytes of a number: what its rounding leaves to be told


class Loss(Protocol):
    """A mean loss of the rows of a fit set, as a function of their scores."""

    has_intercept: bool  # whether it changes when the same number is added to all scores

    @property
    def num_outputs(self) -> int:
        """Scores per row."""

    def of(self, score_NO: Floats, rows: Ints) -> tuple[float, Floats]:
        """Loss of some rows, and its gradient by their scores [N, O]."""

    def curvature(self, score_NO: Floats, rows: Ints) -> Floats:
        """How much the loss of some rows bends with the scores of each [N], about, 0 or more."""

    def held_out(self, score_NO: Floats, fit_rows: Ints, held_rows: Ints) -> float:
        """Loss that held-out rows add, from the scores of all rows."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LinearProbe:
    """scores = (x - mean) / scale @ weight + bias.

    Attributes:
        mean_F: of the fit set.
        scale_F: standard deviations of the fit set; 1 where a feature never varies.
        weight_FO: on z-scored features.
        bias_O: minus infinity for a class that the fit set does not have.
    """

    mean_F: Array
    scale_F: Array
    weight_FO: Floats
    bias_O: Floats

    def scores(self, x_NF: Array) -> Floats:
        """Scores [N, O] of rows that are not z-scored."""
        return _scores(z_scored(x_NF, self.mean_F, self.scale_F), self.weight_FO, self.bias_O)


@dataclass(frozen=True, kw_only=True, slots=True)
class ProbeFit:
    """A probe and the penalty it was fitted with; `chosen` where other subjects chose it."""

    probe: LinearProbe
    penalty: float
    chosen: bool


def fit_probe(
    x_NF: Array,
    subject_N: Sequence[str] | Array,
    loss: Loss,
    *,
    penalties: Sequence[float],
    inner_folds: int,
    seed: int,
    max_choice_rows: int | None = None,
) -> ProbeFit:
    """Choose a penalty on subjects that are not fitted, then fit all rows with it.

    Each inner fold goes from the strongest penalty to the weakest, each fit beginning where the
    last one ended. With a single subject there is nobody to choose on, and the penalty is the
    middle one of the list.

    Args:
        x_NF: features, not z-scored; their width of float is kept.
        subject_N: whose each row is.
        loss: of the same rows.
        penalties: candidates, of half the squared weights.
        inner_folds: at most this many; fewer subjects make fewer.
        seed: of the inner folds, and of the rows to choose on.
        max_choice_rows: the penalty is chosen on about so many rows, an even share of each
            subject's; None, or where there are not more, on all. Where rows of a subject tell
            different things, fewer of them ask for a stronger penalty, by their share at most.

    Raises:
        TrainingError: the loss is not finite.
    """
    mean_F, scale_F = _moments(x_NF)
    z_NF = z_scored(x_NF, mean_F, scale_F)
    subjects, subject_N = np.unique(np.asarray(subject_N, dtype=str), return_inverse=True)
    num_folds = min(inner_folds, len(subjects))
    ordered = sorted(penalties, reverse=True)
    penalty, chosen = ordered[len(ordered) // 2], num_folds >= 2 and len(ordered) > 1
    if chosen:
        fold_N = subject_folds(subjects[subject_N].tolist(), num_folds, seed)
        rows = thinned(subject_N, max_choice_rows, seed)
        losses = [_path(z_NF, rows, fold_N == fold, loss, ordered) for fold in range(num_folds)]
        penalty = ordered[int(np.argmin(np.sum(losses, axis=0)))]
    weight_FO, bias_O = minimise(z_NF, np.arange(len(z_NF)), loss, penalty)
    probe = LinearProbe(mean_F=mean_F, scale_F=scale_F, weight_FO=weight_FO, bias_O=bias_O)
    return ProbeFit(probe=probe, penalty=penalty, chosen=chosen)


def thinned(subject_N: Ints, max_rows: int | None, seed: int) -> Ints:
    """Rows [R] in ascending order: the same share of each subject's, at least one; all if few."""
    num_rows = len(subject_N)
    if max_rows is None or num_rows <= max_rows:
        return np.arange(num_rows)
    shuffled = np.random.default_rng(seed).permutation(num_rows)
    ordered = shuffled[np.argsort(subject_N[shuffled], kind="stable")]
    count_S = np.bincount(subject_N)
    place_N = np.arange(num_rows) - np.repeat(np.cumsum(count_S) - count_S, count_S)
    kept_S = np.ceil(max_rows / num_rows * count_S)
    return np.sort(ordered[place_N < np.repeat(kept_S, count_S)])


def z_scored(x_NF: Array, mean_F: Array, scale_F: Array) -> Array:
    """In deviations of the fit set; the width of float is kept."""
    z_NF = x_NF - mean_F
    z_NF /= scale_F
    return z_NF


def _moments(x_NF: Array) -> tuple[Array, Array]:
    """Mean and deviation of each feature, in double precision without a copy of all rows."""
    mean_F = x_NF.mean(0, dtype=np.float64)
    square_F = np.zeros_like(mean_F)
    for first in range(0, len(x_NF), ROWS_AT_ONCE):
        square_F += np.square(x_NF[first : first + ROWS_AT_ONCE] - mean_F).sum(0)
    scale_F = np.sqrt(square_F / len(x_NF))
    scale_F = np.where(scale_F > 1e-6 * (np.abs(mean_F) + 1e-6), scale_F, 1.0)
    return mean_F.astype(x_NF.dtype), scale_F.astype(x_NF.dtype)


def _path(
    z_NF: Array, rows: Ints, held_N: Array, loss: Loss, penalties: Sequence[float]
) -> list[float]:
    """Held-out loss of each penalty, on some of the rows."""
    held_R = held_N[rows]
    fit_rows, held_rows = rows[~held_R], rows[held_R]
    fit_NF, held_NF, start, found = z_NF[fit_rows], z_NF[held_rows], None, []
    score_NO = np.zeros((len(z_NF), loss.num_outputs))
    for penalty in penalties:
        start = minimise(fit_NF, fit_rows, loss, penalty, start, PATH_TOLERANCE)
        score_NO[fit_rows] = _scores(fit_NF, *start)
        score_NO[held_rows] = _scores(held_NF, *start)
        found.append(loss.held_out(score_NO, fit_rows, held_rows))
    return found


def minimise(
    z_NF: Array,
    rows: Ints,
    loss: Loss,
    penalty: float,
    start: tuple[Floats, Floats] | None = None,
    tolerance: float | None = None,
) -> tuple[Floats, Floats]:
    """Weights [F, O] and biases [O] at the minimum of loss + penalty / 2 * |weights|^2.

    It ends where about `tolerance` of the value is left to gain, by the slope and the curvature;
    None is as little as the width of float allows.
    """
    tolerance = TOLERANCE[z_NF.itemsize] if tolerance is None else tolerance
    if len(z_NF) < z_NF.shape[1]:
        # weights across all rows only cost: look for them in the space that the rows span
        basis_FN, triangle_NN = np.linalg.qr(z_NF.T)
        if start is not None:
            start = basis_FN.T @ start[0], start[1]
        within_NO, bias_O = minimise(triangle_NN.T, rows, loss, penalty, start, tolerance)
        return np.asarray(basis_FN @ within_NO), bias_O
    num_features, num_outputs = z_NF.shape[1], loss.num_outputs
    first_GO = np.zeros((num_features + 1, num_outputs))
    if start is not None:
        first_GO[:-1], first_GO[-1] = start
        first_GO[~np.isfinite(first_GO)] = 0  # of a class without rows
    sample = sampled_rows(len(z_NF), num_features)
    score_NO = _scores(z_NF[sample], first_GO[:-1], first_GO[-1])
    curvature_N = loss.curvature(score_NO, rows[sample])
    even = even_coordinates(z_NF[sample], curvature_N, penalty, has_intercept=loss.has_intercept)
    left = np.inf

    def objective(even_GO: Floats) -> tuple[float, Floats]:
        nonlocal left
        weight_GO = even.weights(even_GO)
        weight_FO, bias_O = weight_GO[:-1], weight_GO[-1]
        value, slope_NO = loss.of(_scores(z_NF, weight_FO, bias_O), rows)
        value += penalty / 2 * float(np.square(weight_FO).sum())
        slope_FO = product(z_NF, slope_NO) + penalty * weight_FO
        slope_GO = even.slope(np.concatenate([slope_FO, slope_NO.sum(0)[None]]))
        left = float(np.square(slope_GO).sum()) / 2
        return value, slope_GO

    begun = objective(even.of(first_GO))
    # L-BFGS takes a first step of length 1: in this unit it is as long as the slope
    unit = float(np.linalg.norm(begun[1])) or 1.0
    start_P = even.of(first_GO).ravel() / unit

    def in_units(parameters: Floats) -> tuple[float, Floats]:
        even_GO = unit * parameters.reshape(-1, num_outputs)
        value, slope_GO = begun if np.array_equal(parameters, start_P) else objective(even_GO)
        return value, unit * slope_GO.ravel()

    def stop(intermediate_result: OptimizeResult) -> None:
        if left <= tolerance * abs(intermediate_result.fun):
            raise StopIteration

    # ftol: where the digits of the value end before
    options = {"maxiter": MAX_STEPS, "maxcor": PAST_STEPS, "ftol": tolerance / 100, "gtol": 0}
    found = minimize(in_units, start_P, jac=True, method="L-BFGS-B", callback=stop, options=options)
    if not np.isfinite(found.fun):
        raise TrainingError(
            f"found a probe loss of {found.fun} at penalty {penalty:g}; expected a finite one"
        )
    weight_GO = even.weights(unit * found.x.reshape(-1, num_outputs))
    return weight_GO[:-1], weight_GO[-1]


def _scores(z_NF: Array, weight_FO: Floats, bias_O: Floats) -> Floats:
    return np.asarray((z_NF @ weight_FO.astype(z_NF.dtype)).astype(np.float64) + bias_O)
