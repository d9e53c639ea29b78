"""What a body shows to any recorder: named signals before electrodes, amplifier and file."""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from sleepmami.simulation import eeg, eyes_and_chin, heart, respiration
from sleepmami.simulation.events import NightPlan
from sleepmami.simulation.subjects import Stream, Subject, random_stream


class Source(StrEnum):
    """A signal of the body, in uV but where it says otherwise."""

    C4 = "c4"  # against the opposite mastoid, as C3
    C3 = "c3"
    LEFT_EYE = "left_eye"
    RIGHT_EYE = "right_eye"
    CHIN = "chin"
    ECG = "ecg"  # mV
    FLOW = "flow"  # arbitrary units, as the efforts; inspiration is positive
    THORAX = "thorax"
    ABDOMEN = "abdomen"
    SATURATION = "saturation"  # percent
    PULSE = "pulse"  # beats per minute
    MASTOID = "mastoid"  # what a mastoid has against a distant ground


@dataclass(frozen=True, kw_only=True, slots=True)
class BodySignal:
    """One signal: float32[seconds * rate_hz]."""

    samples: NDArray[np.float32]
    rate_hz: int


Body = dict[Source, BodySignal]


def simulate_body(
    subject: Subject, plan: NightPlan, seed: int, *, measured_spectra: bool = False
) -> Body:
    """The ten signals of the reference montage; each draws from a random stream of its own.

    With `measured_spectra` EEGs are as unlike each other as people's.
    """

    def rng(stream: Stream) -> np.random.Generator:
        return random_stream(seed, subject.index, stream)

    breathing_rng = rng(Stream.RESPIRATION)
    breathing = respiration.simulate_breathing(subject, plan, breathing_rng)
    saturation = respiration.simulate_saturation(subject, plan, breathing_rng)
    beats = heart.simulate_heart(subject, plan, breathing.phase, rng(Stream.HEART))
    spectra_rng = rng(Stream.SPECTRA) if measured_spectra else None
    c4, c3 = eeg.simulate_eeg(subject, plan, rng(Stream.EEG), spectra_rng)
    left, right = eyes_and_chin.simulate_eog(plan, (c4, c3), rng(Stream.EYES))
    chin = eyes_and_chin.simulate_emg(plan, rng(Stream.MUSCLE))
    fast, slow = eeg.RATE_HZ, respiration.RATE_HZ
    signals = {
        Source.C4: (c4, fast),
        Source.C3: (c3, fast),
        Source.LEFT_EYE: (left, fast),
        Source.RIGHT_EYE: (right, fast),
        Source.CHIN: (chin, fast),
        Source.ECG: (beats.ecg, fast),
        Source.FLOW: (breathing.flow, slow),
        Source.THORAX: (breathing.thorax, slow),
        Source.ABDOMEN: (breathing.abdomen, slow),
        Source.SATURATION: (saturation, respiration.SPO2_RATE_HZ),
        Source.PULSE: (_pulse(beats.beat_s, plan.num_seconds), respiration.SPO2_RATE_HZ),
    }
    return {
        source: BodySignal(samples=samples, rate_hz=rate_hz)
        for source, (samples, rate_hz) in signals.items()
    }


def _pulse(beat_s: NDArray[np.float64], num_seconds: int) -> NDArray[np.float32]:
    """Beats per minute once a second, as an oximeter shows them: over the last five beats."""
    rate = 60 * 5 / (beat_s[5:] - beat_s[:-5])
    shown = np.interp(np.arange(num_seconds), beat_s[5:], rate)
    return shown.astype(np.float32)
