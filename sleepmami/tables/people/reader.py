"""People from one or several tables, and the person whose night a recording is."""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from sleepmami.errors import TableError
from sleepmami.tables.demographics import Demographics
from sleepmami.tables.people import matching
from sleepmami.tables.people.csv_table import CsvTable, read_text
from sleepmami.tables.people.dialect import Dialect
from sleepmami.tables.people.dialects import dialect_of
from sleepmami.tables.people.entries import Entry, joined, without_subject
from sleepmami.tables.people.mapping import is_mapping, read_mapping

Source = str | os.PathLike[str] | bytes


class PeopleFile(NamedTuple):
    """A table that was read, for the closing account.

    Attributes:
        odd: what was wrong with the cells that could not be read, and are taken as not known.
    """

    file: str
    dialect: str
    num_rows: int
    odd: tuple[str, ...] = ()


class People:
    """Who slept; `len` is the number of rows after joining those of one person and visit.

    Attributes:
        files: what was read.
        ambiguous: recordings that were asked for and could be of several people.
    """

    def __init__(
        self, entries: Mapping[str, Entry] | None = None, files: Sequence[PeopleFile] = ()
    ) -> None:
        self._entries = dict(entries or {})
        self.files = tuple(files)
        self.ambiguous: set[str] = set()

    def __len__(self) -> int:
        return len(self._entries)

    def of(self, recording_id: str) -> Demographics | None:
        """The person of a recording, or None where no row is theirs or several could be.

        Args:
            recording_id: path of the recording below its folder, without the ending, as the
                cohort named it; a pseudonym is of nobody.

        Raises:
            TableError: a table of recordings and one of subjects contradict each other.
        """
        named = self._first(matching.recording_keys(recording_id))
        found: dict[str, Entry] = {}
        for keys in matching.keys_of(recording_id):
            entry = self._by_subject(keys)
            if entry is not None:
                found[entry.key] = entry
        if len(found) == 1:
            (by_subject,) = found.values()
            if named is None:
                return by_subject.person
            return joined(named, without_subject(by_subject)).person
        if named is not None:
            return named.person
        if found:
            self.ambiguous.add(recording_id)
        return None

    def _first(self, keys: Sequence[str]) -> Entry | None:
        return next((self._entries[key] for key in keys if key in self._entries), None)

    def _by_subject(self, keys: Sequence[str]) -> Entry | None:
        """The row of the first key; what a row of the person as such (no visit) knows is added."""
        rows = [self._entries[key] for key in keys if key in self._entries]
        if not rows:
            return None
        best = rows[0]
        for wider in rows[1:]:
            if best.person.age_years is not None:  # at this visit; the other is of any day
                person = dataclasses.replace(wider.person, age_years=None, age_top_coded=False)
                best = joined(best, dataclasses.replace(wider, person=person))
            else:
                best = joined(best, wider)
        return best


def read_people(sources: Sequence[Source], *, names: Sequence[str] | None = None) -> People:
    """Read tables of people, each in the dialect that its columns tell; docs/people.md lists them.

    Rows of one person (and visit) are joined over the files. A value that one file knows and
    another does not is taken; BMI and AHI are taken from the first file that knows them.

    Args:
        sources: paths, URIs or contents of tables, or of mappings (.yaml) that name a table. UTF-8
            or UTF-16 (with a byte order mark), separated by commas, semicolons or tabs; a decimal
            comma is read where it cannot be a separator.
        names: what errors call each source; default its path.

    Raises:
        TableError: naming file, line and column, what was found and what was expected; two files
            differ in sex, in age by more than a year, or in an outcome. A cell that cannot be read
            is no error unless a fifth of its column cannot: `PeopleFile.odd` tells of it.
        ConfigError: a mapping with an unknown key or a wrong value.
    """
    if isinstance(sources, str | bytes | os.PathLike):
        sources = [sources]  # a path is a sequence, too
    if names is not None and len(names) != len(sources):
        raise ValueError(f"expected a name for each of {len(sources)} sources, got {len(names)}")
    entries: dict[str, Entry] = {}
    files = []
    for index, source in enumerate(sources):
        name = names[index] if names else _name_of(source)
        dialect, table = _open(source, name)
        rows = _rows_of(dialect, table)
        for key, entry in rows.items():
            entries[key] = joined(entries[key], entry) if key in entries else entry
        odd = tuple(str(error) for errors in table.odd.values() for error in errors)
        files.append(PeopleFile(table.file, dialect.name, len(rows), odd))
    return People(entries, files)


def _name_of(source: Source) -> str:
    return "demographics" if isinstance(source, bytes) else os.fspath(source)


def _open(source: Source, name: str) -> tuple[Dialect, CsvTable]:
    text = read_text(source, name)
    if not is_mapping(name):
        return dialect_of(name, text)
    mapping = read_mapping(text, name)
    table = CsvTable(mapping.file, read_text(mapping.file, mapping.file))
    return mapping.dialect(table), table


def _rows_of(dialect: Dialect, table: CsvTable) -> dict[str, Entry]:
    rows: dict[str, Entry] = {}
    for entry in dialect.entries(table):
        if entry.key in rows:
            first = rows[entry.key].places[0].rsplit(": ", 1)[1]
            raise TableError(
                f"{entry.places[0]}, column {entry.column!r}: found "
                f"{entry.key.split('=', 1)[1]!r}; expected one row each, but {first} has it too"
            )
        rows[entry.key] = entry
    return rows
