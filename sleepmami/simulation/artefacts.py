"""Faults of sensors, put into a body's signals before they are recorded; all rates are ours.

Movements belong to the night itself (events.py) and mains hum to the recorder (hardware.py). Every
night has a tendency to faults of its own, so that some nights are clean and some are poor.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from sleepmami.simulation import noise
from sleepmami.simulation.body import Body, BodySignal, Source
from sleepmami.simulation.events import NightPlan

ELECTRODES = (Source.C4, Source.C3, Source.LEFT_EYE, Source.RIGHT_EYE)
BELTS = (Source.THORAX, Source.ABDOMEN)
NIGHT_SPREAD = 0.6  # standard deviation of the log of a night's tendency
LOOSE_UV = 1.0  # what a lost electrode shows, root mean square


class ArtefactKind(StrEnum):
    """What goes wrong with a sensor."""

    POP = "pop"  # a sudden step that fades: the electrode moved on its gel
    SWEAT = "sweat"  # slow large waves in all of the head's channels
    LOST = "lost"  # an electrode fell off, or the oximeter or the cannula came loose
    SLIPPED = "slipped"  # a belt moved: less signal


# How often an hour in a night of middling tendency, and how long in s (shortest, longest).
PER_H = {
    ArtefactKind.POP: 1.5,  # of each electrode
    ArtefactKind.SWEAT: 0.15,
    ArtefactKind.LOST: 0.03,  # of each electrode; more of the oximeter
    ArtefactKind.SLIPPED: 0.15,  # of each belt
}
OXIMETER_LOST_PER_H, CANNULA_LOST_PER_H = 0.6, 0.1
DURATION_S = {
    ArtefactKind.POP: (1.0, 3.0),
    ArtefactKind.SWEAT: (300.0, 1500.0),
    ArtefactKind.LOST: (120.0, 1800.0),
    ArtefactKind.SLIPPED: (600.0, 3600.0),
}
OXIMETER_LOST_S = (15.0, 120.0)


@dataclass(frozen=True, kw_only=True, slots=True)
class Artefact:
    """One fault, in seconds from the start of the recording."""

    kind: ArtefactKind
    source: Source
    start_s: float
    end_s: float


def add_artefacts(
    body: Body, plan: NightPlan, rate: float, rng: np.random.Generator
) -> tuple[Body, tuple[Artefact, ...]]:
    """A copy of the body with faults, and what they are.

    Besides the faults that are listed, the heart's voltage leaks into head and chin all night, and
    the ECG jumps while the sleeper moves.

    Args:
        body: signals without faults; left as they are.
        plan: says when the sleeper moves.
        rate: of faults relative to a usual night; also of the heart's leak. Above 0.
        rng: of the night's faults.
    """
    faulty = {s: BodySignal(samples=b.samples.copy(), rate_hz=b.rate_hz) for s, b in body.items()}
    tonight = rate * math.exp(NIGHT_SPREAD * rng.standard_normal())
    hours = plan.num_seconds / 3600
    _leak_heart(faulty, rate, rng)
    _shake_ecg(faulty[Source.ECG], plan.movements(), rng)
    found: list[Artefact] = []

    def draw(kind: ArtefactKind, source: Source, per_h: float, length: tuple[float, float]) -> None:
        for _ in range(rng.poisson(per_h * tonight * hours)):
            start_s = rng.uniform(0, plan.num_seconds)
            long_s = math.exp(rng.uniform(math.log(length[0]), math.log(length[1])))
            end_s = min(start_s + long_s, float(plan.num_seconds))
            found.append(Artefact(kind=kind, source=source, start_s=start_s, end_s=end_s))

    for source in ELECTRODES:
        for kind in (ArtefactKind.POP, ArtefactKind.LOST):
            draw(kind, source, PER_H[kind], DURATION_S[kind])
    draw(ArtefactKind.LOST, Source.CHIN, PER_H[ArtefactKind.LOST], DURATION_S[ArtefactKind.LOST])
    draw(ArtefactKind.LOST, Source.FLOW, CANNULA_LOST_PER_H, DURATION_S[ArtefactKind.LOST])
    draw(ArtefactKind.LOST, Source.SATURATION, OXIMETER_LOST_PER_H, OXIMETER_LOST_S)
    for source in BELTS:
        kind = ArtefactKind.SLIPPED
        draw(kind, source, PER_H[kind], DURATION_S[kind])
    draw(ArtefactKind.SWEAT, Source.C4, PER_H[ArtefactKind.SWEAT], DURATION_S[ArtefactKind.SWEAT])
    # what is lost is lost whatever else happens there
    found.sort(key=lambda a: (a.kind is ArtefactKind.LOST, a.start_s))
    for artefact in found:
        _apply(faulty, artefact, rng)
    return faulty, tuple(sorted(found, key=lambda a: a.start_s))


def _apply(body: Body, artefact: Artefact, rng: np.random.Generator) -> None:
    part = _part(body[artefact.source], artefact)
    rate_hz = body[artefact.source].rate_hz
    if artefact.kind is ArtefactKind.POP:
        t = np.arange(part.size) / rate_hz
        step = rng.choice([-1.0, 1.0]) * rng.uniform(80, 400)
        part += (step * np.exp(-t / rng.uniform(0.15, 0.5))).astype(np.float32)
    elif artefact.kind is ArtefactKind.SWEAT:
        for source in ELECTRODES:
            _sway(_part(body[source], artefact), body[source].rate_hz, rng)
    elif artefact.kind is ArtefactKind.SLIPPED:
        part *= np.float32(rng.uniform(0.15, 0.5))
    elif artefact.source is Source.SATURATION:
        part[:] = 0.0
        _part(body[Source.PULSE], artefact)[:] = 0.0
    elif artefact.source is Source.FLOW:
        part *= np.float32(0.05)
    else:
        part[:] = LOOSE_UV * rng.standard_normal(part.size, dtype=np.float32)


def _part(signal: BodySignal, artefact: Artefact) -> NDArray[np.float32]:
    """A view of the signal during an artefact."""
    first, stop = (round(at * signal.rate_hz) for at in (artefact.start_s, artefact.end_s))
    return signal.samples[first:stop]


def _sway(part: NDArray[np.float32], rate_hz: int, rng: np.random.Generator) -> None:
    """Waves of some 0.2 Hz and 60 uV that begin and end softly."""
    if not part.size:
        return
    waves = rng.uniform(40, 100) * noise.slow_noise(part.size, rate_hz, 2.0, rng)
    fade = np.minimum(np.arange(part.size), np.arange(part.size)[::-1]) / (20.0 * rate_hz)
    part += (waves * np.minimum(fade, 1.0)).astype(np.float32)


def _leak_heart(body: Body, rate: float, rng: np.random.Generator) -> None:
    """Some uV per mV of the ECG in every channel of the head, more in the chin."""
    ecg = body[Source.ECG].samples
    for source in (*ELECTRODES, Source.CHIN):
        typical = 8.0 if source is Source.CHIN else 6.0
        leak = min(rate, 1.0) * typical * math.exp(0.7 * rng.standard_normal())
        body[source].samples[:] += np.float32(leak * rng.choice([-1.0, 1.0])) * ecg


def _shake_ecg(
    ecg: BodySignal, movements: Iterable[tuple[float, float]], rng: np.random.Generator
) -> None:
    """The baseline wanders by half a millivolt and muscles add their noise."""
    for start_s, end_s in movements:
        part = ecg.samples[round(start_s * ecg.rate_hz) : round(end_s * ecg.rate_hz)]
        wander = 0.4 * noise.slow_noise(part.size, ecg.rate_hz, 0.7, rng)
        muscle = 0.06 * rng.standard_normal(part.size)
        window = np.sin(np.pi * (np.arange(part.size) + 0.5) / max(part.size, 1))
        part += (window * (wander + muscle)).astype(np.float32)
