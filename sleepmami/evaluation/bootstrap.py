"""Intervals of figures: subjects are drawn again, never epochs, which are alike within a night.

An interval says how far a figure would move with other people in the test set. It does not say how
far it would move with another fit set or other encoder weights: the probe is not fitted again.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sleepmami.evaluation.metrics import Floats, Ints


@dataclass(frozen=True, kw_only=True, slots=True)
class Estimate:
    """A figure with its percentile interval.

    Attributes:
        value: of the test subjects as they are.
        low: lower end of the interval.
        high: upper end.
        num_undefined: resamples in which the figure does not exist, such as an AUROC where one sex
            is missing; the interval is of the others.
    """

    value: float
    low: float
    high: float
    num_undefined: int = 0


def resampled_counts(num_subjects: int, num_resamples: int, seed: int) -> Ints:
    """How often each resample has each subject: [1 + B, S], the first row is all subjects once."""
    rng = np.random.default_rng(seed)
    even = np.full(num_subjects, 1 / num_subjects)
    drawn = rng.multinomial(num_subjects, even, size=num_resamples)
    return np.concatenate([np.ones((1, num_subjects), np.int64), drawn])


def estimate(figure_B: Floats, confidence: float) -> Estimate:
    """A figure of `resampled_counts`' rows: the value of the first, the interval of the others."""
    value, drawn = float(figure_B[0]), figure_B[1:]
    defined = drawn[np.isfinite(drawn)]
    if not len(defined):
        nan = float("nan")
        return Estimate(value=value, low=nan, high=nan, num_undefined=len(drawn))
    tail = (1 - confidence) / 2
    low, high = np.quantile(defined, [tail, 1 - tail])
    return Estimate(
        value=value, low=float(low), high=float(high), num_undefined=len(drawn) - len(defined)
    )
