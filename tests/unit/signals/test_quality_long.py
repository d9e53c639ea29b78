"""Quality of nights so long or so far from zero that shortcuts could show."""

from __future__ import annotations

import numpy as np
import pytest

from sleepmami.psg import EPOCH_S, Modality
from sleepmami.signals.quality import EpochQuality, Fault, moments, raw_quality, with_outliers

RATE_HZ = 50
EPOCH = EPOCH_S * RATE_HZ
RAILS = (-100, 100)


def noise(num_epochs: int, std: float = 10.0) -> np.ndarray:
    return np.random.default_rng(0).normal(0, std, num_epochs * EPOCH)


@pytest.mark.parametrize("every", [1, 2, 33])
def test_each_clipped_second_and_epoch_of_a_long_night_is_found(every: int) -> None:
    digital = np.clip(noise(100), -90, 90).astype(np.int16)
    touched = range(0, 100, every)
    for epoch in touched:
        digital[epoch * EPOCH + 7 * RATE_HZ] = RAILS[epoch % 2]  # a sample of second 7
    digital[66 * EPOCH :][: EPOCH // 10] = 100  # a tenth of epoch 66: its first three seconds
    found = raw_quality(digital, RATE_HZ, 100, RAILS, Modality.EEG)
    expected = {epoch * EPOCH_S + 7 for epoch in touched} | {66 * EPOCH_S + k for k in range(3)}
    assert set(np.flatnonzero(found.clipped_seconds).tolist()) == expected
    assert np.flatnonzero(found.faults[Fault.CLIPPED]).tolist() == [66]


@pytest.mark.parametrize("offset", [0.0, 1e3, 1e5])
def test_outliers_are_found_whatever_the_mean(offset: float) -> None:
    filtered = noise(20, std=1.0)
    filtered[5 * EPOCH : 6 * EPOCH] *= 200  # twice the limit
    filtered[9 * EPOCH : 10 * EPOCH] *= 50  # half of it
    clean = EpochQuality({Fault.FLAT: np.zeros(20, bool)}, np.zeros(20 * EPOCH_S, bool))
    found = with_outliers(clean, (filtered + offset).astype(np.float32))
    assert np.flatnonzero(found.faults[Fault.OUT_OF_RANGE]).tolist() == [5]


def test_moments_count_only_the_seconds_chosen() -> None:
    filtered = np.tile(np.float32([1, 5]), 2 * EPOCH // 2)  # mean 3, deviation 2
    filtered[: 10 * RATE_HZ] = 900
    seconds = np.arange(2 * EPOCH_S) < 10
    quality = EpochQuality({Fault.CLIPPED: np.zeros(2, bool)}, seconds)
    assert moments(filtered, quality) == pytest.approx((3.0, 2.0))
