"""EDF folder -> recordings.lance and segments.lance; one Ray Data task per file.

Every file ends as exactly one row of recordings.lance: ingested, or rejected with a code and a
reason. A night becomes visible when its row in recordings.lance is committed; segments are
committed first, so that an interrupted run leaves at most segments without a recording, which the
next run deletes before it starts. One ingest at a time may write to a corpus.
"""

from __future__ import annotations

import functools
import json
import posixpath
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import pyarrow as pa

from pipelines.ingest_file import (
    IngestItem,
    IngestResult,
    KnownRecording,
    ingest_file,
    lost_file,
    table_uris,
)
from pipelines.progress import print_outcomes, stage
from pipelines.ray_data import map_each
from pipelines.ray_session import require_cluster
from sleepmami import storage
from sleepmami.config import IngestConfig
from sleepmami.config_edit import to_dict
from sleepmami.errors import TableError
from sleepmami.signals.annotations import pair_annotations
from sleepmami.tables import lance_io
from sleepmami.tables.demographics import Demographics, demographics_of, read_demographics
from sleepmami.tables.schemas import RECORDINGS, SEGMENTS, provenance

RECORDING_SUFFIXES = (".edf", ".bdf", ".rec")  # of files alike but for this, the first comes first
ANNOTATION_SUFFIXES = (".xml", ".edf", ".bdf")
MAX_NOTES = 50  # printed; a whole cohort may have the same oddity
ONE_PER_CORPUS = ("preprocess", "split")  # settings that all nights of a corpus share


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


def ingest(
    edf_folder: str,
    corpus: str,
    config: IngestConfig,
    *,
    metadata: str | None = None,
    annotations: str | None = None,
) -> IngestSummary:
    """Bring every EDF below a folder into a corpus; running it again adds nothing twice.

    Needs a Ray session. A file whose content is in the corpus is not preprocessed again, but its
    row takes over new metadata and a new scoring. One whose content changed replaces its night.

    Args:
        edf_folder: folder or URI, searched recursively.
        corpus: folder or URI of the tables.
        config: cohort name, preprocessing, split.
        metadata: CSV with age, sex and BMI per recording; see docs/data.md.
        annotations: folder of scorings; without it they are looked for beside the EDFs.

    Raises:
        ConfigError: no node of the cluster has the CPUs that a task needs.
        TableError: the corpus was made with other settings or holds one of the recordings for
            another cohort, the metadata CSV cannot be used, or no recording was found.
    """
    recordings_uri, segments_uri = table_uris(corpus)
    _require_same_settings(recordings_uri, config)
    known = _known_recordings(recordings_uri)
    people = read_demographics(metadata) if metadata else {}
    items = plan(edf_folder, annotations, people, known)
    if not items:
        raise TableError(
            f"{edf_folder}: found no file ending in {RECORDING_SUFFIXES}; expected EDFs"
        )
    _require_same_cohort(corpus, items, config.cohort)
    require_cluster(config.num_cpus_per_task, 0, "ingest", settings="num_cpus_per_task")
    _delete_orphan_segments(segments_uri, known)

    committer = _Committer(recordings_uri, segments_uri, config)
    with stage("ingest", len(items), unit="files") as advance:
        for result in _results(items, corpus, config):
            committer.add(result)
            advance(1, result.recording_id)
        committer.flush()
    _print_account(committer.summary, [edf_folder, annotations or edf_folder])
    _print_unmatched(items, metadata, annotations)
    return committer.summary


# ---------------------------------------------------------------------------------- before the run


def _require_same_settings(recordings_uri: str, config: IngestConfig) -> None:
    if not lance_io.exists(recordings_uri):
        return
    stored = json.loads(lance_io.metadata(recordings_uri)["config"])
    asked = to_dict(config)
    changed = [
        f"{group}.{name}={stored[group].get(name)!r}"
        for group in ONE_PER_CORPUS
        for name, value in asked[group].items()
        if stored[group].get(name) != value
    ]
    if changed:
        raise TableError(
            f"{recordings_uri}: found nights ingested with {', '.join(changed)}; expected the same "
            "settings in all of a corpus: use these or a new CORPUS"
        )


def _known_recordings(recordings_uri: str) -> dict[str, KnownRecording]:
    if not lance_io.exists(recordings_uri):
        return {}
    columns = ["recording_id", "cohort", "source_sha256", "rejected_code"]
    version = lance_io.version(recordings_uri)
    table = lance_io.read_table(recordings_uri, columns, schema=RECORDINGS, version=version)
    return {
        row.pop("recording_id"): KnownRecording(row=number, version=version, **row)
        for number, row in enumerate(table.to_pylist())
    }


def _require_same_cohort(corpus: str, items: Sequence[IngestItem], cohort: str) -> None:
    """Two cohorts may call different nights the same, and one would replace the other."""
    others = [item for item in items if item.known and item.known.cohort != cohort]
    if others and others[0].known:
        raise TableError(
            f"{corpus}: found {len(others)} of these recordings in another cohort, such as "
            f"{others[0].recording_id!r} in {others[0].known.cohort!r}; expected them in "
            f"{cohort!r}: name that cohort, use a new CORPUS, or rename the files"
        )


def _delete_orphan_segments(segments_uri: str, known: Mapping[str, KnownRecording]) -> None:
    if not lance_io.exists(segments_uri):
        return
    firsts = lance_io.read_table(
        segments_uri, columns=["recording_id"], filter="segment_index = 0", schema=SEGMENTS
    )
    nights = {name for name, recording in known.items() if recording.rejected_code is None}
    orphans = set(firsts.column("recording_id").to_pylist()) - nights
    lance_io.delete_recordings(segments_uri, sorted(orphans))


