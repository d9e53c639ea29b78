"""EDF -> Night, section 3.3: choose channels, filter, resample, z-score, cut into segments.

One channel is in memory at a time. A channel of which less than half is usable gives way to the
file's next channel of that modality, if that one has more usable epochs.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from sleepmami.config import PreprocessConfig
from sleepmami.errors import RecordingCode, RecordingError
from sleepmami.psg import (
    EPOCH_S,
    MODALITIES,
    SEGMENT_EPOCHS,
    STORED_RATE_HZ,
    STORED_SCALE,
    ChannelDecision,
    ChannelStatistics,
    Decision,
    Modality,
    Night,
    segment_start_epochs,
)
from sleepmami.signals import quality
from sleepmami.signals.annotations import hypnogram_from_annotations, read_hypnogram
from sleepmami.signals.channels import (
    OUTRANKED,
    ChannelPlan,
    SignalSource,
    mark_references,
    plan_channels,
    scale_of,
)
from sleepmami.signals.edf import EdfChannel, EdfFile, open_edf
from sleepmami.signals.filters import band_of, filter_resample, spo2_to_1hz

MIN_USABLE_SHARE = 0.5  # below it, the next channel of the modality is tried
_INT16_LIMIT = 32767


@dataclass(frozen=True, slots=True)
class _Prepared:
    """One source after filtering: int16[num_segments, samples] and what is known about it."""

    source: SignalSource
    quality: quality.EpochQuality
    segments: NDArray[np.int16]
    statistics: ChannelStatistics


def load_night(
    source: str | os.PathLike[str] | bytes,
    config: PreprocessConfig,
    *,
    recording_id: str,
    name: str | None = None,
    annotation: str | os.PathLike[str] | bytes | None = None,
) -> Night:
    """Read and preprocess one recording.

    Args:
        source: path of an EDF or BDF file, or its bytes.
        config: the settings of section 3.3.
        recording_id: how the night is called from now on.
        name: how errors call the file; by default its path.
        annotation: file of sleep stages, or its bytes; without one, stages inside the EDF are used,
            if there are any.

    Raises:
        RecordingError: the file or its annotation cannot be used.
    """
    edf = open_edf(source, name=name, truncated=config.truncated)
    num_epochs = _num_epochs(edf, config)
    if annotation is not None:
        hypnogram: NDArray[np.int8] | None = read_hypnogram(
            annotation, num_epochs, clock_s=edf.clock_s
        )
    else:
        hypnogram = hypnogram_from_annotations(edf.annotations(), num_epochs)
    return preprocess(edf, config, recording_id=recording_id, hypnogram=hypnogram)


def preprocess(
    edf: EdfFile,
    config: PreprocessConfig,
    *,
    recording_id: str,
    hypnogram: NDArray[np.int8] | None = None,
) -> Night:
    """The night in an opened recording; see `load_night`.

    Raises:
        RecordingError: too short, too long, no known channel, or none of them usable.
    """
    num_epochs = _num_epochs(edf, config)
    plan = plan_channels(edf.channels)
    used: dict[Modality, _Prepared] = {}
    decisions = list(plan.decisions)
    for modality in MODALITIES:
        tried = _try_sources(edf, plan, modality, num_epochs, config)
        best = max(tried, key=lambda p: p.quality.share, default=None)
        if best is not None and best.quality.share > 0:
            used[modality] = best
        _note_outcomes(decisions, edf.channels, tried, used.get(modality))
    sources = {modality: prepared.source for modality, prepared in used.items()}
    final = mark_references(decisions, edf.channels, sources)
    if not used:
        raise _nothing_usable(edf, final)
    return Night(
        recording_id=recording_id,
        num_epochs=num_epochs,
        signals={m: prepared.segments for m, prepared in used.items()},
        usable={m: prepared.quality.usable for m, prepared in used.items()},
        statistics={m: prepared.statistics for m, prepared in used.items()},
        channels=final,
        hypnogram=hypnogram,
    )


# --------------------------------------------------------------------------------- what to refuse


def _num_epochs(edf: EdfFile, config: PreprocessConfig) -> int:
    """Whole epochs of the recording; RecordingError when they are too few or too many."""
    if edf.duration_s > config.max_duration_h * 3600:
        raise RecordingError(
            RecordingCode.RECORDING_TOO_LARGE,
            file=edf.name,
            found=f"{edf.duration_s / 3600:.1f} h of signal",
            expected=f"at most {config.max_duration_h:g} h (preprocess.max_duration_h)",
        )
    num_epochs = int((edf.duration_s + 1e-6) // EPOCH_S)
    if edf.duration_s < config.min_duration_s or num_epochs < SEGMENT_EPOCHS:
        raise RecordingError(
            RecordingCode.RECORDING_TOO_SHORT,
            file=edf.name,
            found=f"{edf.duration_s:g} s of signal",
            expected=f"at least {config.min_duration_s:g} s (preprocess.min_duration_s)",
        )
    return num_epochs


def _nothing_usable(edf: EdfFile, decisions: Sequence[ChannelDecision]) -> RecordingError:
    rejected = [f"{d.label!r}: {d.reason}" for d in decisions if d.decision is Decision.REJECTED]
    if rejected:
        return RecordingError(
            RecordingCode.SIGNAL_UNUSABLE,
            file=edf.name,
            found="; ".join(rejected),
            expected="at least one channel with a usable 30-s epoch",
        )
    labels = ", ".join(repr(d.label) for d in decisions)
    return RecordingError(
        RecordingCode.CHANNELS_MISSING,
        file=edf.name,
        found=f"channels {labels}" if labels else "no channel",
        expected=f"a channel of {', '.join(MODALITIES)}, such as 'C4-M1', 'Chin EMG' or 'SpO2'",
    )


def _note_outcomes(
    decisions: list[ChannelDecision],
    channels: Sequence[EdfChannel],
    tried: Sequence[_Prepared],
    best: _Prepared | None,
) -> None:
    """Write what the signals showed into the decisions made from the header, in place."""
    place_of = {channel.index: place for place, channel in enumerate(channels)}
    for prepared in tried:
        notes = [prepared.source.note, prepared.quality.describe()]
        if prepared is best:
            decision = Decision.USED
        elif prepared.quality.share == 0:
            decision = Decision.REJECTED
        else:
            decision = Decision.SPARE
            notes.append(OUTRANKED)
        place = place_of[prepared.source.index]
        reason = "; ".join(note for note in notes if note)
        decisions[place] = replace(decisions[place], decision=decision, reason=reason)


# ------------------------------------------------------------------------------------ one modality


def _try_sources(
    edf: EdfFile, plan: ChannelPlan, modality: Modality, num_epochs: int, config: PreprocessConfig
) -> list[_Prepared]:
    """The modality's sources, prepared in order of preference up to the first good one."""
    tried: list[_Prepared] = []
    if modality in plan.sources:
        for source in (plan.sources[modality], *plan.spares.get(modality, ())):
            tried.append(_prepare(edf, source, num_epochs, config))
            if tried[-1].quality.share >= MIN_USABLE_SHARE:
                break
    return tried


