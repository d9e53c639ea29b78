"""A dry run's outcome without anything that a header may say of a person."""

from __future__ import annotations

from serve_apps.backend import InspectedChannel, Inspection
from sleepmami.psg import ChannelDecision, Decision
from sleepmami.signals.inspect import FileInspection
from sleepmami.signals.label_privacy import NO_LABEL, safe_label
from sleepmami.signals.labels import UNKNOWN, safe_unit

_REJECTED = {
    "is too slow": "rate_too_low",
    "is too fast": "rate_too_high",
    "gives no scale": "no_scale",
    "is that of something else": "wrong_unit",
}


def redacted_inspection(found: FileInspection) -> Inspection:
    """What may leave the process of an inspection."""
    return Inspection(
        ok=found.ok,
        code=found.code,
        duration_s=found.duration_s,
        gaps=found.gaps,
        modalities=tuple(modality.value for modality in found.modalities),
        channels=tuple(_channel(channel) for channel in found.channels),
    )


def _channel(channel: ChannelDecision) -> InspectedChannel:
    label = safe_label(channel.label)
    return InspectedChannel(
        label=None if label == NO_LABEL else label,
        modality=channel.modality.value if channel.modality else None,
        unit=safe_unit(channel.unit),
        sample_rate_hz=channel.sample_rate_hz,
        decision=channel.decision.value,
        confidence=channel.confidence.value if channel.confidence else None,
        reason=_reason(channel),
    )


def _reason(channel: ChannelDecision) -> str:
    if channel.decision is Decision.USED:
        return "used_rereferenced" if channel.reference else "used_as_recorded"
    if channel.decision is Decision.SPARE:
        return "outranked"
    if channel.decision is Decision.REFERENCE:
        return "subtracted"
    if channel.decision is Decision.REJECTED:
        codes = [code for words, code in _REJECTED.items() if words in channel.reason]
        return codes[0] if codes else "unused"
    if channel.modality is not None:
        return "unused"
    return "unknown_label" if channel.reason == UNKNOWN else "not_a_modality"