# ------------------------------------------------------------------------------------- what to do


def plan(
    edf_folder: str,
    annotations: str | None,
    people: Mapping[str, Demographics],
    known: Mapping[str, KnownRecording],
) -> list[IngestItem]:
    """One item per recording below a folder; a file that scores another recording is none."""
    found = storage.list_files(edf_folder, RECORDING_SUFFIXES)
    scorings = storage.list_files(annotations or edf_folder, ANNOTATION_SUFFIXES)
    annotation_of = pair_annotations(found, scorings)
    scoring_files = set(annotation_of.values())
    files = [file for file in found if file not in scoring_files]
    items = []
    for file, recording_id in recording_ids(files, edf_folder).items():
        person = demographics_of(_without_ending(recording_id), people)
        items.append(
            IngestItem(
                file=file,
                recording_id=recording_id,
                annotation=annotation_of[file],
                demographics=person,
                known=known.get(recording_id),
            )
        )
    return items


def recording_ids(files: Sequence[str], folder: str) -> dict[str, str]:
    """The name of each file below a folder: its relative path without the ending.

    Where files differ by the ending alone (night.edf and night.bdf), the one whose ending comes
    first in RECORDING_SUFFIXES has the short name and the others keep their ending.
    """
    base = storage.absolute(folder)
    paths = {file: file.removeprefix(base).lstrip("/") for file in files}
    full_names = set(paths.values())
    taken: set[str] = set()
    ids = {}
    for file in sorted(files, key=_suffix_rank):
        short = _without_ending(paths[file])
        free = short not in taken and short not in full_names
        ids[file] = short if free else paths[file]
        taken.add(ids[file])
    return {file: ids[file] for file in files}


def _without_ending(path: str) -> str:
    stem, ending = posixpath.splitext(path)
    return stem if ending.lower() in RECORDING_SUFFIXES else path


def _suffix_rank(file: str) -> tuple[int, str]:
    return RECORDING_SUFFIXES.index(posixpath.splitext(file)[1].lower()), file


# ---------------------------------------------------------------------------------- during the run


def _results(
    items: Sequence[IngestItem], corpus: str, config: IngestConfig
) -> Iterator[IngestResult]:
    settings = to_dict(config)
    return map_each(
        items,
        functools.partial(ingest_file, corpus=corpus, config=settings),
        lost=functools.partial(lost_file, config=settings),
        num_cpus=config.num_cpus_per_task,
    )


class _Committer:
    """Makes finished nights visible, `nights_per_commit` at a time, and keeps the account."""

    def __init__(self, recordings_uri: str, segments_uri: str, config: IngestConfig) -> None:
        self.summary = IngestSummary()
        self._recordings_uri = recordings_uri
        self._segments_uri = segments_uri
        self._batch: list[IngestResult] = []
        self._size = config.nights_per_commit
        self._metadata = provenance(to_dict(config))

    def add(self, result: IngestResult) -> None:
        self.summary.outcomes[result.outcome] += 1
        for said, lines in (
            (result.problem, self.summary.details),
            (result.note, self.summary.notes),
        ):
            if said:
                lines.append((said.file, said.code, said.reason))
        if result.row is not None:
            self._batch.append(result)
        if len(self._batch) >= self._size:
            self.flush()

    def flush(self) -> None:
        if not self._batch:
            return
        self._require_alone()
        for uri, replaced in (
            (self._recordings_uri, [r.recording_id for r in self._batch if r.replaces_row]),
            (self._segments_uri, [r.recording_id for r in self._batch if r.replaces_segments]),
        ):
            lance_io.delete_recordings(uri, replaced)
        fragments = [fragment for result in self._batch for fragment in result.segments]
        lance_io.commit(self._segments_uri, fragments, SEGMENTS, metadata=self._metadata)
        rows = pa.concat_tables([r.row for r in self._batch])
        lance_io.commit(
            self._recordings_uri,
            lance_io.write_fragments(rows, self._recordings_uri, RECORDINGS),
            RECORDINGS,
            metadata=self._metadata,
        )
        self._batch = []

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


# ----------------------------------------------------------------------------------- after the run


def _print_account(summary: IngestSummary, folders: Sequence[str]) -> None:
    """Counts by outcome; then what is unusual and what could not be used, file by file."""
    print_outcomes("ingest", summary.outcomes, [])
    bases = [storage.absolute(folder) + "/" for folder in folders]
    for title, lines, shown in (
        ("used, though unusual", summary.notes, MAX_NOTES),
        ("not used", summary.details, None),
    ):
        details = [
            (next((file.removeprefix(b) for b in bases if file.startswith(b)), file), code, text)
            for file, code, text in sorted(lines)
        ]
        if details:
            print_outcomes(title, Counter(code for _, code, _ in details), details[:shown])


def _print_unmatched(
    items: Sequence[IngestItem], metadata: str | None, annotations: str | None
) -> None:
    """An option that was given and does not say anything about some recordings."""
    for title, given, without in (
        ("metadata", metadata, sum(item.demographics is None for item in items)),
        ("annotations", annotations, sum(item.annotation is None for item in items)),
    ):
        if given and without:
            matched = len(items) - without
            print_outcomes(title, Counter({"matched": matched, "not matched": without}), [])
