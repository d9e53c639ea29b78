"""Age, sex and BMI of the subjects: read from a CSV, checked, and their training statistics.

Two kinds of file are understood, by the names in the header line:

* generic: `recording_id`, `age_years`, `sex`, `bmi`, and optionally `subject_id`;
* NSRR harmonised (SHHS, MESA, MrOS and others): `nsrrid` or `mesaid`, `nsrr_age`, `nsrr_sex`,
  `nsrr_bmi`, and optionally `visitnumber` or `visit`. These files name subjects, not recordings;
  `demographics_of` finds the row of a recording such as `shhs1-200001`.

Other columns are passed over. An unknown value is an empty cell, `NA`, `n/a`, `unknown`, ...
"""

import csv
import io
import os
import re
import statistics
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from sleepmami import storage
from sleepmami.errors import TableError

Sex = Literal["female", "male"]

_UNKNOWN = {"", ".", "-", "na", "n/a", "nan", "null", "none", "unknown", "not reported"}
_SEXES: Mapping[str, Sex] = {
    **dict.fromkeys(("female", "f", "woman"), "female"),
    **dict.fromkeys(("male", "m", "man"), "male"),
}
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_AGE_RANGE_YEARS = (0.0, 120.0)
_BMI_RANGE = (8.0, 100.0)
_GENERIC = ("recording_id", "age_years", "sex", "bmi")
_NSRR = ("nsrrid", "nsrr_age", "nsrr_sex", "nsrr_bmi")
_NSRR_IDS = ("nsrrid", "mesaid")
_NSRR_VISITS = ("visitnumber", "visit")


@dataclass(frozen=True, kw_only=True, slots=True)
class Demographics:
    """What is known of the person on the day of a recording; None is unknown."""

    subject_id: str | None = None
    age_years: float | None = None
    sex: Sex | None = None
    bmi: float | None = None


def demographic_cells(demographics: Demographics | None) -> dict[str, float | str | None]:
    """The columns age_years, sex and bmi of a table; all null when nothing is known."""
    known = demographics or Demographics()
    return {"age_years": known.age_years, "sex": known.sex, "bmi": known.bmi}


@dataclass(frozen=True, kw_only=True, slots=True)
class DemographicStatistics:
    """Mean and standard deviation of age (years) and BMI (kg/m^2) over the training set."""

    age_mean: float
    age_std: float
    bmi_mean: float
    bmi_std: float

    @classmethod
    def fit(cls, entries: Iterable[Demographics]) -> "DemographicStatistics":
        """Statistics of the known values; a value that never varies gets a deviation of 1.

        Args:
            entries: one per recording or per subject, as the caller gives them; each counts once.

        Raises:
            TableError: no entry has an age, or none has a BMI.
        """
        known = list(entries)
        age_mean, age_std = _mean_and_std("age", [entry.age_years for entry in known])
        bmi_mean, bmi_std = _mean_and_std("BMI", [entry.bmi for entry in known])
        return cls(age_mean=age_mean, age_std=age_std, bmi_mean=bmi_mean, bmi_std=bmi_std)


def _mean_and_std(name: str, values: list[float | None]) -> tuple[float, float]:
    known = [value for value in values if value is not None]
    if not known:
        raise TableError(
            f"found no {name} among {len(values)} training entries; expected at least one"
        )
    # exact arithmetic: rounding would give equal values a tiny deviation to be divided by
    return statistics.fmean(known), statistics.pstdev(known) or 1.0


def read_demographics(
    source: str | os.PathLike[str] | bytes, *, name: str | None = None
) -> dict[str, Demographics]:
    """Read a CSV of subjects.

    Args:
        source: path, URI or the file's bytes. UTF-8 or UTF-16 (with a byte order mark), separated
            by commas, semicolons or tabs; a decimal comma is read where it cannot be a separator.
        name: what errors call the file; default its path.

    Returns:
        By recording id; for an NSRR file by a key that `demographics_of` understands.

    Raises:
        TableError: naming file, line and column, what was found and what was expected.
    """
    file = name or ("demographics" if isinstance(source, bytes) else os.fspath(source))
    lines = _Lines(file, _read_text(source, file))
    if set(_GENERIC) <= set(lines.header):
        return _by_key(lines, _generic_rows(lines))
    if set(_NSRR[1:]) <= set(lines.header) and set(_NSRR_IDS) & set(lines.header):
        return _by_key(lines, _nsrr_rows(lines))
    raise TableError(
        f"{file}: line 1: found columns {lines.header[:20]}; expected {list(_GENERIC)} "
        f"or {list(_NSRR)} (where nothing is known, leave the cells empty)"
    )


def demographics_of(recording_id: str, people: Mapping[str, Demographics]) -> Demographics | None:
    """The row of a recording, or None.

    A generic file is looked up by the recording id, then by its last path part. In an NSRR file the
    subject id must be one of the parts of the recording's name, leading zeros and case aside, and
    where the file has a visit column the name must hold that visit: `shhs2-200001` is subject
    200001 at visit 2, `mros-visit1-aa0001` is AA0001 at visit 1, `mesa-sleep-0001` is 1.
    """
    stem = recording_id.rsplit("/", 1)[-1]
    for exact in (recording_id, stem):
        if exact in people:
            return people[exact]
    parts = re.split(r"[^0-9a-z]+", stem.casefold())
    for index in reversed(range(len(parts))):  # the subject comes last: sof-visit-8-00007
        if index and parts[index - 1] == "visit":
            continue
        others = parts[:index] + parts[index + 1 :]
        visits = [match[1] for part in others if (match := re.fullmatch(r"[a-z]*(\d)", part))]
        for visit in [*visits, None]:
            found = people.get(_nsrr_key(parts[index], visit))
            if found is not None:
                return found
    return None


