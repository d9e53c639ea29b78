"""CORPUS -> whether every byte and every row of it is what ingest wrote.

Files come first, against the records below CORPUS/checksums, and none that differs is given to
Lance, which reads a flipped bit as data. Then rows, by their own checksums, and what rows say of
each other. Needs no Ray; at most BATCH_ROWS segments are in memory at a time.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from pipelines.ingest_file import NOTE, table_uris
from pipelines.progress import console, print_outcomes, stage
from sleepmami.errors import TableError
from sleepmami.psg import segment_start_epochs
from sleepmami.tables import lance_io
from sleepmami.tables.checksums import (
    CHECKSUM,
    content_checksums,
    digest_of,
    row_checksums,
    segment_checksums,
)
from sleepmami.tables.file_checksums import HINT, TABLES, FileChecksums, file_sum

BATCH_ROWS = 64  # of segments, 42 kB each
RUN_DEPENDENT = ("source_stamp", CHECKSUM)  # of a row, and no part of what the corpus holds
RECORDINGS, SEGMENTS = TABLES

Problem = tuple[str, str, str]


@dataclass(frozen=True, kw_only=True, slots=True)
class VerifySummary:
    """What was looked at, and what is not as it was written.

    Attributes:
        counts: recordings, nights, segments, files checked and unreferenced files.
        problems: (table, recording or file, what is wrong).
        notes: what could not be checked and why; no fault of the corpus.
        unusual: (recording, "note", what was unusual about its file) of nights; no fault either.
        content_hash: SHA-256 of what the corpus holds, in whatever order and however often it was
            ingested; None when there are problems.
    """

    counts: Counter[str] = field(default_factory=Counter)
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    unusual: list[Problem] = field(default_factory=list)
    content_hash: str | None = None


def verify(corpus: str) -> VerifySummary:
    """Check every file and every row of a corpus, and print the account.

    An ingest must not run at the same time.

    Raises:
        TableError: there is no corpus.
    """
    check = _Check(corpus)
    check.files()
    check.recordings()
    check.segments()
    summary = check.summary()
    print_outcomes("verify", summary.counts, summary.problems)
    if summary.unusual:
        counts = Counter({"nights": len(summary.unusual)})
        print_outcomes("used, though unusual", counts, summary.unusual)
    for note in summary.notes:
        console.print(f"verify: {note}")
    if summary.content_hash:
        console.print(f"content: {summary.content_hash}")
    return summary


@dataclass(slots=True)
class _Night:
    """What recordings.lance says of a night, and the segments of it found so far."""

    num_epochs: int
    digest: str | None
    found: list[tuple[int, int, int]] = field(default_factory=list)  # index, start, checksum
    num_segments: int = 0


class _Check:
    def __init__(self, corpus: str) -> None:
        self._corpus = corpus
        self._uris = dict(zip(TABLES, table_uris(corpus), strict=True))
        self._counts: Counter[str] = Counter()
        self._problems: list[Problem] = []
        self._notes: list[str] = []
        self._unusual: list[Problem] = []
        self._damaged: set[str] = set()  # files, by path below the corpus
        self._rows: list[bytes] = []
        self._nights: dict[str, _Night] = {}

    def summary(self) -> VerifySummary:
        content = hashlib.sha256(b"".join(sorted(self._rows))).hexdigest()
        return VerifySummary(
            counts=self._counts,
            problems=sorted(self._problems),
            notes=self._notes,
            unusual=sorted(self._unusual),
            content_hash=None if self._problems else content,
        )

    # ------------------------------------------------------------------------------------- files

    def files(self) -> None:
        """Against the records of what was written."""
        checksums = FileChecksums(self._corpus)
        if not checksums.local:
            if not lance_io.exists(self._uris[RECORDINGS]):
                raise TableError(f"{self._corpus}: found no corpus; expected one")
            self._notes.append("an object store checks its files itself; only rows are checked")
            return
        stored = checksums.stored()
        if not stored and not checksums.sums:
            raise TableError(f"{self._corpus}: found no corpus; expected one")
        for name, what in checksums.problems:
            self._problems.append(("checksums", name, what))
        with stage("verify files", len(checksums.sums), unit="files") as advance:
            for name, expected in checksums.sums.items():
                if name in stored:
                    try:
                        found = file_sum(checksums.path(name), expected.holds)
                    except OSError as error:
                        self._damage(name, f"{error.strerror or error}", expected.holds)
                    else:
                        if found != expected:
                            what = f"found {found.size} bytes, hash {found.xxh3}; expected "
                            what += f"{expected.size}, {expected.xxh3}"
                            self._damage(name, what, expected.holds)
                    self._counts["files"] += 1
                advance(1, name)
        for table in TABLES:
            self._hint(checksums, table)
            self._history(checksums, table, stored)
        self._unrecorded(checksums, stored)

    def _damage(self, name: str, what: str, holds: str = "") -> None:
        self._damaged.add(name)
        table, _, file = name.partition("/")
        self._problems.append((table, file, what + (f"; holds {holds}" if holds else "")))

    def _hint(self, checksums: FileChecksums, table: str) -> None:
        path = checksums.path(f"{table}/{HINT}")
        if path.exists():
            found, expected = path.read_bytes(), checksums.expected_hint(table)
            self._counts["files"] += 1
            if found == expected:
                return
            what = f"found {found[:32]!r}; expected {expected!r}"
            older = (f'{{"version":{number}}}'.encode() for number in checksums.versions(table))
            if found in older:  # a run was killed before it wrote this; Lance reads on regardless
                self._problem(table, HINT, what)
            else:
                self._damage(f"{table}/{HINT}", what)

    def _history(self, checksums: FileChecksums, table: str, stored: Collection[str]) -> None:
        """What was recorded and is gone: cleaned up with old versions, or lost."""
        if not self._readable(table):
            return
        needed = checksums.in_use([table]) | checksums.lost_versions(table)
        own = {name for name in checksums.sums if name.startswith(table)}
        gone = own - set(stored)
        for name in sorted(gone & needed):
            self._damage(name, "found no such file; expected it", checksums.sums[name].holds)
        if old := len(gone - needed):
            self._notes.append(f"{table}: {old} files of old versions were cleaned up")

    def _unrecorded(self, checksums: FileChecksums, stored: Collection[str]) -> None:
        """Files of killed runs that no version needs, and those of commits that are not ours."""
        for table in TABLES:
            if not self._readable(table):
                continue
            strange = {n for n in stored if n.startswith(table) and n not in checksums.sums}
            needed = strange & (checksums.in_use([table]) | checksums.history())
            self._counts["unreferenced files"] += len(strange - needed)
            manifests = checksums.versions(table)
            commits = [number for number, name in manifests.items() if name in strange]
            if lance_io.was_compacted(self._uris[table], commits):
                self._notes.append(
                    f"{table}: compacted since the last ingest, so that checksums of files do not "
                    f"cover {len(needed)} files; rows are checked"
                )
                continue
            for name in sorted(needed):
                what = "found no checksum of it: an ingest was cut short; run it again"
                self._problems.append((table, name.partition("/")[2], what))

    def _readable(self, table: str) -> bool:
        """Whether Lance may be given the table's list of files."""
        heads = [n for n in self._damaged if n.startswith(f"{table}/_versions/")]
        return not heads and lance_io.exists(self._uris[table])

    def _left_out(self, table: str) -> list[str]:
        return [n.partition("/")[2] for n in self._damaged if n.startswith(f"{table}/")]

    # -------------------------------------------------------------------------------------- rows

    def recordings(self) -> None:
        """Each row's checksum, and each recording once."""
        if not self._readable(RECORDINGS):
            return self._unread(RECORDINGS)
        uri, seen = self._uris[RECORDINGS], set()
        with stage("verify recordings", lance_io.count_rows(uri), unit="rows") as advance:
            try:
                for table in lance_io.iter_rows(
                    uri, batch_rows=BATCH_ROWS, without=self._left_out(RECORDINGS)
                ):
                    for row, found in zip(table.to_pylist(), row_checksums(table), strict=True):
                        name = row["recording_id"]
                        if name in seen:
                            self._problem(RECORDINGS, name, "found twice; expected one row")
                        seen.add(name)
                        self._recording(row, int(found))
                        advance(1, name)
            except (TableError, UnicodeDecodeError, pa.ArrowException) as error:
                self._problem(RECORDINGS, "", str(error))

    def _recording(self, row: dict[str, object], checksum: int) -> None:
        name, num_epochs = str(row["recording_id"]), row["num_epochs"]
        self._counts["recordings"] += 1
        if row[CHECKSUM] != checksum:
            self._problem(RECORDINGS, name, "found another checksum than the row's own")
        lasting = {key: value for key, value in row.items() if key not in RUN_DEPENDENT}
        self._rows.append(hashlib.sha256(json.dumps(lasting, sort_keys=True).encode()).digest())
        if row["rejected_code"] is None and isinstance(num_epochs, int):
            self._counts["nights"] += 1
            notes = row.get("notes")  # tables of version 2 have none
            if isinstance(notes, list) and notes:
                self._unusual.append((name, NOTE, "; ".join(notes)))
            digest = row["signals_digest"]
            self._nights[name] = _Night(num_epochs, None if digest is None else str(digest))

    def segments(self) -> None:
        """Each row's checksum, and each night's segments: all of them, once, and no others."""
        if not self._readable(SEGMENTS):
            if self._nights or self._left_out(SEGMENTS):
                self._unread(SEGMENTS)
            return
        uri, left_out = self._uris[SEGMENTS], self._left_out(SEGMENTS)
        with stage("verify segments", lance_io.count_rows(uri), unit="rows") as advance:
            try:
                for table in lance_io.iter_rows(uri, batch_rows=BATCH_ROWS, without=left_out):
                    self._segments(table)
                    advance(table.num_rows, "")
            except (TableError, UnicodeDecodeError, pa.ArrowException) as error:
                self._problem(SEGMENTS, "", str(error))
                return
        if left_out or not self._readable(RECORDINGS) or self._left_out(RECORDINGS):
            return  # what is missing was reported as a file
        for name, night in self._nights.items():
            expected = len(segment_start_epochs(night.num_epochs))
            if night.num_segments != expected:
                what = f"found {night.num_segments} segments; expected {expected}"
                self._problem(SEGMENTS, name, what)

    def _segments(self, table: pa.Table) -> None:
        names = table.column("recording_id").to_pylist()
        indices = table.column("segment_index").to_pylist()
        starts = table.column("start_epoch").to_pylist()
        wrong = segment_checksums(table) != table.column(CHECKSUM).to_numpy()
        content = content_checksums(table)
        self._counts["segments"] += len(names)
        whole = not self._left_out(RECORDINGS) and self._readable(RECORDINGS)
        for row, name in enumerate(names):
            if wrong[row]:
                self._problem(SEGMENTS, name, f"segment {indices[row]}: found another checksum")
            night = self._nights.get(name)
            if night is None:
                if whole:
                    what = f"segment {indices[row]}: found no night of this name"
                    self._problem(SEGMENTS, name, what)
                continue
            night.num_segments += 1
            night.found.append((indices[row], starts[row], int(content[row])))
            if len(night.found) == len(segment_start_epochs(night.num_epochs)):
                self._night(name, night)

    def _night(self, name: str, night: _Night) -> None:
        """As many segments as a night has are through; they are let go here."""
        found, night.found = sorted(night.found), []
        expected = list(enumerate(segment_start_epochs(night.num_epochs)))
        if [(index, start) for index, start, _ in found] != expected:
            self._problem(SEGMENTS, name, "found segments at other epochs than the night's")
        digest = digest_of(np.asarray([checksum for *_, checksum in found], np.uint64))
        if digest != night.digest:
            self._problem(SEGMENTS, name, "found other signals than recordings.lance knows")

    def _unread(self, table: str) -> None:
        damaged: Sequence[str] = self._left_out(table)
        why = f"{len(damaged)} files are damaged" if damaged else "there is no such table"
        self._problem(table, "", f"its rows were not read: {why}")

    def _problem(self, table: str, name: str, what: str) -> None:
        self._problems.append((table, name, what))
