"""Simulated nights in memory: 60-s windows cut at any second, labels and band powers per epoch.

Shapes: S streams, B windows, T samples, L epochs of a night, F features.
"""

import itertools
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from sleepmami.config import PreprocessConfig, SimulateConfig
from sleepmami.psg import (
    EPOCH_S,
    EPOCH_SAMPLES,
    MODALITIES,
    SEGMENT_EPOCHS,
    SEGMENT_S,
    STORED_RATE_HZ,
    EventKind,
    Modality,
    Night,
)
from sleepmami.signals.events import event_mask
from sleepmami.signals.preprocess import load_night
from sleepmami.simulation.cohort import write_cohort_night
from sleepmami.simulation.night_files import edf_path, xml_path
from sleepmami.simulation.subjects import simulate_subject
from sleepmami.training.batches import SegmentBatch, SegmentBuffer

RESPIRATORY = (
    EventKind.OBSTRUCTIVE_APNEA,
    EventKind.CENTRAL_APNEA,
    EventKind.MIXED_APNEA,
    EventKind.APNEA,
    EventKind.HYPOPNEA,
)
APNEA_SECONDS = 10  # of an epoch in which breathing is reduced, for the epoch to count
BANDS_HZ = {
    Modality.EEG: (0.5, 2, 4, 8, 11, 16, 30, 45),
    Modality.EOG: (0.3, 1, 2, 4, 8, 16),
    Modality.EMG: (10, 20, 30, 45),
    Modality.ECG: (0.5, 2, 5, 15, 40),
    Modality.RESP: (0.05, 0.15, 0.3, 0.6, 1.5),
    Modality.SPO2: (),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class StudyNight:
    """A night whose signals are one piece again, so that windows may start at any second.

    Attributes:
        signals: int16[num_epochs * 30 * stored rate] per modality.
        usable_SL: bool, of the quality checks.
        stage_L: Stage codes.
        apnea_L: the epoch has at least APNEA_SECONDS of apnea or hypopnea.
    """

    signals: dict[Modality, NDArray[np.int16]]
    usable_SL: NDArray[np.bool_]
    stage_L: NDArray[np.int8]
    apnea_L: NDArray[np.bool_]

    @property
    def num_epochs(self) -> int:
        """Of 30 s, an even number."""
        return len(self.stage_L)


def simulated_nights(first: int, stop: int, duration_h: float, seed: int) -> list[StudyNight]:
    """Subjects `first:stop`, through EDF, scoring and the ingest of section 3.3."""
    config = SimulateConfig(num_subjects=stop, duration_h=duration_h, seed=seed)
    nights = []
    for index in range(first, stop):
        subject = simulate_subject(index, seed)
        with tempfile.TemporaryDirectory(prefix="smm-learning-") as folder:
            write_cohort_night(folder, config, subject)
            night = load_night(
                edf_path(Path(folder, "edf"), subject),
                PreprocessConfig(),
                recording_id=subject.subject_id,
                annotation=xml_path(Path(folder, "annotations"), subject),
            )
        nights.append(study_night(night))
    return nights


def study_night(night: Night) -> StudyNight:
    """Join a night's segments; its last epoch goes when their number is odd."""
    num_epochs = night.num_epochs - night.num_epochs % SEGMENT_EPOCHS
    assert night.hypnogram is not None
    num_seconds = num_epochs * EPOCH_S
    seconds = event_mask(night.events or (), RESPIRATORY, num_seconds)
    return StudyNight(
        signals={
            m: night.signals[m][: num_epochs // SEGMENT_EPOCHS].reshape(-1) for m in MODALITIES
        },
        usable_SL=np.stack([night.usable[m][:num_epochs] for m in MODALITIES]),
        stage_L=night.hypnogram[:num_epochs],
        apnea_L=seconds.reshape(-1, EPOCH_S).sum(1) >= APNEA_SECONDS,
    )


def windows(night: StudyNight, starts_s: NDArray[np.int64]) -> SegmentBatch:
    """60-s windows from these seconds on, as `segment_batch` makes them from the store's rows.

    An epoch of a window is usable when all epochs of the night that it touches are.
    """
    start_BE = starts_s[:, None] + EPOCH_S * np.arange(SEGMENT_EPOCHS)
    first_BE, last_BE = start_BE // EPOCH_S, (start_BE + EPOCH_S - 1) // EPOCH_S
    usable_SBE = night.usable_SL[:, first_BE] & night.usable_SL[:, last_BE]
    buffer, places = SegmentBuffer(len(starts_s)), np.arange(len(starts_s))
    for stream, modality in enumerate(MODALITIES):
        rate = STORED_RATE_HZ[modality]
        index_BT = starts_s[:, None] * rate + np.arange(SEGMENT_S * rate)
        stored_BT = night.signals[modality][index_BT]
        buffer.put_stream(stream, stored_BT, usable_SBE[stream], places)
    return buffer.segments(0, len(places)).to_batch(torch.device("cpu"))


def joined(batches: list[SegmentBatch]) -> SegmentBatch:
    """Batches side by side."""
    signals, valids = zip(*batches, strict=True)
    return SegmentBatch(torch.cat(signals, dim=1), torch.cat(valids, dim=1))


def training_batch(
    nights: list[StudyNight], rows: int, offset_s: int, rng: np.random.Generator
) -> SegmentBatch:
    """Random windows of random nights.

    Args:
        nights: to draw from.
        rows: windows.
        offset_s: 60 draws the store's own segments, 30 also those that start half a segment later.
        rng: decides.
    """
    batches = []
    for index in rng.integers(len(nights), size=rows):
        num_starts = (nights[index].num_epochs * EPOCH_S - SEGMENT_S) // offset_s + 1
        start_s = np.array([rng.integers(num_starts) * offset_s])
        batches.append(windows(nights[index], start_s))
    return joined(batches)


def band_powers(night: StudyNight, epochs: NDArray[np.int64]) -> NDArray[np.float32]:
    """Log power per band and log deviation of each modality, mean and least SpO2: [L, F]."""
    columns = []
    for modality, edges_hz in BANDS_HZ.items():
        rate = STORED_RATE_HZ[modality]
        stored_LT = night.signals[modality].reshape(-1, EPOCH_SAMPLES * rate // 100)[epochs]
        signal_LT = stored_LT.astype(np.float32) / 1000
        columns += [signal_LT.mean(1), np.log(signal_LT.std(1) + 1e-3)]
        columns += [signal_LT.min(1), signal_LT.max(1)]
        power_LH = np.abs(np.fft.rfft(signal_LT - signal_LT.mean(1, keepdims=True))) ** 2
        hz = np.fft.rfftfreq(signal_LT.shape[1], 1 / rate)
        for low, high in itertools.pairwise(edges_hz):
            band = (hz >= low) & (hz < high)
            columns.append(np.log(power_LH[:, band].mean(1) + 1e-3))
    return np.stack(columns, axis=1).astype(np.float32)
