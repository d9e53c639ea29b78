"""One file of an ingest: EDF -> uncommitted segments and a row of recordings.lance.

Runs in a Ray task. A file that cannot be used is a result too, and so is a bug of ours that one
file brings out; only a table that cannot be read or written ends a run.
"""

from __future__ import annotations

import dataclasses
import posixpath
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import PurePath
from typing import Any

import pyarrow as pa

from pipelines.ingest_content import content_of, file_hash, new_digest
from pipelines.ingest_plan import INTERNAL_ERROR, STAMPS_SEPARATOR, TRY_AGAIN, IngestItem
from sleepmami import storage
from sleepmami.config import IngestConfig
from sleepmami.config_edit import from_dict
from sleepmami.errors import RecordingCode, RecordingError
from sleepmami.psg import LAYOUTS, Night
from sleepmami.signals.edf import open_edf
from sleepmami.signals.edf_records import FileDigest
from sleepmami.signals.preprocess import load_night
from sleepmami.signals.scorings import Scoring, read_scoring
from sleepmami.tables import lance_io
from sleepmami.tables.demographics import person_cells
from sleepmami.tables.file_checksums import FileSum, fragment_sums
from sleepmami.tables.rows import recording_row, recordings_table, segments_table
from sleepmami.tables.schemas import Row, segments_schema
from sleepmami.tables.splits import split_of

NOTE = "note"  # in place of a code, of what kept no file from being used


class Outcome(StrEnum):
    """What an ingest did with a file; the words of its closing account."""

    INGESTED = "ingested"
    WITHOUT_SCORING = "ingested without scoring"  # there is a scoring, but it cannot be read
    REPLACED = "replaced"  # the file's content is another than that of the night in the corpus
    UPDATED = "updated"  # the same signals, with other metadata or another scoring
    UNCHANGED = "unchanged"
    REJECTED = "rejected"
    REJECTED_EARLIER = "rejected earlier"


@dataclass(frozen=True, kw_only=True, slots=True)
class Problem:
    """What is wrong with a file, for the terminal.

    Where recordings keep their files' names, `file` is that name and `reason` may quote the file.
    Where they have pseudonyms, `file` is one and the reason says nothing that the file says.
    """

    file: str
    code: str
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class IngestResult:
    """How a file ended.

    Attributes:
        file: what the account calls it.
        recording_id: of the item.
        outcome: what was done.
        problem: why there is no night, or no scoring.
        note: what was unusual but harmless about a file that was read.
        row: its row of recordings.lance; None where the row there stays.
        segments: uncommitted fragments of segments.lance.
        replaces_row: a row there has to go.
        replaces_segments: segments there have to go, too.
        digest: of the night's signals.
        sums: checksums of the segments' data files.
    """

    file: str
    recording_id: str
    outcome: Outcome
    problem: Problem | None = None
    note: Problem | None = None
    row: pa.Table | None = None
    segments: tuple[str, ...] = ()
    replaces_row: bool = False
    replaces_segments: bool = False
    digest: str | None = None
    sums: Mapping[str, FileSum] = field(default_factory=dict)


class WorkerLostError(Exception):
    """Not even an exception came back: out of memory, or a fault below Python."""


def table_uris(corpus: str) -> tuple[str, str]:
    """Where a corpus keeps (recordings.lance, segments.lance)."""
    return storage.join(corpus, "recordings.lance"), storage.join(corpus, "segments.lance")


def ingest_file(item: IngestItem, *, corpus: str, config: dict[str, Any]) -> IngestResult:
    """Bring one file into a corpus, short of the commit.

    Args:
        item: the file.
        corpus: folder or URI of the tables.
        config: an IngestConfig's plain dict.

    Raises:
        TableError: a table cannot be read or written.
    """
    settings = from_dict(IngestConfig, config)
    recordings_uri, segments_uri = table_uris(corpus)
    content_hash, digest = "", new_digest()
    try:
        content, content_hash = content_of(item)
        seen = _is_seen(item, content_hash)
        loaded = None if seen else _load(item, content, settings, digest)
    except Exception as error:  # of a bug of ours, one file is enough
        content_hash = content_hash or digest.hexdigest or file_hash(item.file)
        return _rejection(item, settings, error, content_hash)
    content_hash = content_hash or digest.hexdigest or file_hash(item.file)
    if loaded is None:
        return _seen_before(item, content, settings, recordings_uri)
    night, note = loaded
    night, problem = _with_scoring(night, item, content, settings)
    schema = segments_schema(LAYOUTS[night.layout])
    segments = segments_table(night)
    fragments = lance_io.write_fragments(segments, segments_uri, schema)
    row = recording_row(
        night,
        source_hash=content_hash,
        source_stamp=_stamps(item, "" if problem else item.annotation_stamp),
        segments=segments,
        **_identity(item, settings),
    )
    had_night = item.known is not None and item.known.has_night
    done = Outcome.REPLACED if had_night else Outcome.INGESTED
    scored = night.hypnogram is not None or night.events is not None
    return IngestResult(
        file=_shown(item.file, item, settings),
        recording_id=item.recording_id,
        outcome=Outcome.WITHOUT_SCORING if problem and not scored else done,
        problem=problem,
        note=note,
        row=recordings_table([row]),
        segments=tuple(fragments),
        replaces_row=item.known is not None,
        replaces_segments=had_night,
        digest=row["signals_digest"],
        sums=fragment_sums(segments_uri, fragments, item.recording_id),
    )


