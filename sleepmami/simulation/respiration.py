"""Airflow, thoracic and abdominal effort, and the oxygen saturation that follows from them."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sleepmami.psg import Stage
from sleepmami.simulation import noise
from sleepmami.simulation.events import RESPIRATORY, EventKind, NightPlan, of_kind
from sleepmami.simulation.subjects import Subject

RATE_HZ = 10
SPO2_RATE_HZ = 1
# In the order W, N1, N2, N3, REM: breathing is most regular in N3, least in REM and wake.
RATE_BY_STAGE = np.array([1.05, 1.0, 1.0, 1.0, 1.04])
IRREGULARITY = np.array([0.16, 0.10, 0.05, 0.025, 0.14])


# SpO2 falls as time to this power during an event, then recovers as a half Gaussian of this width.
FALL_POWER, RECOVERY_S = 1.3, 10.0


class Breathing(NamedTuple):
    """Signals at RATE_HZ in arbitrary units; `phase` in radians, inspiration from 0 to pi."""

    flow: NDArray[np.float32]
    thorax: NDArray[np.float32]
    abdomen: NDArray[np.float32]
    phase: NDArray[np.float64]


def simulate_breathing(subject: Subject, plan: NightPlan, rng: np.random.Generator) -> Breathing:
    """Breaths of varying length and depth; apneas stop the flow, hypopneas reduce it.

    Effort goes on in obstructive events, with chest and abdomen opposed, and stops in central ones.
    """
    stage = plan.stages(RATE_HZ)
    irregular = noise.smooth(IRREGULARITY[stage], 10 * RATE_HZ)
    pace = noise.smooth(RATE_BY_STAGE[stage], 10 * RATE_HZ)
    pace *= np.exp(irregular * noise.slow_noise(stage.size, RATE_HZ, 5.0, rng))
    phase = 2 * np.pi * np.cumsum(pace) * subject.breaths_per_min / 60 / RATE_HZ
    depth = 0.35 * np.exp(1.5 * irregular * noise.slow_noise(stage.size, RATE_HZ, 5.0, rng))
    flow_share, effort_share, opposed = _event_effects(plan, rng)
    depth *= _recovery(plan)
    inspired = np.sin(phase) + 0.25 * np.sin(2 * phase)
    chest = -np.cos(phase) - 0.15 * np.cos(2 * phase)
    thorax = 0.8 * depth * effort_share * chest
    # Opposed movement is half a breath late; in between, the belly leads a little.
    abdomen = 0.9 * depth * effort_share * (-np.cos(phase + 0.2 + (np.pi - 0.4) * opposed))
    for start_s, end_s in plan.movements():
        span = slice(int(start_s * RATE_HZ), int(end_s * RATE_HZ))
        shift = rng.normal(0, 0.3)
        thorax[span] += shift
        abdomen[span] -= 0.7 * shift
    hiss = 0.008 * rng.standard_normal((3, stage.size))
    return Breathing(
        flow=(depth * flow_share * inspired + hiss[0]).astype(np.float32),
        thorax=(noise.smooth(thorax, 3) + hiss[1]).astype(np.float32),
        abdomen=(noise.smooth(abdomen, 3) + hiss[2]).astype(np.float32),
        phase=phase,
    )


def _event_effects(
    plan: NightPlan, rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """What respiratory events leave of the flow and of the effort, and where effort is opposed."""
    size = plan.num_seconds * RATE_HZ
    flow, effort, opposed = np.ones(size), np.ones(size), np.zeros(size)
    for event in of_kind(plan.events, *RESPIRATORY):
        span = slice(round(event.start_s * RATE_HZ), round(event.end_s * RATE_HZ))
        num = span.stop - span.start
        if event.kind == EventKind.HYPOPNEA:
            flow[span] = rng.uniform(0.35, 0.6)
            effort[span] = rng.uniform(0.65, 0.9)
            opposed[span] = 0.3
        elif event.kind == EventKind.OBSTRUCTIVE_APNEA:
            flow[span] = 0.03
            effort[span] = np.linspace(0.5, 1.2, num)  # the sleeper pulls harder and harder
            opposed[span] = 1.0
        else:
            flow[span] = 0.03
            effort[span] = 0.05
    return (
        noise.smooth(flow, RATE_HZ),
        noise.smooth(effort, RATE_HZ),
        noise.smooth(opposed, RATE_HZ),
    )


def _recovery(plan: NightPlan) -> NDArray[np.float64]:
    """Deeper breaths for some 12 s after each respiratory event."""
    after = np.ones(plan.num_seconds * RATE_HZ)
    for event in of_kind(plan.events, *RESPIRATORY):
        begin = round(event.end_s * RATE_HZ)
        after[begin : begin + 12 * RATE_HZ] = 1.5
    return noise.smooth(after, 2 * RATE_HZ)


def baseline_saturation(subject: Subject) -> float:
    """SpO2 in percent between events; somewhat lower with age and weight, sizes ours."""
    return 97.2 - 0.025 * (subject.age_years - 20) - 0.05 * max(subject.bmi - 25, 0.0)


def simulate_saturation(
    subject: Subject, plan: NightPlan, rng: np.random.Generator
) -> NDArray[np.float32]:
    """SpO2 in percent at 1 Hz: it falls, after the oximeter's delay, until each event's end.

    The lowest value comes `oximeter_delay_s` after breathing resumes; recovery takes about 10 s.
    """
    size = plan.num_seconds
    deficit = np.zeros(size)
    after = np.arange(60.0)
    for event in of_kind(plan.events, *RESPIRATORY):
        fall_s = max(round(event.duration_s), 1)
        fall = event.depth * np.linspace(0, 1, fall_s + 1)[1:] ** FALL_POWER
        rise = event.depth * np.exp(-((after[1:] / RECOVERY_S) ** 2))
        curve = np.concatenate([fall, rise])
        begin = round(event.start_s + subject.oximeter_delay_s) + 1
        span = deficit[begin : begin + curve.size]
        np.maximum(span, curve[: span.size], out=span)
    drift = 0.35 * noise.slow_noise(size, SPO2_RATE_HZ, 300.0, rng)
    jitter = 0.12 * noise.slow_noise(size, SPO2_RATE_HZ, 4.0, rng)
    awake = 0.3 * noise.smooth((plan.stages(1) == Stage.WAKE).astype(float), 60)
    level = baseline_saturation(subject) + drift + jitter + awake - deficit
    return np.clip(level, 40.0, 100.0).astype(np.float32)
