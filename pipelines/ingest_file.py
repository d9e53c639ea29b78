"""One file of an ingest: EDF -> uncommitted segments and a row of recordings.lance.

Runs in a Ray task. A file that cannot be used is a result too, and so is a bug of ours that one
file brings out; only a table that cannot be read or written ends a run.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import traceback
from dataclasses import dataclass
from enum import StrEnum
from pathlib import PurePath
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sleepmami import storage
from sleepmami.config import IngestConfig, PreprocessConfig
from sleepmami.config_edit import from_dict
from sleepmami.errors import RecordingCode, RecordingError, SleepMaMiError
from sleepmami.psg import Night
from sleepmami.signals.annotations import read_hypnogram
from sleepmami.signals.edf import open_edf
from sleepmami.signals.preprocess import load_night
from sleepmami.tables import lance_io
from sleepmami.tables.demographics import Demographics, demographic_cells
from sleepmami.tables.rows import recording_row, rows_table, segments_table
from sleepmami.tables.schemas import RECORDINGS, SEGMENTS
from sleepmami.tables.splits import split_of

NOTE = "note"  # in place of a code, of what kept no file from being used
INTERNAL_ERROR = SleepMaMiError.code
TRY_AGAIN = (INTERNAL_ERROR, RecordingCode.UNREADABLE.value)  # not the content's fault


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
class KnownRecording:
    """What the corpus holds of a recording: the row at a position of a version of the table."""

    row: int
    version: int
    cohort: str
    source_sha256: str | None
    rejected_code: str | None

    def stands_for(self, sha256: str) -> bool:
        """Whether the file need not be read again."""
        return sha256 == self.source_sha256 and self.rejected_code not in TRY_AGAIN


@dataclass(frozen=True, kw_only=True, slots=True)
class IngestItem:
    """One recording: where it is, what scores it, whose it is, and what is known of it."""

    file: str
    recording_id: str
    annotation: str | None
    demographics: Demographics | None
    known: KnownRecording | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Problem:
    """What is wrong with a file; `reason` is for the terminal and may quote the file."""

    file: str
    code: str
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class IngestResult:
    """How a file ended.

    Attributes:
        recording_id: of the item.
        outcome: what was done.
        problem: why there is no night, or no scoring.
        note: what was unusual but harmless about a file that was read.
        row: its row of recordings.lance; None where the row there stays.
        segments: uncommitted fragments of segments.lance.
        replaces_row: a row there has to go.
        replaces_segments: segments there have to go, too.
    """

    recording_id: str
    outcome: Outcome
    problem: Problem | None = None
    note: Problem | None = None
    row: pa.Table | None = None
    segments: tuple[str, ...] = ()
    replaces_row: bool = False
    replaces_segments: bool = False


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
    sha256 = ""
    try:
        content, sha256 = _content(item.file)
        seen = item.known is not None and item.known.stands_for(sha256)
        loaded = None if seen else _load(item, content, settings.preprocess)
    except Exception as error:  # of a bug of ours, one file is enough
        return _rejection(item, settings, error, sha256)
    if loaded is None:
        return _seen_before(item, content, settings, recordings_uri)
    night, note = loaded
    night, problem = _with_scoring(night, item, content)
    fragments = lance_io.write_fragments(segments_table(night), segments_uri, SEGMENTS)
    row = recording_row(night, source_sha256=sha256, **_identity(item, settings))
    had_night = item.known is not None and item.known.rejected_code is None
    done = Outcome.REPLACED if had_night else Outcome.INGESTED
    return IngestResult(
        recording_id=item.recording_id,
        outcome=Outcome.WITHOUT_SCORING if problem else done,
        problem=problem,
        note=note,
        row=rows_table([row], RECORDINGS),
        segments=tuple(fragments),
        replaces_row=item.known is not None,
        replaces_segments=had_night,
    )


def lost_file(item: IngestItem, *, config: dict[str, Any]) -> IngestResult:
    """The result of a file whose worker process died each time it was tried."""
    error = WorkerLostError("the process died each time it read this file")
    return _rejection(item, from_dict(IngestConfig, config), error, "")


def _rejection(
    item: IngestItem, settings: IngestConfig, error: Exception, sha256: str
) -> IngestResult:
    """The result of a file that cannot be used; the table is told nothing the file says."""
    problem = _problem(item.file, error)
    had_night = item.known is not None and item.known.rejected_code is None
    if had_night and problem.code in TRY_AGAIN:
        kept = f"{problem.reason}; the night of an earlier run is kept"
        return IngestResult(
            recording_id=item.recording_id,
            outcome=Outcome.UNCHANGED,
            problem=dataclasses.replace(problem, reason=kept),
        )
    expected = f"expected {error.expected}" if isinstance(error, RecordingError) else None
    row = recording_row(
        None,
        source_sha256=sha256,
        rejected_code=problem.code,
        rejected_reason=expected or type(error).__name__,
        **_identity(item, settings),
    )
    return IngestResult(
        recording_id=item.recording_id,
        outcome=Outcome.REJECTED,
        problem=problem,
        row=rows_table([row], RECORDINGS),
        replaces_row=item.known is not None,
        replaces_segments=had_night,
    )


def _content(file: str) -> tuple[str | bytes, str]:
    """(path of a local file or bytes of an object, SHA-256); an object is fetched once."""
    if not storage.is_local(file):
        data = storage.read_bytes(file)
        return data, hashlib.sha256(data).hexdigest()
    if not os.path.isfile(file):
        return file, ""  # a broken link, a pipe, ...: load_night says which
    with open(file, "rb") as stream:
        return file, hashlib.file_digest(stream, "sha256").hexdigest()


def _load(
    item: IngestItem, content: str | bytes, config: PreprocessConfig
) -> tuple[Night, Problem | None]:
    """The night, and what was unusual but harmless about its file."""
    night = load_night(content, config, recording_id=item.recording_id, name=item.file)
    notes = open_edf(content, name=item.file, truncated=config.truncated).notes
    return night, Problem(file=item.file, code=NOTE, reason="; ".join(notes)) if notes else None


def _with_scoring(
    night: Night, item: IngestItem, content: str | bytes
) -> tuple[Night, Problem | None]:
    """The night with a scorer's file in place of its own stages; without any if that fails."""
    if item.annotation is None:
        return night, None
    hypnogram, problem = _read_scoring(item.annotation, content, night.num_epochs)
    return dataclasses.replace(night, hypnogram=hypnogram), problem


