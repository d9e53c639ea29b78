"""Coordinates in which a probe's loss bends alike in all directions, for few steps to its end.

Shapes: N rows, F features, O outputs, G the features and the intercept.

The curvature of a linear probe is about z^T diag(c) z + penalty, where z are the features of a row
and c is how much its loss bends with its scores. Vectors of an encoder are much alike, so that this
differs a thousandfold between directions, and L-BFGS spends hundreds of passes over all rows on
learning it. Its Cholesky factor L says it beforehand: in u = L^T w it is about one everywhere.

Only the way to the minimum depends on the factor, not the minimum. So it may be had of a sample of
rows, at the weights one begins with, and be the same for all outputs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg import cholesky, solve_triangular

from sleepmami.errors import TrainingError
from sleepmami.evaluation.metrics import Array, Floats, Ints

ROWS_PER_FEATURE = 10  # of the sample: curvatures are then right within a factor of two
FLOOR = 3e-5  # of the mean curvature: sums of single precision are not told apart below it
NEARLY_FLAT = 1e-12  # of an intercept no row depends on
ROWS_AT_ONCE = 2048  # as many are added in single precision, the sums of them in double


@dataclass(frozen=True, kw_only=True, slots=True)
class EvenCoordinates:
    """u = L^T (w, b): from weights and intercepts [G, O] and back, and gradients to u's."""

    factor_GG: Floats

    def of(self, weight_GO: Floats) -> Floats:
        """Coordinates u [G, O] of weights."""
        return np.asarray(self.factor_GG.T @ weight_GO)

    def weights(self, even_GO: Floats) -> Floats:
        """Weights [G, O] of coordinates."""
        return self._solved(even_GO, 1)

    def slope(self, slope_GO: Floats) -> Floats:
        """Gradient by u of a gradient by weights; half its square is about what is left to gain."""
        return self._solved(slope_GO, 0)

    def _solved(self, right_GO: Floats, transposed: int) -> Floats:
        found = solve_triangular(
            self.factor_GG, right_GO, trans=transposed, lower=True, check_finite=False
        )
        return np.asarray(found)


def sampled_rows(num_rows: int, num_features: int) -> Ints:
    """The rows that curvature is measured on; the same ones each time."""
    size = ROWS_PER_FEATURE * num_features
    if num_rows <= size:
        return np.arange(num_rows)
    return np.sort(np.random.default_rng(0).choice(num_rows, size, replace=False))


def even_coordinates(
    z_NF: Array, curvature_N: Floats, penalty: float, *, has_intercept: bool
) -> EvenCoordinates:
    """Coordinates for a penalty.

    Args:
        z_NF: features of the sampled rows.
        curvature_N: second derivative of the whole loss by the scores of each, 0 or more.
        penalty: of half the squared weights, the intercept's excepted.
        has_intercept: False for a loss that the same number added to all scores does not change;
            weights and intercept are then apart.

    Raises:
        TrainingError: features or curvatures that are not finite.
    """
    num_features = z_NF.shape[1]
    gram_GG = np.zeros((num_features + 1, num_features + 1))
    root_N1 = np.sqrt(curvature_N)[:, None].astype(z_NF.dtype)
    for first in range(0, len(z_NF), ROWS_AT_ONCE):
        root_R1 = root_N1[first : first + ROWS_AT_ONCE]
        row_RG = np.concatenate([z_NF[first : first + ROWS_AT_ONCE] * root_R1, root_R1], axis=1)
        gram_GG += row_RG.T @ row_RG
    if not np.isfinite(gram_GG).all():
        raise TrainingError("found features or scores of a probe that are not finite")
    if not has_intercept:
        sum_F = gram_GG[-1, :-1].copy()
        gram_GG[:-1, :-1] -= np.outer(sum_F, sum_F) / (gram_GG[-1, -1] + NEARLY_FLAT)
        gram_GG[-1, :-1] = gram_GG[:-1, -1] = 0
    diagonal_G = np.einsum("gg->g", gram_GG)  # a view
    diagonal_G += FLOOR * diagonal_G.mean() + NEARLY_FLAT
    diagonal_G[:-1] += penalty
    return EvenCoordinates(factor_GG=cholesky(gram_GG, lower=True, check_finite=False))


def product(z_NF: Array, slope_NO: Floats) -> Floats:
    """z^T slope [F, O], added in double precision."""
    sum_FO = np.zeros((z_NF.shape[1], slope_NO.shape[1]))
    for first in range(0, len(z_NF), ROWS_AT_ONCE):
        part = slice(first, first + ROWS_AT_ONCE)
        sum_FO += z_NF[part].T @ slope_NO[part].astype(z_NF.dtype)
    return sum_FO
