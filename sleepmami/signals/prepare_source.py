"""One source of a recording -> its modality's z-scored segments, at the layout's rate.

Choices where sleep2vec's section 3.1 is silent: no filter on the electrophysiology ("only minimal
preprocessing") but the anti-alias fade of resampling; RESP is the band `effort_band_hz` of a belt,
or of airflow without one; statistics are each night's own, kept so that they can be undone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sleepmami.config import PreprocessConfig
from sleepmami.psg import (
    EPOCH_S,
    LAYOUTS,
    SEGMENT_EPOCHS,
    STORED_SCALE,
    ChannelStatistics,
    Modality,
    segment_start_epochs,
)
from sleepmami.signals import quality
from sleepmami.signals.channels import SignalSource, scale_of
from sleepmami.signals.edf import EdfChannel, EdfFile
from sleepmami.signals.filters import (
    Band,
    Samples,
    band_of,
    filter_resample,
)
from sleepmami.signals.heart_beats import find_r_peaks, interbeat_signal
from sleepmami.signals.mains import only_hum
from sleepmami.signals.oximetry import SPO2_RANGE_PERCENT, spo2_to_1hz

_INT16_LIMIT = 32767
_ELECTRODES = (*quality.STD_LIMITS_UV, Modality.IBI)  # which pick up hum when they come off
# A fade to 2 Hz rings for minutes, so fast channels come down to this rate first.
_SLOW_TARGET_HZ = 8
_HALFWAY_HZ = 64
_SAMPLES_FOR_CENTRE = 10_000  # of a night; that the centre is near is enough
_SMALL_OFFSET = 4.0  # standard deviations; so small a one costs no accuracy in float32
_SAMPLES_AT_ONCE = 2**16


@dataclass(frozen=True, slots=True)
class Prepared:
    """One source after filtering: int16[num_segments, samples] and what is known about it."""

    source: SignalSource
    quality: quality.EpochQuality
    segments: NDArray[np.int16]
    statistics: ChannelStatistics


class _Raw(NamedTuple):
    """A source at its own rate; (samples - centre) * scale + offset is in `unit`."""

    samples: Samples
    centre: float
    scale: float
    offset: float
    epochs: quality.EpochQuality


class _Values(NamedTuple):
    """A signal and its epochs' quality; values * scale + offset is in `unit`."""

    values: NDArray[np.float32]
    scale: float
    offset: float
    epochs: quality.EpochQuality
    unit: str
    per_second: quality.SecondSums | None = None


def prepare(
    edf: EdfFile, source: SignalSource, num_epochs: int, config: PreprocessConfig
) -> Prepared:
    """Filter, judge, z-score and cut one source."""
    if source.modality is Modality.SPO2:
        prepared = _saturation(edf, source, num_epochs, config)
    elif source.modality is Modality.IBI:
        prepared = _interbeat(edf, source, num_epochs, config)
    else:
        prepared = _filtered(edf, source, num_epochs, config)
    values, scale, offset, epochs, unit, per_second = prepared
    mean, std = quality.moments(values, epochs, per_second=per_second)
    if not std > 0:  # nothing varies: there is no z-score
        epochs = epochs.adding(quality.Fault.FLAT, np.ones(num_epochs, dtype=bool))
        std = 1.0
    stored_EN = _quantised(values, mean, STORED_SCALE / std).reshape(num_epochs, -1)  # E epochs
    stored_EN[~epochs.usable] = 0
    return Prepared(
        source=source,
        quality=epochs,
        segments=_cut(stored_EN),
        statistics=ChannelStatistics(mean=mean * scale + offset, std=std * scale, unit=unit),
    )


