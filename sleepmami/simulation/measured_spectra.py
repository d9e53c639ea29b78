"""EEG spectra moved toward real ones, and people and minutes that differ as much as real ones do.

Numbers are of UCDDB (St. Vincent's University Hospital, PhysioNet), one central EEG: wake and N3 of
13 people, N1, N2 and REM of one man, who is all there is (benchmarks/simulation_vs_real.py). The
unit of those files is not known, so levels are relative to N3, whose own total stays as it was.
"""

import numpy as np
from numpy.typing import NDArray

from sleepmami.simulation import noise

KNOTS_HZ = np.array([0.5, 1, 2, 3, 4.5, 6, 8, 10, 12, 14, 17, 20, 25, 30])
# Median real less median simulated in dB, at the knots, in the order W, N1, N2, N3, REM. Around
# alpha in wake it is 0: there the simulated rhythm has each person's own frequency.
MOVED_DB = np.array(
    [
        [7.9, 4.7, 3.3, 3.2, 1.5, 2.0, 0.0, 0.0, 4.0, 3.9, 1.6, -0.5, -2.2, -2.1],
        [3.1, 0.8, -0.8, -1.1, -4.9, -8.0, -1.5, 6.0, 5.7, 2.2, 1.2, -0.9, -2.2, -3.4],
        [0.4, -5.5, -4.7, -2.6, -4.0, -5.8, 0.8, 7.8, 3.1, 2.4, 5.3, 4.0, 3.1, 1.8],
        [2.0, -0.9, -1.7, -1.4, 2.4, 1.9, 6.4, 11.2, 5.1, 5.5, 6.9, 6.0, 5.9, 4.2],
        [1.9, -0.4, -0.5, -2.0, -3.9, -7.1, 0.4, 4.4, 3.6, -0.1, -0.1, -2.4, -5.1, -4.9],
    ]
)
# Standard deviations in dB: of a person in all stages, and of each stage of a person by itself.
PERSON_DB, STAGE_DB = 2.3, 1.2
ALIKE = 0.8  # correlation between neighbouring knots
# Of half-minutes within a stage, in the bands below, beyond what the noise itself varies.
BANDS_HZ = ((0.0, 4.0), (4.0, 12.0), (12.0, 63.0))
MINUTES_DB = np.array(
    [[3.8, 1.4, 1.6], [2.2, 0.9, 1.4], [1.2, 0.5, 0.5], [0.8, 0.3, 0.3], [0.6, 0.3, 0.5]]
)


def stage_gains(frequency_hz: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    """Factors on one person's power densities, [W, N1, N2, N3, REM; frequency]."""
    person = PERSON_DB * _curve(rng)
    gain_db = [moved + person + STAGE_DB * _curve(rng) for moved in MOVED_DB]
    at = np.log(np.maximum(frequency_hz, KNOTS_HZ[0]))
    rows = [np.interp(at, np.log(KNOTS_HZ), row) for row in gain_db]
    gains: NDArray[np.float64] = 10 ** (np.stack(rows) / 10)
    return gains


def _curve(rng: np.random.Generator) -> NDArray[np.float64]:
    """Unit variance at every knot, and neighbours alike."""
    values = rng.standard_normal(KNOTS_HZ.size)
    for knot in range(1, KNOTS_HZ.size):
        values[knot] = ALIKE * values[knot - 1] + np.sqrt(1 - ALIKE**2) * values[knot]
    return values


def frame_gains(
    stage: NDArray[np.int8], frequency_hz: NDArray[np.float64], rng: np.random.Generator
) -> NDArray[np.float32]:
    """Factors that come and go over a minute, [frames, frequency].

    Args:
        stage: of every frame.
        frequency_hz: of `noise.frame_frequencies`.
        rng: of the night's EEG spectra.
    """
    edges = np.array([high for _, high in BANDS_HZ])
    of_band = np.eye(len(BANDS_HZ))[np.searchsorted(edges, frequency_hz, side="right").clip(0, 2)]
    of_band = noise.smooth(of_band, 8)  # 2 Hz: no steps in the spectrum
    waves = [noise.slow_noise(stage.size, 1 / noise.HOP_S, 25.0, rng) for _ in BANDS_HZ]
    level_db = np.stack(waves, axis=1) * noise.smooth(MINUTES_DB[stage], 5)
    nepers = np.float32(np.log(10) / 10)
    gains: NDArray[np.float32] = np.exp(nepers * (level_db @ of_band.T).astype(np.float32))
    return gains