def _read_scoring(
    annotation: str, content: str | bytes, num_epochs: int
) -> tuple[NDArray[np.int8] | None, Problem | None]:
    """(hypnogram, None), or (None, what is wrong with the file)."""
    try:
        source = annotation if storage.is_local(annotation) else storage.read_bytes(annotation)
        clock_s = open_edf(content, truncated="keep").clock_s
        return read_hypnogram(source, num_epochs, name=annotation, clock_s=clock_s), None
    except Exception as error:  # a night is worth keeping without its scoring
        return None, _problem(annotation, error)


def _seen_before(
    item: IngestItem, content: str | bytes, settings: IngestConfig, recordings_uri: str
) -> IngestResult:
    """A file whose content is in the corpus; its row may learn metadata or a scoring.

    What this run was not given takes nothing away: neither metadata nor a scoring of an earlier run
    is erased because the option was left out.
    """
    recording_id, known = item.recording_id, item.known
    assert known is not None
    if known.rejected_code:
        return IngestResult(recording_id=recording_id, outcome=Outcome.REJECTED_EARLIER)
    if item.annotation is None and item.demographics is None:
        return IngestResult(recording_id=recording_id, outcome=Outcome.UNCHANGED)
    (stored,) = lance_io.take_rows(recordings_uri, [known.row], version=known.version).to_pylist()
    fresh, problem = dict(stored), None
    if item.demographics is not None:
        identity = _identity(item, settings)
        fresh |= {name: identity[name] for name in ("subject_id", "split")}
        fresh |= demographic_cells(item.demographics)
    if item.annotation is not None:
        hypnogram, problem = _read_scoring(item.annotation, content, stored["num_epochs"])
        if hypnogram is not None:
            fresh["hypnogram"] = hypnogram.tolist()
    before, after = (rows_table([row], RECORDINGS) for row in (stored, fresh))
    if after.equals(before):
        return IngestResult(recording_id=recording_id, outcome=Outcome.UNCHANGED, problem=problem)
    return IngestResult(
        recording_id=recording_id,
        outcome=Outcome.UPDATED,
        problem=problem,
        row=after,
        replaces_row=True,
    )


def _identity(item: IngestItem, settings: IngestConfig) -> dict[str, Any]:  # Any: several types
    """What `recording_row` asks of every recording, usable or not."""
    person = item.demographics
    subject_id = (person.subject_id if person else None) or item.recording_id
    return {
        "recording_id": item.recording_id,
        "subject_id": subject_id,
        "cohort": settings.cohort,
        "split": split_of(subject_id, settings.split),
        "demographics": person,
    }


def _problem(file: str, error: Exception) -> Problem:
    if isinstance(error, RecordingError):
        reason = f"found {error.found}; expected {error.expected}"
        return Problem(file=file, code=error.code, reason=reason)
    kind = type(error).__name__
    if isinstance(error, OSError):
        reason = f"{kind}: {error.strerror or error}"
        return Problem(file=file, code=RecordingCode.UNREADABLE.value, reason=reason)
    frames = traceback.extract_tb(error.__traceback__)
    if not frames:  # made by us, not raised
        return Problem(file=file, code=INTERNAL_ERROR, reason=f"{kind}: {error}")
    # where, not what: the text of an unexpected error may quote anything the file says
    place = f"{PurePath(frames[-1].filename).name}, line {frames[-1].lineno}"
    reason = f"{kind} in {place}: a bug, please report it"
    return Problem(file=file, code=INTERNAL_ERROR, reason=reason)
