"""Figures and losses equal those of torchmetrics and torchsurv, which torch projects report."""

import warnings
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchmetrics.functional import classification as theirs
from torchmetrics.functional import mean_absolute_error, r2_score
from torchmetrics.functional.retrieval import retrieval_hit_rate

from sleepmami.evaluation import metrics
from sleepmami.evaluation.cox import negative_log_likelihood
from sleepmami.evaluation.retrieval import RECALL_AT, ranks
from tests.unit.evaluation.reference_values import tied_follow_up

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # it scripts functions on import
    from torchsurv.loss.cox import neg_partial_log_likelihood
    from torchsurv.metrics.cindex import ConcordanceIndex


@settings(deadline=None)
@given(st.integers(0, 10_000), st.integers(10, 200), st.integers(3, 5))
def test_staging_figures_are_those_of_torchmetrics(seed: int, num: int, classes: int) -> None:
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, classes, num)
    guess = np.where(rng.random(num) < 0.5, truth, rng.integers(0, classes, num))
    counts = metrics.confusion(truth, guess, classes)
    given_ = (torch.from_numpy(guess), torch.from_numpy(truth), classes)
    matrix = theirs.multiclass_confusion_matrix(*given_)
    np.testing.assert_array_equal(counts, matrix.numpy())
    for ours, them in (
        (metrics.accuracy(counts), theirs.multiclass_accuracy(*given_, average="micro")),
        (metrics.macro_f1(counts), theirs.multiclass_f1_score(*given_, average="macro")),
        (metrics.kappa(counts), theirs.multiclass_cohen_kappa(*given_)),
    ):
        assert float(ours) == pytest.approx(float(them), abs=2e-6)  # theirs is float32


def test_auroc_and_regression_are_those_of_torchmetrics() -> None:
    rng = np.random.default_rng(4)
    positive, score = rng.random(80) < 0.4, rng.normal(size=80).round(1)
    pairs = metrics.positive_before_negative(positive, np.zeros(80, int))
    ours = metrics.concordance(score, pairs, np.ones((1, 80)))[0]
    # their AUROC squeezes scores beyond 0..1 by a sigmoid, whose order is the same
    them = theirs.binary_auroc(torch.from_numpy(score), torch.from_numpy(positive).long())
    assert ours == pytest.approx(float(them), abs=1e-6)
    truth = score + 50
    guess = truth + rng.normal(size=80)
    sums = metrics.regression_sums(truth, guess, centre=50.0).sum(0)
    tensors = (torch.from_numpy(guess), torch.from_numpy(truth))
    assert metrics.mean_absolute_error(sums) == pytest.approx(float(mean_absolute_error(*tensors)))
    assert metrics.r_squared(sums) == pytest.approx(float(r2_score(*tensors)))


def test_recall_at_k_is_the_hit_rate_of_torchmetrics() -> None:
    score_QP = np.random.default_rng(5).normal(size=(40, 30))
    rank_Q = ranks(score_QP[:, 1:], score_QP[:, 0])
    target = torch.arange(30) == 0
    for k in RECALL_AT:
        hits = [
            float(retrieval_hit_rate(torch.from_numpy(row), target, top_k=k)) for row in score_QP
        ]
        assert (rank_Q <= k).mean() == pytest.approx(np.mean(hits))


def test_eq_7_is_torchsurvs_breslow_likelihood() -> None:
    """Of sums: its mean with ties is over different times, eq. 7's over events."""
    x, time, event = tied_follow_up()
    risk = x @ np.array([0.8, -0.3, 0.1])
    value, _ = negative_log_likelihood(risk, time, event)
    with pytest.warns(UserWarning, match="using breslow"):
        them = neg_partial_log_likelihood(
            *_tensors(risk, event, time), ties_method="breslow", reduction="sum"
        )
    assert value * event.sum() == pytest.approx(float(them), rel=1e-6)
    apart = time + np.arange(len(time)) / 1000
    value, _ = negative_log_likelihood(risk, apart, event)
    them = neg_partial_log_likelihood(*_tensors(risk, event, apart))
    assert value == pytest.approx(float(them), rel=1e-6)


def test_the_c_index_is_torchsurvs() -> None:
    x, time, event = tied_follow_up()
    risk = x @ np.array([0.8, -0.3, 0.1])
    pairs = metrics.earlier_event_first(time, event, np.zeros(len(time), int))
    ours = metrics.concordance(risk, pairs, np.ones((1, len(time))))[0]
    them = ConcordanceIndex()(*_tensors(risk, event, time))
    assert ours == pytest.approx(float(them), abs=1e-6)


def _tensors(risk: Any, event: Any, time: Any) -> tuple[torch.Tensor, ...]:
    return torch.from_numpy(risk), torch.from_numpy(event), torch.from_numpy(time).double()
