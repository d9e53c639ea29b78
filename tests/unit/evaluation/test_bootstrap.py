"""Intervals are of subjects: they do not shrink when a night gets more epochs."""

import numpy as np
import pytest

from sleepmami.evaluation.bootstrap import estimate, resampled_counts


def test_every_resample_has_as_many_subjects_and_the_first_is_everybody() -> None:
    counts = resampled_counts(7, 50, seed=1)
    assert counts.shape == (51, 7)
    np.testing.assert_array_equal(counts[0], 1)
    np.testing.assert_array_equal(counts.sum(1), 7)
    np.testing.assert_array_equal(counts, resampled_counts(7, 50, seed=1))
    assert (counts != resampled_counts(7, 50, seed=2)).any()


def accuracy_interval(hits: np.ndarray, epochs_per_subject: int) -> tuple[float, float]:
    counts = resampled_counts(len(hits), 4000, seed=0)
    right, everything = hits * epochs_per_subject, np.full(len(hits), epochs_per_subject)
    found = estimate((counts @ right) / (counts @ everything), 0.95)
    return found.low, found.high


def test_the_interval_is_as_wide_as_subjects_differ() -> None:
    hits = np.random.default_rng(0).normal(0.7, 0.1, 100)  # accuracy of each
    low, high = accuracy_interval(hits, 1)
    # the standard error of a mean of 100, twice 1.96 times
    assert high - low == pytest.approx(2 * 1.96 * hits.std() / 10, rel=0.06)
    assert low < hits.mean() < high


def test_more_epochs_of_the_same_people_say_no_more() -> None:
    hits = np.random.default_rng(0).normal(0.7, 0.1, 20)
    assert accuracy_interval(hits, 1) == pytest.approx(accuracy_interval(hits, 1000))


def test_undefined_resamples_are_counted_and_left_out() -> None:
    found = estimate(np.array([0.5, 0.4, np.nan, 0.6]), 0.95)
    assert (found.value, found.num_undefined) == (0.5, 1)
    assert 0.4 <= found.low < found.high <= 0.6
