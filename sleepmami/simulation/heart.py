"""ECG: a heart rate that follows stage, breath and events, and one PQRST complex per beat."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sleepmami.psg import Stage
from sleepmami.simulation import noise
from sleepmami.simulation.events import RESPIRATORY, EventKind, NightPlan, of_kind
from sleepmami.simulation.subjects import Subject

RATE_HZ = 125
TREND_RATE_HZ = 10  # of the heart rate
# In the order W, N1, N2, N3, REM: beats per minute from the subject's N2 rate, and variability.
SHIFT_BPM = np.array([6.0, 2.0, 0.0, -1.0, 2.5])
VARIABILITY = np.array([1.5, 1.1, 0.9, 0.6, 1.4])
# Wave: time from the R peak in s, standard deviation in s, amplitude in mV.
WAVES = ((-0.16, 0.022, 0.12), (-0.03, 0.009, -0.10), (0.0, 0.011, 1.0), (0.03, 0.010, -0.20),
         (0.26, 0.045, 0.28))  # fmt: skip
BEFORE_R_S, AFTER_R_S = 0.24, 0.42
PHASES = 16  # sub-sample positions of the R peak


class Heart(NamedTuple):
    """ECG in mV at RATE_HZ, and the time of every R peak in s."""

    ecg: NDArray[np.float32]
    beat_s: NDArray[np.float64]


def simulate_heart(
    subject: Subject,
    plan: NightPlan,
    breath_phase: NDArray[np.float64],
    rng: np.random.Generator,
) -> Heart:
    """Draw the beats and the ECG; `breath_phase` is that of Breathing, at TREND_RATE_HZ."""
    bpm = _rate(subject, plan, breath_phase, rng)
    beats = np.concatenate([[0.0], np.cumsum(bpm / 60 / TREND_RATE_HZ)])
    times = np.arange(beats.size) / TREND_RATE_HZ
    beat_s = np.interp(np.arange(1, int(beats[-1]) + 1), beats, times)
    amplitude = (0.9 + 0.08 * np.sin(np.interp(beat_s, times[1:], breath_phase))).astype(np.float32)
    size = plan.num_seconds * RATE_HZ
    ecg = np.float32(0.012) * rng.standard_normal(size, dtype=np.float32)
    wander = 0.04 * np.sin(breath_phase) + 0.05 * noise.slow_noise(
        breath_phase.size, TREND_RATE_HZ, 3.0, rng
    )
    ecg += np.interp(np.arange(size) / RATE_HZ, times[1:], wander).astype(np.float32)
    at = (beat_s - BEFORE_R_S) * RATE_HZ
    whole = np.floor(at).astype(np.int64)
    shape = _templates()[((at - whole) * PHASES).astype(np.int64)]
    noise.add_waves(ecg, whole, shape * amplitude[:, None])
    return Heart(ecg=ecg, beat_s=beat_s)


def _rate(
    subject: Subject,
    plan: NightPlan,
    breath_phase: NDArray[np.float64],
    rng: np.random.Generator,
) -> NDArray[np.float64]:
    """Beats per minute at TREND_RATE_HZ.

    Variability falls with age (Umetani et al. 1998). Each apnea slows the heart and breathing's
    return speeds it up (cyclical variation, Guilleminault et al. 1984); sizes are ours.
    """
    stage = plan.stages(TREND_RATE_HZ)
    youth = float(np.exp(-0.018 * (subject.age_years - 20)))
    variability = noise.smooth(VARIABILITY[stage], 20 * TREND_RATE_HZ)
    slow = noise.slow_noise(stage.size, TREND_RATE_HZ, 25.0, rng)
    mayer = noise.slow_noise(stage.size, TREND_RATE_HZ, 3.5, rng)
    bpm = subject.heart_rate_bpm + noise.smooth(SHIFT_BPM[stage], 40 * TREND_RATE_HZ)
    bpm += variability * (0.5 + youth) * (1.2 * slow + 0.8 * mayer)
    bpm += 3.5 * youth * np.sin(breath_phase)
    bpm -= 5.0 * noise.smooth(plan.during(TREND_RATE_HZ, *RESPIRATORY), 8 * TREND_RATE_HZ)
    t = np.arange(0, 25, 1 / TREND_RATE_HZ)
    surge = (6.0 + 8.0 * youth) * (t / 3) * np.exp(1 - t / 3)  # highest 3 s after it begins
    for event in of_kind(plan.events, EventKind.AROUSAL):
        span = bpm[round(event.start_s * TREND_RATE_HZ) :][: surge.size]
        span += surge[: span.size]
    awake = noise.smooth((stage == Stage.WAKE).astype(float), 30 * TREND_RATE_HZ)
    bpm += 2.0 * awake * noise.slow_noise(stage.size, TREND_RATE_HZ, 60.0, rng)
    return np.clip(bpm, 38.0, 130.0)


def _templates() -> NDArray[np.float32]:
    """PQRST complexes in mV, [PHASES, samples]; row p has its R peak p / PHASES samples late."""
    t = np.arange(int((BEFORE_R_S + AFTER_R_S) * RATE_HZ)) / RATE_HZ - BEFORE_R_S
    late = (np.arange(PHASES)[:, None] + 0.5) / PHASES / RATE_HZ
    waves = [a * np.exp(-0.5 * ((t - late - centre) / sd) ** 2) for centre, sd, a in WAVES]
    complexes: NDArray[np.float32] = np.sum(waves, axis=0).astype(np.float32)
    return complexes
