"""Which EDF channel becomes which modality, decided from the header alone.

Choices where the paper is silent (Table 7 lists channels, the model takes one per modality): EEG
C4-M1, then C3-M2, then other sites; left EOG; chin EMG; flow before thermistor before belts. A lone
electrode is referenced to a mastoid of the same file, or to its twin (chin 1 - chin 2).

In the layout of sleep2vec one channel may serve several modalities: FLOW is a nasal sensor, BELT
the abdomen's belt, then the chest's; IBI is read from the ECG, RESP from a belt, else from airflow.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from sleepmami.config import PreprocessConfig
from sleepmami.psg import LAYOUTS, ChannelDecision, Confidence, Decision, Modality
from sleepmami.signals.edf_header import EdfChannel
from sleepmami.signals.labels import (
    DERIVED_GAIN,
    ParsedLabel,
    Sensor,
    safe_label,
    safe_unit,
    unit_kind,
    volt_scale,
)
from sleepmami.signals.montage import read_montage

MIN_RATE_HZ: Mapping[Modality, float] = {
    Modality.EEG: 50.0,
    Modality.EOG: 50.0,
    Modality.EMG: 50.0,
    Modality.ECG: 50.0,
    Modality.IBI: 50.0,
    Modality.RESP: 1.0,
    Modality.FLOW: 1.0,
    Modality.BELT: 1.0,
    Modality.SPO2: 0.1,
}
# No amplifier of PSG is faster; filtering takes memory by the rate, however short the file is.
MAX_RATE_HZ = 20_000.0
OUTRANKED = "a better channel of this kind is used"
_BREATH = (Modality.RESP, Modality.FLOW, Modality.BELT)
_UNITS = {**dict.fromkeys(_BREATH, "a.u."), Modality.SPO2: "%"}
_MAX_VOLTAGE_UV = 1e7  # 10 V: no electrode gives more, so the header's unit must be wrong

# sleep2vec: what a breathing sensor serves as, and in which order it is preferred there
_ROLES: Mapping[Sensor, Mapping[Modality, int]] = {
    Sensor.FLOW: {Modality.FLOW: 0, Modality.RESP: 200},
    Sensor.THERMISTOR: {Modality.FLOW: 0, Modality.RESP: 200},
    Sensor.ABDOMEN: {Modality.BELT: -30, Modality.RESP: -30},
    Sensor.THORAX: {Modality.BELT: 0, Modality.RESP: 0},
    Sensor.EFFORT: {Modality.BELT: 0, Modality.RESP: 0},
    Sensor.UNSTATED: {Modality.RESP: 0},
    Sensor.BELT_FLOW: {Modality.RESP: 100},
}


@dataclass(frozen=True)
class SignalSource:
    """The channel, or difference of two channels, that a modality is read from.

    Attributes:
        modality: what it is.
        index: position in the file of the channel.
        reference_index: position of the channel to subtract, if any.
        unit_scale: factor from the file's unit to `unit`; negative when the channel was recorded
            with its reference first.
        unit: "uV", "%" or "a.u."; of an IBI, that of the ECG it is read from.
        label: what to show: the channel's safe label, or both labels of a derivation.
        note: how label, unit and reference were understood, for a technician.
    """

    modality: Modality
    index: int
    reference_index: int | None
    unit_scale: float
    unit: str
    label: str
    note: str = ""


@dataclass(frozen=True)
class ChannelPlan:
    """What is to become of every channel of a file.

    Attributes:
        sources: the preferred source of each modality the file has.
        decisions: one per channel, in file order; a channel that serves several modalities shows
            its main one, and its reason names the others.
        spares: sources to fall back on when the preferred one proves unusable, best first.
    """

    sources: dict[Modality, SignalSource]
    decisions: tuple[ChannelDecision, ...]
    spares: dict[Modality, tuple[SignalSource, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class _Candidate:
    """A channel that may serve.

    Attributes:
        ranks: its modalities, the main one first.
        alone: of a derivation the channel as recorded, for when the reference is dead.
    """

    channel: EdfChannel
    parsed: ParsedLabel
    source: SignalSource
    ranks: Mapping[Modality, int]
    alone: SignalSource | None = None


def plan_channels(
    channels: Sequence[EdfChannel], config: PreprocessConfig | None = None
) -> ChannelPlan:
    """Choose a source for every modality; never raises, sources are empty when nothing is known.

    Args:
        channels: the file's, in its order.
        config: `layout` says which modalities are wanted, `channels` what labels stand for.
    """
    layout = config.layout if config else "sleepmami"
    parsed = read_montage(channels, config)
    decisions: dict[int, ChannelDecision] = {}
    candidates: list[_Candidate] = []
    for channel, label in zip(channels, parsed, strict=True):
        if label.modality is None:
            reason = f"{label.what}: not used" if label.electrode else label.what
            decisions[channel.index] = _decision(channel, label, None, Decision.IGNORED, reason)
            continue
        ranks = _ranks(label, layout)
        main = next(iter(ranks))
        if problem := _problem(channel, main):
            reason = f"{label.what}, but {problem}"
            decisions[channel.index] = _decision(channel, label, main, Decision.REJECTED, reason)
        else:
            candidates.append(_candidate(channel, label, ranks, channels, parsed))
    sources: dict[Modality, SignalSource] = {}
    spares: dict[Modality, tuple[SignalSource, ...]] = {}
    for modality in LAYOUTS[layout].modalities:
        able = [c for c in candidates if modality in c.ranks]
        able.sort(key=lambda c: (c.ranks[modality], c.channel.index))
        if able:
            ordered = [c.source for c in able] + [c.alone for c in able if c.alone]
            ordered = [replace(source, modality=modality) for source in ordered]
            sources[modality], spares[modality] = ordered[0], tuple(ordered[1:])
    for candidate in candidates:
        decisions[candidate.channel.index] = _outcome(candidate, sources)
    planned = tuple(decisions[channel.index] for channel in channels)
    return ChannelPlan(sources, mark_references(planned, channels, sources), spares)


def _ranks(label: ParsedLabel, layout: str) -> dict[Modality, int]:
    """Modalities that the channel can serve, main one first, and its rank in each."""
    assert label.modality is not None  # the caller has set the others aside
    if layout == "sleepmami":
        return {label.modality: label.rank}
    if label.modality is Modality.ECG:
        return {Modality.ECG: label.rank, Modality.IBI: label.rank}
    if label.sensor is None:
        return {label.modality: label.rank}
    return {modality: label.rank + more for modality, more in _ROLES[label.sensor].items()}


def _outcome(candidate: _Candidate, sources: Mapping[Modality, SignalSource]) -> ChannelDecision:
    index = candidate.channel.index
    serves = [m for m in candidate.ranks if m in sources and sources[m].index == index]
    reason = candidate.source.note
    if serves[1:]:
        reason += f"; also used for {' and '.join(serves[1:])}"
    elif not serves:
        reason += "; " + OUTRANKED
    decided = _decision(
        candidate.channel,
        candidate.parsed,
        serves[0] if serves else next(iter(candidate.ranks)),
        Decision.USED if serves else Decision.SPARE,
        reason,
    )
    if candidate.source.reference_index is not None and decided.confidence is Confidence.LIKELY:
        decided = replace(decided, confidence=Confidence.CERTAIN)
    return decided


def mark_references(
    decisions: Sequence[ChannelDecision],
    channels: Sequence[EdfChannel],
    sources: Mapping[Modality, SignalSource],
) -> tuple[ChannelDecision, ...]:
    """The decisions with what the sources subtract: REFERENCE on it, `reference` on its users."""
    labels = {channel.index: safe_label(channel.label) for channel in channels}
    users: dict[int, list[str]] = {}
    subtracted: dict[int, str] = {}
    for source in sources.values():
        if source.reference_index is not None:
            users.setdefault(source.reference_index, []).append(source.modality.value)
            subtracted[source.index] = labels[source.reference_index]
    marked = []
    for decision, channel in zip(decisions, channels, strict=True):
        if channel.index in users and decision.decision is not Decision.USED:
            reason = f"subtracted from the {' and '.join(users[channel.index])} channel"
            decision = replace(decision, decision=Decision.REFERENCE, reason=reason)
        elif channel.index not in users and decision.decision is Decision.REFERENCE:
            reason = "reference of a channel that is not used"
            decision = replace(decision, decision=Decision.IGNORED, reason=reason)
        marked.append(replace(decision, reference=subtracted.get(channel.index)))
    return tuple(marked)


def _decision(
    channel: EdfChannel,
    label: ParsedLabel,
    modality: Modality | None,
    decision: Decision,
    reason: str,
) -> ChannelDecision:
    return ChannelDecision(
        label=safe_label(channel.label),
        modality=modality,
        unit=safe_unit(channel.unit),
        sample_rate_hz=channel.sample_rate_hz,
        decision=decision,
        reason=reason,
        side=label.side,
        confidence=label.confidence if modality else None,
    )


def _problem(channel: EdfChannel, modality: Modality) -> str | None:
    """Why the header rules the channel out, in words; None when it does not."""
    minimum = MIN_RATE_HZ[modality]
    if not channel.sample_rate_hz >= minimum:  # also true of NaN
        return f"{channel.sample_rate_hz:g} Hz is too slow: {modality} needs {minimum:g} Hz"
    if channel.sample_rate_hz > MAX_RATE_HZ:
        return f"{channel.sample_rate_hz:g} Hz is too fast: at most {MAX_RATE_HZ:g} Hz"
    if channel.digital_max == channel.digital_min or channel.physical_max == channel.physical_min:
        return "its header gives no scale (minimum equals maximum)"
    kind = unit_kind(channel.unit)
    if modality is Modality.SPO2:
        wrong = kind not in ("percent", "volt", "") or (
            kind == "volt" and not _looks_like_percent(channel)
        )
    elif modality in _BREATH:
        wrong = kind == "rate"  # a thermistor may well be in degrees
    else:
        wrong = kind not in ("volt", "")
    return f"its unit {safe_unit(channel.unit)!r} is that of something else" if wrong else None


def _looks_like_percent(channel: EdfChannel) -> bool:
    """Whether a saturation labelled in volts may be one all the same: 0..100 or 0..1.

    Converters write "uV" for whatever they find, so there the samples have to tell. Volts and
    millivolts are an analogue output, whose numbers are a saturation only over such a range.
    """
    low, high = sorted((channel.physical_min, channel.physical_max))
    if volt_scale(channel.unit) == 1.0 and high >= 90.0:
        return True
    return low >= -1.0 and (90.0 <= high <= 130.0 or 0.9 <= high <= 1.3)


def scale_of(channel: EdfChannel, modality: Modality) -> tuple[float, str, str]:
    """(factor from the file's unit to ours, our unit, what had to be assumed)."""
    if modality in _UNITS:
        volts = modality is Modality.SPO2 and volt_scale(channel.unit) is not None
        assumed = f"unit {safe_unit(channel.unit)!r} of a saturation, % assumed" if volts else ""
        return 1.0, _UNITS[modality], assumed
    scale = volt_scale(channel.unit)
    if scale is None:
        stated = (
            f"unit {safe_unit(channel.unit)!r} not known"
            if channel.unit.strip()
            else "no unit given"
        )
        return 1.0, "uV", f"{stated}, uV assumed"
    largest = max(abs(channel.physical_min), abs(channel.physical_max))
    if scale * largest > _MAX_VOLTAGE_UV:
        text = f"unit {safe_unit(channel.unit)!r} cannot be right up to {largest:g}, uV assumed"
        return 1.0, "uV", text
    return scale, "uV", ""


def _candidate(
    channel: EdfChannel,
    parsed: ParsedLabel,
    ranks: Mapping[Modality, int],
    channels: Sequence[EdfChannel],
    all_parsed: Sequence[ParsedLabel],
) -> _Candidate:
    main = next(iter(ranks))
    scale, unit, assumed = scale_of(channel, main)
    scale = -scale if parsed.inverted else scale
    assumptions = [assumed] if assumed else []
    plain = SignalSource(main, channel.index, None, scale, unit, safe_label(channel.label))
    found = _partner(channel, parsed, channels, all_parsed)
    if not found:
        lone = "no reference electrode of equal rate and unit, used as recorded"
        notes = [parsed.what, *([lone] if parsed.electrode else []), *assumptions]
        return _Candidate(channel, parsed, replace(plain, note=", ".join(notes)), ranks)
    partner, electrode = found
    derived = replace(
        plain,
        reference_index=partner.index,
        label=f"{plain.label} - {safe_label(partner.label)}",
        note=", ".join([parsed.what, f"minus {electrode}", *assumptions]),
    )
    unreferenced = f"as recorded, because the difference to {electrode} is unusable"
    alone = replace(plain, note=", ".join([parsed.what, unreferenced, *assumptions]))
    ranks = {modality: rank - DERIVED_GAIN for modality, rank in ranks.items()}
    return _Candidate(channel, parsed, derived, ranks, alone)


def _partner(
    channel: EdfChannel,
    parsed: ParsedLabel,
    channels: Sequence[EdfChannel],
    all_parsed: Sequence[ParsedLabel],
) -> tuple[EdfChannel, str] | None:
    """The channel to subtract and its electrode: the first of equal rate and equally sure unit."""
    unit_known = volt_scale(channel.unit) is not None
    for wanted in parsed.partners:
        for other, label in zip(channels, all_parsed, strict=True):
            same = other.sample_rate_hz == channel.sample_rate_hz
            same = same and unit_known == (volt_scale(other.unit) is not None)
            if label.electrode == wanted and same and not _problem(other, Modality.EEG):
                return other, wanted
    return None