def _prepare(
    edf: EdfFile, source: SignalSource, num_epochs: int, config: PreprocessConfig
) -> _Prepared:
    """Filter, judge, z-score and cut one source."""
    if source.modality is Modality.SPO2:
        values, scale, offset, epochs = _saturation(edf, source, num_epochs)
    else:
        values, scale, offset, epochs = _filtered(edf, source, num_epochs, config)
    mean, std = quality.moments(values, epochs)
    if not std > 0:  # nothing varies: there is no z-score
        everything = np.ones(num_epochs, dtype=bool)
        if epochs.share > 0:
            epochs = replace(epochs, faults={**epochs.faults, quality.Fault.FLAT: everything})
        std = 1.0
    values -= np.float32(mean)
    values *= np.float32(STORED_SCALE / std)
    np.clip(np.rint(values, out=values), -_INT16_LIMIT, _INT16_LIMIT, out=values)
    stored_EN = values.astype(np.int16).reshape(num_epochs, -1)  # E epochs, N samples
    stored_EN[~epochs.usable] = 0
    return _Prepared(
        source=source,
        quality=epochs,
        segments=_cut(stored_EN),
        statistics=ChannelStatistics(mean=mean * scale + offset, std=std * scale, unit=source.unit),
    )


def _cut(stored_EN: NDArray[np.int16]) -> NDArray[np.int16]:
    """[epochs, samples] -> [segments, 2 * samples]; an odd night's last segment overlaps."""
    num_epochs, size = stored_EN.shape
    even = stored_EN[: num_epochs - num_epochs % SEGMENT_EPOCHS].reshape(-1, SEGMENT_EPOCHS * size)
    if num_epochs % SEGMENT_EPOCHS == 0:
        return even
    last = stored_EN[segment_start_epochs(num_epochs)[-1] :].reshape(1, -1)
    return np.concatenate([even, last])


