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
    MODALITIES,
    SEGMENT_EPOCHS,
    ChannelDecision,
    ChannelStatistics,
    Decision,
    Modality,
    Night,
    segment_start_epochs,
)
from sleepmami.tables.arrays import fixed_size_values
from sleepmami.tables.demographics import Demographics, demographic_cells
from sleepmami.tables.embedding_rows import (
    EmbeddedNight,
    MicroNight,
    micro_night_row,
    night_embedding_row,
    read_micro_nights,
    read_night_embeddings,
)
from sleepmami.tables.schemas import RECORDINGS, SEGMENTS, Row, rows_table, segment_column

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
    usable_SME = segment_usable(night, starts)
    for index, modality in enumerate(MODALITIES):
        kind = SEGMENTS.field(segment_column(modality)).type
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
    kind = SEGMENTS.field("usable").type
    columns.append(pa.FixedSizeListArray.from_arrays(pa.array(usable_SME.reshape(-1)), type=kind))
    return pa.Table.from_arrays(columns, schema=SEGMENTS)


def segment_usable(night: Night, starts: Sequence[int] | NDArray[np.int32]) -> NDArray[np.bool_]:
    """Usable epochs of the segments that start at some epochs: [segments, modalities, epochs]."""
    epochs = np.asarray(starts, dtype=np.int32)[:, None] + np.arange(SEGMENT_EPOCHS)
    never = np.zeros(night.num_epochs, np.bool_)
    return np.stack([night.usable.get(m, never)[epochs] for m in MODALITIES], axis=1)


def recording_row(
    night: Night | None,
    *,
    recording_id: str,
    subject_id: str,
    cohort: str,
    split: str,
    source_sha256: str,
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
        source_sha256: of the EDF's bytes; empty when it could not be read.
        rejected_code: a RecordingCode, exactly when there is no night.
        rejected_reason: text free of anything the file's header says.
        demographics: None when nothing is known.
    """
    if (night is None) != bool(rejected_code):
        raise TableError(
            f"{recording_id}: found {'a' if night else 'no'} night and rejected_code="
            f"{rejected_code!r}; expected either a night or a code"
        )
    row: Row = dict.fromkeys(RECORDINGS.names)
    row |= {
        "recording_id": recording_id,
        "subject_id": subject_id,
        "cohort": cohort,
        "split": split,
        "source_sha256": source_sha256 or None,
        **demographic_cells(demographics),
        "rejected_code": rejected_code,
        "rejected_reason": rejected_reason,
    }
    if night is not None:
        row |= _night_cells(night)
    return row


def _night_cells(night: Night) -> Row:
    return {
        "num_epochs": night.num_epochs,
        "hypnogram": None if night.hypnogram is None else night.hypnogram.tolist(),
        "usable": [
            {"modality": m.value, "epochs": night.usable[m].tolist()}
            for m in MODALITIES
            if m in night.usable
        ],
        "statistics": [
            {"modality": m.value, **dataclasses.asdict(night.statistics[m])}
            for m in MODALITIES
            if m in night.statistics
        ],
        "channels": [
            {
                **dataclasses.asdict(channel),
                "modality": channel.modality and channel.modality.value,
                "decision": channel.decision.value,
            }
            for channel in night.channels
        ],
        "missing": [m.value for m in night.missing],
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
    for modality in MODALITIES:
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
    )


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
    modality, decision = cells["modality"], cells["decision"]
    return ChannelDecision(
        **{
            **cells,
            "modality": None if modality is None else Modality(modality),
            "decision": Decision(decision),
        }
    )