def lost_file(item: IngestItem, *, config: dict[str, Any]) -> IngestResult:
    """The result of a file whose worker process died each time it was tried."""
    error = WorkerLostError("the process died each time it read this file")
    return _rejection(item, from_dict(IngestConfig, config), error, "")


def misnamed_file(item: IngestItem, config: IngestConfig) -> IngestResult:
    """The result of a file whose name no table can hold; it is not opened."""
    error = RecordingError(
        RecordingCode.UNREADABLE,
        file=item.file,
        found="a file name that is not UTF-8",
        expected="a name in UTF-8",
    )
    return _rejection(item, config, error, "")


def _rejection(
    item: IngestItem, settings: IngestConfig, error: Exception, content_hash: str
) -> IngestResult:
    """The result of a file that cannot be used; the table is told nothing the file says."""
    problem = _problem(item.file, item, settings, error)
    had_night = item.known is not None and item.known.has_night
    shown = _shown(item.file, item, settings)
    if had_night and problem.code in TRY_AGAIN:
        kept = f"{problem.reason}; the night of an earlier run is kept"
        return IngestResult(
            file=shown,
            recording_id=item.recording_id,
            outcome=Outcome.UNCHANGED,
            problem=dataclasses.replace(problem, reason=kept),
        )
    expected = f"expected {error.expected}" if isinstance(error, RecordingError) else None
    row = recording_row(
        None,
        source_hash=content_hash,
        source_stamp=_stamps(item, ""),
        rejected_code=problem.code,
        rejected_reason=expected or type(error).__name__,
        **_identity(item, settings),
    )
    return IngestResult(
        file=shown,
        recording_id=item.recording_id,
        outcome=Outcome.REJECTED,
        problem=problem,
        row=recordings_table([row]),
        replaces_row=item.known is not None,
        replaces_segments=had_night,
    )


def _is_seen(item: IngestItem, content_hash: str) -> bool:
    """Whether the corpus has what would come of the file."""
    known = item.known
    if known is None or known.rejected_code in TRY_AGAIN:
        return False
    return content_hash == known.source_hash and not item.again


def _stamps(item: IngestItem, annotation_stamp: str) -> str:
    return item.stamp + (annotation_stamp and STAMPS_SEPARATOR + annotation_stamp)


def _load(
    item: IngestItem, content: str | bytes, settings: IngestConfig, digest: FileDigest
) -> tuple[Night, Problem | None]:
    """The night, and what was unusual but harmless about its file."""
    config, shown = settings.preprocess, _shown(item.file, item, settings)
    night = load_night(content, config, recording_id=item.recording_id, name=shown, digest=digest)
    notes = "; ".join(night.notes)
    return night, Problem(file=shown, code=NOTE, reason=notes) if notes else None


def _with_scoring(
    night: Night, item: IngestItem, content: str | bytes, settings: IngestConfig
) -> tuple[Night, Problem | None]:
    """The night with what a scorer's file says in place of its own, which stays if that fails."""
    if item.annotation is None:
        return night, None
    scoring, problem = _read_scoring(item, content, night.num_epochs, settings)
    own = Scoring(hypnogram=night.hypnogram, events=night.events)
    both = own if scoring is None else _filled(scoring, own)
    return dataclasses.replace(night, hypnogram=both.hypnogram, events=both.events), problem


def _filled(first: Scoring, second: Scoring) -> Scoring:
    """The first scoring with what only the second speaks of."""
    return Scoring(
        hypnogram=second.hypnogram if first.hypnogram is None else first.hypnogram,
        events=second.events if first.events is None else first.events,
    )


