"""What an ingest has to do: which files are recordings, what they are called, what is known.

All of it is decided on the driver from listings and stored rows, without opening a recording: a
cohort that is in the corpus already costs no task. The site key ends here; tasks get names that are
pseudonyms already.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from pipelines.progress import print_new_key
from pipelines.recording_names import RECORDING_SUFFIXES, names_of, without_ending
from sleepmami import storage
from sleepmami.config import IngestConfig
from sleepmami.errors import ConfigError, RecordingCode, SleepMaMiError
from sleepmami.signals.pairing import (
    ANNOTATION_SUFFIXES,
    pair_annotations,
    second_annotations,
)
from sleepmami.tables import lance_io
from sleepmami.tables.demographics import Demographics, person_cells
from sleepmami.tables.pseudonyms import SiteKey
from sleepmami.tables.schemas import ANY_RECORDINGS, RECORDINGS

INTERNAL_ERROR = SleepMaMiError.code
TRY_AGAIN = (INTERNAL_ERROR, RecordingCode.UNREADABLE.value)  # not the content's fault
STAMPS_SEPARATOR = "-"
_PERSON = tuple(person_cells(None))

PersonOf = Callable[[str], Demographics | None]
Rank = tuple[bool, bool, bool, str]


@dataclass(frozen=True, kw_only=True, slots=True)
class KnownRecording:
    """What the corpus holds of a recording: the row at a position of a version of the table."""

    row: int
    version: int
    recording_id: str
    cohort: str
    subject_id: str
    source_hash: str | None
    source_stamp: str | None
    signals_digest: str | None
    rejected_code: str | None
    rejected_reason: str | None
    person: Mapping[str, Any]  # Any: the values of `person_cells`
    has_stages: bool = False
    has_events: bool = False

    @property
    def has_night(self) -> bool:
        """Whether segments.lance holds it."""
        return self.rejected_code is None

    @property
    def is_copy(self) -> bool:
        """Whether it was rejected because another recording has its signals."""
        return self.rejected_code == RecordingCode.DUPLICATE_RECORDING

    @property
    def rank(self) -> Rank:
        """Its place among the recordings of the same night."""
        someone = knows_somebody(self.recording_id, self.subject_id, self.person)
        return rank(self.recording_id, self.has_stages, self.has_events, someone)

    @property
    def stamps(self) -> tuple[str, str]:
        """(of the EDF, of the scoring that was read); empty where not known."""
        edf, _, scoring = (self.source_stamp or "").partition(STAMPS_SEPARATOR)
        return edf, scoring


@dataclass(frozen=True, kw_only=True, slots=True)
class IngestItem:
    """One recording: where it is, what scores it, whose it is, and what is known of it.

    Attributes:
        file: where it is.
        recording_id: what tables call it.
        subject_id: what tables call the person.
        annotation: the scorer's file.
        second: another file of the scorer, asked for what the first does not say.
        demographics: without the subject's own name, which `subject_id` stands for.
        known: its row in the corpus.
        stamp: of `file`, from the listing.
        annotation_stamp: of `annotation` and `second`.
        again: make the night again from the same content.
        rehash: believe no stamp.
        nameable: whether the file's name is UTF-8; if not, `file` is how it is shown to people.
    """

    file: str
    recording_id: str
    subject_id: str
    annotation: str | None
    demographics: Demographics | None
    known: KnownRecording | None
    second: str | None = None
    stamp: str = ""
    annotation_stamp: str = ""
    again: bool = False
    rehash: bool = False
    nameable: bool = True

    @property
    def same_file(self) -> bool:
        """Whether size and time of change say that the EDF is the one in the corpus."""
        known = self.known
        return known is not None and bool(self.stamp) and known.stamps[0] == self.stamp

    @property
    def is_copy(self) -> bool:
        """Whether the corpus says that another recording has its signals."""
        return self.known is not None and self.known.is_copy

    @property
    def is_refused(self) -> bool:
        """Whether the file was rejected for what it is, and not as a copy."""
        return self.known is not None and not self.known.has_night and not self.is_copy

    def stays(self, same_facts: bool) -> bool:
        """Whether it can stay as it is in the corpus; `same_facts` of its person and scoring."""
        if self.known is None or not self.nameable:
            return self.known is not None
        if not self.same_file or self.known.rejected_code in TRY_AGAIN:
            return False
        return self.is_refused or same_facts

    @property
    def same_scoring(self) -> bool:
        """Whether there is nothing new to learn from the scorer's file."""
        if self.annotation is None or self.known is None:
            return self.annotation is None
        return bool(self.annotation_stamp) and self.known.stamps[1] == self.annotation_stamp


@dataclass(frozen=True, kw_only=True, slots=True)
class Names:
    """How recordings and subjects are called; `key` is None where they keep their files' names."""

    key: SiteKey | None

    @classmethod
    def load(cls, config: IngestConfig, site_key: str | None) -> Names:
        """ConfigError when there is no key, or one that would have no effect."""
        if config.recording_ids == "pseudonym":
            key = SiteKey.load(site_key)
            print_new_key(key.made)
            return cls(key=key)
        if site_key is not None:
            raise ConfigError(
                f"site key {site_key}: has no effect with recording_ids={config.recording_ids!r}"
            )
        return cls(key=None)

    @property
    def fingerprint(self) -> str:
        """Of the key; empty without one."""
        return self.key.fingerprint if self.key else ""

    def recording(self, name: str) -> str:
        """The recording_id of what is called so below its folder."""
        return self.key.pseudonym("recording", name) if self.key else name

    def subject(self, name: str) -> str:
        """The subject_id of whom the metadata call so."""
        return self.key.pseudonym("subject", name) if self.key else name


