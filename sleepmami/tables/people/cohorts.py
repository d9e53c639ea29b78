"""Sleep-EDF, ISRUC, UCDDB and BIDS tables of people.

Sources: SC-subjects.xls and ST-subjects.xls of Sleep-EDF and ISRUC's details per subgroup, saved as
CSV; subjects_dev.csv of UCDDB; participants.tsv of BIDS 1.8.
"""

import re
from collections.abc import Mapping
from typing import Final

from sleepmami.tables.demographics import Demographics, Sex
from sleepmami.tables.people import matching
from sleepmami.tables.people.csv_table import CsvTable, Row
from sleepmami.tables.people.dialect import Dialect, entry_of, needs
from sleepmami.tables.people.entries import Entry

_CASSETTE_SEX: Final[Mapping[str, Sex]] = {"1": "female", "2": "male"}
_TELEMETRY_SEX: Final[Mapping[str, Sex]] = {"1": "male", "2": "female"}
_PERSON_COLUMNS: Final = ("subject_id", "person_id", "pid")  # where a BIDS participant is a night
_AGE_OR_MORE = re.compile(r"(\d{1,2})\+")


def _number(row: Row, column: str, what: str, most: int) -> int:
    number = row.whole(column, what, (0, most))
    if number is None:
        raise row.error(column, what)
    return number


def _sleep_cassette(row: Row, table: CsvTable) -> Entry:
    subject = _number(row, "subject", "the subject's number", 99)
    night = _number(row, "night", "the number of the night", 9)
    return entry_of(
        row,
        table,
        matching.sleep_edf_key("SC4", subject, night),
        "subject",
        Demographics(
            subject_id=f"SC4{subject:02d}",
            age_years=row.age_years("age"),
            sex=row.sex("sex (f=1)", _CASSETTE_SEX),
        ),
    )


def _sleep_telemetry(row: Row, table: CsvTable) -> Entry:
    subject = _number(row, "nr", "the subject's number", 99)
    return entry_of(
        row,
        table,
        matching.sleep_edf_key("ST7", subject),
        "nr",
        Demographics(
            subject_id=f"ST7{subject:02d}",
            age_years=row.age_years("age"),
            sex=row.sex("m1/f2", _TELEMETRY_SEX),
        ),
    )


def _numbered(row: Row, table: CsvTable) -> Entry | None:
    text = row.text("subject")
    if text is None or re.fullmatch(r"\d{1,9}(\.0)?", text) is None:
        if row.text("age") is None and row.text("sex") is None:
            return None  # a note below the table
        raise row.error("subject", "the subject's number")
    subject = int(float(text))
    subgroup = matching.subgroup_of(re.split(r"[/\\]", table.file)[-1])
    return entry_of(
        row,
        table,
        matching.numbered_key(subject, subgroup),
        "subject",
        Demographics(
            subject_id=f"{subgroup}-{subject}" if subgroup else str(subject),
            age_years=row.age_years("age"),
            sex=row.sex("sex"),
            bmi=row.bmi("bmi"),
            ahi=row.ahi("ahi"),
        ),
    )


def _bids(row: Row, table: CsvTable) -> Entry:
    participant = row.required("participant_id", "the participant's id")
    person = next((name for name in _PERSON_COLUMNS if name in table.header), None)
    or_more = _AGE_OR_MORE.fullmatch(row.text("age") or "")
    age_years = float(or_more[1]) if or_more else row.age_years("age")
    return entry_of(
        row,
        table,
        matching.bids_key(participant),
        "participant_id",
        Demographics(
            subject_id=(row.text(person) if person else None) or participant,
            age_years=age_years,
            age_top_coded=or_more is not None,
            sex=row.sex("sex"),
            bmi=row.bmi("bmi"),
            ahi=row.ahi("ahi"),
        ),
    )


def _ucddb(row: Row, table: CsvTable) -> Entry:
    subject = row.required("id", "the subject's id, such as ucddb002")
    return entry_of(
        row,
        table,
        matching.subject_key(subject),
        "id",
        Demographics(
            subject_id=subject,
            age_years=row.age_years("age"),
            sex=row.sex("sex"),
            bmi=row.bmi("bmi"),
            ahi=row.ahi("ahi"),
        ),
    )


COHORTS: Final = (
    Dialect(
        name="Sleep-EDF cassette",
        matches=needs("subject", "night", "age", "sex (f=1)"),
        columns=frozenset(("subject", "night", "age", "sex (f=1)")),
        entry=_sleep_cassette,
    ),
    Dialect(
        name="Sleep-EDF telemetry",
        matches=needs("nr", "age", "m1/f2"),
        columns=frozenset(("nr", "age", "m1/f2")),
        entry=_sleep_telemetry,
    ),
    Dialect(
        name="BIDS participants",
        matches=needs("participant_id"),
        columns=frozenset(("participant_id", "age", "sex", "bmi", "ahi", *_PERSON_COLUMNS)),
        entry=_bids,
        unknown=frozenset(("o", "other")),  # a sex that the models know nothing of
    ),
    Dialect(
        name="UCDDB",
        matches=needs("id", "sex", "age", "bmi", "ahi"),
        columns=frozenset(("id", "sex", "age", "bmi", "ahi")),
        entry=_ucddb,
    ),
    Dialect(
        name="ISRUC",
        matches=needs("subject", "age", "sex"),
        columns=frozenset(("subject", "age", "sex", "bmi", "ahi")),
        entry=_numbered,
    ),
)
