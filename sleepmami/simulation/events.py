"""Scored events of a night: apneas, hypopneas, the desaturations that follow, and arousals."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from sleepmami.psg import EPOCH_S, Stage
from sleepmami.simulation.subjects import Subject


class EventKind(StrEnum):
    """What a scorer would mark besides the stages."""

    OBSTRUCTIVE_APNEA = "obstructive_apnea"
    CENTRAL_APNEA = "central_apnea"
    HYPOPNEA = "hypopnea"
    DESATURATION = "desaturation"
    AROUSAL = "arousal"


APNEAS = (EventKind.OBSTRUCTIVE_APNEA, EventKind.CENTRAL_APNEA)
RESPIRATORY = (*APNEAS, EventKind.HYPOPNEA)

# Relative rates in the order W, N1, N2, N3, REM. Apnea is far rarer in slow-wave sleep
# (Ratnavadivel et al. 2009); the other ratios are our choice.
RESPIRATORY_BY_STAGE = np.array([0.0, 1.2, 1.0, 0.4, 0.0])  # REM's is of Effects
AROUSAL_BY_STAGE = np.array([0.0, 1.3, 1.1, 0.5, 1.0])
# EEG arousals per hour of sleep in healthy people by age (Boselli et al. 1998).
AROUSAL_AGES_YEARS, AROUSALS_PER_H = (15, 25, 50, 70), (13.8, 14.7, 17.8, 27.1)

MIN_EVENT_S, MAX_EVENT_S = 10.0, 60.0  # an event shorter than 10 s is not scored
MEAN_EVENT_S = 21.0
MIN_BREATHING_S = 8.0  # between two respiratory events
SCORED_DROP_PERCENT = 3.0  # a smaller fall of SpO2 is not scored


@dataclass(frozen=True, kw_only=True, slots=True)
class NightEvent:
    """One scored event, in seconds from the start of the recording.

    `depth` is the fall of SpO2 in percentage points that a respiratory event causes or a
    desaturation shows; 0 for an arousal.
    """

    kind: EventKind
    start_s: float
    duration_s: float
    depth: float = 0.0

    @property
    def end_s(self) -> float:
        """Where the event ends."""
        return self.start_s + self.duration_s


@dataclass(frozen=True, kw_only=True, slots=True)
class NightPlan:
    """The truth of one night, before any signal: Stage codes int8[num_epochs] and scored events."""

    hypnogram: NDArray[np.int8]
    events: tuple[NightEvent, ...]

    @property
    def num_seconds(self) -> int:
        """Length of the recording."""
        return self.hypnogram.size * EPOCH_S

    def stages(self, rate_hz: int) -> NDArray[np.int8]:
        """The stage at every sample."""
        return np.repeat(self.hypnogram, EPOCH_S * rate_hz)

    def during(self, rate_hz: int, *kinds: EventKind) -> NDArray[np.float64]:
        """1 inside events of these kinds and 0 outside, at every sample."""
        mask = np.zeros(self.num_seconds * rate_hz)
        for event in of_kind(self.events, *kinds):
            mask[round(event.start_s * rate_hz) : round(event.end_s * rate_hz)] = 1.0
        return mask

    def movements(self) -> list[tuple[float, float]]:
        """Start and end in seconds of body movements: at awakenings and in long arousals."""
        awake = self.hypnogram == Stage.WAKE
        wakes = np.flatnonzero(awake[1:] & ~awake[:-1]) + 1
        moves = [(float(at * EPOCH_S), at * EPOCH_S + 5.0) for at in wakes]
        arousals = of_kind(self.events, EventKind.AROUSAL)
        return sorted(moves + [(e.start_s, e.start_s + 4) for e in arousals if e.duration_s > 10])

    @property
    def ahi_per_h(self) -> float | None:
        """Apneas and hypopneas per hour of sleep as scored, or None for a night without sleep."""
        sleep_h = np.count_nonzero(self.hypnogram != Stage.WAKE) * EPOCH_S / 3600
        return len(of_kind(self.events, *RESPIRATORY)) / sleep_h if sleep_h else None


def of_kind(events: Sequence[NightEvent], *kinds: EventKind) -> list[NightEvent]:
    """The events of these kinds, in time order."""
    return sorted((e for e in events if e.kind in kinds), key=lambda e: e.start_s)


def simulate_events(
    subject: Subject, hypnogram: NDArray[np.int8], rng: np.random.Generator
) -> list[NightEvent]:
    """All events of one night in time order; respiratory events and arousals begin in sleep."""
    breathing = _respiratory_events(subject, hypnogram, rng)
    desaturations = [
        NightEvent(
            kind=EventKind.DESATURATION,
            start_s=round(event.start_s + subject.oximeter_delay_s, 1),
            duration_s=event.duration_s + 10.0,
            depth=event.depth,
        )
        for event in breathing
        if event.depth >= SCORED_DROP_PERCENT
    ]
    night_s = hypnogram.size * EPOCH_S
    events = breathing + desaturations + _arousals(subject, hypnogram, breathing, rng)
    inside = [e for e in events if e.end_s <= night_s]
    return sorted(inside, key=lambda e: e.start_s)


def _warped_seconds(
    hypnogram: NDArray[np.int8], factor: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Clock that runs at the stage's relative rate: (warped[epochs + 1], seconds[epochs + 1]).

    It stands still awake and advances in all by the time asleep, so that a steady rate on it is
    the same number of events per hour of sleep.
    """
    weight = factor[hypnogram]
    asleep_s = EPOCH_S * np.count_nonzero(hypnogram != Stage.WAKE)
    scale = asleep_s / max(weight.sum(), 1e-9)
    warped = np.concatenate([[0.0], np.cumsum(weight * scale)])
    seconds = np.arange(hypnogram.size + 1, dtype=np.float64) * EPOCH_S
    return warped, seconds