def known_recordings(recordings_uri: str) -> dict[str, KnownRecording]:
    """All rows of a corpus, by recording_id; none where there is no corpus."""
    if not lance_io.exists(recordings_uri):
        return {}
    made_here = {"row", "version", "person", "has_stages", "has_events"}
    fields = {f.name for f in dataclasses.fields(KnownRecording)} - made_here
    version = lance_io.version(recordings_uri)
    table = lance_io.read_table(
        recordings_uri, [*sorted(fields), *_PERSON], schema=ANY_RECORDINGS, version=version
    )
    staged, marked = (
        _names_with(column, recordings_uri, version) for column in ("hypnogram", "events")
    )
    known = {}
    for number, row in enumerate(table.to_pylist()):
        person, name = {column: row.pop(column) for column in _PERSON}, row["recording_id"]
        known[name] = KnownRecording(
            row=number,
            version=version,
            person=person,
            has_stages=name in staged,
            has_events=name in marked,
            **row,
        )
    return known


def rank(recording_id: str, has_stages: bool, has_events: bool, has_person: bool) -> Rank:
    """Of recordings of the same night, the one with the smallest rank has it in the corpus.

    A night keeps its scoring and its person also where it was found again without them; the name
    decides the rest, so that it never depends on which was read first.
    """
    return not has_stages, not has_events, not has_person, recording_id


def knows_somebody(recording_id: str, subject_id: str, person: Mapping[str, Any]) -> bool:
    """Whether metadata say anything of who slept; `person` has the cells of `person_cells`."""
    return subject_id != recording_id or any(value is not None for value in person.values())


def _names_with(column: str, recordings_uri: str, version: int) -> set[str]:
    """Of the recordings that have a value there; the values themselves are not read."""
    rows = lance_io.read_table(
        recordings_uri, ["recording_id"], f"{column} IS NOT NULL", version=version
    )
    return set(rows.column(0).to_pylist())


def plan(
    edf_folder: str,
    annotations: str | None,
    person_of: PersonOf,
    known: Mapping[str, KnownRecording],
    names: Names,
) -> list[IngestItem]:
    """One item per recording below a folder; a file that scores another recording is none."""
    stamps = storage.list_stamps(edf_folder, RECORDING_SUFFIXES, any_name=True)
    scorings = storage.list_stamps(annotations or edf_folder, ANNOTATION_SUFFIXES, any_name=True)
    scorings = {file: stamp for file, stamp in scorings.items() if storage.is_nameable(file)}
    annotation_of = pair_annotations(list(stamps), list(scorings))
    second_of = second_annotations(list(stamps), list(scorings))
    scoring_files = set(annotation_of.values())
    files = [file for file in stamps if file not in scoring_files]
    items = []
    for file, name in recording_names(files, edf_folder).items():
        person, annotation = person_of(without_ending(name)), annotation_of[file]
        second = second_of[file] if second_of[file] != annotation else None
        scored_by = [path for path in (annotation, second) if path]
        recording_id = names.recording(name)
        named = person.subject_id if person else None
        items.append(
            IngestItem(
                file=storage.shown(file),
                nameable=storage.is_nameable(file),
                recording_id=recording_id,
                subject_id=names.subject(named) if named else recording_id,
                annotation=annotation,
                demographics=person and dataclasses.replace(person, subject_id=None),
                known=known.get(recording_id),
                second=second,
                stamp=stamps[file],
                annotation_stamp="+".join(scorings[path] for path in scored_by),
            )
        )
    return items


def recording_names(files: Sequence[str], folder: str) -> dict[str, str]:
    """The name of each file below a folder; see `names_of`."""
    base = storage.absolute(folder)
    paths = {file: file.removeprefix(base).lstrip("/") for file in files}
    names = names_of(list(paths.values()))
    taken = {name for name in names.values() if storage.is_nameable(name)}
    for path, name in names.items():
        if not storage.is_nameable(name):
            names[path] = _fresh(storage.shown(name), taken)
    return {file: names[path] for file, path in paths.items()}


def _fresh(name: str, taken: set[str]) -> str:
    """The name with as many signs added as make it another than those taken, and taken itself."""
    while name in taken:
        name += "'"
    taken.add(name)
    return name


def same_facts(items: Sequence[IngestItem]) -> Iterator[bool]:
    """Per item whether the corpus knows its person and its scoring, by metadata and stamps."""
    for item, same_person in zip(items, _same_person(items), strict=True):
        yield same_person and item.same_scoring


def _same_person(items: Sequence[IngestItem]) -> Iterator[bool]:
    """Per item whether the metadata say what the corpus says, or nothing."""
    schema = pa.schema([RECORDINGS.field(name) for name in _PERSON])
    cells = [person_cells(item.demographics) for item in items]
    stored = pa.Table.from_pylist(cells, schema=schema).to_pylist()  # in the table's precision
    for item, person in zip(items, stored, strict=True):
        there = item.known
        yield item.demographics is None or (
            there is not None and there.person == person and there.subject_id == item.subject_id
        )
