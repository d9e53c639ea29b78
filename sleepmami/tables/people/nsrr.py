"""SHHS, MESA, MrOS and the harmonised tables of every NSRR cohort.

Source: the NSRR data dictionaries of SHHS 0.21.0, MESA 0.7.0 and MrOS 0.6.0. The codes for sex
differ between the cohorts. AHI is the same definition in all of them: all apneas, and hypopneas
with a desaturation of 3 % or more.
"""

import re
from collections.abc import Mapping
from typing import Final

from sleepmami.tables.demographics import Demographics, Sex
from sleepmami.tables.people import matching
from sleepmami.tables.people.csv_table import CsvTable, Row
from sleepmami.tables.people.dialect import Dialect, entry_of, needs
from sleepmami.tables.people.entries import Entry
from sleepmami.tables.people.outcomes import (
    SHHS_COLUMNS,
    has_shhs_outcomes,
    require_columns,
    shhs_outcomes,
)

TOP_CODE_YEARS: Final = 90.0  # everybody over 89
_HARMONISED: Final = ("nsrr_age", "nsrr_sex", "nsrr_bmi")
_IDS: Final = ("nsrrid", "mesaid", "wsc_id", "sofid", "appleid", "subject_code")
_VISITS: Final = ("visitnumber", "visit", "wsc_vst")
_AHI: Final = "nsrr_ahi_hp3u"  # the raw tables' ahi_a0h3 and poahi3
_SHHS_SEX: Final[Mapping[str, Sex]] = {"1": "male", "2": "female"}
_MESA_SEX: Final[Mapping[str, Sex]] = {"0": "female", "1": "male"}
_MROS_SEX: Final[Mapping[str, Sex]] = {"1": "female", "2": "male"}
_MROS_UNKNOWN: Final = frozenset("adkm")  # missing, don't know, unknown, not applicable


def _subject(row: Row, column: str) -> str:
    """The id without leading zeros, on which files of one cohort do not agree."""
    subject = row.required(column, "the subject's id")
    return subject.lstrip("0") or "0" if subject.isdecimal() else subject


def _harmonised(row: Row, table: CsvTable) -> Entry:
    column = next(name for name in _IDS if name in table.header)
    visit_column = next((name for name in _VISITS if name in table.header), "")
    subject = _subject(row, column)
    visit = re.search(r"\d$", row.text(visit_column) or "")
    age_years = row.age_years("nsrr_age")
    return entry_of(
        row,
        table,
        matching.subject_key(subject, visit[0] if visit else None),
        column,
        Demographics(
            subject_id=subject,
            age_years=age_years,
            age_top_coded=age_years == TOP_CODE_YEARS,
            sex=row.sex("nsrr_sex"),
            bmi=row.bmi("nsrr_bmi"),
            ahi=row.ahi(_AHI),
        ),
    )


def _visit(row: Row, table: CsvTable, column: str, ages: Mapping[str, str]) -> str | None:
    """1 or 2; None for rows of other visits (follow-up by telephone has no night)."""
    there = [visit for visit, age in ages.items() if age in table.header]
    stated = row.text(column)
    if stated is None and len(there) == 1:
        return there[0]
    if stated is None:
        raise row.error(column, f"a visit, as there are ages of the visits {there}")
    visit = re.search(r"\d$", stated)
    return visit[0] if visit and visit[0] in there else None


def _shhs(row: Row, table: CsvTable) -> Entry | tuple[Entry, ...] | None:
    ages = {"1": "age_s1", "2": "age_s2"}
    if row.text("visitnumber") is None and set(ages.values()) <= set(table.header):
        return _shhs_visit(row, table, "1"), _shhs_visit(row, table, "2")  # a row per person
    visit = _visit(row, table, "visitnumber", ages)
    return _shhs_visit(row, table, visit) if visit else None


