"""Makes finished nights visible, some at a time, and lets one night in once.

Recordings of equal signals, or of the same file, are one night under several names. Whatever order
results come in, and whether a run was killed in between, the one of the smallest `rank` has the
night in the end and each other is a rejected row that names it. So a night is committed as it comes
while no other has its signals; those that come later wait until all files are through (`settle`).
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import pyarrow as pa

from pipelines.ingest_file import IngestResult, Outcome, Problem, table_uris
from pipelines.ingest_plan import KnownRecording, Rank, knows_somebody, rank
from sleepmami.config import IngestConfig
from sleepmami.config_edit import to_dict
from sleepmami.errors import RecordingCode, TableError
from sleepmami.psg import LAYOUTS
from sleepmami.tables import lance_io
from sleepmami.tables.demographics import person_cells
from sleepmami.tables.file_checksums import FileChecksums, FileSum, fragment_sums
from sleepmami.tables.rows import as_stored, recordings_table
from sleepmami.tables.schemas import RECORDINGS_VERSION, Row, provenance, segments_schema


@dataclass(frozen=True, kw_only=True, slots=True)
class IngestSummary:
    """What a run did.

    Attributes:
        outcomes: how many files ended how.
        details: (file, code, reason) of what could not be used.
        notes: (file, "note", what is unusual) of what was used.
    """

    outcomes: Counter[str] = field(default_factory=Counter)
    details: list[tuple[str, str, str]] = field(default_factory=list)
    notes: list[tuple[str, str, str]] = field(default_factory=list)


def copy_row(row: Row, original: str) -> Row:
    """A row whose night another recording has: who it is and what was scored, without signals.

    It keeps the digest, which says whose copy it is also after a change of names, and the scoring,
    which counts when it is decided again who has the night.
    """
    kept = ("recording_id", "subject_id", "cohort", "split", *person_cells(None))
    kept += ("source_hash", "source_stamp", "signals_digest", "hypnogram", "events")
    return {
        **dict.fromkeys(row),
        **{name: row[name] for name in kept},
        "rejected_code": RecordingCode.DUPLICATE_RECORDING.value,
        "rejected_reason": copy_text(original),
    }


def copy_text(original: str) -> str:
    """Why a copy is rejected."""
    return f"expected other signals than those of {original}"


class Committer:
    """Takes results in any order; `settle` ends the run."""

    def __init__(
        self,
        corpus: str,
        config: IngestConfig,
        known: Mapping[str, KnownRecording],
        checksums: FileChecksums,
        fingerprint: str,
    ) -> None:
        self._recordings_uri, self._segments_uri = table_uris(corpus)
        self._size = config.nights_per_commit
        self._metadata = provenance({**to_dict(config), "site_key": fingerprint})
        self._segments_schema = segments_schema(LAYOUTS[config.preprocess.layout])
        self._checksums = checksums
        self._batch: list[IngestResult] = []
        self._outcomes: dict[str, Outcome] = {}
        self._said: list[tuple[bool, Problem]] = []
        self._waiting: list[IngestResult] = []
        # who has which signals, and whose copies (digest, reason) the others are said to be
        self._nights = {k.signals_digest: name for name, k in known.items() if k.has_night}
        self._digest_of = {name: digest for digest, name in self._nights.items()}
        self._copies = {
            name: (k.signals_digest, k.rejected_reason) for name, k in known.items() if k.is_copy
        }
        self._ranks = {name: k.rank for name, k in known.items()}
        # another release, or another kind of machine, makes other digests of the same file
        self._digest_of_file = {k.source_hash: k.signals_digest for k in known.values()}

    def summary(self) -> IngestSummary:
        """The account of what was added so far."""
        found = IngestSummary(outcomes=Counter(o.value for o in self._outcomes.values()))
        for is_note, said in self._said:
            lines = found.notes if is_note else found.details
            lines.append((said.file, said.code, said.reason))
        return found

    def add(self, result: IngestResult) -> None:
        """Take a result in; it is visible after the next `flush`, or after `settle`."""
        self._outcomes[result.recording_id] = result.outcome
        self._said += [(True, result.note)] if result.note else []
        self._said += [(False, result.problem)] if result.problem else []
        if result.row is None:
            return
        self._ranks[result.recording_id] = _rank_of(result.row)
        if result.replaces_segments:  # the night there has gone, whatever comes
            self._forget(result.recording_id)
        if result.outcome != Outcome.REJECTED_EARLIER:
            self._copies.pop(result.recording_id, None)
        if result.segments and result.digest not in self._nights:
            of_file = self._digest_of_file.get(_source_hash(result.row))
            if of_file in self._nights:
                result = dataclasses.replace(result, digest=of_file)
        if result.segments and self._nights.get(result.digest):
            self._waiting.append(result)
            return
        if result.segments:
            self._remember(result)
        self._put(result)

    def flush(self) -> None:
        """Commit what waits for the others of its batch."""
        if not self._batch:
            return
        self._require_alone()
        sums: dict[str, FileSum] = {}
        for uri, replaced in (
            (self._recordings_uri, [r.recording_id for r in self._batch if r.replaces_row]),
            (self._segments_uri, [r.recording_id for r in self._batch if r.replaces_segments]),
        ):
            lance_io.delete_recordings(uri, replaced)
        fragments = [fragment for result in self._batch for fragment in result.segments]
        lance_io.commit(
            self._segments_uri, fragments, self._segments_schema, metadata=self._metadata
        )
        for result in self._batch:
            sums |= result.sums
        rows = pa.concat_tables([r.row for r in self._batch])
        rows = as_stored(rows, _version_there(self._recordings_uri))
        written = lance_io.write_fragments(rows, self._recordings_uri, rows.schema)
        sums |= fragment_sums(self._recordings_uri, written)
        lance_io.commit(self._recordings_uri, written, rows.schema, metadata=self._metadata)
        self._checksums.add(sums)
        self._batch = []

    def settle(self) -> None:
        """Decide which of the recordings with equal signals has the night, and commit the rest."""
        self.flush()
        rivals: dict[str | None, list[IngestResult]] = {}
        for result in self._waiting:
            rivals.setdefault(result.digest, []).append(result)
        self._waiting = []
        for digest, results in sorted(rivals.items(), key=lambda pair: str(pair[0])):
            holder = self._nights.get(digest)
            first = min(results, key=lambda result: self._ranks[result.recording_id])
            if holder is None or self._ranks[first.recording_id] < self._ranks[holder]:
                if holder is not None:
                    self._forget(holder)
                    self._note_copy(holder, first.recording_id, holder)
                    self._rewrite({holder: first.recording_id}, had_night=True)
                self._remember(first)
                self._put(first)
                holder = first.recording_id
            for result in results:
                if result.recording_id != holder:
                    self._put_copy(result, holder)
        self.flush()

    def name_originals(self) -> None:
        """Let each copy name the recording that has its night now."""
        holders = {name: self._nights.get(digest) for name, (digest, _) in self._copies.items()}
        self._rewrite(
            {
                name: holder
                for name, holder in holders.items()
                if holder is not None and copy_text(holder) != self._copies[name][1]
            }
        )
        self.flush()

    def lacks_original(self, recording_id: str) -> bool:
        """Whether a recording is rejected as a copy, but ought to have the night itself."""
        if recording_id not in self._copies:
            return False
        holder = self._nights.get(self._copies[recording_id][0])
        return holder is None or self._ranks[recording_id] < self._ranks[holder]

    def _remember(self, result: IngestResult) -> None:
        self._nights[result.digest] = result.recording_id
        self._digest_of[result.recording_id] = result.digest
        if result.row is not None:
            self._digest_of_file[_source_hash(result.row)] = result.digest

    def _forget(self, recording_id: str | None) -> None:
        digest = self._digest_of.pop(recording_id, None) if recording_id else None
        if digest is not None and self._nights.get(digest) == recording_id:
            del self._nights[digest]

    def _put(self, result: IngestResult) -> None:
        self._batch.append(result)
        if len(self._batch) >= self._size:
            self.flush()

    def _put_copy(self, result: IngestResult, original: str) -> None:
        """A night that was read in this run, as a copy."""
        lance_io.discard(self._segments_uri, result.segments)
        assert result.row is not None
        (row,) = result.row.to_pylist()
        row["signals_digest"] = result.digest
        self._note_copy(result.recording_id, original, result.file)
        self._copies[result.recording_id] = (result.digest, copy_text(original))
        table = recordings_table([copy_row(row, original)])
        self._put(dataclasses.replace(result, row=table, segments=(), sums={}))

    def _rewrite(self, original_of: Mapping[str, str], *, had_night: bool = False) -> None:
        """Rows of the corpus as copies of other recordings than before."""
        if not original_of:
            return
        self.flush()
        where = lance_io.is_one_of("recording_id", sorted(original_of))
        for row in lance_io.read_table(self._recordings_uri, filter=where).to_pylist():
            name = row["recording_id"]
            self._copies[name] = (row["signals_digest"], copy_text(original_of[name]))
            result = IngestResult(
                file=name,
                recording_id=name,
                outcome=Outcome.REJECTED,
                row=recordings_table([copy_row(row, original_of[name])]),
                replaces_row=True,
                replaces_segments=had_night,
            )
            self._put(result)

    def _note_copy(self, recording_id: str, original: str, file: str) -> None:
        if recording_id in self._outcomes:
            self._outcomes[recording_id] = Outcome.REJECTED
        code = RecordingCode.DUPLICATE_RECORDING.value
        self._said.append((False, Problem(file=file, code=code, reason=copy_text(original))))

    def _require_alone(self) -> None:
        """TableError when another ingest has committed a recording that was new to this one."""
        new = [result.recording_id for result in self._batch if not result.replaces_row]
        if not new or not lance_io.exists(self._recordings_uri):
            return
        there = lance_io.read_table(
            self._recordings_uri,
            columns=["recording_id"],
            filter=lance_io.is_one_of("recording_id", new),
        )
        if there.num_rows:
            raise TableError(
                f"{self._recordings_uri}: found {there.column(0)[0]} committed by another ingest "
                "since this one began; expected one ingest at a time: run it again alone"
            )


def _version_there(recordings_uri: str) -> str:
    """Of the table's columns; that of a new one where there is none yet."""
    if not lance_io.exists(recordings_uri):
        return RECORDINGS_VERSION
    return lance_io.metadata(recordings_uri)["schema_version"]


def _rank_of(row: pa.Table) -> Rank:
    """The `rank` of a table's only row."""
    stages, events = (not row.column(name).null_count for name in ("hypnogram", "events"))
    (cells,) = row.select(["recording_id", "subject_id", *person_cells(None)]).to_pylist()
    name, subject = cells.pop("recording_id"), cells.pop("subject_id")
    return rank(name, stages, events, knows_somebody(name, subject, cells))


def _source_hash(row: pa.Table) -> str | None:
    """Of a table's only row."""
    found: str | None = row.column("source_hash")[0].as_py()
    return found
