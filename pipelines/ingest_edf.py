"""EDF folder -> recordings.lance and segments.lance; one Ray Data task per file.

Every file ends as exactly one row of recordings.lance: ingested, or rejected with a code and a
reason. A night becomes visible when its row in recordings.lance is committed; segments are
committed first, so that an interrupted run leaves at most segments without a recording, which the
next run deletes before it starts. One ingest at a time may write to a corpus.

Where recordings have pseudonyms, nothing that is stored, printed or logged names a file or quotes
what a file says.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import itertools
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence

from pipelines.ingest_commit import Committer, IngestSummary
from pipelines.ingest_file import (
    IngestResult,
    Outcome,
    ingest_file,
    lost_file,
    misnamed_file,
    table_uris,
)
from pipelines.ingest_plan import (
    IngestItem,
    KnownRecording,
    Names,
    PersonOf,
    known_recordings,
    plan,
    same_facts,
)
from pipelines.progress import Advance, console, print_outcomes, stage
from pipelines.ray_data import map_each
from pipelines.ray_session import ray_session, require_cluster
from pipelines.recording_names import RECORDING_SUFFIXES
from sleepmami import storage
from sleepmami.config import IngestConfig
from sleepmami.config_edit import to_dict
from sleepmami.errors import TableError
from sleepmami.tables import lance_io
from sleepmami.tables.file_checksums import FileChecksums
from sleepmami.tables.people.reader import People, read_people
from sleepmami.tables.pseudonyms import require_outside, write_linkage

MAX_PLACES = 5  # of odd cells, printed for each table of people
MAX_NOTES = 50  # printed; a whole cohort may have the same oddity
ONE_PER_CORPUS = ("preprocess", "split")  # settings that all nights of a corpus share
# ... but not what labels mean in a laboratory, nor which files are used at all
PER_RUN = ("channels", "truncated", "min_duration_s", "max_duration_h")
HINT = "`sleepmami ids EDF_DIR` says which file is which, `sleepmami inspect FILE` what was found"


def ingest(
    edf_folder: str,
    corpus: str,
    config: IngestConfig,
    *,
    metadata: str | Sequence[str] | None = None,
    annotations: str | None = None,
    site_key: str | None = None,
    linkage: str | None = None,
    rehash: bool = False,
    retry: bool = False,
    address: str | None = None,
) -> IngestSummary:
    """Bring every EDF below a folder into a corpus; running it again adds nothing twice.

    A file whose size and time of change are those of the last run is not read
    again, and one whose content is in the corpus not preprocessed, but its row takes over new
    metadata and a new scoring. One whose content changed replaces its night. Of several recordings
    with the same signals, one with a scoring has the night, then one of a known person, then the
    one whose id sorts first.

    Args:
        edf_folder: folder or URI, searched recursively.
        corpus: folder or URI of the tables.
        config: cohort name, preprocessing, split.
        metadata: tables of people: age, sex, BMI, outcomes; see docs/people.md.
        annotations: folder of scorings; without it they are looked for beside the EDFs.
        site_key: file of the key that pseudonyms are made with; see `tables.pseudonyms`.
        linkage: write here which file has which pseudonym, as CSV, for its owner alone.
        rehash: read every byte of every file again.
        retry: try rejected files again, as a new channel file makes worth while.
        address: as in `ray_session`, which is entered only when there is something to read.

    Raises:
        ConfigError: no node of the cluster has the CPUs that a task needs, or there is no good key.
        TableError: the corpus was made with other settings or another key, or holds one of the
            recordings for another cohort, the metadata cannot be used, or no recording was
            found.
    """
    names = Names.load(config, site_key)
    if site_key is not None:
        require_outside(site_key, corpus, "site key")
    if linkage is not None:
        require_outside(linkage, corpus, "linkage")
    recordings_uri, segments_uri = table_uris(corpus)
    _require_same_settings(recordings_uri, config, names)
    known = known_recordings(recordings_uri)
    people = _people(metadata)
    items = _items(edf_folder, annotations, people.of, known, names)
    _require_same_cohort(corpus, items, config.cohort)
    if linkage is not None:
        write_linkage(linkage, corpus, _pairs(items))
    checksums = FileChecksums(corpus)
    checksums.require_sound()
    _delete_orphan_segments(segments_uri, known)
    checksums.heal()

    committer = Committer(corpus, config, known, checksums, names.fingerprint)
    again = rehash or retry
    misnamed = [i for i in items if not i.nameable and (again or i.known is None)]
    others = [i for i in items if i.nameable or not (again or i.known is None)]
    left, to_read = _sorted_out(others, committer, rehash=rehash, retry=retry)
    with _says_what_stays(), contextlib.ExitStack() as session:

        def read(some: Sequence[IngestItem]) -> Iterator[IngestResult]:
            return _results(some, corpus, config, lambda: _join(session, address, config))

        refused = (misnamed_file(item, config) for item in misnamed)
        results = itertools.chain(
            refused, read(to_read)
        )  # a private cluster takes seconds to start, which is no progress
        with stage("ingest", len(items), unit="files") as advance:
            _bring_in(items, left, results, read, committer, advance)
    summary = committer.summary()
    _print_account(summary, [edf_folder, annotations or edf_folder])
    kept = sum(item.known is not None and item.known.has_night for item in left)
    if kept and config.preprocess.channels:
        console.print(
            f"channels: {kept} nights keep the channels that they were ingested with; what labels "
            "mean counts for new and changed files, and with --retry for rejected ones"
        )
    absent = len(known.keys() - {item.recording_id for item in items})
    if absent:
        console.print(
            f"in the corpus, but not in {edf_folder}: {absent} recordings, left as they are"
        )
    if names.key and (summary.details or summary.notes):
        console.print(HINT)
    _print_unmatched(items, people if metadata else None, annotations)
    return summary


def recording_ids(
    edf_folder: str,
    config: IngestConfig,
    *,
    metadata: str | Sequence[str] | None = None,
    annotations: str | None = None,
    site_key: str | None = None,
) -> list[tuple[str, str, str]]:
    """(file, recording_id, subject_id) of what an ingest would read; nothing is opened or stored.

    The metadata say who a subject is: without them each recording is a subject of its own.

    Raises:
        ConfigError: there is no good key.
        TableError: the metadata cannot be used, or no recording was found.
    """
    names = Names.load(config, site_key)
    return _pairs(_items(edf_folder, annotations, _people(metadata).of, {}, names))


def _pairs(items: Sequence[IngestItem]) -> list[tuple[str, str, str]]:
    return [(item.file, item.recording_id, item.subject_id) for item in items]


# ---------------------------------------------------------------------------------- before the run


def _people(metadata: str | Sequence[str] | None) -> People:
    return read_people(metadata) if metadata else People()


def _items(
    edf_folder: str,
    annotations: str | None,
    person_of: PersonOf,
    known: Mapping[str, KnownRecording],
    names: Names,
) -> list[IngestItem]:
    items = plan(edf_folder, annotations, person_of, known, names)
    if not items:
        raise TableError(
            f"{edf_folder}: found no file ending in {RECORDING_SUFFIXES}; expected EDFs"
        )
    return items


def _require_same_settings(recordings_uri: str, config: IngestConfig, names: Names) -> None:
    if not lance_io.exists(recordings_uri):
        return
    stored = json.loads(lance_io.metadata(recordings_uri)["config"])
    asked = to_dict(config)
    changed = [
        f"{group}.{name}={stored[group].get(name)!r}"
        for group in ONE_PER_CORPUS
        for name, value in asked[group].items()
        if stored[group].get(name) != value and name not in PER_RUN
    ]
    if stored["recording_ids"] != asked["recording_ids"]:
        changed.append(f"recording_ids={stored['recording_ids']!r}")
    if changed:
        raise TableError(
            f"{recordings_uri}: found nights ingested with {', '.join(changed)}; expected the same "
            "settings in all of a corpus: use these or a new CORPUS"
        )
    if stored["site_key"] != names.fingerprint:
        raise TableError(
            f"{recordings_uri}: found pseudonyms made with the site key {stored['site_key']}; "
            f"expected that key, but yours is {names.fingerprint}, which would call each recording "
            "something else: use the corpus's key or a new CORPUS"
        )


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
    firsts = lance_io.read_table(segments_uri, columns=["recording_id"], filter="segment_index = 0")
    nights = {name for name, recording in known.items() if recording.has_night}
    orphans = set(firsts.column("recording_id").to_pylist()) - nights
    lance_io.delete_recordings(segments_uri, sorted(orphans))


# ---------------------------------------------------------------------------------- during the run


def _sorted_out(
    items: Sequence[IngestItem], committer: Committer, *, rehash: bool, retry: bool
) -> tuple[list[IngestItem], list[IngestItem]]:
    """(what can stay as it is in the corpus, what has to be read)."""
    left, to_read = [], []
    for item, same in zip(items, same_facts(items), strict=True):
        again = committer.lacks_original(item.recording_id) or (retry and item.is_refused)
        again = again or (item.is_copy and not same)  # it may be the better one to have the night
        if item.stays(same) and not again and not rehash:
            left.append(item)
        else:
            to_read.append(dataclasses.replace(item, again=again, rehash=rehash))
    return left, to_read


def _bring_in(
    items: Sequence[IngestItem],
    left: Sequence[IngestItem],
    results: Iterator[IngestResult],
    read: Callable[[Sequence[IngestItem]], Iterator[IngestResult]],
    committer: Committer,
    advance: Advance,
) -> None:
    """Commit what was read."""
    for item in left:
        committer.add(_left(item))
        advance(1, item.recording_id)
    for result in results:
        committer.add(result)
        advance(1, result.recording_id)
    committer.settle()
    # what was left as a copy of a night that this run has replaced or given to another
    orphans = [item for item in items if committer.lacks_original(item.recording_id)]
    orphans = [dataclasses.replace(item, again=True) for item in orphans]
    for result in read(orphans):
        committer.add(result)
    committer.settle()
    committer.name_originals()


def _join(session: contextlib.ExitStack, address: str | None, config: IngestConfig) -> None:
    session.enter_context(ray_session(address))
    require_cluster(config.num_cpus_per_task, 0, "ingest", settings="num_cpus_per_task")


def _results(
    items: Sequence[IngestItem], corpus: str, config: IngestConfig, join: Callable[[], None]
) -> Iterator[IngestResult]:
    """Read files with Ray, which is joined at once, and only when there are any."""
    if not items:
        return iter(())
    join()
    settings = to_dict(config)
    return map_each(
        items,
        functools.partial(ingest_file, corpus=corpus, config=settings),
        lost=functools.partial(lost_file, config=settings),
        num_cpus=config.num_cpus_per_task,
    )


@contextlib.contextmanager
def _says_what_stays() -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        console.print("ingest: interrupted; nights committed so far stay, the next run goes on")
        raise


def _left(item: IngestItem) -> IngestResult:
    """The result of a file that need not be read."""
    left_out = item.known is not None and not item.known.has_night
    return IngestResult(
        file=item.recording_id,
        recording_id=item.recording_id,
        outcome=Outcome.REJECTED_EARLIER if left_out else Outcome.UNCHANGED,
    )


# ----------------------------------------------------------------------------------- after the run


def _print_account(summary: IngestSummary, folders: Sequence[str]) -> None:
    """Counts by outcome; then what is unusual and what could not be used, file by file."""
    print_outcomes("ingest", summary.outcomes, [])
    if summary.outcomes[Outcome.REJECTED_EARLIER]:
        console.print(
            "rejected earlier: recordings.lance says why (rejected_reason), --retry tries again"
        )
    bases = [storage.absolute(folder) + "/" for folder in folders]
    for title, lines, shown in (
        ("used, though unusual", summary.notes, MAX_NOTES),
        ("not used", summary.details, None),
    ):
        details = [
            (next((file.removeprefix(b) for b in bases if file.startswith(b)), file), code, text)
            for file, code, text in sorted(lines, key=lambda line: (line[1], line[0]))
        ]
        if details:
            print_outcomes(title, Counter(code for _, code, _ in details), details[:shown])


def _print_unmatched(
    items: Sequence[IngestItem], people: People | None, annotations: str | None
) -> None:
    """Metadata, or scorings, that do not say anything about some recordings."""
    for file in people.files if people else ():
        if file.odd:  # where, not what: a cell of such a table may be anything
            places = "; ".join(text.partition(": found ")[0] for text in file.odd[:MAX_PLACES])
            more = "; ..." if len(file.odd) > MAX_PLACES else ""
            console.print(f"metadata: {len(file.odd)} cells taken as unknown: {places}{more}")
    ambiguous = len(people.ambiguous) if people else 0
    scored = annotations is not None or any(item.annotation for item in items)
    for title, given, without in (
        ("metadata", people is not None, sum(item.demographics is None for item in items)),
        ("annotations", scored, sum(item.annotation is None for item in items)),
    ):
        if given and without:
            counts = {"matched": len(items) - without, "not matched": without}
            if title == "metadata":
                counts["of several people"] = ambiguous
            print_outcomes(title, Counter(counts), [])
