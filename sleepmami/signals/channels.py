"""Which EDF channel becomes which modality, decided from the header alone.

Choices where the paper is silent (Table 7 lists channels, the model takes one per modality): EEG
C4-M1, then C3-M2, then other sites; left EOG; chin EMG; flow before thermistor before belts. A lone
electrode is referenced to a mastoid of the same file, or to its twin (chin 1 - chin 2).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from sleepmami.psg import MODALITIES, ChannelDecision, Decision, Modality
from sleepmami.signals.edf import EdfChannel
from sleepmami.signals.labels import (
    DERIVED_GAIN,
    ParsedLabel,
    parse_label,
    unit_kind,
    volt_scale,
    words,
)

MIN_RATE_HZ: Mapping[Modality, float] = {
    Modality.EEG: 50.0,
    Modality.EOG: 50.0,
    Modality.EMG: 50.0,
    Modality.ECG: 50.0,
    Modality.RESP: 1.0,
    Modality.SPO2: 0.1,
}
# No amplifier of PSG is faster; filtering takes memory by the rate, however short the file is.
MAX_RATE_HZ = 20_000.0
OUTRANKED = "a better channel of this kind is used"
_UNITS = {Modality.RESP: "a.u.", Modality.SPO2: "%"}
_MAX_VOLTAGE_UV = 1e7  # 10 V: no electrode gives more, so the header's unit must be wrong

# Montages whose labels say nothing by themselves: the labels that give them away -> their meaning.
_CONVENTIONS: tuple[tuple[str, frozenset[str], Mapping[str, str]], ...] = (
    (
        "MESA",
        frozenset({"eeg1", "eeg2", "eeg3", "ekg", "thor", "abdo"}),
        {"eeg1": "EEG Fz-Cz", "eeg2": "EEG Cz-Oz", "eeg3": "EEG C4-M1"},
    ),
    ("ISRUC", frozenset({"loca2", "x1", "x2"}), {"x1": "EMG chin", "x2": "ECG"}),
    ("ISRUC", frozenset({"e1m2", "x1", "x2"}), {"x1": "EMG chin", "x2": "ECG"}),
)


@dataclass(frozen=True)
class SignalSource:
    """The channel, or difference of two channels, that a modality is read from.

    Attributes:
        modality: what it is.
        index: position in the file of the channel.
        reference_index: position of the channel to subtract, if any.
        unit_scale: factor from the file's unit to `unit`.
        unit: "uV", "%" or "a.u.".
        label: what to show: the channel's label, or both labels of a derivation.
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
        decisions: one per channel, in file order.
        spares: sources to fall back on when the preferred one proves unusable, best first.
    """

    sources: dict[Modality, SignalSource]
    decisions: tuple[ChannelDecision, ...]
    spares: dict[Modality, tuple[SignalSource, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class _Candidate:
    channel: EdfChannel
    parsed: ParsedLabel
    source: SignalSource
    rank: int


def plan_channels(channels: Sequence[EdfChannel]) -> ChannelPlan:
    """Choose a source for every modality; never raises, sources are empty when nothing is known."""
    parsed = _parse_all(channels)
    decisions: dict[int, ChannelDecision] = {}
    candidates: list[_Candidate] = []
    for channel, label in zip(channels, parsed, strict=True):
        if label.modality is None:
            reason = f"{label.what}: not used" if label.electrode else label.what
            decisions[channel.index] = _decision(channel, None, Decision.IGNORED, reason)
        elif problem := _problem(channel, label.modality):
            reason = f"{label.what}, but {problem}"
            decisions[channel.index] = _decision(channel, label.modality, Decision.REJECTED, reason)
        else:
            candidates.append(_candidate(channel, label, channels, parsed))
    candidates.sort(key=lambda c: (c.rank, c.channel.index))
    sources: dict[Modality, SignalSource] = {}
    spares: dict[Modality, tuple[SignalSource, ...]] = {}
    for modality in MODALITIES:
        of_modality = [c for c in candidates if c.parsed.modality is modality]
        if of_modality:
            sources[modality] = of_modality[0].source
            spares[modality] = tuple(c.source for c in of_modality[1:])
        for place, candidate in enumerate(of_modality):
            decision = Decision.SPARE if place else Decision.USED
            reason = candidate.source.note + ("; " + OUTRANKED if place else "")
            decisions[candidate.channel.index] = _decision(
                candidate.channel, modality, decision, reason
            )
    planned = tuple(decisions[channel.index] for channel in channels)
    return ChannelPlan(sources, mark_references(planned, channels, sources), spares)


def mark_references(
    decisions: Sequence[ChannelDecision],
    channels: Sequence[EdfChannel],
    sources: Mapping[Modality, SignalSource],
) -> tuple[ChannelDecision, ...]:
    """The decisions with what the sources subtract: REFERENCE on it, `reference` on its users."""
    labels = {channel.index: channel.label for channel in channels}
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


def _parse_all(channels: Sequence[EdfChannel]) -> list[ParsedLabel]:
    keys = ["".join(words(channel.label)) for channel in channels]
    meanings: dict[str, tuple[str, str]] = {}
    for montage, signature, convention in _CONVENTIONS:
        if signature <= set(keys):
            meanings |= {key: (label, montage) for key, label in convention.items()}
    parsed = []
    for channel, key in zip(channels, keys, strict=True):
        if key in meanings:
            label, montage = meanings[key]
            said = parse_label(label, channel.unit)
            parsed.append(replace(said, what=f"{said.what} (the {montage} montage)"))
        else:
            parsed.append(parse_label(channel.label, channel.unit))
    return parsed


def _decision(
    channel: EdfChannel, modality: Modality | None, decision: Decision, reason: str
) -> ChannelDecision:
    return ChannelDecision(
        label=channel.label,
        modality=modality,
        unit=channel.unit,
        sample_rate_hz=channel.sample_rate_hz,
        decision=decision,
        reason=reason,
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
        wrong = kind in ("rate", "temperature", "pressure", "flow")
    elif modality is Modality.RESP:
        wrong = kind == "rate"  # a thermistor may well be in degrees
    else:
        wrong = kind not in ("volt", "")
    return f"its unit {channel.unit!r} is that of something else" if wrong else None


def scale_of(channel: EdfChannel, modality: Modality) -> tuple[float, str, str]:
    """(factor from the file's unit to ours, our unit, what had to be assumed)."""
    if modality in _UNITS:
        return 1.0, _UNITS[modality], ""
    scale = volt_scale(channel.unit)
    if scale is None:
        stated = f"unit {channel.unit!r} not known" if channel.unit.strip() else "no unit given"
        return 1.0, "uV", f"{stated}, uV assumed"
    largest = max(abs(channel.physical_min), abs(channel.physical_max))
    if scale * largest > _MAX_VOLTAGE_UV:
        text = f"unit {channel.unit!r} cannot be right for values up to {largest:g}, uV assumed"
        return 1.0, "uV", text
    return scale, "uV", ""


def _candidate(
    channel: EdfChannel,
    parsed: ParsedLabel,
    channels: Sequence[EdfChannel],
    all_parsed: Sequence[ParsedLabel],
) -> _Candidate:
    assert parsed.modality is not None  # the caller has set the others aside
    scale, unit, assumed = scale_of(channel, parsed.modality)
    notes = [parsed.what]
    found = _partner(channel, parsed, channels, all_parsed)
    label, rank, reference_index = channel.label, parsed.rank, None
    if found:
        partner, electrode = found
        reference_index, rank = partner.index, rank - DERIVED_GAIN
        label = f"{channel.label} - {partner.label}"
        notes.append(f"minus {electrode}")
    elif parsed.electrode:
        notes.append("no reference electrode of equal rate and unit, used as recorded")
    notes += [assumed] if assumed else []
    source = SignalSource(
        parsed.modality, channel.index, reference_index, scale, unit, label, ", ".join(notes)
    )
    return _Candidate(channel, parsed, source, rank)


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
