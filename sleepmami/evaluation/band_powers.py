"""The band-power baseline: textbook features of a night, laid out as an encoder's embeddings.

What any embedding has to beat. Nothing is learned; a probe reads these vectors like any others.

    micro    each epoch alone: a block per modality in the order of MODALITIES, padded to one width.
             A block ends in 1 where the modality is there and is all zeros where it is not, so
             that a linear probe may give its absence any value.
    macro    each epoch in its night, the fair twin of an encoder that hears all of it: its features
             as they are and against the night's own median and spread, of the epochs before and
             after, of the past 2 minutes and of 7.5 minutes around (those of YASA: Vallat and
             Walker 2021), and the time since the start and to the end.
    night    mean and three percentiles of each feature over the epochs that have it, and how many.

`scale=night` reads the signals as the encoder does, in deviations of their night. `physical` undoes
that: microvolts and percent, which tell more of a person and more of the recorder.

Shapes: L epochs, M modalities (6), F features, D width of a block.
"""

from __future__ import annotations

import hashlib
import json
from typing import NamedTuple

import numpy as np
import scipy.ndimage
from numpy.typing import NDArray

from sleepmami.config import BandPowersConfig
from sleepmami.errors import RecordingCode, RecordingError
from sleepmami.evaluation.embeddings import BASELINE
from sleepmami.evaluation.epoch_features import FEATURES, LOG_POWERS, epoch_features
from sleepmami.psg import (
    EPOCH_S,
    MODALITIES,
    SEGMENT_EPOCHS,
    STORED_RATE_HZ,
    STORED_SCALE,
    Modality,
    Night,
)

FORMULA = 1  # raised when a feature is added, removed or changes its meaning
BLOCK = 1 + max(len(names) for names in FEATURES.values())  # D
AROUND_EPOCHS = 15  # 7.5 minutes, weights falling to both sides
PAST_EPOCHS = 4  # 2 minutes
PERCENTILES = (10, 50, 90)
SPREAD_PERCENTILES = (5, 95)

Floats = NDArray[np.float32]


class ModalityFeatures(NamedTuple):
    """Features [L, F] of one modality, and where it passed the quality checks [L]; else zeros."""

    x_LF: Floats
    there_L: NDArray[np.bool_]


class BandPowerVectors(NamedTuple):
    """Vectors of one night; see the module docstring."""

    micro: Floats  # [L, 6 * D]
    macro: Floats
    night: Floats
    epoch_valid: NDArray[np.bool_]  # [L]
    modality_valid: NDArray[np.bool_]  # [L, 6]


def baseline_id(config: BandPowersConfig) -> tuple[str, str]:
    """(model_id, weights_sha256) of these features: of their names and settings, not of weights."""
    says = {
        "formula": FORMULA,
        "scale": config.scale,
        "features": {m.value: list(names) for m, names in FEATURES.items()},
    }
    sha256 = hashlib.sha256(json.dumps(says, sort_keys=True).encode()).hexdigest()
    return f"{BASELINE}{config.scale}-{sha256[:8]}", sha256


def band_power_vectors(night: Night, config: BandPowersConfig) -> BandPowerVectors:
    """The baseline's vectors of a night.

    Raises:
        RecordingError: no modality is usable anywhere, or a night of another layout.
    """
    if night.layout != "sleepmami":
        raise RecordingError(
            RecordingCode.SIGNAL_UNUSABLE,
            file=night.recording_id,
            found=f"signals of layout {night.layout}",
            expected="layout sleepmami",
        )
    found = [_modality_features(night, modality, config) for modality in MODALITIES]
    valid_LM = np.stack([features.there_L for features in found], axis=1)
    if not valid_LM.any():
        raise RecordingError(
            RecordingCode.SIGNAL_UNUSABLE,
            file=night.recording_id,
            found="no usable epoch of any modality",
            expected="at least one",
        )
    blocks_LMD = np.zeros((night.num_epochs, len(MODALITIES), BLOCK), np.float32)
    for number, features in enumerate(found):
        there_L = features.there_L
        blocks_LMD[there_L, number, : features.x_LF.shape[1]] = features.x_LF[there_L]
        blocks_LMD[there_L, number, -1] = 1
    return BandPowerVectors(
        micro=blocks_LMD.reshape(night.num_epochs, -1),
        macro=in_context(found),
        night=of_night(found),
        epoch_valid=np.asarray(valid_LM.any(1)),
        modality_valid=valid_LM,
    )


