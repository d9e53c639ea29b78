"""One simulated night: first its truth (stages and events), then the channels of a recorder."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sleepmami.psg import EPOCH_S
from sleepmami.signals.edf_writer import WriteChannel
from sleepmami.simulation.artefacts import Artefact, add_artefacts
from sleepmami.simulation.body import simulate_body
from sleepmami.simulation.devices import Device, device
from sleepmami.simulation.events import NightEvent, NightPlan, simulate_events
from sleepmami.simulation.hardware import record
from sleepmami.simulation.hypnogram import simulate_hypnogram
from sleepmami.simulation.subjects import Stream, Subject, random_stream

REFERENCE = device("reference")


@dataclass(frozen=True, kw_only=True, slots=True)
class SimulatedNight:
    """A recording and its scoring.

    Attributes:
        channels: physical samples in the order they are written.
        hypnogram: Stage codes int8[num_epochs].
        events: apneas, hypopneas, desaturations and arousals in time order.
        device: what recorded it.
        artefacts: faults of sensors, by start.
    """

    channels: tuple[WriteChannel, ...]
    hypnogram: NDArray[np.int8]
    events: tuple[NightEvent, ...]
    device: Device = REFERENCE
    artefacts: tuple[Artefact, ...] = ()


def plan_night(subject: Subject, duration_h: float, seed: int) -> NightPlan:
    """Stages and events of one night, without signals: milliseconds instead of a second.

    Args:
        subject: who sleeps.
        duration_h: time in bed, rounded to whole epochs, at least two.
        seed: of the cohort; the same subject and seed give the same night.
    """
    num_epochs = max(round(duration_h * 3600 / EPOCH_S), 2)
    rng = random_stream(seed, subject.index, Stream.HYPNOGRAM)
    hypnogram = simulate_hypnogram(subject, num_epochs, rng)
    rng = random_stream(seed, subject.index, Stream.EVENTS)
    return NightPlan(hypnogram=hypnogram, events=tuple(simulate_events(subject, hypnogram, rng)))


def simulate_night(
    subject: Subject,
    duration_h: float,
    seed: int,
    recorder: Device = REFERENCE,
    artefacts: float = 0.0,
    *,
    measured_spectra: bool = False,
) -> SimulatedNight:
    """The night of `plan_night` with its signals, as a recorder writes them.

    The default is the montage of SHHS without faults: EEG, EOG and EMG in uV and the ECG in mV at
    125 Hz, breathing at 10 Hz, SaO2 in % at 1 Hz. The body is the same whatever records it.

    Args:
        subject: who sleeps.
        duration_h: time in bed.
        seed: of the cohort.
        recorder: what records.
        artefacts: how often sensors fail, relative to a usual night; 0 for never.
        measured_spectra: EEGs differ from person to person as real ones do (measured_spectra.py).
    """
    plan = plan_night(subject, duration_h, seed)
    body = simulate_body(subject, plan, seed, measured_spectra=measured_spectra)
    faults: tuple[Artefact, ...] = ()
    if artefacts > 0:
        rng = random_stream(seed, subject.index, Stream.ARTEFACTS)
        body, faults = add_artefacts(body, plan, artefacts, rng)
    rng = random_stream(seed, subject.index, Stream.HARDWARE)
    return SimulatedNight(
        channels=record(body, recorder, rng),
        hypnogram=plan.hypnogram,
        events=plan.events,
        device=recorder,
        artefacts=faults,
    )