def _read_scoring(
    item: IngestItem, content: str | bytes, num_epochs: int, settings: IngestConfig
) -> tuple[Scoring | None, Problem | None]:
    """What is scored, and what is wrong with the first file.

    A second file fills in what the first is silent about, or stands in for one that cannot be read.
    That it cannot be read itself is no news: it may be anything that is named after the recording.
    """
    assert item.annotation is not None

    def read(file: str) -> Scoring:
        shown = _shown(file, item, settings)
        source = file if storage.is_local(file) else storage.read_bytes(file)
        clock_s = open_edf(content, name=shown, truncated="keep").clock_s
        return read_scoring(
            source,
            num_epochs,
            name=shown,
            clock_s=clock_s,
            file_name=posixpath.basename(file),  # seen by the reader, and by nobody else
        )

    first, problem = None, None
    try:
        first = read(item.annotation)
    except Exception as error:  # a night is worth keeping without its scoring
        problem = _problem(item.annotation, item, settings, error)
    if item.second is None or (first and first.hypnogram is not None and first.events is not None):
        return first, problem
    try:
        second = read(item.second)
    except RecordingError:
        return first, problem
    return _filled(first, second) if first else second, problem


def _seen_before(
    item: IngestItem, content: str | bytes, settings: IngestConfig, recordings_uri: str
) -> IngestResult:
    """A file whose content is in the corpus; its row may learn metadata or a scoring.

    What this run was not given takes nothing away: neither metadata nor a scoring of an earlier run
    is erased because the option was left out.
    """
    known = item.known
    assert known is not None
    result = IngestResult(
        file=_shown(item.file, item, settings),
        recording_id=item.recording_id,
        outcome=Outcome.UNCHANGED if known.has_night else Outcome.REJECTED_EARLIER,
    )
    unasked = not known.has_night or (item.annotation is None and item.demographics is None)
    if unasked and item.same_file:
        return result
    (stored,) = lance_io.take_rows(recordings_uri, [known.row], version=known.version).to_pylist()
    fresh, problem, scoring_stamp = dict(stored), None, known.stamps[1]
    if known.has_night and item.demographics is not None:
        identity = _identity(item, settings)
        fresh |= {name: identity[name] for name in ("subject_id", "split")}
        fresh |= person_cells(item.demographics)
    learns = item.annotation is not None and (item.rehash or not item.same_scoring)
    if known.has_night and learns:
        scoring, problem = _read_scoring(item, content, stored["num_epochs"], settings)
        if scoring is not None:
            fresh |= _scoring_cells(scoring)
            scoring_stamp = "" if problem else item.annotation_stamp
    before, learnt = (recordings_table([row]) for row in (stored, fresh))
    fresh["source_stamp"] = _stamps(item, scoring_stamp) or None
    after = recordings_table([fresh])
    if after.equals(before):
        return dataclasses.replace(result, problem=problem)
    return dataclasses.replace(
        result,
        outcome=result.outcome if learnt.equals(before) else Outcome.UPDATED,
        problem=problem,
        row=after,
        replaces_row=True,
    )


def _scoring_cells(scoring: Scoring) -> Row:
    """The columns that a scorer's file fills; what it does not speak of is left out."""
    cells: Row = {}
    if scoring.hypnogram is not None:
        cells["hypnogram"] = scoring.hypnogram.tolist()
    if scoring.events is not None:
        events = [dataclasses.asdict(event) for event in scoring.events]
        cells["events"] = [{**event, "kind": event["kind"].value} for event in events]
    return cells


def _identity(item: IngestItem, settings: IngestConfig) -> dict[str, Any]:  # Any: several types
    """What `recording_row` asks of every recording, usable or not."""
    return {
        "recording_id": item.recording_id,
        "subject_id": item.subject_id,
        "cohort": settings.cohort,
        "split": split_of(item.subject_id, settings.split),
        "demographics": item.demographics,
    }


def _shown(file: str, item: IngestItem, settings: IngestConfig) -> str:
    """What messages may call a file."""
    return file if settings.recording_ids == "file_name" else item.recording_id


def _problem(file: str, item: IngestItem, settings: IngestConfig, error: Exception) -> Problem:
    shown, may_quote = _shown(file, item, settings), settings.recording_ids == "file_name"
    if isinstance(error, RecordingError):
        found = f"found {error.found}; " if may_quote else ""
        return Problem(file=shown, code=error.code, reason=f"{found}expected {error.expected}")
    kind = type(error).__name__
    if isinstance(error, OSError):
        reason = f"{kind}: {error.strerror or (error if may_quote else 'could not be read')}"
        return Problem(file=shown, code=RecordingCode.UNREADABLE.value, reason=reason)
    frames = traceback.extract_tb(error.__traceback__)
    if not frames:  # made by us, not raised
        return Problem(file=shown, code=INTERNAL_ERROR, reason=f"{kind}: {error}")
    # where, not what: the text of an unexpected error may quote anything the file says
    place = f"{PurePath(frames[-1].filename).name}, line {frames[-1].lineno}"
    reason = f"{kind} in {place}: a bug, please report it"
    return Problem(file=shown, code=INTERNAL_ERROR, reason=reason)
