"""What a night's truth amounts to: sleep, fragmentation and lack of oxygen in single numbers."""

import math
from dataclasses import dataclass

import numpy as np

from sleepmami.psg import EPOCH_S, Stage
from sleepmami.simulation.events import RESPIRATORY, EventKind, NightPlan, of_kind
from sleepmami.simulation.respiration import FALL_POWER, RECOVERY_S

_MINUTES = EPOCH_S / 60


@dataclass(frozen=True, kw_only=True, slots=True)
class NightMeasures:
    """Of one night as it was, not as the person's traits lead one to expect.

    Attributes:
        sleep_h: time asleep.
        latency_min: to the first sleep.
        waso_min: awake between the first and the last sleep.
        n1_share: of the time asleep, 0..1, as the next three.
        n2_share: ditto.
        n3_share: ditto.
        rem_share: ditto.
        arousals_per_h: of sleep.
        ahi_per_h: apneas and hypopneas per hour of sleep.
        hypoxic_burden: area under the desaturations that follow respiratory events, percent minutes
            per hour of sleep (Azarbarzin et al. 2019).
    """

    sleep_h: float
    latency_min: float
    waso_min: float
    n1_share: float
    n2_share: float
    n3_share: float
    rem_share: float
    arousals_per_h: float
    ahi_per_h: float
    hypoxic_burden: float


def measure_night(plan: NightPlan) -> NightMeasures | None:
    """The measures, or None for a night without sleep."""
    asleep = np.flatnonzero(plan.hypnogram != Stage.WAKE)
    if not asleep.size:
        return None
    sleep_h = asleep.size * EPOCH_S / 3600
    counts = np.bincount(plan.hypnogram, minlength=5) / asleep.size
    breathing = of_kind(plan.events, *RESPIRATORY)
    return NightMeasures(
        sleep_h=sleep_h,
        latency_min=float(asleep[0] * _MINUTES),
        waso_min=float((asleep[-1] + 1 - asleep[0] - asleep.size) * _MINUTES),
        n1_share=float(counts[Stage.N1]),
        n2_share=float(counts[Stage.N2]),
        n3_share=float(counts[Stage.N3]),
        rem_share=float(counts[Stage.REM]),
        arousals_per_h=len(of_kind(plan.events, EventKind.AROUSAL)) / sleep_h,
        ahi_per_h=len(breathing) / sleep_h,
        hypoxic_burden=sum(desaturation_area(e.depth, e.duration_s) for e in breathing) / sleep_h,
    )


def desaturation_area(depth: float, duration_s: float) -> float:
    """Percent minutes below the level before, of an event by itself: its fall, then its recovery.

    Of the curve that `simulate_saturation` draws: depth * t^p over the event, then a half Gaussian.
    """
    return depth * (duration_s / (FALL_POWER + 1) + RECOVERY_S * math.sqrt(math.pi) / 2) / 60
