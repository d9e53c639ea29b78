"""What a recording holds and what would be used of it, from its header alone."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sleepmami.config import PreprocessConfig
from sleepmami.errors import RecordingCode, RecordingError
from sleepmami.psg import MODALITIES, ChannelDecision, Decision
from sleepmami.signals.channels import plan_channels
from sleepmami.signals.edf import EdfFile, open_edf


@dataclass(frozen=True, kw_only=True, slots=True)
class FileInspection:
    """The outcome for one file.

    Attributes:
        ok: the header speaks against nothing; the signals themselves may still.
        code: a RecordingCode when not ok.
        reason: why not, or what is unusual about a file that is ok, None where nothing is. For
            people; may quote the header, so it never crosses the HTTP edge.
        duration_s: None when the file could not be opened.
        channels: one decision per signal, in file order; empty when the file could not be opened.
    """

    file: str
    ok: bool
    code: str | None
    reason: str | None
    duration_s: float | None
    channels: tuple[ChannelDecision, ...]

    def to_dict(self) -> dict[str, Any]:  # Any: JSON values
        """Plain JSON types."""
        return {
            "file": self.file,
            "ok": self.ok,
            "code": self.code,
            "reason": self.reason,
            "duration_s": self.duration_s,
            "channels": [
                {
                    "label": channel.label,
                    "modality": channel.modality.value if channel.modality else None,
                    "unit": channel.unit,
                    "sample_rate_hz": channel.sample_rate_hz,
                    "decision": channel.decision.value,
                    "reason": channel.reason,
                }
                for channel in self.channels
            ],
        }


def inspect_file(path: str | os.PathLike[str], config: PreprocessConfig) -> FileInspection:
    """What preprocessing would make of a file; a bad file is an answer, never an exception."""
    name = os.fspath(path)
    duration_s: float | None = None
    channels: tuple[ChannelDecision, ...] = ()
    code: str | None = None
    reason: str | None = None
    try:
        edf = open_edf(path, truncated=config.truncated)
        duration_s = edf.duration_s
        plan = plan_channels(edf.channels)
        channels = plan.decisions
        _require_duration(edf, config)
        if not plan.sources:
            raise _no_source(name, channels)
        reason = "; ".join(edf.notes) or None
    except RecordingError as error:
        code, reason = error.code, f"found {error.found}; expected {error.expected}"
    return FileInspection(
        file=name,
        ok=code is None,
        code=code,
        reason=reason,
        duration_s=duration_s,
        channels=channels,
    )


def _require_duration(edf: EdfFile, config: PreprocessConfig) -> None:
    if edf.duration_s > config.max_duration_h * 3600:
        raise RecordingError(
            RecordingCode.RECORDING_TOO_LARGE,
            file=edf.name,
            found=f"{edf.duration_s / 3600:g} h",
            expected=f"at most {config.max_duration_h:g} h",
        )
    if edf.duration_s < config.min_duration_s:
        raise RecordingError(
            RecordingCode.RECORDING_TOO_SHORT,
            file=edf.name,
            found=f"{edf.duration_s:g} s",
            expected=f"at least {config.min_duration_s:g} s",
        )


def _no_source(name: str, channels: Sequence[ChannelDecision]) -> RecordingError:
    rejected = sum(channel.decision is Decision.REJECTED for channel in channels)
    if rejected:
        return RecordingError(
            RecordingCode.SIGNAL_UNUSABLE,
            file=name,
            found=f"{rejected} channels of a known modality, none of them usable",
            expected="at least one usable channel",
        )
    return RecordingError(
        RecordingCode.CHANNELS_MISSING,
        file=name,
        found=f"{len(channels)} channels, none of a known modality",
        expected=f"at least one of {', '.join(MODALITIES)}",
    )