def _quantised(values: NDArray[np.float32], mean: float, factor: float) -> NDArray[np.int16]:
    """(values - mean) * factor, rounded and clipped; piece by piece, which stays in the cache."""
    stored = np.empty(len(values), dtype=np.int16)
    scratch = np.empty(min(len(values), _SAMPLES_AT_ONCE), dtype=np.float32)
    for first in range(0, len(values), _SAMPLES_AT_ONCE):
        piece = values[first : first + _SAMPLES_AT_ONCE]
        z = scratch[: len(piece)]
        np.subtract(piece, np.float32(mean), out=z)
        z *= np.float32(factor)
        np.rint(z, out=z)
        if z.max() > _INT16_LIMIT or z.min() < -_INT16_LIMIT:
            np.clip(z, -_INT16_LIMIT, _INT16_LIMIT, out=z)
        stored[first : first + len(piece)] = z
    return stored


def _cut(stored_EN: NDArray[np.int16]) -> NDArray[np.int16]:
    """[epochs, samples] -> [segments, 2 * samples]; an odd night's last segment overlaps."""
    num_epochs, size = stored_EN.shape
    even = stored_EN[: num_epochs - num_epochs % SEGMENT_EPOCHS].reshape(-1, SEGMENT_EPOCHS * size)
    if num_epochs % SEGMENT_EPOCHS == 0:
        return even
    last = stored_EN[segment_start_epochs(num_epochs)[-1] :].reshape(1, -1)
    return np.concatenate([even, last])


def _saturation(
    edf: EdfFile, source: SignalSource, num_epochs: int, config: PreprocessConfig
) -> _Values:
    """SpO2 in percent, averaged or held within each sample of the layout's rate."""
    channel, target_hz = channel_of(edf, source.index), _target_hz(source, config)
    num_seconds, gain, offset = num_epochs * EPOCH_S, channel.gain, channel.offset
    if gain > 0:
        readings: Samples = edf.digital(channel)
    else:  # upside down, or without a scale
        readings, gain, offset = edf.physical(channel), 1.0, 0.0
    values, there = spo2_to_1hz(
        readings,
        channel.sample_rate_hz / target_hz,
        num_seconds * target_hz,
        gain=gain,
        offset=offset,
    )
    measured = 2 * there.reshape(num_seconds, target_hz).sum(axis=1) >= target_hz
    low, high = ((percent - offset) / gain for percent in SPO2_RANGE_PERCENT)
    epochs = quality.oximeter_quality(readings, channel.sample_rate_hz, measured, (low, high))
    return _Values(values, 1.0, 0.0, quality.with_gaps(epochs, edf.gaps), source.unit)


def _interbeat(
    edf: EdfFile, source: SignalSource, num_epochs: int, config: PreprocessConfig
) -> _Values:
    """Interval between the heart beats of an ECG, in s."""
    raw = _bridged(edf, source, num_epochs)
    ecg = _centred(raw.samples, raw.centre)
    beat_s = find_r_peaks(ecg, channel_of(edf, source.index).sample_rate_hz)
    values, covered = interbeat_signal(beat_s, _target_hz(source, config), num_epochs)
    beats = quality.measured_quality(covered, quality.Fault.FEW_BEATS)
    epochs = replace(raw.epochs, clipped_seconds=beats.clipped_seconds)
    epochs = epochs.adding(quality.Fault.FEW_BEATS, ~beats.usable)
    return _Values(values, 1.0, 0.0, epochs, "s")


def _filtered(
    edf: EdfFile, source: SignalSource, num_epochs: int, config: PreprocessConfig
) -> _Values:
    """The source's band at the layout's rate.

    Values stay in digital steps of the channel, centred, so that neither a large offset nor an odd
    physical range costs float32 accuracy.
    """
    raw = _bridged(edf, source, num_epochs)
    channel = channel_of(edf, source.index)
    band, target_hz = band_of(source.modality, config), _target_hz(source, config)
    samples, centre, num_seconds = raw.samples, raw.centre, num_epochs * EPOCH_S
    rate_hz = channel.sample_rate_hz
    if target_hz <= _SLOW_TARGET_HZ and rate_hz >= 2 * _HALFWAY_HZ:
        num_halfway = num_seconds * _HALFWAY_HZ
        samples = filter_resample(samples, rate_hz, _HALFWAY_HZ, Band(), num_halfway, centre=centre)
        rate_hz, centre = _HALFWAY_HZ, 0.0
    values = filter_resample(
        samples, rate_hz, target_hz, band, num_seconds * target_hz, centre=centre
    )
    offset = 0.0 if band.highpass_hz else raw.offset
    limits = _std_limits(channel, source.modality, raw.scale)
    per_second = quality.second_sums(values, num_epochs)
    epochs = quality.with_outliers(raw.epochs, values, limits, per_second=per_second)
    if source.modality in quality.NEVER_STILL:
        epochs = quality.with_flat_seconds(epochs, per_second, target_hz)
    return _Values(values, raw.scale, offset, epochs, source.unit, per_second)