def _nsrr_key(subject: str, visit: str | None) -> str:
    plain = subject.casefold()
    plain = str(int(plain)) if plain.isdecimal() else plain
    return f"nsrrid={plain}" + (f" visit={visit}" if visit else "")


class _Lines:
    """The rows of a separated file, each a dict by lower-case column name, with its line number."""

    def __init__(self, file: str, text: str) -> None:
        self.file = file
        first = text.partition("\n")[0]
        self.separator = max(",;\t", key=first.count)
        self._reader = csv.reader(io.StringIO(text, newline=""), delimiter=self.separator)
        self.header = [cell.strip().lower() for cell in self._next_row() or []]
        self.line = 1
        repeated = sorted({name for name in self.header if name and self.header.count(name) > 1})
        if repeated:
            raise TableError(
                f"{file}: line 1: found the columns {repeated} more than once; expected them once"
            )

    def __iter__(self) -> Iterator[dict[str, str]]:
        while (cells := self._next_row()) is not None:
            self.line = self._reader.line_num
            if not any(cell.strip() for cell in cells):
                continue
            if len(cells) != len(self.header):
                raise TableError(
                    f"{self.file}: line {self.line}: found {len(cells)} cells; "
                    f"expected {len(self.header)}, one per column"
                )
            yield dict(zip(self.header, (cell.strip() for cell in cells), strict=True))

    def error(self, column: str, found: str, expected: str) -> TableError:
        return TableError(
            f"{self.file}: line {self.line}, column {column!r}: "
            f"found {found!r}; expected {expected}"
        )

    def _next_row(self) -> list[str] | None:
        try:
            return next(self._reader, None)
        except csv.Error as error:
            raise TableError(
                f"{self.file}: line {self._reader.line_num}: found {error}; expected a CSV line"
            ) from None


def _read_text(source: str | os.PathLike[str] | bytes, file: str) -> str:
    try:
        data = source if isinstance(source, bytes) else storage.read_bytes(os.fspath(source))
    except OSError as error:
        raise TableError(f"{file}: could not be read: {error.strerror or error}") from error
    encoding = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        raise TableError(f"{file}: found bytes that are not {encoding}; expected UTF-8") from error


def _by_key(
    lines: _Lines, rows: Iterable[tuple[str, str, Demographics]]
) -> dict[str, Demographics]:
    people: dict[str, Demographics] = {}
    first_line: dict[str, int] = {}
    for column, key, person in rows:
        if key in people:
            expected = f"one row each, but line {first_line[key]} has it too"
            raise lines.error(column, key, expected)
        people[key] = person
        first_line[key] = lines.line
    return people


def _generic_rows(lines: _Lines) -> Iterator[tuple[str, str, Demographics]]:
    for cells in lines:
        recording_id = re.sub(r"\.(edf|bdf|rec)$", "", cells["recording_id"], flags=re.IGNORECASE)
        if not recording_id:
            raise lines.error("recording_id", recording_id, "the recording's file name")
        subject = cells.get("subject_id", "")
        yield (
            "recording_id",
            recording_id,
            Demographics(
                subject_id=None if subject.casefold() in _UNKNOWN else subject,
                age_years=_number(lines, cells, "age_years", "age in years", _AGE_RANGE_YEARS),
                sex=_sex(lines, cells, "sex"),
                bmi=_number(lines, cells, "bmi", "BMI in kg/m^2", _BMI_RANGE),
            ),
        )


def _nsrr_rows(lines: _Lines) -> Iterator[tuple[str, str, Demographics]]:
    id_column = next(name for name in _NSRR_IDS if name in lines.header)
    visit_column = next((name for name in _NSRR_VISITS if name in lines.header), None)
    for cells in lines:
        subject = cells[id_column]
        if not subject:
            raise lines.error(id_column, subject, "the subject's id")
        visit = re.search(r"\d$", cells[visit_column]) if visit_column else None
        yield (
            id_column,
            _nsrr_key(subject, visit[0] if visit else None),
            Demographics(
                subject_id=subject,
                age_years=_number(lines, cells, "nsrr_age", "age in years", _AGE_RANGE_YEARS),
                sex=_sex(lines, cells, "nsrr_sex"),
                bmi=_number(lines, cells, "nsrr_bmi", "BMI in kg/m^2", _BMI_RANGE),
            ),
        )


def _number(
    lines: _Lines, cells: Mapping[str, str], column: str, what: str, limits: tuple[float, float]
) -> float | None:
    text = cells[column]
    if text.casefold() in _UNKNOWN:
        return None
    plain = text if lines.separator == "," else text.replace(",", ".")
    low, high = limits
    if _NUMBER.fullmatch(plain) and low <= float(plain) <= high:
        return float(plain)
    raise lines.error(column, text, f"{what} within {low:g}..{high:g}, or nothing where unknown")


def _sex(lines: _Lines, cells: Mapping[str, str], column: str) -> Sex | None:
    text = cells[column].casefold()
    if text in _UNKNOWN:
        return None
    if text in _SEXES:
        return _SEXES[text]
    if _NUMBER.fullmatch(text):
        raise lines.error(
            column,
            cells[column],
            "female or male: bare numbers mean different sexes in different cohorts "
            "(1 is male in SHHS and MESA, female in MrOS)",
        )
    raise lines.error(column, cells[column], "female or male, or nothing where unknown")
