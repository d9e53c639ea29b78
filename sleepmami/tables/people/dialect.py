"""What a dialect is: how to know a table of people by its columns, and how to read its rows."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from sleepmami.tables.demographics import Demographics
from sleepmami.tables.people.csv_table import UNKNOWN, CsvTable, Row, RowError
from sleepmami.tables.people.entries import Entry


@dataclass(frozen=True, kw_only=True, slots=True)
class Dialect:
    """One way to write a table of people.

    Attributes:
        name: for the closing account.
        matches: whether a table's header is of this dialect.
        columns: those that are read.
        entry: a row's entry, several for a row of several visits, or None for one of no recording.
        unknown: more words for an unknown value.
    """

    name: str
    matches: Callable[[CsvTable], bool]
    columns: frozenset[str]
    entry: Callable[[Row, CsvTable], Entry | tuple[Entry, ...] | None]
    unknown: frozenset[str] = frozenset()

    def entries(self, table: CsvTable) -> Iterator[Entry]:
        """Every person of the table; TableError where many cells of a column cannot be right."""
        table.unknown = UNKNOWN | self.unknown
        for row in table.rows(self.columns):
            try:
                entry = self.entry(row, table)
            except RowError as error:
                table.odd.setdefault(error.column, []).append(error)
                continue
            if isinstance(entry, tuple):
                yield from entry
            elif entry is not None:
                yield entry
        table.require_few_odd()


def needs(*columns: str) -> Callable[[CsvTable], bool]:
    """Matches tables that have all the columns."""
    return lambda table: set(columns) <= set(table.header)


def entry_of(row: Row, table: CsvTable, key: str, column: str, person: Demographics) -> Entry:
    """The entry of a row; `column` is the one that its id stands in."""
    return Entry(key=key, column=column, person=person, places=(f"{table.file}: line {row.line}",))
