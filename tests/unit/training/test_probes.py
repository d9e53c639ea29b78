import math

import numpy as np
import pytest

from sleepmami.errors import TrainingError
from sleepmami.training.probes import PENALTIES, auroc, macro_f1, r_squared, ridge, ridge_classes


def random_rows(num: int, features: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(num, features))


def test_ridge_of_one_feature_by_hand() -> None:
    # x is standardised as it is, its Gram matrix is 4 = N: the weight is 4 / (4 + 4 p). What is there
    # without noise is best left out with the smallest penalty.
    x = np.array([[-1.0], [-1.0], [1.0], [1.0]])
    found = ridge(x, 5 * x + 2, np.array([[3.0]]))
    assert found[0, 0] == pytest.approx(2 + 15 / (1 + PENALTIES[0]))


@pytest.mark.parametrize(("rows", "features"), [(40, 7), (12, 30), (20, 20)])
def test_ridge_is_the_normal_equations_with_the_penalty_of_least_leave_one_out_error(
    rows: int, features: int
) -> None:
    x, test = random_rows(rows, features), random_rows(5, features, 1)
    y = x[:, :2] @ np.array([[1.0, 0.3], [-0.5, 2.0]]) + random_rows(rows, 2, 2)

    z = (x - x.mean(0)) / x.std(0)

    def direct(z: np.ndarray, y: np.ndarray, to: np.ndarray, penalty: float) -> np.ndarray:
        centred = z - z.mean(0)
        gram = centred.T @ centred + penalty * rows * np.eye(features)
        return (to - z.mean(0)) @ np.linalg.solve(gram, centred.T @ (y - y.mean(0))) + y.mean(0)

    def left_out_error(penalty: float) -> float:
        rest = [np.arange(rows) != out for out in range(rows)]
        missed = [y[~keep] - direct(z[keep], y[keep], z[~keep], penalty) for keep in rest]
        return float(np.square(missed).mean())

    best = min(PENALTIES, key=left_out_error)
    expected = direct(z, y, (test - x.mean(0)) / x.std(0), best)
    assert ridge(x, y, test) == pytest.approx(expected, rel=1e-6)


def test_vectors_that_are_all_the_same_predict_the_mean() -> None:
    y = np.array([[1.0], [2.0], [6.0]])
    assert ridge(np.full((3, 4), 7.0), y, np.full((2, 4), 7.0)).tolist() == [[3.0], [3.0]]


def test_ridge_gives_the_same_bits_each_time() -> None:
    x, y = random_rows(50, 20), random_rows(50, 1, 1)
    assert ridge(x, y, x).tobytes() == ridge(x, y, x).tobytes()


def test_vectors_without_the_answer_explain_about_nothing() -> None:
    age = random_rows(400, 1, 9)[:, 0]
    x = random_rows(400, 64)
    found = r_squared(age[200:], ridge(x[:200], age[:200, None], x[200:])[:, 0])
    assert -0.1 < found < 0.05


def test_r_squared_by_hand() -> None:
    # squared errors 0 + 1 + 1 of a spread of 2
    assert r_squared(np.array([1.0, 2.0, 3.0]), np.array([1.0, 3.0, 2.0])) == 0.0
    assert r_squared(np.array([1.0, 3.0]), np.array([1.0, 3.0])) == 1.0


def test_nothing_explains_a_constant() -> None:
    with pytest.raises(TrainingError, match=r"same value \[4\.0\] in all 2 rows"):
        r_squared(np.full(2, 4.0), np.zeros(2))


def test_auroc_by_hand() -> None:
    positive = np.array([True, True, False, False])
    # of four pairs, two right, one tied, one wrong
    assert auroc(positive, np.array([3.0, 1.0, 1.0, 2.0])) == (2 + 0.5) / 4
    assert auroc(positive, np.zeros(4)) == 0.5


def test_auroc_needs_both() -> None:
    with pytest.raises(TrainingError, match="found 2 positive and 0 negative rows"):
        auroc(np.ones(2, bool), np.zeros(2))


def test_macro_f1_by_hand() -> None:
    # class 0: 2 hits of 3 true and 2 guessed; 1: 1 of 1 and 2; 4 occurs nowhere
    assert macro_f1(np.array([0, 0, 0, 1]), np.array([0, 0, 1, 1])) == pytest.approx(
        (4 / 5 + 2 / 3) / 2
    )


def test_classes_apart_are_told_apart_and_an_unseen_one_never_chosen() -> None:
    centre = np.array([[0.0, 0.0], [9.0, 0.0], [0.0, 9.0]])
    label = np.repeat([0, 1, 3], [40, 40, 3])  # the third is rare, and called 3
    x = np.repeat(centre, [40, 40, 3], axis=0) + random_rows(83, 2)
    found = ridge_classes(x, label, centre, 5)
    assert found.tolist() == [0, 1, 3]


def test_a_single_row_is_no_probe() -> None:
    with pytest.raises(TrainingError, match="found 1 rows to fit"):
        ridge(np.ones((1, 2)), np.ones((1, 1)), np.ones((1, 2)))


def test_penalties_span_none_to_all() -> None:
    assert math.isclose(PENALTIES[0], 1e-4)
    assert math.isclose(PENALTIES[-1], 1e3)
