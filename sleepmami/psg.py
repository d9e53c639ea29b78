"""The domain's words: modalities, sleep stages, time units, and the preprocessed night.

Standard library only at run time; numpy appears in annotations alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Modality(StrEnum):
    """The signal families of SleepMaMi, then those that only sleep2vec has."""

    EEG = "EEG"
    EOG = "EOG"
    EMG = "EMG"
    ECG = "ECG"
    RESP = "RESP"  # SleepMaMi: breathing, whichever sensor; sleep2vec: respiratory effort
    SPO2 = "SPO2"
    FLOW = "FLOW"  # sleep2vec: nasal airflow
    BELT = "BELT"  # sleep2vec: abdominal or thoracic belt
    IBI = "IBI"  # sleep2vec: interval between heart beats


# SleepMaMi's six, in the order used by every tensor and table.
MODALITIES = (
    Modality.EEG,
    Modality.EOG,
    Modality.EMG,
    Modality.ECG,
    Modality.RESP,
    Modality.SPO2,
)


class Stage(IntEnum):
    """AASM sleep stages; R&K stages 3 and 4 are both N3, movement and unscored are UNKNOWN."""

    UNKNOWN = -1
    WAKE = 0
    N1 = 1
    N2 = 2
    N3 = 3
    REM = 4


UNTRAINED = "untrained-"  # begins the model id of vectors that nothing was learnt for
MODEL_RATE_HZ = 100  # section 3.3: every signal enters the encoder at 100 Hz
PATCH_SAMPLES = 50  # Table 9: 500 ms
EPOCH_S = 30
EPOCH_SAMPLES = EPOCH_S * MODEL_RATE_HZ
SEGMENT_S = 60  # Table 9: input length of the Micro-Encoder
SEGMENT_EPOCHS = SEGMENT_S // EPOCH_S
SEGMENT_SAMPLES = SEGMENT_S * MODEL_RATE_HZ
CYCLE_EPOCHS = 180  # Table 9: 90 minutes

# Slow signals are stored at a slow fixed rate and brought to MODEL_RATE_HZ when a batch is made:
# the 15 Hz low-pass of RESP fits 50 Hz, an oximeter reports about once per second.
STORED_RATE_HZ: Mapping[Modality, int] = {
    Modality.EEG: 100,
    Modality.EOG: 100,
    Modality.EMG: 100,
    Modality.ECG: 100,
    Modality.RESP: 50,
    Modality.SPO2: 1,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Layout:
    """Which signals a corpus stores, at which rates; one layout per corpus.

    Attributes:
        name: as in `preprocess.layout`.
        rate_hz: per modality in storage order; whole numbers.
    """

    name: str
    rate_hz: Mapping[Modality, int]

    @property
    def modalities(self) -> tuple[Modality, ...]:
        """In the order of the table's columns."""
        return tuple(self.rate_hz)


# sleep2vec, section 3.1: electrophysiology at 128 Hz, the nine others' slow ones at 4 Hz
_SLEEP2VEC_RATE_HZ: Mapping[Modality, int] = {
    **dict.fromkeys((Modality.EEG, Modality.EOG, Modality.EMG, Modality.ECG), 128),
    **dict.fromkeys((Modality.FLOW, Modality.BELT, Modality.SPO2, Modality.IBI, Modality.RESP), 4),
}
LAYOUTS: Mapping[str, Layout] = {
    "sleepmami": Layout(name="sleepmami", rate_hz=STORED_RATE_HZ),
    "sleep2vec": Layout(name="sleep2vec", rate_hz=_SLEEP2VEC_RATE_HZ),
}
# Stored numbers are int16: z-score times this. Clips at 32.7 standard deviations, 71 dB SNR.
STORED_SCALE = 1000.0


def segment_start_epochs(num_epochs: int) -> list[int]:
    """First epoch of each 60-s segment; an odd night's last segment overlaps the one before.

    Every epoch lies in at least one segment, and a night of one epoch has none.
    """
    starts = list(range(0, num_epochs - 1, SEGMENT_EPOCHS))
    if num_epochs > 1 and num_epochs % SEGMENT_EPOCHS:
        starts.append(num_epochs - SEGMENT_EPOCHS)
    return starts