def _shhs_visit(row: Row, table: CsvTable, visit: str) -> Entry:
    subject = _subject(row, "nsrrid")
    age_years = row.age_years(f"age_s{visit}")
    both = {"age_s1", "age_s2"} <= set(table.header)
    return entry_of(
        row,
        table,
        matching.subject_key(subject, visit),
        "nsrrid",
        Demographics(
            subject_id=subject,
            age_years=age_years,
            age_top_coded=age_years == TOP_CODE_YEARS,
            sex=row.sex("gender", _SHHS_SEX),
            bmi=row.bmi(f"bmi_s{visit}"),
            # of a row per person nobody knows which night it is of
            ahi=row.ahi("ahi_a0h3") if row.text("visitnumber") or not both else None,
        ),
    )


def _shhs_outcomes(row: Row, table: CsvTable) -> Entry:
    require_columns(table)
    subject = _subject(row, "nsrrid")
    # the days are counted from the SHHS1 night, so a night of SHHS2 has none
    return entry_of(
        row,
        table,
        matching.subject_key(subject, "1"),
        "nsrrid",
        Demographics(
            subject_id=subject,
            outcomes=shhs_outcomes(row),
        ),
    )


def _mesa(row: Row, table: CsvTable) -> Entry:
    subject = _subject(row, "mesaid")
    return entry_of(
        row,
        table,
        matching.subject_key(subject),
        "mesaid",
        Demographics(
            subject_id=subject,
            age_years=row.age_years("sleepage5c"),
            sex=row.sex("gender1", _MESA_SEX),
            bmi=row.bmi("bmi5c"),
            ahi=row.ahi("ahi_a0h3"),
        ),
    )


def _mros(row: Row, table: CsvTable) -> Entry | None:
    ages = {"1": "vsage1", "2": "vs2age1"}
    visit = _visit(row, table, "visit", ages)
    if visit is None:
        return None
    subject = _subject(row, "nsrrid")
    age_years = row.age_years(ages[visit])
    return entry_of(
        row,
        table,
        matching.subject_key(subject, visit),
        "nsrrid",
        Demographics(
            subject_id=subject,
            age_years=age_years,
            age_top_coded=age_years == TOP_CODE_YEARS,
            sex=row.sex("gender", _MROS_SEX),
            bmi=row.bmi("hwbmi"),
            ahi=row.ahi("poahi3"),
        ),
    )


def _is_harmonised(table: CsvTable) -> bool:
    return set(_HARMONISED) <= set(table.header) and bool(set(_IDS) & set(table.header))


def _is_shhs(table: CsvTable) -> bool:
    return {"nsrrid", "gender"} <= set(table.header) and bool(
        {"age_s1", "age_s2"} & set(table.header)
    )


def _is_mros(table: CsvTable) -> bool:
    return {"nsrrid", "gender"} <= set(table.header) and bool(
        {"vsage1", "vs2age1"} & set(table.header)
    )


NSRR: Final = (
    Dialect(
        name="NSRR harmonised",
        matches=_is_harmonised,
        columns=frozenset((*_HARMONISED, *_IDS, *_VISITS, _AHI)),
        entry=_harmonised,
    ),
    Dialect(
        name="SHHS outcomes",
        matches=has_shhs_outcomes,
        columns=SHHS_COLUMNS | {"nsrrid"},
        entry=_shhs_outcomes,
    ),
    Dialect(
        name="SHHS",
        matches=_is_shhs,
        columns=frozenset(
            ("nsrrid", "visitnumber", "gender", "age_s1", "age_s2", "bmi_s1", "bmi_s2", "ahi_a0h3")
        ),
        entry=_shhs,
    ),
    Dialect(
        name="MESA",
        matches=needs("mesaid", "sleepage5c", "gender1"),
        columns=frozenset(("mesaid", "sleepage5c", "gender1", "bmi5c", "ahi_a0h3")),
        entry=_mesa,
    ),
    Dialect(
        name="MrOS",
        matches=_is_mros,
        columns=frozenset(("nsrrid", "visit", "gender", "vsage1", "vs2age1", "hwbmi", "poahi3")),
        entry=_mros,
        unknown=_MROS_UNKNOWN,
    ),
)
