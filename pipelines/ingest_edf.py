"""EDF folder -> recordings.lance and segments.lance; one Ray Data task per file.

Every file ends as exactly one row of recordings.lance: ingested, or rejected with a code and a
reason. A night becomes visible when its row in recordings.lance is committed; segments are
committed first, so that an interrupted run leaves at most segments without a recording, which the
next run deletes before it starts.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import posixpath
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from pipelines.progress import print_outcomes, stage
from pipelines.ray_data import map_each
from sleepmami import storage
from sleepmami.config import IngestConfig
from sleepmami.config_edit import from_dict, to_dict
from sleepmami.errors import RecordingError, SleepMaMiError, TableError
from sleepmami.signals.annotations import find_annotation
from sleepmami.signals.preprocess import load_night
from sleepmami.tables import lance_io
from sleepmami.tables.demographics import Demographics, demographics_of, read_demographics
from sleepmami.tables.rows import recording_row, rows_table, segments_table
from sleepmami.tables.schemas import RECORDINGS, SEGMENTS, provenance
from sleepmami.tables.splits import split_of

RECORDING_SUFFIXES = (".edf", ".bdf", ".rec")
ANNOTATION_SUFFIXES = (".xml", ".edf")


@dataclass(frozen=True, kw_only=True, slots=True)
class IngestSummary:
    """What a run did; `details` lists (file, code, reason) of each rejected file."""

    outcomes: Counter[str]
    details: list[tuple[str, str, str]]


def ingest(
    edf_folder: str,
    corpus: str,
    config: IngestConfig,
    *,
    metadata: str | None = None,
    annotations: str | None = None,
) -> IngestSummary:
    """Bring every EDF below a folder into a corpus; running it again adds nothing twice.

    Needs a Ray session. A file already in the corpus with the same content is left alone, one whose
    content changed replaces its night.

    Args:
        edf_folder: folder or URI, searched recursively.
        corpus: folder or URI of the tables.
        config: cohort name, preprocessing, split.
        metadata: CSV with age, sex and BMI per recording; see docs/data.md.
        annotations: folder of scorings; without it they are looked for beside the EDFs.

    Raises:
        TableError: the corpus was made with other preprocessing, the metadata CSV cannot be used,
            or no recording was found.
    """
    recordings_uri, segments_uri = _table_uris(corpus)
    _require_same_settings(recordings_uri, config)
    known = _known_recordings(recordings_uri)
    _delete_orphan_segments(segments_uri, known)

    people = read_demographics(metadata) if metadata else {}
    items = _plan(edf_folder, annotations, people, known)
    if not items:
        raise TableError(
            f"{edf_folder}: found no file ending in {RECORDING_SUFFIXES}; expected EDFs"
        )

    committer = _Committer(recordings_uri, segments_uri, config)
    with stage("ingest", len(items), unit="files") as advance:
        for result in _results(items, segments_uri, config):
            committer.add(result)
            advance(1, result["recording_id"])
        committer.flush()
    summary = IngestSummary(outcomes=committer.outcomes, details=committer.details)
    print_outcomes("ingest", summary.outcomes, summary.details)
    _say_unmatched(people, items)
    return summary


def _table_uris(corpus: str) -> tuple[str, str]:
    return storage.join(corpus, "recordings.lance"), storage.join(corpus, "segments.lance")


def _require_same_settings(recordings_uri: str, config: IngestConfig) -> None:
    if not lance_io.exists(recordings_uri):
        return
    there = json.loads(lance_io.metadata(recordings_uri)["config"])["preprocess"]
    wanted = to_dict(config.preprocess)
    if there != wanted:
        changed = sorted(name for name in wanted if there.get(name) != wanted[name])
        raise TableError(
            f"{recordings_uri}: found nights preprocessed with other {', '.join(changed)}; "
            "expected the same settings in all of a corpus: use these or a new CORPUS"
        )


def _known_recordings(recordings_uri: str) -> dict[str, str]:
    """Content hash per recording already in the corpus."""
    if not lance_io.exists(recordings_uri):
        return {}
    table = lance_io.read_table(recordings_uri, columns=["recording_id", "source_sha256"])
    ids, hashes = (table.column(name).to_pylist() for name in table.column_names)
    return dict(zip(ids, hashes, strict=True))


def _delete_orphan_segments(segments_uri: str, known: Mapping[str, str]) -> None:
    if not lance_io.exists(segments_uri):
        return
    ids = lance_io.read_table(segments_uri, columns=["recording_id"]).column("recording_id")
    orphans = sorted(set(ids.unique().to_pylist()) - set(known))
    if orphans:
        lance_io.delete_recordings(segments_uri, orphans)


def _plan(
    edf_folder: str,
    annotations: str | None,
    people: Mapping[str, Demographics],
    known: Mapping[str, str],
) -> list[dict[str, Any]]:
    """One task per recording: where it is, what scores it, whose it is, what is known of it."""
    files = storage.list_files(edf_folder, RECORDING_SUFFIXES)
    scorings = storage.list_files(annotations or edf_folder, ANNOTATION_SUFFIXES)
    annotation_of = {file: find_annotation(file, scorings) for file in files}
    taken = set(annotation_of.values())
    base = storage.absolute(edf_folder)
    items = []
    for file in files:
        if file in taken:  # the hypnogram of another recording
            continue
        recording_id = posixpath.splitext(posixpath.relpath(file, base))[0]
        person = demographics_of(recording_id, people)
        items.append(
            {
                "file": file,
                "recording_id": recording_id,
                "annotation": annotation_of[file] or "",
                "demographics": dataclasses.asdict(person) if person else None,
                "known_sha256": known.get(recording_id, ""),
            }
        )
    return items


def _results(
    items: list[dict[str, Any]], segments_uri: str, config: IngestConfig
) -> Iterable[dict[str, Any]]:
    task = functools.partial(ingest_file, segments_uri=segments_uri, config=to_dict(config))
    rows = [{"item": json.dumps(item)} for item in items]
    return map_each(rows, task, num_cpus=config.num_cpus_per_task)


def ingest_file(
    row: Mapping[str, Any], *, segments_uri: str, config: dict[str, Any]
) -> dict[str, Any]:
    """One EDF -> uncommitted segment fragments and its recordings row, as Arrow IPC bytes.

    A file that cannot be used is a result too. Only a failing table write ends the run.
    """
    item = json.loads(row["item"])
    settings = from_dict(IngestConfig, config)
    person = Demographics(**item["demographics"]) if item["demographics"] else None
    recording_id = item["recording_id"]
    subject_id = (person.subject_id if person else None) or recording_id
    common = {
        "recording_id": recording_id,
        "subject_id": subject_id,
        "cohort": settings.cohort,
        "split": split_of(subject_id, settings.split),
        "demographics": person,
    }
    result = {"recording_id": recording_id, "replaces": bool(item["known_sha256"])}
    sha256 = ""
    try:
        sha256 = _sha256(item["file"])
        if sha256 == item["known_sha256"]:
            return {
                **result,
                "outcome": "unchanged",
                "code": "",
                "reason": "",
                "segments": [],
                "row": b"",
            }
        night = load_night(
            _source(item["file"]),
            settings.preprocess,
            recording_id=recording_id,
            name=item["file"],
            annotation=_source(item["annotation"]) if item["annotation"] else None,
        )
    except (RecordingError, OSError) as error:
        code = error.code if isinstance(error, SleepMaMiError) else "unreadable"
        # the table gets no header text and no path, the person at the terminal gets both
        rejected = recording_row(
            None, source_sha256=sha256, rejected_code=code, rejected_reason=code, **common
        )
        row_bytes = _ipc(rejected)
        return {
            **result,
            "outcome": "rejected",
            "code": code,
            "reason": str(error),
            "segments": [],
            "row": row_bytes,
        }
    fragments = lance_io.write_fragments(segments_table(night), segments_uri, SEGMENTS)
    accepted = recording_row(night, source_sha256=sha256, **common)
    return {
        **result,
        "outcome": "ingested",
        "code": "",
        "reason": "",
        "segments": fragments,
        "row": _ipc(accepted),
    }


def _source(file: str) -> str | bytes:
    return file if storage.is_local(file) else storage.read_bytes(file)


def _sha256(file: str) -> str:
    if not storage.is_local(file):
        return hashlib.sha256(storage.read_bytes(file)).hexdigest()
    with open(file, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _ipc(row: dict[str, Any]) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, RECORDINGS) as writer:
        writer.write_table(rows_table([row], RECORDINGS))
    return bytes(sink.getvalue())


class _Committer:
    """Makes finished nights visible, `nights_per_commit` at a time."""

    def __init__(self, recordings_uri: str, segments_uri: str, config: IngestConfig) -> None:
        self.outcomes: Counter[str] = Counter()
        self.details: list[tuple[str, str, str]] = []
        self._recordings_uri = recordings_uri
        self._segments_uri = segments_uri
        self._batch: list[dict[str, Any]] = []
        self._size = config.nights_per_commit
        self._metadata = provenance(to_dict(config))

    def add(self, result: dict[str, Any]) -> None:
        self.outcomes[result["outcome"]] += 1
        if result["outcome"] == "rejected":
            self.details.append((result["recording_id"], result["code"], result["reason"]))
        if result["row"]:
            self._batch.append(result)
        if len(self._batch) >= self._size:
            self.flush()

    def flush(self) -> None:
        if not self._batch:
            return
        replaced = [result["recording_id"] for result in self._batch if result["replaces"]]
        if replaced:
            lance_io.delete_recordings(self._recordings_uri, replaced)
            lance_io.delete_recordings(self._segments_uri, replaced)
        fragments = [fragment for result in self._batch for fragment in result["segments"]]
        if fragments or not lance_io.exists(self._segments_uri):
            lance_io.commit(self._segments_uri, fragments, SEGMENTS, metadata=self._metadata)
        rows = pa.concat_tables([pa.ipc.open_stream(r["row"]).read_all() for r in self._batch])
        lance_io.commit(
            self._recordings_uri,
            lance_io.write_fragments(rows, self._recordings_uri, RECORDINGS),
            RECORDINGS,
            metadata=self._metadata,
        )
        self._batch = []


def _say_unmatched(people: Mapping[str, Demographics], items: list[dict[str, Any]]) -> None:
    without = [item["recording_id"] for item in items if people and item["demographics"] is None]
    if without:
        outcomes = Counter({"recordings without a row in the metadata": len(without)})
        print_outcomes("metadata", outcomes, [])
