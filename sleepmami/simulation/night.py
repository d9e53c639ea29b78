"""One simulated night: first its truth (stages and events), then ten channels that follow it."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sleepmami.psg import EPOCH_S
from sleepmami.signals.edf_writer import WriteChannel
from sleepmami.simulation import eeg, eyes_and_chin, heart, respiration
from sleepmami.simulation.events import NightEvent, NightPlan, simulate_events
from sleepmami.simulation.hypnogram import simulate_hypnogram
from sleepmami.simulation.subjects import Stream, Subject, random_stream


@dataclass(frozen=True, kw_only=True, slots=True)
class SimulatedNight:
    """A recording and its scoring.

    Attributes:
        channels: physical samples in the order they are written.
        hypnogram: Stage codes int8[num_epochs].
        events: apneas, hypopneas, desaturations and arousals in time order.
    """

    channels: tuple[WriteChannel, ...]
    hypnogram: NDArray[np.int8]
    events: tuple[NightEvent, ...]


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


def simulate_night(subject: Subject, duration_h: float, seed: int) -> SimulatedNight:
    """The night of `plan_night` with its signals, in the montage of SHHS.

    EEG, EOG and EMG are in uV and the ECG in mV at 125 Hz, breathing at 10 Hz, SaO2 in % at 1 Hz.
    """
    plan = plan_night(subject, duration_h, seed)

    def rng(stream: Stream) -> np.random.Generator:
        return random_stream(seed, subject.index, stream)

    breathing_rng = rng(Stream.RESPIRATION)
    breathing = respiration.simulate_breathing(subject, plan, breathing_rng)
    saturation = respiration.simulate_saturation(subject, plan, breathing_rng)
    beats = heart.simulate_heart(subject, plan, breathing.phase, rng(Stream.HEART))
    c4, c3 = eeg.simulate_eeg(subject, plan, rng(Stream.EEG))
    left, right = eyes_and_chin.simulate_eog(plan, (c4, c3), rng(Stream.EYES))
    chin = eyes_and_chin.simulate_emg(plan, rng(Stream.MUSCLE))
    fast, slow = float(eeg.RATE_HZ), float(respiration.RATE_HZ)
    channels = (
        _channel("EEG C4-A1", "uV", fast, c4, -500, 500),
        _channel("EEG C3-A2", "uV", fast, c3, -500, 500),
        _channel("EOG(L)", "uV", fast, left, -1000, 1000),
        _channel("EOG(R)", "uV", fast, right, -1000, 1000),
        _channel("EMG chin", "uV", fast, chin, -500, 500),
        _channel("ECG", "mV", fast, beats.ecg, -5, 5),
        _channel("AIRFLOW", "", slow, breathing.flow, -2, 2),
        _channel("THOR RES", "", slow, breathing.thorax, -2, 2),
        _channel("ABDO RES", "", slow, breathing.abdomen, -2, 2),
        _channel("SaO2", "%", float(respiration.SPO2_RATE_HZ), saturation, 0, 100),
    )
    return SimulatedNight(channels=channels, hypnogram=plan.hypnogram, events=plan.events)


def _channel(
    label: str, unit: str, rate_hz: float, samples: NDArray[np.float32], low: float, high: float
) -> WriteChannel:
    """An amplifier saturates: what exceeds its range is written as the range's end."""
    return WriteChannel(
        label=label,
        unit=unit,
        sample_rate_hz=rate_hz,
        samples=np.clip(samples, low, high),
        physical_min=low,
        physical_max=high,
    )
