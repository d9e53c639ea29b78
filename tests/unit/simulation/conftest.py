"""One night with clear apnea, made once; and spectra to look at it."""

import dataclasses

import numpy as np
import pytest
from numpy.typing import NDArray

from sleepmami.simulation.night import SimulatedNight, simulate_night
from sleepmami.simulation.subjects import Subject, simulate_subject


@pytest.fixture(scope="session")
def sleeper() -> Subject:
    """A woman of 40 with moderate apnea: enough N3, REM and events in three hours."""
    return dataclasses.replace(
        simulate_subject(4, seed=7), age_years=40.0, sex="female", bmi=31.0, ahi_per_h=25.0
    )


@pytest.fixture(scope="session")
def night(sleeper: Subject) -> SimulatedNight:
    return simulate_night(sleeper, 3.2, seed=7)


def samples(night: SimulatedNight, label: str) -> NDArray[np.float64]:
    return next(c.samples for c in night.channels if c.label == label).astype(np.float64)


def band_power(
    signal: NDArray[np.float64], epochs: NDArray[np.bool_], low_hz: float, high_hz: float
) -> float:
    """Mean power in [low, high) Hz of the chosen 30-s epochs of a 125-Hz signal."""
    parts = signal.reshape(-1, 30 * 125)[epochs]
    power = np.abs(np.fft.rfft(parts * np.hanning(30 * 125), axis=1)) ** 2
    frequency_hz = np.fft.rfftfreq(30 * 125, 1 / 125)
    return float(power[:, (frequency_hz >= low_hz) & (frequency_hz < high_hz)].mean())
