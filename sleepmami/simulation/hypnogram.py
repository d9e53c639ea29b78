"""Macro-structure: one sleep stage per 30-s epoch, in ultradian cycles shaped by the subject."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sleepmami.psg import EPOCH_S, Stage
from sleepmami.simulation.subjects import Subject

EPOCHS_PER_MIN = 60 // EPOCH_S
# How N3 and REM share out over successive cycles, relative to their mean over a night of five:
# slow-wave sleep is spent early and REM periods lengthen toward morning (Carskadon & Dement).
N3_BY_CYCLE = (1.85, 1.5, 0.9, 0.5, 0.25)
REM_BY_CYCLE = (0.4, 0.95, 1.25, 1.5, 1.5)
# Relative chance per epoch to wake up, in the order W, N1, N2, N3, REM.
AWAKENING_BY_STAGE = np.array([0.0, 1.5, 1.0, 0.3, 1.0])


@dataclass(frozen=True, kw_only=True, slots=True)
class Architecture:
    """Expected sleep of one subject; shares are of sleep time over a whole night of five cycles."""

    n1_share: float
    n3_share: float
    rem_share: float
    wake_share: float  # of the time after sleep onset
    latency_min: float
    awakenings_per_h: float


def expected_architecture(subject: Subject) -> Architecture:
    """Mean sleep architecture for a subject's age, sex and AHI.

    Directions: with age N3, REM and sleep efficiency fall and latency, N1 and wake after onset
    rise (Ohayon et al. 2004); men sleep lighter than women and lose more N3 with age (Redline et
    al. 2004); REM loses about 0.6 points a decade (Floyd et al. 2007); sleep-disordered breathing
    makes sleep lighter (Redline et al. 2004). BMI acts through the AHI. Sizes are those of
    `subject.effects` and ours, so that wake after onset grows by the 10 minutes a decade, sleep
    shrinks by the 10, and latency grows by less than 10 minutes in all, of Ohayon et al.
    """
    years = subject.age_years - 20.0
    ahi = subject.ahi_per_h
    n3 = subject.effects.n3_share(subject.age_years, subject.sex)
    return Architecture(
        n1_share=0.05 + subject.effects.n1_per_year * years + 0.0015 * ahi,
        n3_share=max(n3 - 0.0009 * ahi, 0.01),
        rem_share=0.225 - 0.0006 * years - 0.0004 * ahi,
        wake_share=0.06 + 0.0022 * years + 0.0012 * ahi,
        latency_min=10.0 + 0.1 * years,
        awakenings_per_h=1.5 + 0.05 * years + 0.05 * ahi,
    )


def simulate_hypnogram(
    subject: Subject, num_epochs: int, rng: np.random.Generator
) -> NDArray[np.int8]:
    """Draw one night; it begins and ends awake, and a short night is the start of a long one.

    Returns:
        Stage codes int8[num_epochs].
    """
    mean = expected_architecture(subject)
    edge = max(num_epochs // 10, 1)  # wake at either end takes at most this much of a short night
    latency = mean.latency_min * EPOCHS_PER_MIN * np.exp(0.5 * rng.standard_normal())
    num_before = int(np.clip(latency, 1, edge))
    num_after = min(int(rng.integers(2, 16)), edge)
    num_between = max(num_epochs - num_before - num_after, 0)
    sleep = _cycles(mean, num_between, rng)
    sleep = _lighten(sleep, mean, rng)
    sleep = _wake_up(sleep, mean, rng)[:num_between]
    night = np.full(num_epochs, Stage.WAKE, np.int8)
    night[num_before : num_before + num_between] = sleep
    return night


def _cycles(mean: Architecture, num_epochs: int, rng: np.random.Generator) -> NDArray[np.int8]:
    """Undisturbed sleep of more than `num_epochs`: N1, N2, N3, N2, REM, again and again.

    With the wake that `_wake_up` inserts, a cycle takes about 93 minutes (70 to 120).
    """
    n3_tonight = np.clip(mean.n3_share + rng.normal(0, 0.035), 0.0, 0.35)
    rem_tonight = np.clip(mean.rem_share + rng.normal(0, 0.025), 0.05, 0.35)
    runs: list[tuple[Stage, int]] = []
    total = cycle = 0
    while total <= num_epochs:
        length_min = np.clip(rng.normal(93, 12), 70, 120) * (1 - mean.wake_share)
        length = int(length_min * EPOCHS_PER_MIN)
        late = min(cycle, len(N3_BY_CYCLE) - 1)
        spread_n3, spread_rem = np.exp(0.15 * rng.standard_normal(2))
        n1 = int(rng.integers(2, 7)) if cycle == 0 else 1
        rem = int(length * rem_tonight * REM_BY_CYCLE[late] * spread_rem)
        n3 = int(min(length * n3_tonight * N3_BY_CYCLE[late] * spread_n3, length - rem - n1 - 16))
        n2 = length - n1 - n3 - rem
        descent = int(n2 * rng.uniform(0.3, 0.5))
        runs += [(Stage.N1, n1), (Stage.N2, descent), (Stage.N3, n3)]
        runs += [(Stage.N2, n2 - descent), (Stage.REM, rem)]
        total += length
        cycle += 1
    stages = [int(stage) for stage, _ in runs]
    return np.repeat(stages, [max(count, 0) for _, count in runs]).astype(np.int8)


def _lighten(
    sleep: NDArray[np.int8], mean: Architecture, rng: np.random.Generator
) -> NDArray[np.int8]:
    """Break N3 by short N2, and N2 by short N1 until N1 has its share."""
    sleep = sleep.copy()
    deep = np.flatnonzero(sleep == Stage.N3)
    for at in deep[rng.random(deep.size) < 0.04]:
        sleep[at : at + rng.integers(1, 3)] = Stage.N2
    lacking = int(mean.n1_share * sleep.size) - int(np.count_nonzero(sleep == Stage.N1))
    light = np.flatnonzero(sleep == Stage.N2)
    num_runs = min(max(lacking, 0) // 2, light.size)
    for at in rng.choice(light, num_runs, replace=False):
        run = sleep[at : at + rng.integers(1, 4)]
        run[run == Stage.N2] = Stage.N1
    return sleep


def _wake_up(
    sleep: NDArray[np.int8], mean: Architecture, rng: np.random.Generator
) -> NDArray[np.int8]:
    """Insert awakenings; sleep returns through N1, and into N3 only after some N2."""
    chance = AWAKENING_BY_STAGE[sleep] * mean.awakenings_per_h / (60 * EPOCHS_PER_MIN)
    places = np.flatnonzero(rng.random(sleep.size) < chance)
    sleep = sleep.copy()
    for at in places:
        back = sleep[at + 1 : at + 6]
        back[back == Stage.N3] = Stage.N2
        sleep[at : at + rng.integers(1, 3)] = Stage.N1
    # Mean length that gives the wake share at the expected number of awakenings.
    wake_per_sleep = mean.wake_share / (1 - mean.wake_share)
    mean_length = wake_per_sleep * 60 * EPOCHS_PER_MIN / mean.awakenings_per_h
    lengths = np.maximum(rng.exponential(mean_length, places.size).round().astype(int), 1)
    return np.insert(sleep, np.repeat(places, lengths), Stage.WAKE)
