"""Figures equal scikit-learn's, Harrell's C-index equals that of two survival packages."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as sklearn_metrics

from sleepmami.evaluation import metrics
from tests.unit.evaluation.reference_values import C_INDEX, tied_follow_up


@given(st.integers(0, 10_000), st.integers(2, 200), st.integers(2, 5))
def test_classification_figures_are_those_of_scikit_learn(
    seed: int, num: int, classes: int
) -> None:
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, classes, num)
    guess = np.where(rng.random(num) < 0.5, truth, rng.integers(0, classes, num))
    counts = metrics.confusion(truth, guess, classes)
    np.testing.assert_array_equal(
        counts, sklearn_metrics.confusion_matrix(truth, guess, labels=range(classes))
    )
    assert metrics.accuracy(counts) == pytest.approx(sklearn_metrics.accuracy_score(truth, guess))
    assert metrics.macro_f1(counts) == pytest.approx(
        sklearn_metrics.f1_score(truth, guess, average="macro")
    )
    there = np.union1d(truth, guess)
    np.testing.assert_allclose(
        metrics.class_f1(counts)[there],
        sklearn_metrics.f1_score(truth, guess, average=None, labels=there),
    )
    if len(there) > 1:  # scikit-learn divides by zero where all is one class
        assert metrics.kappa(counts) == pytest.approx(
            sklearn_metrics.cohen_kappa_score(truth, guess), abs=1e-12
        )


def test_a_class_nobody_has_or_guesses_does_not_count() -> None:
    counts = np.array([[3, 1, 0], [0, 4, 0], [0, 0, 0]])
    assert metrics.macro_f1(counts) == pytest.approx((6 / 7 + 8 / 9) / 2)
    assert np.isnan(metrics.class_f1(counts)[2])
    assert np.isnan(metrics.kappa(np.array([[5, 0], [0, 0]])))  # chance is already right


def test_figures_of_many_resamples_are_those_of_each() -> None:
    counts = np.random.default_rng(0).integers(0, 9, (7, 4, 4))
    for figure in (metrics.accuracy, metrics.macro_f1, metrics.kappa):
        np.testing.assert_allclose(figure(counts), [figure(one) for one in counts])


def test_regression_figures_are_those_of_scikit_learn() -> None:
    rng = np.random.default_rng(1)
    truth = rng.normal(1e6, 2.0, 50)  # squares of these would cancel
    guess = truth + rng.normal(size=50)
    sums = metrics.regression_sums(truth, guess, centre=1e6).sum(0)
    mae = sklearn_metrics.mean_absolute_error(truth, guess)
    assert metrics.mean_absolute_error(sums) == pytest.approx(mae)
    assert metrics.r_squared(sums) == pytest.approx(sklearn_metrics.r2_score(truth, guess))


def test_one_value_alone_explains_no_variance() -> None:
    sums = metrics.regression_sums(np.array([40.0, 40.0]), np.array([41.0, 42.0]), centre=39.0)
    assert np.isnan(metrics.r_squared(sums.sum(0)))


def auroc(positive: np.ndarray, score: np.ndarray, weight: np.ndarray) -> np.ndarray:
    fold = np.zeros(len(score), np.int64)
    return metrics.concordance(score, metrics.positive_before_negative(positive, fold), weight)


@given(st.integers(0, 10_000), st.integers(4, 60))
def test_auroc_is_that_of_scikit_learn_also_of_resamples(seed: int, num: int) -> None:
    rng = np.random.default_rng(seed)
    positive = np.arange(num) % 3 == 0
    score = rng.integers(0, 6, num) + positive  # ties
    weight = rng.integers(0, 3, (4, num))
    weight[0] = 1
    found = auroc(positive, score.astype(float), weight)
    for value, times in zip(found, weight, strict=True):
        again = np.repeat(np.arange(num), times)
        if 0 < positive[again].sum() < len(again):
            expected = sklearn_metrics.roc_auc_score(positive[again], score[again])
            assert value == pytest.approx(expected)
        else:
            assert np.isnan(value)


def test_pairs_in_small_blocks_are_the_same_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    positive, score = rng.random(50) < 0.5, rng.normal(size=50)
    whole = auroc(positive, score, np.ones((1, 50)))
    monkeypatch.setattr(metrics, "PAIRS_AT_ONCE", 120)
    np.testing.assert_allclose(auroc(positive, score, np.ones((1, 50))), whole)


def test_scores_of_two_folds_are_not_compared() -> None:
    positive = np.array([True, False, True, False])
    score = np.array([1.0, 0.0, -5.0, -6.0])  # the second fold's are all lower
    pairs = metrics.positive_before_negative(positive, np.array([0, 0, 1, 1]))
    assert metrics.concordance(score, pairs, np.ones((1, 4)))[0] == 1


def c_index(time: np.ndarray, event: np.ndarray, score: np.ndarray) -> float:
    fold = np.zeros(len(time), np.int64)
    pairs = metrics.earlier_event_first(time, event, fold)
    return float(metrics.concordance(score, pairs, np.ones((1, len(time))))[0])


def test_c_index_by_hand() -> None:
    # pairs: 1-2, 1-3, 1-4, 3-4 (2 is censored); 1-3 is wrong, 1-4 is a tie
    time, event = np.array([1.0, 2.0, 3.0, 4.0]), np.array([True, False, True, False])
    assert c_index(time, event, np.array([2.0, 0.0, 3.0, 2.0])) == (1 + 0 + 0.5 + 1) / 4


def test_at_equal_times_an_event_precedes_a_censoring_but_no_other_event() -> None:
    time = np.array([5.0, 5.0, 5.0])
    event = np.array([True, True, False])
    assert c_index(time, event, np.array([1.0, 0.0, 0.5])) == 1 / 2


def test_c_index_is_that_of_scikit_survival_and_lifelines() -> None:
    x, time, event = tied_follow_up()
    score = np.round(x @ np.array([0.8, -0.5, 0]), 0)
    assert c_index(time, event, score) == pytest.approx(C_INDEX, abs=1e-12)
