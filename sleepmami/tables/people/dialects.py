"""Which of the dialects a table of people is written in."""

from typing import Final

from sleepmami.errors import TableError
from sleepmami.tables.demographics import Demographics
from sleepmami.tables.people import matching
from sleepmami.tables.people.cohorts import COHORTS
from sleepmami.tables.people.csv_table import CsvTable, Row
from sleepmami.tables.people.dialect import Dialect, entry_of, needs
from sleepmami.tables.people.entries import Entry
from sleepmami.tables.people.nsrr import NSRR
from sleepmami.tables.people.outcomes import NAMED_COLUMNS, named_outcomes

_GENERIC: Final = ("recording_id", "age_years", "sex", "bmi")
_HARMONISED: Final = ("nsrrid", "nsrr_age", "nsrr_sex", "nsrr_bmi")


def recording_of(row: Row, column: str) -> str:
    """The recording that a row is of: a path or file name, without its ending."""
    recording_id = matching.ENDINGS.sub("", row.required(column, "the recording's file name"))
    if not recording_id:
        raise row.error(column, "the recording's file name")
    return recording_id


def _generic(row: Row, table: CsvTable) -> Entry:
    recording_id = recording_of(row, "recording_id")
    age_years = row.age_years("age_years")
    return entry_of(
        row,
        table,
        matching.recording_key(recording_id),
        "recording_id",
        Demographics(
            subject_id=row.text("subject_id"),
            age_years=age_years,
            age_top_coded=age_years is not None and bool(row.flag("age_top_coded")),
            sex=row.sex("sex"),
            bmi=row.bmi("bmi"),
            ahi=row.ahi("ahi" if "ahi" in table.header else "ahi_per_h"),
            outcomes=named_outcomes(row, table),
        ),
    )


DIALECTS: Final[tuple[Dialect, ...]] = (
    Dialect(
        name="generic",
        matches=needs(*_GENERIC),
        columns=frozenset(
            (*_GENERIC, "subject_id", "ahi", "ahi_per_h", "age_top_coded", *NAMED_COLUMNS)
        ),
        entry=_generic,
    ),
    *NSRR,
    *COHORTS,
)  # the first that matches is taken


def dialect_of(file: str, text: str) -> tuple[Dialect, CsvTable]:
    """The dialect of a file, and the table at its first row.

    Raises:
        TableError: its columns are of no dialect.
    """
    first: CsvTable | None = None
    for table in CsvTable.candidates(file, text):
        first = first or table
        for dialect in DIALECTS:
            if dialect.matches(table):
                return dialect, table
    found = first.header[:20] if first else []
    if "pptid" in found and "nsrrid" not in found:
        raise TableError(
            f"{file}: line 1: found the column pptid alone; expected nsrrid, which SHHS recordings "
            "are named by"
        )
    raise TableError(
        f"{file}: line 1: found columns {found}; expected {list(_GENERIC)} "
        f"or {list(_HARMONISED)} (where nothing is known, leave the cells empty), a cohort's "
        "own table, or a mapping (.yaml) that says what the columns mean: docs/people.md"
    )