def _in_sleep(hypnogram: NDArray[np.int8], start_s: float, end_s: float) -> bool:
    stages = hypnogram[int(start_s // EPOCH_S) : int(end_s // EPOCH_S) + 1]
    return stages.size > 0 and bool((stages != Stage.WAKE).all())


def _respiratory_events(
    subject: Subject, hypnogram: NDArray[np.int8], rng: np.random.Generator
) -> list[NightEvent]:
    """A renewal process on the warped clock, kept where sleep lasts and breathing recovers."""
    by_stage = RESPIRATORY_BY_STAGE.copy()
    by_stage[Stage.REM] = subject.effects.rem_apnea(subject.sex)
    warped, seconds = _warped_seconds(hypnogram, by_stage)
    period_s = 3600.0 / subject.ahi_per_h
    num_drawn = int(2 * warped[-1] / period_s) + 20
    duration_s = np.clip(rng.gamma(7.0, MEAN_EVENT_S / 7.0, num_drawn), MIN_EVENT_S, MAX_EVENT_S)
    rest_s = max(period_s - MEAN_EVENT_S - MIN_BREATHING_S, 2.0)
    gap_s = MIN_BREATHING_S + rng.exponential(rest_s, num_drawn)
    onset = np.cumsum(gap_s + duration_s) - duration_s
    events: list[NightEvent] = []
    free_from_s = 0.0
    for i in np.flatnonzero(onset < warped[-1]):
        start_s = round(float(np.interp(onset[i], warped, seconds)), 1)
        length_s = round(float(duration_s[i]), 1)
        if start_s >= free_from_s and _in_sleep(hypnogram, start_s, start_s + length_s + 2):
            events.append(_respiratory_event(subject, start_s, length_s, rng))
            free_from_s = start_s + length_s + MIN_BREATHING_S
    return events


def _respiratory_event(
    subject: Subject, start_s: float, length_s: float, rng: np.random.Generator
) -> NightEvent:
    """Draw the kind of one event and how far SpO2 falls after it.

    Desaturations deepen with obesity (Peppard et al. 2009) and with the event's length, and more
    of the events are apneas when there are many; sizes are ours. Every apnea desaturates by at
    least 3 points, hypopneas often by less.
    """
    apnea_share = min(0.25 + 0.007 * subject.ahi_per_h, 0.7)
    draw = rng.random()
    apnea = draw < apnea_share
    severity = math.exp(0.006 * (subject.ahi_per_h - 10) + 0.02 * (subject.bmi - 27))
    severity *= math.exp(0.2 * rng.standard_normal())
    depth = 3.0 + 0.16 * (length_s - 10) if apnea else 2.4 + 0.08 * (length_s - 10)
    least = SCORED_DROP_PERCENT if apnea else 1.0
    if not apnea:
        kind = EventKind.HYPOPNEA
    else:
        central = draw < 0.1 * apnea_share
        kind = EventKind.CENTRAL_APNEA if central else EventKind.OBSTRUCTIVE_APNEA
    return NightEvent(
        kind=kind,
        start_s=start_s,
        duration_s=length_s,
        depth=min(max(depth * severity, least), 35.0),
    )


def _arousals(
    subject: Subject,
    hypnogram: NDArray[np.int8],
    breathing: Sequence[NightEvent],
    rng: np.random.Generator,
) -> list[NightEvent]:
    """One after most respiratory events, and spontaneous ones at the rate of the subject's age."""
    after = [e.end_s - 0.5 for e in breathing if rng.random() < 0.75]
    warped, seconds = _warped_seconds(hypnogram, AROUSAL_BY_STAGE)
    rate_per_h = np.interp(subject.age_years, AROUSAL_AGES_YEARS, AROUSALS_PER_H)
    count = rng.poisson(rate_per_h * warped[-1] / 3600)
    spontaneous = np.interp(rng.uniform(0, warped[-1], count), warped, seconds)
    taken = [(e.start_s - 15, e.end_s + 15) for e in breathing]
    starts = after + [
        float(at) for at in spontaneous if not any(low <= at <= high for low, high in taken)
    ]
    events: list[NightEvent] = []
    free_from_s = 0.0
    for start_s in sorted(starts):
        length_s = round(float(np.clip(3 + rng.exponential(4), 3, 14.9)), 1)
        if start_s >= free_from_s and _in_sleep(hypnogram, start_s, start_s):
            events.append(
                NightEvent(kind=EventKind.AROUSAL, start_s=round(start_s, 1), duration_s=length_s)
            )
            free_from_s = start_s + length_s + 10  # scoring asks for 10 s of sleep before
    return events
