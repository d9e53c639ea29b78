"""Linear probes on frozen vectors, in closed form: what do embeddings hold, the same each time?

Ridge regression, also onto classes; the penalty is the one of the least leave-one-out error on what
is fitted. No iteration, no chance, float64: the same bits from the same vectors.

Shapes: N rows to fit, T rows to score, F features, K targets.
"""

import numpy as np
from numpy.typing import NDArray

from sleepmami.errors import TrainingError
from sleepmami.evaluation import metrics

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]

# Of the squared weights of standardised features, in mean eigenvalues of their Gram matrix. The
# largest leaves little but the mean, so that vectors without the answer score about 0, not below.
PENALTIES = tuple(10.0**power for power in range(-4, 4))


def ridge(fit_NF: Floats, target_NK: Floats, test_TF: Floats) -> Floats:
    """Predictions [T, K] of a ridge regression with an intercept.

    Features are standardised by the rows that are fitted; one that does not vary there counts for
    nothing. One penalty for all targets, of PENALTIES.

    Args:
        fit_NF: features to fit on.
        target_NK: what to predict.
        test_TF: features to predict from.

    Raises:
        TrainingError: fewer than two rows to fit.
    """
    if len(fit_NF) < 2:
        raise TrainingError(f"a probe: found {len(fit_NF)} rows to fit, expected at least 2")
    mean_F, std_F = fit_NF.mean(0), fit_NF.std(0)
    scale_F = np.where(std_F > 1e-9 * (np.abs(mean_F) + 1e-30), 1 / np.maximum(std_F, 1e-300), 0.0)
    x_NF, x_TF = (fit_NF - mean_F) * scale_F, (test_TF - mean_F) * scale_F
    mean_K = target_NK.mean(0)
    y_NK = target_NK - mean_K
    # In the smaller of both spaces; with the eigenvectors every penalty costs one product.
    few_rows = len(x_NF) <= x_NF.shape[1]
    gram = x_NF @ x_NF.T if few_rows else x_NF.T @ x_NF
    value_R, vector_RR = np.linalg.eigh(gram)
    value_R = np.maximum(value_R, 0.0)
    kept_R = value_R > 1e-10 * max(value_R[-1], 1e-30)
    value_R, basis = value_R[kept_R], vector_RR[:, kept_R]
    if not len(value_R):
        return np.broadcast_to(mean_K, (len(x_TF), len(mean_K))).copy()
    left_NR = basis if few_rows else x_NF @ basis / np.sqrt(value_R)
    right_FR = x_NF.T @ basis / np.sqrt(value_R) if few_rows else basis
    along_RK = left_NR.T @ y_NK
    unit = value_R.sum() / x_NF.shape[1]  # N for standardised features
    best_error, best_shrink_R = np.inf, value_R
    for penalty in PENALTIES:
        share_R = value_R / (value_R + penalty * unit)
        leverage_N = np.square(left_NR) @ share_R + 1 / len(x_NF)  # the intercept's is 1 / N
        residual_NK = (y_NK - left_NR @ (share_R[:, None] * along_RK)) / np.maximum(
            1 - leverage_N, 1e-9
        )[:, None]
        error = float(np.square(residual_NK).mean())
        if error <= best_error:  # of equals the larger penalty
            best_error, best_shrink_R = error, share_R / np.sqrt(value_R)
    predicted: Floats = x_TF @ right_FR @ (best_shrink_R[:, None] * along_RK) + mean_K
    return predicted


def ridge_classes(fit_NF: Floats, label_N: Ints, test_TF: Floats, num_classes: int) -> Ints:
    """The class of each test row: the largest of `ridge` onto indicators, rare classes as loud.

    Indicators are divided by the square root of their class's share, so that macro F1 is not lost
    to a class that is everywhere; a class without rows to fit is never chosen.
    """
    hot_NK = (label_N[:, None] == np.arange(num_classes)).astype(np.float64)
    share_K = hot_NK.mean(0)
    there_K = share_K > 0
    target_NK = hot_NK[:, there_K] / np.sqrt(share_K[there_K])
    chosen = ridge(fit_NF, target_NK, test_TF).argmax(1)
    classes: Ints = np.flatnonzero(there_K)[chosen]
    return classes


def r_squared(true_T: Floats, predicted_T: Floats) -> float:
    """1 - squared error over that of the mean of `true_T`: 1 is perfect, 0 knows only the mean.

    Raises:
        TrainingError: all true values are the same, so that nothing can be explained.
    """
    spread = float(np.square(true_T - true_T.mean()).sum())
    if spread == 0:
        raise TrainingError(
            f"R2: found the same value {true_T[:1].tolist()} in all {len(true_T)} rows, expected "
            "values that differ"
        )
    return 1 - float(np.square(true_T - predicted_T).sum()) / spread


def auroc(positive_T: Bools, score_T: Floats) -> float:
    """Chance that a positive scores above a negative; ties count half.

    Raises:
        TrainingError: only one of both is there.
    """
    positives, negatives = int(positive_T.sum()), int((~positive_T).sum())
    if not positives or not negatives:
        raise TrainingError(
            f"AUROC: found {positives} positive and {negatives} negative rows, expected both"
        )
    _, inverse_T, count = np.unique(score_T, return_inverse=True, return_counts=True)
    rank_T = (np.cumsum(count) - (count - 1) / 2)[inverse_T]
    above = rank_T[positive_T].sum() - positives * (positives + 1) / 2
    return float(above / (positives * negatives))


def macro_f1(true_T: Ints, predicted_T: Ints) -> float:
    """Mean F1 over the classes that are true or predicted anywhere; there must be a row."""
    num_classes = int(max(true_T.max(), predicted_T.max())) + 1
    return float(metrics.macro_f1(metrics.confusion(true_T, predicted_T, num_classes)))
