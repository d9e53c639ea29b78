"""A YAML file that says what the columns of a table of people mean; docs/people.md shows one."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import yaml

from sleepmami import storage
from sleepmami.errors import ConfigError, TableError
from sleepmami.tables.demographics import Demographics, Outcome, Sex
from sleepmami.tables.people import matching
from sleepmami.tables.people.csv_table import MISSING_NUMBER, CsvTable, Row, plain_code
from sleepmami.tables.people.dialect import Dialect, entry_of
from sleepmami.tables.people.dialects import recording_of
from sleepmami.tables.people.entries import Entry
from sleepmami.tables.people.outcomes import MAX_COUNT, days

SUFFIXES: Final = (".yaml", ".yml")
_COLUMNS: Final[tuple[str, ...]] = ("recording", "subject", "visit", "age", "sex", "bmi", "ahi")
_SEXES: Final[tuple[Sex, ...]] = ("female", "male")


@dataclass(frozen=True, kw_only=True, slots=True)
class OutcomeColumns:
    """Columns of one outcome; it happened where `event` is `happened`, or is a count above 0."""

    event: str
    time_days: str
    prevalent: str | None
    happened: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class PeopleMapping:
    """What the columns of one table mean; names of columns are in lower case.

    Attributes:
        name: the mapping's own file, for errors.
        file: the table, a path or URI.
        columns: column by what it holds: recording, subject, visit, age, sex, bmi, ahi.
        sex_codes: None where sexes are written in words.
        age_top_code: the age that stands for everybody at or over it.
        unknown: words and codes for an unknown value, beside the usual ones.
    """

    name: str
    file: str
    columns: Mapping[str, str]
    sex_codes: Mapping[str, Sex] | None
    age_top_code: float | None
    unknown: frozenset[str]
    outcomes: Mapping[str, OutcomeColumns]

    def dialect(self, table: CsvTable) -> Dialect:
        """How to read the table. TableError when it has not all the columns."""
        named = set(self.columns.values())
        for outcome in self.outcomes.values():
            named |= {outcome.event, outcome.time_days}
            named |= {outcome.prevalent} if outcome.prevalent else set()
        missing = sorted(named - set(table.header))
        if missing:
            raise TableError(
                f"{self.file}: line 1: found columns {table.header[:20]}; expected {missing} too, "
                f"which {self.name} names"
            )
        return Dialect(
            name="mapping",
            matches=lambda _: True,
            columns=frozenset(named),
            entry=self._entry,
            unknown=self.unknown,
        )

    def _entry(self, row: Row, table: CsvTable) -> Entry:
        column = self.columns
        subject = row.text(column["subject"]) if "subject" in column else None
        if "recording" in column:
            id_column = column["recording"]
            key = matching.recording_key(recording_of(row, id_column))
        else:
            id_column = column["subject"]
            subject = row.required(id_column, "the subject's id")
            visit = re.search(r"\d$", row.text(column.get("visit", "")) or "")
            key = matching.subject_key(subject, visit[0] if visit else None)
        age_years = row.age_years(column.get("age", ""))
        return entry_of(
            row,
            table,
            key,
            id_column,
            Demographics(
                subject_id=subject,
                age_years=age_years,
                age_top_coded=age_years is not None and age_years == self.age_top_code,
                sex=row.sex(column.get("sex", ""), self.sex_codes),
                bmi=row.bmi(column.get("bmi", "")),
                ahi=row.ahi(column.get("ahi", "")),
                outcomes=self._outcomes(row),
            ),
        )

    def _outcomes(self, row: Row) -> tuple[Outcome, ...] | None:
        outcomes = []
        for name, columns in self.outcomes.items():
            event = _happened(row, columns)
            time_days = days(row, columns.time_days)
            prevalent = _count(row, columns.prevalent) if columns.prevalent else 0
            if event is not None and time_days is not None and prevalent is not None:
                outcomes.append(
                    Outcome(name=name, event=event, time_days=time_days, prevalent=prevalent > 0)
                )
        return tuple(outcomes) or None


def is_mapping(name: str) -> bool:
    """Whether a file is a mapping and not a table."""
    return name.lower().endswith(SUFFIXES)


def read_mapping(text: str, name: str) -> PeopleMapping:
    """A mapping from its YAML.

    Args:
        text: the YAML.
        name: its path or URI; the table's path is relative to its folder.

    Raises:
        ConfigError: not YAML, a key that does not exist or is missing, or a value of another type.
    """
    try:
        values = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        detail = " ".join(str(error).split())
        raise ConfigError(f"{name}: found {detail}; expected YAML") from None
    top = _group(name, "", values, {"file", "unknown", "outcomes", *_COLUMNS})
    columns = {
        what: _column(name, what, top[what], _extra_keys(what)) for what in _COLUMNS if what in top
    }
    if not {"recording", "subject"} & set(columns):
        raise ConfigError(f"{name}: found neither recording nor subject; expected one or both")
    if "recording" in columns and "visit" in columns:
        raise ConfigError(f"{name}: found recording and visit; a recording is of one visit already")
    unknown = top.get("unknown", [])
    if not isinstance(unknown, list):
        raise ConfigError(f"{name}: unknown must be a list of codes, got {unknown!r}")
    outcomes = top.get("outcomes", {})
    return PeopleMapping(
        name=name,
        file=_table_path(name, _text(name, "file", top.get("file"))),
        columns=columns,
        sex_codes=_sex_codes(name, top.get("sex")),
        age_top_code=_top_code(name, top.get("age")),
        unknown=frozenset(_code(name, "unknown", code) for code in unknown),
        outcomes={
            str(key): _outcome(name, f"outcomes.{key}", value)
            for key, value in _group(name, "outcomes", outcomes, None).items()
        },
    )


def _happened(row: Row, columns: OutcomeColumns) -> bool | None:
    if columns.happened is None:
        count = _count(row, columns.event)
        return None if count is None else count > 0
    text = row.text(columns.event)
    code = None if text is None else plain_code(text)
    if code is None or (code != columns.happened and MISSING_NUMBER.fullmatch(code)):
        return None
    return code == columns.happened


def _count(row: Row, column: str) -> int | None:
    """A number of events; yes is 1 and no is 0."""
    text = row.text(column)
    if text is not None and text.isalpha():
        flag = row.flag(column)
        return None if flag is None else int(flag)
    return row.whole(column, "number of events", (0, MAX_COUNT))


def _extra_keys(what: str) -> tuple[str, ...]:
    return {"sex": _SEXES, "age": ("top_code",)}.get(what, ())


def _group(name: str, at: str, value: object, known: set[str] | None) -> dict[str, Any]:
    # Any: YAML values, each checked where it is used
    where = at or "a mapping"
    if not isinstance(value, dict):
        raise ConfigError(f"{name}: {where} must be a group of keys, got {value!r}")
    for key in value:
        if not isinstance(key, str) or (known is not None and key not in known):
            dotted = f"{at}.{key}" if at else str(key)
            expected = f"there are {sorted(known)}" if known else "expected a name"
            raise ConfigError(f"{name}: unknown key {dotted!r}; {expected}")
    return value


def _column(name: str, at: str, value: object, extra: tuple[str, ...] = ()) -> str:
    if isinstance(value, dict):
        value = _group(name, at, value, {"column", *extra}).get("column")
        at = f"{at}.column"
    return " ".join(_text(name, at, value).lower().split())


def _text(name: str, at: str, value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ConfigError(f"{name}: {at} must be a name, got {value!r}")
    return value.strip()


def _code(name: str, at: str, value: object) -> str:
    # YAML reads a bare no as false: the cell to compare with would be lost
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ConfigError(f"{name}: {at} must be a number or a word in quotes, got {value!r}")
    return plain_code(str(value))


def _sex_codes(name: str, value: object) -> Mapping[str, Sex] | None:
    given = [sex for sex in _SEXES if isinstance(value, dict) and sex in value]
    if not isinstance(value, dict) or not given:
        return None
    codes: dict[str, Sex] = {_code(name, f"sex.{sex}", value[sex]): sex for sex in given}
    if len(codes) != len(_SEXES):
        raise ConfigError(f"{name}: sex must have two codes, for female and male, got {value!r}")
    return codes


def _top_code(name: str, value: object) -> float | None:
    code = value.get("top_code") if isinstance(value, dict) else None
    if code is not None and (isinstance(code, bool) or not isinstance(code, int | float)):
        raise ConfigError(f"{name}: age.top_code must be an age, got {code!r}")
    return None if code is None else float(code)


def _outcome(name: str, at: str, value: object) -> OutcomeColumns:
    keys = _group(name, at, value, {"event", "time_days", "prevalent"})
    event = keys.get("event")
    happened = event.get("happened") if isinstance(event, dict) else None
    prevalent = keys.get("prevalent")
    return OutcomeColumns(
        event=_column(name, f"{at}.event", event, ("happened",)),
        time_days=_column(name, f"{at}.time_days", keys.get("time_days")),
        prevalent=None if prevalent is None else _column(name, f"{at}.prevalent", prevalent),
        happened=None if happened is None else _code(name, f"{at}.event.happened", happened),
    )


def _table_path(name: str, file: str) -> str:
    if os.path.isabs(file) or "://" in file or "/" not in name:
        return file
    return storage.join(name.rsplit("/", 1)[0], file)
