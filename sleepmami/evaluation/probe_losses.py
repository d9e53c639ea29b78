"""Table 10's losses of classes and of quantities, with their gradients; eq. 7 is in `cox.py`.

Shapes: N rows, K parts of a row that are classified alike (the seconds of an epoch; 1 elsewhere),
C classes.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
from scipy.special import log_softmax

from sleepmami.errors import TableError
from sleepmami.evaluation.metrics import Array, Bools, Floats, Ints

Weighting = Literal["log_5", "inverse", "none"]
ABSENT = -1e30  # the score of a class without rows: nothing is lost, and nothing is guessed
CORNER = 0.01  # of the target's deviation: within it the absolute error is rounded off


def class_weights(target: Ints, num_classes: int, weighting: Weighting) -> Floats:
    """Table 10's w_k [C]: log_5(N / N_k) for stages, N / N_k for apnea; 0 for a class without rows.

    Raises:
        TableError: fewer than two classes.
    """
    count_C = np.bincount(target.ravel(), minlength=num_classes)
    there_C = count_C > 0
    if there_C.sum() < 2:
        raise TableError(
            f"found {int(there_C.sum())} class among {count_C.sum()} labels to fit on; expected at "
            "least two"
        )
    share_C = count_C.sum() / np.maximum(count_C, 1)
    weight_C = {
        "log_5": np.log(share_C) / math.log(5),
        "inverse": share_C,
        "none": np.ones(num_classes),
    }[weighting]
    return np.where(there_C, weight_C, 0.0)


class CrossEntropy:
    """Weighted cross entropy, sum of w_y * -log p_y over sum of w_y, as torch's.

    A class without rows is none of the classes: its intercept would go to minus infinity, as far as
    the solver happens to, and so would the loss of held-out rows of it, which tell nothing then.

    Args:
        target_NK: classes.
        weight_C: of `class_weights`.
    """

    has_intercept = True

    def __init__(self, target_NK: Ints, weight_C: Floats) -> None:
        self._target_NK, self._weight_C = target_NK, weight_C
        self._absent_C: Bools = np.asarray(weight_C == 0)

    @property
    def num_outputs(self) -> int:
        """One score per part and class."""
        return int(self._target_NK.shape[1]) * len(self._weight_C)

    def of(self, score_NO: Floats, rows: Ints) -> tuple[float, Floats]:
        """Loss and gradient."""
        return self._of(score_NO, rows, self._absent_from(rows))

    def _absent_from(self, rows: Ints) -> Bools:
        """Which classes [C] none of the rows is of."""
        there_C = np.bincount(self._target_NK[rows].ravel(), minlength=len(self._weight_C)) > 0
        return np.asarray(self._absent_C | ~there_C)

    def _of(self, score_NO: Floats, rows: Ints, absent_C: Bools) -> tuple[float, Floats]:
        """Loss and gradient of the rows of the other classes."""
        target_NK = self._target_NK[rows]
        score_NKC = score_NO.reshape(*target_NK.shape, -1)
        log_NKC = log_softmax(np.where(absent_C, ABSENT, score_NKC), axis=-1)
        weight_NK = np.where(absent_C, 0.0, self._weight_C)[target_NK]
        total = weight_NK.sum() or 1.0  # no row of the other classes: nothing is lost
        picked_NK = np.take_along_axis(log_NKC, target_NK[..., None], -1)[..., 0]
        slope_NKC = np.exp(log_NKC)
        np.put_along_axis(
            slope_NKC,
            target_NK[..., None],
            np.take_along_axis(slope_NKC, target_NK[..., None], -1) - 1,
            -1,
        )
        slope_NKC *= weight_NK[..., None] / total
        return float(-(weight_NK * picked_NK).sum() / total), slope_NKC.reshape(score_NO.shape)

    def curvature(self, score_NO: Floats, rows: Ints) -> Floats:
        """w_y p (1 - p), the mean over the scores of a row."""
        target_NK = self._target_NK[rows]
        score_NKC = score_NO.reshape(*target_NK.shape, -1)
        p_NKC = np.exp(log_softmax(np.where(self._absent_C, ABSENT, score_NKC), axis=-1))
        weight_NK = self._weight_C[target_NK]
        bent_NK = weight_NK * (p_NKC * (1 - p_NKC)).mean(-1)
        return np.asarray(bent_NK.mean(-1) / weight_NK.sum())

    def held_out(self, score_NO: Floats, fit_rows: Ints, held_rows: Ints) -> float:
        """The same loss of the held-out rows of those classes that were fitted."""
        return self._of(score_NO[held_rows], held_rows, self._absent_from(fit_rows))[0]

    def without_absent(self, bias_O: Floats) -> Floats:
        """Biases with which scores alone say that a class without rows is never the answer."""
        absent_O = np.resize(self._absent_C, len(bias_O))  # the classes of one part after another
        return np.where(absent_O, -np.inf, bias_O)

    def classes(self, score_NO: Floats) -> Ints:
        """The likeliest class [N, K]."""
        score_NKC = score_NO.reshape(len(score_NO), self._target_NK.shape[1], -1)
        return np.asarray(np.where(self._absent_C, ABSENT, score_NKC).argmax(-1))


class AbsoluteError:
    """Mean absolute error of a quantity, z-scored so that penalties do not depend on its unit.

    The corner at zero is rounded off over CORNER deviations, sqrt(e^2 + CORNER^2), so that the
    minimum can be found by gradients.

    Args:
        target_N: the quantity.

    Raises:
        TableError: it is the same for everybody.
    """

    def __init__(self, target_N: Array) -> None:
        self.centre, self.scale = float(np.median(target_N)), float(target_N.std())
        if not self.scale:
            raise TableError(
                f"found the same value {self.centre:g} in all {len(target_N)} labels to fit on; "
                "expected at least two"
            )
        self._z_N = (target_N - self.centre) / self.scale

    num_outputs = 1
    has_intercept = True

    def of(self, score_NO: Floats, rows: Ints) -> tuple[float, Floats]:
        """Loss and gradient."""
        error_N = score_NO[:, 0] - self._z_N[rows]
        rounded_N = np.sqrt(error_N**2 + CORNER**2)
        return float(rounded_N.mean()), (error_N / rounded_N / len(rows))[:, None]

    def curvature(self, score_NO: Floats, rows: Ints) -> Floats:
        """That of the parabola which touches the loss from above."""
        error_N = score_NO[:, 0] - self._z_N[rows]
        return np.asarray(1 / np.sqrt(error_N**2 + CORNER**2) / len(rows))

    def held_out(self, score_NO: Floats, fit_rows: Ints, held_rows: Ints) -> float:
        """The same loss of the held-out rows."""
        return self.of(score_NO[held_rows], held_rows)[0]

    def quantity(self, score_NO: Floats) -> Floats:
        """Scores in the unit of the target [N]."""
        return np.asarray(score_NO[:, 0] * self.scale + self.centre)
