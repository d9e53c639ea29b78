"""Where a corpus holds each night, found once, so that reading one does not search for it.

A filter looks at every fragment of segments.lance, and there is one for each night: reading all
nights by filters takes time quadratic in their number. Positions hold for one version of a table.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sleepmami import storage
from sleepmami.errors import TableError
from sleepmami.psg import Night
from sleepmami.tables import lance_io
from sleepmami.tables.rows import night_from_rows
from sleepmami.tables.schemas import Row


class CorpusVersions(NamedTuple):
    """The commits that positions refer to."""

    recordings: int
    segments: int


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredNight:
    """The rows of one night: its position in recordings.lance, and those in segments.lance."""

    recording_id: str
    recording_row: int
    segment_rows: NDArray[np.int64]


def corpus_versions(corpus: str) -> CorpusVersions:
    """The newest commits of a corpus; TableError when a table is missing."""
    # recordings first: an ingest that is running commits a night's segments before its recording
    recordings = lance_io.version(_recordings(corpus))
    return CorpusVersions(recordings, lance_io.version(_segments(corpus)))


def find_nights(corpus: str, versions: CorpusVersions) -> dict[str, StoredNight]:
    """Every accepted night of a corpus by recording id; reads one column of segments.lance."""
    accepted = lance_io.read_table(
        _recordings(corpus), ["recording_id", "rejected_code"], version=versions.recordings
    )
    segments = lance_io.read_table(_segments(corpus), ["recording_id"], version=versions.segments)
    rows_of = _rows_by_value(segments.column("recording_id"))
    none = np.empty(0, np.int64)
    return {
        row["recording_id"]: StoredNight(
            recording_id=row["recording_id"],
            recording_row=number,
            segment_rows=rows_of.get(row["recording_id"], none),
        )
        for number, row in enumerate(accepted.to_pylist())
        if row["rejected_code"] is None
    }


def _rows_by_value(column: pa.ChunkedArray) -> dict[str, NDArray[np.int64]]:
    """Ascending positions of each value."""
    encoded = column.combine_chunks().dictionary_encode()
    codes = encoded.indices.to_numpy()
    order = np.argsort(codes, kind="stable")
    names = encoded.dictionary.to_pylist()
    ends = np.cumsum(np.bincount(codes, minlength=len(names)))
    return dict(zip(names, np.split(order, ends[:-1]), strict=True)) if names else {}


def read_night(corpus: str, versions: CorpusVersions, stored: StoredNight) -> tuple[Row, Night]:
    """A night back from the tables, with its row of recordings.lance.

    Raises:
        TableError: a table cannot be read, or the segments are not exactly the night's own.
    """
    (recording,) = lance_io.take_rows(
        _recordings(corpus), [stored.recording_row], version=versions.recordings
    ).to_pylist()
    segments = lance_io.take_rows(
        _segments(corpus), stored.segment_rows.tolist(), version=versions.segments
    )
    return recording, night_from_rows(recording, segments)


def _recordings(corpus: str) -> str:
    return storage.join(corpus, "recordings.lance")


def _segments(corpus: str) -> str:
    return storage.join(corpus, "segments.lance")


def nights_of_cohorts(
    nights: dict[str, StoredNight], cells: Mapping[str, Row], cohorts: tuple[str, ...], corpus: str
) -> dict[str, StoredNight]:
    """Nights of the cohorts that are named, of all where none is.

    Args:
        nights: by recording id.
        cells: at least `cohort` of each.
        cohorts: names.
        corpus: for the message.

    Raises:
        TableError: a cohort that no night is of.
    """
    there = {cells[name]["cohort"] for name in nights}
    if not set(cohorts) <= there:
        raise TableError(f"{corpus}: found cohorts {sorted(there)}; expected {list(cohorts)}")
    return {
        name: stored
        for name, stored in nights.items()
        if not cohorts or cells[name]["cohort"] in cohorts
    }
