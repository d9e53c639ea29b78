"""What recordings hold and what would be used of them, without reading their signals."""

from __future__ import annotations

import os
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

from sleepmami import storage
from sleepmami.config import PreprocessConfig
from sleepmami.errors import RecordingCode, RecordingError
from sleepmami.psg import LAYOUTS, ChannelDecision, Decision, Modality
from sleepmami.signals.channels import ChannelPlan, plan_channels
from sleepmami.signals.duration import num_epochs
from sleepmami.signals.edf import EdfChannel, open_edf
from sleepmami.signals.labels import UNKNOWN

_AHEAD = 8  # files per worker that are opened before their turn


@dataclass(frozen=True, kw_only=True, slots=True)
class FileInspection:
    """The outcome for one file.

    Attributes:
        ok: the header speaks against nothing; the signals themselves may still.
        code: a RecordingCode when not ok.
        reason: why not, or what is unusual about a file that is ok, None where nothing is. For
            people; may quote the header, so it never crosses the HTTP edge.
        duration_s: from the first sample to the last; None when the file could not be opened.
        channels: one decision per signal, in file order; empty when the file could not be opened.
            Labels and units are the file's own: they are shown to whoever has the file.
        gaps: (start_s, stop_s) of stretches without data, from the first sample.
        modalities: those that a source was found for.
    """

    file: str
    ok: bool
    code: str | None
    reason: str | None
    duration_s: float | None
    channels: tuple[ChannelDecision, ...]
    gaps: tuple[tuple[float, float], ...] = ()
    modalities: tuple[Modality, ...] = ()

    def to_dict(self) -> dict[str, Any]:  # Any: JSON values
        """Plain JSON types."""
        return {
            "file": self.file,
            "ok": self.ok,
            "code": self.code,
            "reason": self.reason,
            "duration_s": self.duration_s,
            "gaps": [list(gap) for gap in self.gaps],
            "modalities": [modality.value for modality in self.modalities],
            "channels": [
                {
                    "label": channel.label,
                    "modality": channel.modality.value if channel.modality else None,
                    "side": channel.side or None,
                    "unit": channel.unit,
                    "sample_rate_hz": channel.sample_rate_hz,
                    "decision": channel.decision.value,
                    "reference": channel.reference,
                    "confidence": channel.confidence.value if channel.confidence else None,
                    "reason": channel.reason,
                }
                for channel in self.channels
            ],
        }


def inspect_file(
    path: str | os.PathLike[str] | bytes | memoryview,
    config: PreprocessConfig,
    *,
    name: str | None = None,
) -> FileInspection:
    """What preprocessing would make of a file; a bad file is an answer, never an exception.

    Args:
        path: of the file, or its bytes.
        config: what it is to be preprocessed with.
        name: what the answer calls the file; by default its path.
    """
    if name is None:
        name = "<bytes>" if isinstance(path, bytes | memoryview) else os.fspath(path)
    found = FileInspection(
        file=storage.shown(name), ok=True, code=None, reason=None, duration_s=None, channels=()
    )
    try:
        if not storage.is_nameable(name):
            raise RecordingError(
                RecordingCode.UNREADABLE,
                file=found.file,
                found="a file name that is not UTF-8",
                expected="a name in UTF-8",
            )
        edf = open_edf(path, name=name, truncated=config.truncated)
        plan = plan_channels(edf.channels, config)
        found = replace(
            found,
            duration_s=edf.duration_s,
            gaps=edf.gaps,
            channels=_as_written(plan, edf.channels),
            modalities=tuple(plan.sources),
            reason="; ".join(edf.notes) or None,
        )
        num_epochs(edf, config)
        if not plan.sources:
            raise _no_source(found.file, plan.decisions, config)
    except RecordingError as error:
        reason = f"found {error.found}; expected {error.expected}"
        found = replace(found, ok=False, code=error.code, reason=reason)
    return found


