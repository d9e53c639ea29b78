"""EDF -> Night, section 3.3: choose channels, filter, resample, z-score, cut into segments.

One channel is in memory at a time. A channel of which less than half is usable gives way to the
file's next channel of that modality, if that one has more usable epochs.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from sleepmami.config import PreprocessConfig
from sleepmami.errors import RecordingCode, RecordingError
from sleepmami.psg import (
    LAYOUTS,
    ChannelDecision,
    Decision,
    Modality,
    Night,
    ScoredEvent,
)
from sleepmami.signals.channels import OUTRANKED, ChannelPlan, mark_references, plan_channels
from sleepmami.signals.duration import num_epochs as count_epochs
from sleepmami.signals.edf import EdfChannel, EdfFile, open_edf
from sleepmami.signals.edf_records import FileDigest
from sleepmami.signals.mains import detect_mains
from sleepmami.signals.prepare_source import Prepared, channel_of, prepare
from sleepmami.signals.quality import STD_LIMITS_UV, WRONG_UNIT_RATIO
from sleepmami.signals.scorings import Scoring, read_scoring, scoring_in

MIN_USABLE_SHARE = 0.5  # below it, the next channel of the modality is tried
ELECTRODES = (Modality.EEG, Modality.EMG, Modality.ECG, Modality.EOG)  # that a notch is for


def load_night(
    source: str | os.PathLike[str] | bytes | memoryview,
    config: PreprocessConfig,
    *,
    recording_id: str,
    name: str | None = None,
    annotation: str | os.PathLike[str] | bytes | None = None,
    digest: FileDigest | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Night:
    """Read and preprocess one recording.

    Args:
        source: path of an EDF or BDF file, or its bytes.
        config: the settings of section 3.3.
        recording_id: how the night is called from now on.
        name: how errors call the file; by default its path.
        annotation: a scorer's file, or its bytes; without one, stages and events inside the EDF are
            used, if there are any and they can be told; if not, the night says so in its notes.
        digest: see `open_edf`.
        progress: see `preprocess`.

    Raises:
        RecordingError: the file or its annotation cannot be used.
    """
    edf = open_edf(source, name=name, truncated=config.truncated, digest=digest)
    num_epochs = count_epochs(edf, config)
    note: tuple[str, ...] = ()
    if annotation is not None:
        scoring = read_scoring(annotation, num_epochs, clock_s=edf.clock_s)
    else:
        scoring, note = _own_scoring(edf, num_epochs)
    night = preprocess(
        edf,
        config,
        recording_id=recording_id,
        hypnogram=scoring.hypnogram,
        events=scoring.events,
        progress=progress,
    )
    return replace(night, notes=edf.notes + note)


def _own_scoring(edf: EdfFile, num_epochs: int) -> tuple[Scoring, tuple[str, ...]]:
    """What is scored inside the recording; the signals are worth keeping where it is nonsense."""
    try:
        return scoring_in(edf, num_epochs), ()
    except RecordingError as error:
        if error.code == RecordingCode.UNREADABLE:
            raise
        note = f"its own annotations are not used: {error.found}"
        return Scoring(hypnogram=None, events=None), (note,)


def preprocess(
    edf: EdfFile,
    config: PreprocessConfig,
    *,
    recording_id: str,
    hypnogram: NDArray[np.int8] | None = None,
    events: tuple[ScoredEvent, ...] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Night:
    """The night in an opened recording; see `load_night`.

    Args:
        edf: what `open_edf` gave.
        config: as for `load_night`.
        recording_id: as for `load_night`.
        hypnogram: of its scoring.
        events: of its scoring.
        progress: called with the modalities that are done and those that there are, after each.

    Raises:
        RecordingError: too short, too long, no known channel, or none of them usable.
    """
    num_epochs = count_epochs(edf, config)
    plan = plan_channels(edf.channels, config)
    notch_note = ""
    if config.detect_mains:
        config, notch_note = _with_detected_mains(edf, plan, config)
    edf.will_read(_channels_in_order(edf, plan, config))
    used: dict[Modality, Prepared] = {}
    decisions = list(plan.decisions)
    num_done = 0
    for modality in LAYOUTS[config.layout].modalities:
        tried = _try_sources(edf, plan, modality, num_epochs, config)
        best = max(tried, key=lambda p: p.quality.share, default=None)
        if best is not None and best.quality.share > 0:
            used[modality] = best
        note = notch_note if modality in ELECTRODES else ""
        _note_outcomes(decisions, edf.channels, tried, used.get(modality), note)
        num_done += modality in plan.sources
        if progress and modality in plan.sources:
            progress(num_done, len(plan.sources))
    sources = {modality: prepared.source for modality, prepared in used.items()}
    final = mark_references(decisions, edf.channels, sources)
    if not used:
        raise _nothing_usable(edf, final, config)
    return Night(
        recording_id=recording_id,
        num_epochs=num_epochs,
        signals={m: prepared.segments for m, prepared in used.items()},
        usable={m: prepared.quality.usable for m, prepared in used.items()},
        statistics={m: prepared.statistics for m, prepared in used.items()},
        channels=final,
        hypnogram=hypnogram,
        events=events,
        gaps=edf.gaps,
        layout=config.layout,
    )


# --------------------------------------------------------------------------------- what to say


def _nothing_usable(
    edf: EdfFile, decisions: Sequence[ChannelDecision], config: PreprocessConfig
) -> RecordingError:
    rejected = [f"{d.label!r}: {d.reason}" for d in decisions if d.decision is Decision.REJECTED]
    if rejected:
        return RecordingError(
            RecordingCode.SIGNAL_UNUSABLE,
            file=edf.name,
            found="; ".join(rejected),
            expected="at least one channel with a usable 30-s epoch",
        )
    labels = ", ".join(repr(d.label) for d in decisions)
    wanted = ", ".join(LAYOUTS[config.layout].modalities)
    return RecordingError(
        RecordingCode.CHANNELS_MISSING,
        file=edf.name,
        found=f"channels {labels}" if labels else "no channel",
        expected=f"a channel of {wanted}, such as 'C4-M1', 'Chin EMG' or 'SpO2'",
    )


def _note_outcomes(
    decisions: list[ChannelDecision],
    channels: Sequence[EdfChannel],
    tried: Sequence[Prepared],
    best: Prepared | None,
    note: str,
) -> None:
    """Write what the signals showed into the decisions made from the header, in place."""
    place_of = {channel.index: place for place, channel in enumerate(channels)}
    for prepared in tried:
        place = place_of[prepared.source.index]
        before, modality = decisions[place], prepared.source.modality
        faults = prepared.quality.describe()
        notes = [prepared.source.note, _doubt(prepared), faults]
        decision = Decision.USED
        if prepared is best and before.decision is Decision.USED and before.modality != modality:
            also = f"also used for {modality}"  # sleep2vec: ECG and IBI, a belt and RESP
            notes = [before.reason, f"{also}, {faults}" if faults else also]
            modality = before.modality or modality
        elif prepared is best:
            notes.append(note)
        elif before.modality != modality:
            continue  # what it is first of all says more
        elif prepared.quality.share == 0:
            decision = Decision.REJECTED
        else:
            decision = Decision.SPARE
            notes.append(OUTRANKED)
        reason = "; ".join(note for note in notes if note)
        decisions[place] = replace(before, decision=decision, reason=reason, modality=modality)


def _doubt(prepared: Prepared) -> str:
    """That the signal is too large or small for its unit, which z-scores hide; else empty."""
    limits_uv = STD_LIMITS_UV.get(prepared.source.modality)
    std_uv = prepared.statistics.std
    if limits_uv is None or not prepared.quality.share:
        return ""
    if limits_uv[0] <= std_uv <= WRONG_UNIT_RATIO * limits_uv[1]:
        return ""
    return f"standard deviation {std_uv:.2g} uV: its unit or scale is likely wrong"


# ------------------------------------------------------------------------------------ one modality


def _try_sources(
    edf: EdfFile, plan: ChannelPlan, modality: Modality, num_epochs: int, config: PreprocessConfig
) -> list[Prepared]:
    """The modality's sources, prepared in order of preference up to the first good one."""
    tried: list[Prepared] = []
    if modality in plan.sources:
        for source in (plan.sources[modality], *plan.spares.get(modality, ())):
            tried.append(prepare(edf, source, num_epochs, config))
            if tried[-1].quality.share >= MIN_USABLE_SHARE:
                break
    return tried


def _channels_in_order(
    edf: EdfFile, plan: ChannelPlan, config: PreprocessConfig
) -> list[EdfChannel]:
    """What will be read if the first source of every modality is good."""
    modalities = LAYOUTS[config.layout].modalities
    sources = [plan.sources[modality] for modality in modalities if modality in plan.sources]
    pairs = [(source.index, source.reference_index) for source in sources]
    return [channel_of(edf, index) for pair in pairs for index in pair if index is not None]


def _with_detected_mains(
    edf: EdfFile, plan: ChannelPlan, config: PreprocessConfig
) -> tuple[PreprocessConfig, str]:
    """(the config with the notch where the recording hums, what was found in words)."""
    for modality in ELECTRODES:
        if modality in plan.sources:
            channel = channel_of(edf, plan.sources[modality].index)
            hz = detect_mains(edf.digital(channel), channel.sample_rate_hz)
            if hz is not None:
                return replace(config, notch_hz=hz), f"notch at {hz:g} Hz, where it hums"
    notch = f"notch at {config.notch_hz:g} Hz as set" if config.notch_hz else "no notch"
    return config, f"no hum at 50 or 60 Hz, {notch}"