_Values = tuple[NDArray[np.float32], float, float, quality.EpochQuality]


def _saturation(edf: EdfFile, source: SignalSource, num_epochs: int) -> _Values:
    channel = _channels(edf)[source.index]
    values, measured = spo2_to_1hz(
        edf.physical(channel), channel.sample_rate_hz, num_epochs * EPOCH_S
    )
    return values, 1.0, 0.0, quality.measured_quality(measured)


def _filtered(
    edf: EdfFile, source: SignalSource, num_epochs: int, config: PreprocessConfig
) -> _Values:
    """(values at the stored rate, their unit in source.unit, physical value of 0, quality).

    Values stay in digital steps of the channel, centred, so that neither a large offset nor an odd
    physical range costs float32 accuracy; a reference is scaled to the same steps.
    """
    channel = _channels(edf)[source.index]
    rate_hz = channel.sample_rate_hz
    samples, centre, epochs = _centred(edf, channel, source.modality, num_epochs)
    scale = channel.gain * source.unit_scale
    offset = (centre * channel.gain + channel.offset) * source.unit_scale
    if source.reference_index is not None:
        reference = _channels(edf)[source.reference_index]
        other, other_centre, other_epochs = _centred(edf, reference, source.modality, num_epochs)
        other_scale, _, _ = scale_of(reference, source.modality)
        other *= np.float32(reference.gain * other_scale / scale)
        samples -= other
        offset -= (other_centre * reference.gain + reference.offset) * other_scale
        epochs = quality.merged([epochs, other_epochs])
    if scale < 0:  # the header's physical range is upside down
        samples *= np.float32(-1)
        scale = -scale
    quality.bridge(samples, rate_hz, epochs.usable)
    band = band_of(source.modality, config)
    target_hz = STORED_RATE_HZ[source.modality]
    values = filter_resample(samples, rate_hz, target_hz, band, num_epochs * EPOCH_S * target_hz)
    constant = 0.0 if band.highpass_hz else offset
    return values, scale, constant, quality.with_outliers(epochs, values)


def _centred(
    edf: EdfFile, channel: EdfChannel, modality: Modality, num_epochs: int
) -> tuple[NDArray[np.float32], float, quality.EpochQuality]:
    """(digital samples minus their centre, the centre, raw quality) of whole epochs."""
    rate_hz = channel.sample_rate_hz
    digital = edf.digital(channel)[: round(num_epochs * EPOCH_S * rate_hz)]
    rails = (channel.digital_min, channel.digital_max)
    epochs = quality.raw_quality(digital, rate_hz, num_epochs, rails, modality)
    centre = float(np.median(digital[::64]))
    samples = digital.astype(np.float32)
    samples -= np.float32(centre)
    return samples, centre, epochs


def _channels(edf: EdfFile) -> Mapping[int, EdfChannel]:
    return {channel.index: channel for channel in edf.channels}