def _bridged(edf: EdfFile, source: SignalSource, num_epochs: int) -> _Raw:
    """The source at its own rate, reference subtracted, bad epochs bridged.

    Samples stay the file's integers where they can. A reference is scaled to the digital steps of
    the channel it is subtracted from.
    """
    channel = channel_of(edf, source.index)
    samples, centre, epochs = _judged(edf, channel, source.modality, num_epochs)
    scale = channel.gain * source.unit_scale
    offset = (centre * channel.gain + channel.offset) * source.unit_scale
    if source.reference_index is not None or scale < 0:
        samples, centre = _centred(samples, centre), 0.0
    if source.reference_index is not None:
        reference = channel_of(edf, source.reference_index)
        other, other_centre, other_epochs = _judged(edf, reference, source.modality, num_epochs)
        other_scale, _, _ = scale_of(reference, source.modality)
        samples -= _centred(other, other_centre) * np.float32(reference.gain * other_scale / scale)
        offset -= (other_centre * reference.gain + reference.offset) * other_scale
        epochs = quality.merged([epochs, other_epochs])
    if scale < 0:  # the header's physical range is upside down
        samples *= np.float32(-1)
        scale = -scale
    if source.modality in _ELECTRODES:
        hum = only_hum(
            samples,
            channel.sample_rate_hz,
            epochs.usable,
            may_fall_silent=source.modality is Modality.EMG,
        )
        epochs = epochs.adding(quality.Fault.DISCONNECTED, hum)
    quality.bridge(samples, channel.sample_rate_hz, epochs.usable, centre)
    return _Raw(samples, centre, scale, offset, epochs)


def _judged(
    edf: EdfFile, channel: EdfChannel, modality: Modality, num_epochs: int
) -> tuple[Samples, float, quality.EpochQuality]:
    """(digital samples, their centre, raw quality) of whole epochs."""
    rate_hz = channel.sample_rate_hz
    digital = edf.digital(channel)[: round(num_epochs * EPOCH_S * rate_hz)]
    rails = (channel.digital_min, channel.digital_max)
    epochs = quality.raw_quality(digital, rate_hz, num_epochs, rails, modality)
    sparse = digital[:: 1 + len(digital) // _SAMPLES_FOR_CENTRE]
    centre = float(np.median(sparse))
    if abs(centre) < _SMALL_OFFSET * float(sparse.std()):
        centre = 0.0  # nothing to subtract
    return digital, centre, quality.with_gaps(epochs, edf.gaps)


def _centred(samples: Samples, centre: float) -> NDArray[np.float32]:
    centred = samples.astype(np.float32)
    centred -= np.float32(centre)
    return centred


def _std_limits(
    channel: EdfChannel, modality: Modality, scale: float
) -> tuple[float, float] | None:
    """Limits of an epoch's standard deviation in digital steps; None when the unit is not known."""
    limits_uv = quality.STD_LIMITS_UV.get(modality)
    if limits_uv is None or scale_of(channel, modality)[2]:
        return None
    return limits_uv[0] / scale, limits_uv[1] / scale


def _target_hz(source: SignalSource, config: PreprocessConfig) -> int:
    return LAYOUTS[config.layout].rate_hz[source.modality]


def channel_of(edf: EdfFile, index: int) -> EdfChannel:
    """The channel at that position of the file."""
    by_index: Mapping[int, EdfChannel] = {channel.index: channel for channel in edf.channels}
    return by_index[index]