class EventKind(StrEnum):
    """Scored events that probes ask for; apneas of unstated kind are APNEA."""

    OBSTRUCTIVE_APNEA = "obstructive_apnea"
    CENTRAL_APNEA = "central_apnea"
    MIXED_APNEA = "mixed_apnea"
    APNEA = "apnea"
    HYPOPNEA = "hypopnea"
    RERA = "rera"  # respiratory effort related arousal
    DESATURATION = "desaturation"
    AROUSAL = "arousal"


@dataclass(frozen=True, kw_only=True, slots=True, order=True)
class ScoredEvent:
    """One event of a scoring; start_s counts from the recording's first sample."""

    start_s: float
    duration_s: float
    kind: EventKind


class Confidence(StrEnum):
    """How sure the reading of a channel label is."""

    CERTAIN = "certain"  # the label names the signal and its site
    LIKELY = "likely"  # the signal, but not the site or the reference
    GUESS = "guess"  # the montage or a single ambiguous word decided


class Decision(StrEnum):
    """What became of one EDF channel."""

    USED = "used"  # became the modality's signal
    SPARE = "spare"  # right modality, another channel was preferred
    REFERENCE = "reference"  # subtracted from a used channel
    IGNORED = "ignored"  # not a modality of ours
    REJECTED = "rejected"  # right modality, unusable: rate, unit or quality


@dataclass(frozen=True, kw_only=True, slots=True)
class ChannelDecision:
    """One EDF channel and why it is or is not used; what `sleepmami inspect` shows.

    Attributes:
        label: the channel's; words that are not known to name a signal are left out, because a
            label may hold anything (`signals.label_privacy.safe_label`).
        modality: None when it is none of ours.
        unit: the channel's, or "?" when it is no known unit.
        sample_rate_hz: the file's, before resampling.
        decision: what became of the channel.
        reason: the same in words, for a technician.
        reference: label of the channel that was subtracted from this one; None without one, and
            None unless the decision is USED.
        side: "left", "right" or empty.
        confidence: None when the modality is.
    """

    label: str
    modality: Modality | None
    unit: str
    sample_rate_hz: float
    decision: Decision
    reason: str
    reference: str | None = None
    side: str = ""
    confidence: Confidence | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class ChannelStatistics:
    """z-score statistics of one modality over the usable part of its night, in physical units."""

    mean: float
    std: float
    unit: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Night:
    """One preprocessed night: what tables store and the Embedder reads.

    Attributes:
        recording_id: name of the recording, never a patient's name.
        num_epochs: whole 30-s epochs; at least 2.
        signals: per present modality int16[num_segments, SEGMENT_S * rate], z-score times
            STORED_SCALE. Segment k starts at segment_start_epochs(num_epochs)[k].
            An absent modality is an absent key.
        usable: per present modality bool[num_epochs]: the epoch's signal passed the quality checks.
        statistics: per present modality, what undoes the z-score.
        channels: one decision per EDF channel, in file order.
        hypnogram: Stage codes int8[num_epochs], or None when the night is not scored.
        events: by start; None when the scoring holds none, so that nobody knows whether there were.
        gaps: (start_s, stop_s) of stretches without data in a discontinuous recording.
        layout: which signals at which rates, a key of LAYOUTS.
        notes: what was unusual but harmless about the file, free of what its header says.
    """

    recording_id: str
    num_epochs: int
    signals: Mapping[Modality, NDArray[np.int16]]
    usable: Mapping[Modality, NDArray[np.bool_]]
    statistics: Mapping[Modality, ChannelStatistics]
    channels: tuple[ChannelDecision, ...] = field(default=())
    hypnogram: NDArray[np.int8] | None = None
    events: tuple[ScoredEvent, ...] | None = None
    gaps: tuple[tuple[float, float], ...] = ()
    layout: str = "sleepmami"
    notes: tuple[str, ...] = ()

    @property
    def missing(self) -> tuple[Modality, ...]:
        """Modalities this night has no signal of."""
        return tuple(m for m in LAYOUTS[self.layout].modalities if m not in self.signals)
