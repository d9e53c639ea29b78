"""Linear probes: a loss of scores plus a ridge penalty, brought to its minimum by L-BFGS.

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
from scipy.optimize import minimize

from sleepmami.errors import TrainingError
from sleepmami.evaluation.folds import subject_folds
from sleepmami.evaluation.metrics import Array, Floats, Ints

MAX_STEPS = 1000
PAST_STEPS = 20
PATH_TOLERANCE = 1e-6  # penalties differ by more than what is left then


class Loss(Protocol):
    """A mean loss of the rows of a fit set, as a function of their scores."""

    @property
    def num_outputs(self) -> int:
        """Scores per row."""

    def of(self, score_NO: Floats, rows: Ints) -> tuple[float, Floats]:
        """Loss of some rows, and its gradient by their scores [N, O]."""

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
        seed: of the inner folds.

    Raises:
        TrainingError: the loss is not finite.
    """
    mean_F, scale_F = x_NF.mean(0, dtype=np.float64), x_NF.std(0, dtype=np.float64)
    scale_F = np.where(scale_F > 1e-6 * (np.abs(mean_F) + 1e-6), scale_F, 1.0)
    mean_F, scale_F = mean_F.astype(x_NF.dtype), scale_F.astype(x_NF.dtype)
    z_NF = z_scored(x_NF, mean_F, scale_F)
    subject_ids = [str(subject) for subject in subject_N]
    num_folds = min(inner_folds, len(set(subject_ids)))
    ordered = sorted(penalties, reverse=True)
    penalty, chosen = ordered[len(ordered) // 2], num_folds >= 2 and len(ordered) > 1
    if chosen:
        fold_N = subject_folds(subject_ids, num_folds, seed)
        losses = [_path(z_NF, fold_N == fold, loss, ordered) for fold in range(num_folds)]
        penalty = ordered[int(np.argmin(np.sum(losses, axis=0)))]
    weight_FO, bias_O = minimise(z_NF, np.arange(len(z_NF)), loss, penalty)
    probe = LinearProbe(mean_F=mean_F, scale_F=scale_F, weight_FO=weight_FO, bias_O=bias_O)
    return ProbeFit(probe=probe, penalty=penalty, chosen=chosen)


def z_scored(x_NF: Array, mean_F: Array, scale_F: Array) -> Array:
    """In deviations of the fit set; the width of float is kept."""
    return (x_NF - mean_F) / scale_F


def _path(z_NF: Array, held_N: Array, loss: Loss, penalties: Sequence[float]) -> list[float]:
    """Held-out loss of each penalty."""
    fit_rows, held_rows = np.flatnonzero(~held_N), np.flatnonzero(held_N)
    fit_NF, start, found = z_NF[fit_rows], None, []
    for penalty in penalties:
        start = minimise(fit_NF, fit_rows, loss, penalty, start, PATH_TOLERANCE)
        found.append(loss.held_out(_scores(z_NF, *start), fit_rows, held_rows))
    return found


def minimise(
    z_NF: Array,
    rows: Ints,
    loss: Loss,
    penalty: float,
    start: tuple[Floats, Floats] | None = None,
    tolerance: float = 1e-10,
) -> tuple[Floats, Floats]:
    """Weights [F, O] and biases [O] at the minimum of loss + penalty / 2 * |weights|^2.

    It ends with a step that changes the value by less than `tolerance` of it.
    """
    num_features, num_outputs = z_NF.shape[1], loss.num_outputs
    split = num_features * num_outputs

    def objective(parameters: Floats) -> tuple[float, Floats]:
        weight_FO = parameters[:split].reshape(num_features, num_outputs)
        value, slope_NO = loss.of(_scores(z_NF, weight_FO, parameters[split:]), rows)
        slope_FO = (z_NF.T @ slope_NO.astype(z_NF.dtype)).astype(np.float64)
        slope_FO += penalty * weight_FO
        value += penalty / 2 * float(np.square(weight_FO).sum())
        return value, np.concatenate([slope_FO.ravel(), slope_NO.sum(0)])

    first = np.zeros(split + num_outputs)
    if start is not None:
        first = np.concatenate([start[0].ravel(), start[1]])
        first[~np.isfinite(first)] = 0  # of a class without rows
    options = {"maxiter": MAX_STEPS, "maxcor": PAST_STEPS, "ftol": tolerance, "gtol": 1e-6}
    found = minimize(objective, first, jac=True, method="L-BFGS-B", options=options)
    if not np.isfinite(found.fun):
        raise TrainingError(
            f"found a probe loss of {found.fun} at penalty {penalty:g}; expected a finite one"
        )
    weight_FO, bias_O = found.x[:split].reshape(num_features, num_outputs), found.x[split:]
    return weight_FO, bias_O


def _scores(z_NF: Array, weight_FO: Floats, bias_O: Floats) -> Floats:
    return np.asarray((z_NF @ weight_FO.astype(z_NF.dtype)).astype(np.float64) + bias_O)