def inspect_files(
    paths: Iterable[str | os.PathLike[str]], config: PreprocessConfig, workers: int = 1
) -> Iterator[FileInspection]:
    """Inspections in the order of `paths`, which is read no further than a few files ahead.

    Args:
        paths: any number of files; a generator will do.
        config: as for `inspect_file`.
        workers: threads that open files. More than one hides the waiting of network storage; on a
            local disk one is as fast.
    """
    if workers <= 1:
        yield from (inspect_file(path, config) for path in paths)
        return
    remaining = iter(paths)
    with ThreadPoolExecutor(workers, thread_name_prefix="inspect") as pool:
        waiting: deque[Future[FileInspection]] = deque()
        try:
            while True:
                free = workers * _AHEAD - len(waiting)
                waiting.extend(
                    pool.submit(inspect_file, path, config) for path in islice(remaining, free)
                )
                if not waiting:
                    return
                yield waiting.popleft().result()
        finally:  # the caller may stop early
            for future in waiting:
                future.cancel()


@dataclass(slots=True)
class InspectionSummary:
    """What a folder of recordings holds, counted one inspection after the other.

    Attributes:
        num_files: inspected so far.
        num_ok: of them, those whose header speaks against nothing.
        num_unusual: of those, how many are unusual in a way that does no harm.
        codes: how many files each RecordingCode refuses.
        modalities: how many usable files have each modality.
        unknown_labels: in how many files each label that is not understood occurs.
        num_label_sets: distinct sets of labels, and so of montages.
    """

    num_files: int = 0
    num_ok: int = 0
    num_unusual: int = 0
    codes: Counter[str] = field(default_factory=Counter)
    modalities: Counter[Modality] = field(default_factory=Counter)
    unknown_labels: Counter[str] = field(default_factory=Counter)
    _label_sets: set[int] = field(default_factory=set)  # hashes: a set may be long

    @property
    def num_label_sets(self) -> int:
        """Distinct sets of labels among the files that could be opened."""
        return len(self._label_sets)

    def add(self, inspection: FileInspection) -> None:
        """Count one file in."""
        self.num_files += 1
        self.num_ok += inspection.ok
        self.num_unusual += inspection.ok and inspection.reason is not None
        if inspection.code:
            self.codes[inspection.code] += 1
        if inspection.ok:
            self.modalities.update(inspection.modalities)
        self.unknown_labels.update({c.label for c in inspection.channels if c.reason == UNKNOWN})
        if inspection.channels:
            self._label_sets.add(hash(frozenset(c.label for c in inspection.channels)))

    def to_dict(self) -> dict[str, Any]:  # Any: JSON values
        """Plain JSON types; the most frequent first."""
        return {
            "num_files": self.num_files,
            "num_ok": self.num_ok,
            "num_unusual": self.num_unusual,
            "num_label_sets": self.num_label_sets,
            "codes": dict(self.codes.most_common()),
            "modalities": {modality.value: n for modality, n in self.modalities.most_common()},
            "unknown_labels": dict(self.unknown_labels.most_common()),
        }


def summarise(inspections: Iterable[FileInspection]) -> InspectionSummary:
    """The summary of all inspections; each may be forgotten once it is counted."""
    summary = InspectionSummary()
    for inspection in inspections:
        summary.add(inspection)
    return summary


def _as_written(plan: ChannelPlan, channels: Sequence[EdfChannel]) -> tuple[ChannelDecision, ...]:
    """The decisions with the labels and units that the file has, word for word."""
    labels = {channel.index: channel.label for channel in channels}
    subtracted = {
        source.index: labels[source.reference_index]
        for source in plan.sources.values()
        if source.reference_index is not None
    }
    return tuple(
        replace(
            decision,
            label=channel.label,
            unit=channel.unit,
            reference=subtracted.get(channel.index) if decision.reference else None,
        )
        for decision, channel in zip(plan.decisions, channels, strict=True)
    )


def _no_source(
    name: str, channels: Sequence[ChannelDecision], config: PreprocessConfig
) -> RecordingError:
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
        expected=f"at least one of {', '.join(LAYOUTS[config.layout].modalities)}",
    )
