"""Eq. 7 by hand, by a slow loop, and fitted against another package."""

import math

import numpy as np
import pytest

from sleepmami.errors import TableError
from sleepmami.evaluation.cox import CoxLoss, negative_log_likelihood
from sleepmami.evaluation.linear_probe import minimise
from tests.unit.evaluation.reference_values import BRESLOW, tied_follow_up


def slow_eq_7(risk: np.ndarray, time: np.ndarray, event: np.ndarray) -> float:
    total = 0.0
    for i in range(len(risk)):
        if event[i]:
            at_risk = [k for k in range(len(risk)) if time[k] >= time[i]]
            total -= risk[i] - math.log(sum(math.exp(risk[k]) for k in at_risk))
    return total / event.sum()


def test_two_alike_people_cost_half_of_log_two() -> None:
    # the first event is one of two who could have had it, the second one of one
    value, _ = negative_log_likelihood(np.zeros(2), np.array([1.0, 2.0]), np.array([True, True]))
    assert value == pytest.approx(math.log(2) / 2)


def test_the_loss_is_the_sum_of_the_equation() -> None:
    x, time, event = tied_follow_up()
    risk = x @ np.array([1.0, -2.0, 0.5])
    value, _ = negative_log_likelihood(risk, time, event)
    assert value == pytest.approx(slow_eq_7(risk, time, event), rel=1e-12)


def test_the_gradient_is_that_of_the_loss() -> None:
    x, time, event = tied_follow_up()
    risk, step = x[:, 0].copy(), 1e-6
    _, slope = negative_log_likelihood(risk, time, event)
    for k in range(len(risk)):
        ends = []
        for sign in (1, -1):
            moved = risk.copy()
            moved[k] += sign * step
            ends.append(slow_eq_7(moved, time, event))
        assert slope[k] == pytest.approx((ends[0] - ends[1]) / (2 * step), abs=1e-8)


def test_enormous_risks_neither_overflow_nor_vanish() -> None:
    risk = np.array([2000.0, 0.0, -2000.0])
    value, slope = negative_log_likelihood(risk, np.array([3.0, 2.0, 1.0]), np.ones(3, np.bool_))
    assert value == pytest.approx((4000 + 2000 + 0) / 3)
    assert np.isfinite(slope).all()


def test_coefficients_with_ties_are_those_of_scikit_survival() -> None:
    x, time, event = tied_follow_up()
    weight, bias = minimise(x, np.arange(len(x)), CoxLoss(time, event), penalty=1e-12)
    np.testing.assert_allclose(weight[:, 0], BRESLOW, atol=2e-5)
    assert bias[0] == pytest.approx(0, abs=1e-9)  # nothing pulls at it


def test_follow_up_without_an_event_is_refused() -> None:
    with pytest.raises(TableError, match="found no event among 3 subjects"):
        CoxLoss(np.arange(3.0), np.zeros(3, np.bool_))
