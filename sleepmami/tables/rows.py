"""Nights of signals -> rows of recordings.lance and segments.lance, and back.

The other two tables are written and read in `tables.embedding_rows`, whose names are here as well.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from sleepmami.errors import TableError
from sleepmami.psg import (
    LAYOUTS,
    SEGMENT_EPOCHS,
    ChannelDecision,
    ChannelStatistics,
    Confidence,
    Decision,
    EventKind,
    Layout,
    Modality,
    Night,
    ScoredEvent,
    segment_start_epochs,
)
from sleepmami.tables.arrays import fixed_size_values
from sleepmami.tables.checksums import row_checksums, segment_checksums, signals_digest
from sleepmami.tables.demographics import Demographics, person_cells
from sleepmami.tables.embedding_rows import (
    EmbeddedNight,
    MicroNight,
    micro_night_row,
    night_embedding_row,
    read_micro_nights,
    read_night_embeddings,
)
from sleepmami.tables.schemas import (
    ANY_RECORDINGS,
    RECORDINGS,
    Row,
    rows_table,
    segment_column,
    segments_schema,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "EmbeddedNight",
    "MicroNight",
    "fixed_size_values",
    "micro_night_row",
    "night_embedding_row",
    "night_from_rows",
    "read_micro_nights",
    "read_night_embeddings",
    "recording_row",
    "recordings_table",
    "rows_table",
    "segment_usable",
    "segments_table",
]


def segments_table(night: Night) -> pa.Table:
    """A night as rows of segments.lance.

    A modality is null where it is absent, and in segments with no usable epoch of it. `usable`
    says which epochs of the others are: one of the two may hold only zeros.
    """
    starts = np.asarray(segment_start_epochs(night.num_epochs), dtype=np.int32)
    rows = len(starts)
    columns = [
        pa.array([night.recording_id] * rows, pa.string()),
        pa.array(np.arange(rows, dtype=np.int32)),
        pa.array(starts),
    ]
    layout = LAYOUTS[night.layout]
    schema = segments_schema(layout)
    usable_SME = segment_usable(night, starts)
    for index, modality in enumerate(layout.modalities):
        kind = schema.field(segment_column(modality)).type
        if modality not in night.signals:
            columns.append(pa.nulls(rows, kind))
            continue
        signal = night.signals[modality]
        if signal.shape != (rows, kind.list_size) or signal.dtype != np.int16:
            raise TableError(
                f"{night.recording_id}: {modality}: found {signal.dtype}{list(signal.shape)}; "
                f"expected int16[{rows}, {kind.list_size}]"
            )
        columns.append(
            pa.FixedSizeListArray.from_arrays(
                pa.array(np.ascontiguousarray(signal).reshape(-1)),
                type=kind,
                mask=pa.array(~usable_SME[:, index].any(axis=1)),
            )
        )
    kind = schema.field("usable").type
    columns.append(pa.FixedSizeListArray.from_arrays(pa.array(usable_SME.reshape(-1)), type=kind))
    columns.append(pa.nulls(rows, pa.uint64()))
    table = pa.Table.from_arrays(columns, names=schema.names)
    columns[-1] = pa.array(segment_checksums(table))
    return pa.Table.from_arrays(columns, schema=schema)


def segment_usable(night: Night, starts: Sequence[int] | NDArray[np.int32]) -> NDArray[np.bool_]:
    """Usable epochs of the segments that start at some epochs: [segments, modalities, epochs]."""
    epochs = np.asarray(starts, dtype=np.int32)[:, None] + np.arange(SEGMENT_EPOCHS)
    never = np.zeros(night.num_epochs, np.bool_)
    modalities = LAYOUTS[night.layout].modalities
    return np.stack([night.usable.get(m, never)[epochs] for m in modalities], axis=1)


def recording_row(
    night: Night | None,
    *,
    recording_id: str,
    subject_id: str,
    cohort: str,
    split: str,
    source_hash: str,
    source_stamp: str = "",
    segments: pa.Table | None = None,
    rejected_code: str | None = None,
    rejected_reason: str | None = None,
    demographics: Demographics | None,
) -> Row:
    """A recording as a row of recordings.lance: a night, or the reason why there is none.

    Args:
        night: None when the recording was rejected.
        recording_id: name of the recording.
        subject_id: who it is; all nights of one person share it.
        cohort: the study.
        split: from `splits.split_of`.
        source_hash: of the EDF's bytes; empty when it could not be read.
        source_stamp: of the file's size and time of change; empty when not known.
        segments: the night's `segments_table`, exactly when there is a night.
        rejected_code: a RecordingCode, exactly when there is no night.
        rejected_reason: text free of anything the file's header says.
        demographics: None when nothing is known.
    """
    if (night is None) != bool(rejected_code):
        raise TableError(
            f"{recording_id}: found {'a' if night else 'no'} night and rejected_code="
            f"{rejected_code!r}; expected either a night or a code"
        )
    if (night is None) != (segments is None):
        raise TableError(f"{recording_id}: found a night or its segments; expected both or none")
    row: Row = dict.fromkeys(RECORDINGS.names)
    row |= {
        "recording_id": recording_id,
        "subject_id": subject_id,
        "cohort": cohort,
        "split": split,
        "source_hash": source_hash or None,
        "source_stamp": source_stamp or None,
        **person_cells(demographics),
        "rejected_code": rejected_code,
        "rejected_reason": rejected_reason,
    }
    if night is not None and segments is not None:
        row |= _night_cells(night)
        row["signals_digest"] = signals_digest(segments)
    return row


def recordings_table(rows: Sequence[Row]) -> pa.Table:
    """Rows of `recording_row`, or of any version of the table, with the checksum of each."""
    return _with_checksums(
        rows_table([{"notes": None, **row, "checksum": 0} for row in rows], RECORDINGS)
    )


def as_stored(recordings: pa.Table, version: str) -> pa.Table:
    """Rows of `recordings_table` for a table of a version; one of version 2 has no notes."""
    (schema,) = (s for s in ANY_RECORDINGS if s.metadata[b"schema_version"].decode() == version)
    if schema is RECORDINGS:
        return recordings
    return _with_checksums(recordings.select(schema.names).cast(schema))


def _with_checksums(table: pa.Table) -> pa.Table:
    place = table.schema.get_field_index("checksum")
    return table.set_column(place, table.schema.field(place), pa.array(row_checksums(table)))


def _night_cells(night: Night) -> Row:
    modalities = LAYOUTS[night.layout].modalities
    return {
        "num_epochs": night.num_epochs,
        "hypnogram": None if night.hypnogram is None else night.hypnogram.tolist(),
        "events": None
        if night.events is None
        else [{**dataclasses.asdict(event), "kind": event.kind.value} for event in night.events],
        "gaps": [{"start_s": start_s, "stop_s": stop_s} for start_s, stop_s in night.gaps],
        "usable": [
            {"modality": m.value, "epochs": night.usable[m].tolist()}
            for m in modalities
            if m in night.usable
        ],
        "statistics": [
            {"modality": m.value, **dataclasses.asdict(night.statistics[m])}
            for m in modalities
            if m in night.statistics
        ],
        "channels": [
            {
                **dataclasses.asdict(channel),
                "modality": channel.modality and channel.modality.value,
                "decision": channel.decision.value,
                "confidence": channel.confidence and channel.confidence.value,
            }
            for channel in night.channels
        ],
        "missing": [m.value for m in night.missing],
        "notes": list(night.notes),
    }


def night_from_rows(recording: Mapping[str, Any], segments: pa.Table) -> Night:
    """The night that `recording_row` and `segments_table` stored.

    Signals of stored segments come back bit by bit. A null segment comes back as zeros whose epochs
    are not usable, and a modality that is null in all segments is absent.

    Args:
        recording: one row of recordings.lance, as a dict.
        segments: the rows of segments.lance of this recording, in any order.

    Raises:
        TableError: the recording was rejected, or its segments are not exactly its own.
    """
    recording_id, num_epochs = recording["recording_id"], recording["num_epochs"]
    if num_epochs is None:
        raise TableError(
            f"{recording_id}: found a rejected recording ({recording['rejected_code']}); "
            "expected one with a night"
        )
    ordered = _ordered_segments(recording_id, num_epochs, segments)
    starts = np.asarray(segment_start_epochs(num_epochs), dtype=np.int32)
    usable = {Modality(u["modality"]): u["epochs"] for u in recording["usable"]}
    statistics = {Modality(s["modality"]): s for s in recording["statistics"]}
    signals: dict[Modality, NDArray[np.int16]] = {}
    kept_usable: dict[Modality, NDArray[np.bool_]] = {}
    layout = _layout_of(segments)
    for modality in layout.modalities:
        values, valid = fixed_size_values(ordered.column(segment_column(modality)))
        if valid.any():
            covered = np.zeros(num_epochs, np.bool_)
            covered[(starts[valid, None] + np.arange(SEGMENT_EPOCHS)).ravel()] = True
            signals[modality] = values
            kept_usable[modality] = np.asarray(usable[modality], np.bool_) & covered
    hypnogram = recording["hypnogram"]
    return Night(
        recording_id=recording_id,
        num_epochs=num_epochs,
        signals=signals,
        usable=kept_usable,
        statistics={
            m: ChannelStatistics(mean=s["mean"], std=s["std"], unit=s["unit"])
            for m, s in statistics.items()
            if m in signals
        },
        channels=tuple(_channel(cells) for cells in recording["channels"]),
        hypnogram=None if hypnogram is None else np.asarray(hypnogram, np.int8),
        events=None
        if recording["events"] is None
        else tuple(ScoredEvent(**{**e, "kind": EventKind(e["kind"])}) for e in recording["events"]),
        gaps=tuple((gap["start_s"], gap["stop_s"]) for gap in recording["gaps"]),
        notes=tuple(recording.get("notes") or ()),
        layout=layout.name,
    )


def _layout_of(segments: pa.Table) -> Layout:
    for layout in LAYOUTS.values():
        if segments.column_names == segments_schema(layout).names:
            return layout
    raise TableError(f"found segments of columns {segments.column_names}; expected a layout's")


def _ordered_segments(recording_id: str, num_epochs: int, segments: pa.Table) -> pa.Table:
    owners = segments.column("recording_id").unique().to_pylist()
    if owners not in ([], [recording_id]):
        raise TableError(f"{recording_id}: found segments of {owners}; expected only its own")
    index = segments.column("segment_index").to_numpy()
    order = np.argsort(index, kind="stable")
    starts = segments.column("start_epoch").to_numpy()[order]
    expected = segment_start_epochs(num_epochs)
    if index[order].tolist() != list(range(len(expected))) or starts.tolist() != expected:
        raise TableError(
            f"{recording_id}: found {len(index)} segments starting at epochs "
            f"{starts[:3].tolist()}...{starts[-3:].tolist()}; "
            f"expected {len(expected)}, each once, that cover {num_epochs} epochs"
        )
    return segments if (order == np.arange(len(order))).all() else segments.take(order)


def _channel(cells: Mapping[str, Any]) -> ChannelDecision:
    modality, confidence = cells["modality"], cells["confidence"]
    return ChannelDecision(
        **{
            **cells,
            "modality": None if modality is None else Modality(modality),
            "decision": Decision(cells["decision"]),
            "confidence": None if confidence is None else Confidence(confidence),
        }
    )