def _modality_features(
    night: Night, modality: Modality, config: BandPowersConfig
) -> ModalityFeatures:
    width, num_epochs = len(FEATURES[modality]), night.num_epochs
    usable_L = night.usable.get(modality, np.zeros(num_epochs, np.bool_))
    if modality not in night.signals or not usable_L.any():
        nothing = np.zeros((num_epochs, width), np.float32)
        return ModalityFeatures(nothing, np.zeros(num_epochs, np.bool_))
    signal_LT = epochs_of(night, modality)
    statistics = night.statistics[modality]
    if config.scale == "physical" and modality is Modality.SPO2:
        signal_LT = signal_LT * np.float32(statistics.std) + np.float32(statistics.mean)
    x_LF = epoch_features(modality, signal_LT, STORED_RATE_HZ[modality])
    if config.scale == "physical" and modality in LOG_POWERS:
        powers = [name in LOG_POWERS[modality] for name in FEATURES[modality]]
        x_LF[:, powers] += 2 * np.log(max(statistics.std, 1e-12))
    x_LF[~usable_L] = 0
    return ModalityFeatures(x_LF, usable_L)


def epochs_of(night: Night, modality: Modality) -> Floats:
    """A modality in deviations of its night, epoch by epoch: float32[L, 30 * rate]."""
    rate = STORED_RATE_HZ[modality]
    stored = night.signals[modality].reshape(-1, EPOCH_S * rate)
    if night.num_epochs % SEGMENT_EPOCHS:  # the last segment repeats an epoch of the one before
        stored = np.delete(stored, night.num_epochs - 1, axis=0)
    return stored.astype(np.float32) / np.float32(STORED_SCALE)


def in_context(found: list[ModalityFeatures]) -> Floats:
    """The macro vectors [L, 6 F + M + 2] of features of all modalities, F in all."""
    raw_LF = np.concatenate([features.x_LF for features in found], axis=1)
    normal_LF = np.concatenate([night_normalised(features) for features in found], axis=1)
    flags_LM = np.stack([features.there_L for features in found], axis=1)
    length = len(raw_LF)
    triangle = 1.0 - np.abs(np.arange(AROUND_EPOCHS) - AROUND_EPOCHS // 2) / (
        AROUND_EPOCHS // 2 + 1
    )
    around_LF = scipy.ndimage.convolve1d(
        normal_LF, triangle / triangle.sum(), axis=0, mode="nearest"
    )
    padded_LF = np.pad(normal_LF, ((PAST_EPOCHS, 1), (0, 0)), mode="edge")
    shifted = [padded_LF[PAST_EPOCHS - back :][:length] for back in range(-1, PAST_EPOCHS + 1)]
    after_LF, before_LF = shifted[0], shifted[2]
    past_LF = np.mean(shifted[2:], axis=0)
    hours_L = np.arange(length) * EPOCH_S / 3600
    parts = (raw_LF, normal_LF, before_LF, after_LF, past_LF, around_LF, flags_LM)
    clock_L2 = np.stack([hours_L, hours_L[::-1]], axis=1)
    return np.concatenate([*parts, clock_L2], axis=1).astype(np.float32)


def night_normalised(features: ModalityFeatures) -> Floats:
    """Against the night's median and 5-95 % spread [L, F]; 0 where the modality is not there."""
    x_LF, there_L = features
    normal_LF = np.zeros_like(x_LF)
    if there_L.any():
        own_LF = x_LF[there_L]
        low_F, high_F = np.percentile(own_LF, SPREAD_PERCENTILES, axis=0)
        spread_F = np.where(high_F - low_F > 1e-6, high_F - low_F, 1.0)
        normal_LF[there_L] = (own_LF - np.median(own_LF, axis=0)) / spread_F
    return normal_LF


def of_night(found: list[ModalityFeatures]) -> Floats:
    """The night vector [(1 + 3) F + M]; zeros for a modality that is never there."""
    parts = []
    for x_LF, there_L in found:
        own_LF = x_LF[there_L] if there_L.any() else np.zeros_like(x_LF[:1])
        parts += [own_LF.mean(0), *np.percentile(own_LF, PERCENTILES, axis=0)]
        parts.append(np.array([there_L.mean()]))
    return np.concatenate(parts).astype(np.float32)
