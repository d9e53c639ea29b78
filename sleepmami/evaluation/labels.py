"""What is known of embedded nights, from corpora and tables of people."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from sleepmami import storage
from sleepmami.errors import TableError
from sleepmami.evaluation.embeddings import ProbeNight
from sleepmami.psg import EventKind, ScoredEvent
from sleepmami.tables.arrays import list_values
from sleepmami.tables.demographics import Outcome, known_number
from sleepmami.tables.people.reader import read_people

_NUMBERS = ("age_years", "bmi", "ahi")
_PERSON = ("sex", *_NUMBERS)
_CORPUS_COLUMNS = (
    "recording_id",
    "subject_id",
    "cohort",
    "split",
    "num_epochs",
    *_PERSON,
    "outcomes",
)


def with_labels(
    nights: Sequence[ProbeNight], sources: Sequence[str], *, events: bool, montages: bool = False
) -> list[ProbeNight]:
    """Nights with what the sources know of them, which goes before what they already had.

    Args:
        nights: of `open_embeddings`.
        sources: corpora (folders with recordings.lance) and tables of people (docs/people.md); a
            corpus goes before a table of people, and an earlier one before a later one.
        events: also read scored events, which take long.
        montages: also say what the recorder is by its channels.

    Raises:
        TableError: a source that cannot be read or knows none of the nights, or a hypnogram of
            another length than the embedding.
    """
    corpora = [source for source in sources if _is_corpus(source)]
    tables = [source for source in sources if source not in corpora]
    known = list(nights)
    if tables:
        known = _with_people(known, tables)
    for corpus in reversed(corpora):
        extra = [*(["events"] if events else []), *(["channels"] if montages else [])]
        known = _with_corpus(known, corpus, extra)
    for night in known:
        if night.hypnogram is not None and len(night.hypnogram) != night.num_epochs:
            raise TableError(
                f"{night.recording_id}: found a hypnogram of {len(night.hypnogram)} epochs; "
                f"expected {night.num_epochs}, as the embedding has"
            )
    return known


def _is_corpus(source: str) -> bool:
    return storage.exists(storage.join(source, "recordings.lance"))


def _with_people(nights: Sequence[ProbeNight], tables: Sequence[str]) -> list[ProbeNight]:
    people = read_people(tables)
    found = [people.of(night.recording_id) for night in nights]
    if not any(found):
        raise TableError(
            f"{', '.join(tables)}: found nobody who slept in {len(nights)} nights such as "
            f"{nights[0].recording_id}; expected their names: pseudonyms are in no table of "
            "people, give the corpus instead"
        )
    return [
        night
        if person is None
        else _replaced(
            night,
            # the embedding's own subject is what its split was made of
            subject_id=person.subject_id if night.subject_id is None else None,
            outcomes=person.outcomes,
            **{name: getattr(person, name) for name in _PERSON},
        )
        for night, person in zip(nights, found, strict=True)
    ]


def _with_corpus(
    nights: Sequence[ProbeNight], corpus: str, extra: Sequence[str]
) -> list[ProbeNight]:
    from sleepmami.tables import lance_io  # tables of people are read without Lance

    columns = [*_CORPUS_COLUMNS, "hypnogram", *extra]
    uri = storage.join(corpus, "recordings.lance")
    table = lance_io.read_table(uri, columns, filter="rejected_code IS NULL")
    hypnograms = list_values(table.column("hypnogram"))
    rows = {}
    for row, hypnogram in zip(
        table.drop_columns(["hypnogram"]).to_pylist(), hypnograms, strict=True
    ):
        rows[row["recording_id"]] = row | {"hypnogram": hypnogram}
    if not any(night.recording_id in rows for night in nights):
        raise TableError(
            f"{uri}: found none of {len(nights)} nights such as {nights[0].recording_id}; "
            "expected the corpus that was embedded"
        )
    return [_with_row(night, rows.get(night.recording_id)) for night in nights]


def _with_row(night: ProbeNight, row: dict[str, Any] | None) -> ProbeNight:  # Any: cells
    if row is None:
        return night
    outcomes, events = row["outcomes"], row.get("events")
    return _replaced(
        night,
        subject_id=row["subject_id"],
        split=row["split"],
        cohort=row["cohort"],
        montage=montage_name(row["channels"]) if row.get("channels") else None,
        hypnogram=row["hypnogram"],
        events=None
        if events is None
        else tuple(ScoredEvent(**{**cells, "kind": EventKind(cells["kind"])}) for cells in events),
        outcomes=None if outcomes is None else tuple(_known_outcomes(outcomes)),
        **{name: row[name] for name in _PERSON},
    )


def _known_outcomes(cells: Sequence[Mapping[str, Any]]) -> Iterator[Outcome]:  # Any: cells
    """Without those of which the time or the end is not known: they are no follow-up."""
    for own in cells:
        if own["event"] is not None and known_number(own["time_days"]) is not None:
            yield Outcome(**own)


def montage_name(channels: Sequence[Mapping[str, Any]]) -> str:  # Any: cells
    """A short name that files of the same channels at the same rates share.

    It begins with the first EEG and its rate, for people.
    """
    told = sorted(f"{c['label']} {c['sample_rate_hz']:g}" for c in channels)
    digest = hashlib.sha256("\n".join(told).encode()).hexdigest()[:4]
    eeg = [c for c in channels if c["modality"] == "EEG"] or list(channels)
    return f"{eeg[0]['label']} {eeg[0]['sample_rate_hz']:g} Hz {digest}"


def _replaced(night: ProbeNight, **known: Any) -> ProbeNight:  # Any: values of several types
    known |= {name: known_number(known[name]) for name in _NUMBERS}
    return replace(night, **{name: value for name, value in known.items() if value is not None})
